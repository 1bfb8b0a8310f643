"""Metrics: their values, not just their names."""

import time

import pytest

from tests.harness import feeding
from tests.harness.events import T0, encode, malformed, schema

EVENT = schema("event")
MINUTE = 60_000_000
SQL = """SELECT user_id, COUNT(*) AS n FROM TUMBLE(events, DESCRIPTOR(ts), INTERVAL '1' MINUTE)
WHERE item_id <> 7 GROUP BY user_id, window_end"""


def row(user, minute, item=1, second=0):
    ts = T0 + minute * MINUTE + second * 1_000_000
    return {"user_id": user, "item_id": item, "campaign_id": 0, "action": "click", "ts": ts}


@pytest.fixture
def server(make_server):
    return make_server(
        {"MILLPOND_SCHEMA_REGISTRY__UNKNOWN_GRACE": "0.1", "MILLPOND_OFFLINE__DRAIN_INTERVAL": "3600"}
    )


def total(metrics, name, **labels):
    """The sum of the samples of a name that have these labels."""
    wanted = [f'{k}="{v}"' for k, v in labels.items()]
    found = [v for k, v in metrics.items() if k.split("{")[0] == name and all(w in k for w in wanted)]
    assert found, f"no sample {name} {labels} among {sorted(metrics)}"
    return sum(found)


def test_values(server):
    fs = server.store()
    stream = fs.get_or_create_stream("events", EVENT, event_time="ts", watermark_delay=0, time="historical")
    group = fs.get_or_create_feature_group("counts", sql=SQL)
    view = fs.get_or_create_feature_view("v", group.select_all())
    group.flush()  # the first drain of a process compares table and store; the next one is an hour away
    group.wait(
        stream.append([row("a", 0), row("a", 0, second=1), row("b", 0), row("a", 0, item=7), row("a", 5)])
    )
    # a late one, three bad ones, a heartbeat for windows to come
    good = encode(stream.schema_id, EVENT, [row("c", 1)])
    bad = [v for reason, v in malformed(stream.schema_id, good[0]) if reason == "bad_body"][:3]
    group.wait(stream.append_encoded([*good, *bad]))
    group.wait(stream.heartbeat("2023-11-15T00:00:00Z"))
    feeding.settle(server, "counts")
    for _ in range(4):
        view.get_feature_vector({"user_id": "a"})

    m = server.metrics()
    labels = {"feature_group": "counts_1"}
    outcomes = {"applied": 4, "filtered": 1, "late": 1, "quarantined": 3, "heartbeats": 1}
    for outcome, count in outcomes.items():
        assert total(m, "stream_records_total", stream="events", outcome=outcome) == count, outcome
    assert total(m, "stream_events_processed_total", stream="events") == sum(outcomes.values())
    assert total(m, "stream_features_computed_total", **labels) == 3  # a and b at minute 1, a at minute 6
    assert total(m, "online_writes_total", **labels) == 3
    assert total(m, "stream_lag_records", **labels) == 0
    assert total(m, "quarantine_records", **labels) == 3
    assert total(m, "outbox_rows", **labels) == 3
    assert total(m, "stream_watermark_seconds", **labels) == 1_700_006_400
    assert total(m, "vector_seconds_count") == 4
    assert 0 < total(m, "vector_seconds_sum") < 4
    assert total(m, "commit_seconds_count") >= 3
    assert total(m, "stream_processing_latency_seconds_count") >= 1

    group.flush()
    time.sleep(0.2)
    m = server.metrics()
    assert total(m, "offline_rows_total", **labels) == 3
    assert total(m, "outbox_rows", **labels) == 0


def test_what_is_in_no_row_is_counted(server):
    """Values that became NULL after aggregation, and rows of a join that have no key."""
    fs = server.store()
    stream = fs.get_or_create_stream("events", EVENT, event_time="ts", watermark_delay=0, time="historical")
    failing = """SELECT item_id, CAST(MAX(user_id) AS BIGINT) AS number
        FROM TUMBLE(events, DESCRIPTOR(ts), INTERVAL '1' MINUTE) GROUP BY item_id, window_end"""
    # Whoever did the same a second later: nobody followed the last one, and NULL is no key.
    joined = """SELECT who, COUNT(*) AS n FROM TUMBLE((
          SELECT b.user_id AS who, a.ts FROM events a LEFT JOIN events b ON b.item_id = a.item_id
          AND b.ts BETWEEN a.ts + INTERVAL '1' SECOND AND a.ts + INTERVAL '2' SECOND
        ), DESCRIPTOR(ts), INTERVAL '1' MINUTE) GROUP BY who, window_end"""
    for name, sql in (("failing", failing), ("joined", joined)):
        fs.get_or_create_feature_group(name, sql=sql)
    rows = [row("7", 0, item=1), row("x", 0, item=2), row("y", 0, item=2, second=1), row("z", 0, item=3)]
    stream.append(rows)
    stream.heartbeat("2023-11-15T00:00:00Z")
    for name in ("failing", "joined"):
        feeding.settle(server, name)
    m = server.metrics()
    nulled, lost = "stream_values_nulled_total", "stream_joined_rows_lost_total"
    assert total(m, nulled, feature_group="failing_1") == 2  # 'y' and 'z' are no numbers
    assert total(m, lost, feature_group="failing_1") == 0
    assert total(m, nulled, feature_group="joined_1") == 0
    assert total(m, lost, feature_group="joined_1") == 3  # '7', 'y' and 'z'
