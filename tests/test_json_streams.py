"""Streams whose records are JSON: over HTTP, and in a real topic as other producers write them."""

import json
import struct
from datetime import datetime, timedelta, timezone

import millpond
import pytest

from tests.harness import feeding

UTC = timezone.utc
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
COLUMNS = {
    "user_id": "string not null",
    "clicks": "bigint not null",
    "spent": "decimal(10,2)",
    "device": "struct<os:string,tags:array<string>>",
    "at": "timestamp",
}
SQL = """SELECT user_id, SUM(clicks) AS clicks, SUM(spent) AS spent, COUNT(device['os']) AS known
FROM TUMBLE({stream}, DESCRIPTOR(at), INTERVAL '1' MINUTE) GROUP BY user_id, window_end"""


def event(user, second, clicks=1, **rest):
    return {"user_id": user, "clicks": clicks, "at": (NOON + timedelta(seconds=second)).isoformat(), **rest}


def text(value):
    return json.dumps(value).encode()


GOOD = [
    text(event("a", 0, 2, spent="1.50", device={"os": "x", "tags": ["t"]})),
    text(event("a", 10, 3, spent=2.25, nobody="knows", device=None)),
    b"\x00\x00\x00\x00\x2a" + text(event("b", 20, 1)),  # framed, as Confluent's serializer writes it
    b' { "at" : "2024-05-01T14:00:30+02:00" , "clicks" : 4, "user_id" : "\\u0062" }\n',
]
# Ten ways and more to be no record of the stream, and the reason that is given.
BAD = [
    (b"", "bad_body"),
    (b"{", "bad_body"),
    (b"not json", "bad_body"),
    (b"[]", "bad_body"),
    (b'"text"', "bad_body"),
    (b'{"user_id": "a", "clicks": 1, "at": "2024-05-01T12:00:00Z"} trailing', "bad_body"),
    (b'{"user_id": "\xff", "clicks": 1, "at": "2024-05-01T12:00:00Z"}', "bad_body"),
    (text({"clicks": 1, "at": NOON.isoformat()}), "bad_body"),
    (text(event(None, 0)), "bad_body"),
    (text(event("a", 0, "1")), "bad_body"),
    (text(event("a", 0, 1.5)), "bad_body"),
    (text(event("a", 0, 2**63)), "bad_body"),
    (text(event("a", 0, spent="1.005")), "bad_body"),
    (text(event("a", 0, device={"os": 5})), "bad_body"),
    (text({**event("a", 0), "at": "noon"}), "bad_body"),
    (b"\x00\x00\x00\x00\x2a{", "bad_body"),
    (text({"user_id": "a", "clicks": 1}), "no_event_time"),
    (text({"user_id": "a", "clicks": 1, "at": None}), "no_event_time"),
    (text({**event("a", 0), "at": "2999-01-01T00:00:00Z"}), "future_event_time"),
]
FEATURES = {"a": (5, "3.75", 1), "b": (5, None, 0)}


def make_stream(fs, name, **options):
    options = {"event_time": "at", "time": "historical", "format": "json", **options}
    return fs.get_or_create_stream(name, COLUMNS, **options)


def features(group):
    rows = group.rows()
    return {r["user_id"]: (r["clicks"], r["spent"] and str(r["spent"]), r["known"]) for r in rows}


def check_quarantine(stream, count):
    reasons = [reason for _, reason in BAD]
    assert stream.quarantine_counts() == {r: reasons.count(r) for r in set(reasons)}
    assert [r["value"] for r in stream.quarantine(limit=100)] == [value for value, _ in BAD]
    assert all(r["detail"] for r in stream.quarantine(limit=100))
    (account,) = stream.accounting()
    assert (account.read, account.applied, account.quarantined) == (count, len(GOOD), len(BAD))
    assert account.balanced


def test_records_as_they_are(shared, name):
    fs = shared.store()
    stream = make_stream(fs, name)
    assert {c.name: (c.type, c.nullable) for c in stream.columns}["device"][0] == (
        "struct<os:string,tags:array<string>>"
    )
    group = fs.get_or_create_feature_group(name, sql=SQL.format(stream=name))
    mixed = [*(value for value, _ in BAD[:7]), *GOOD[:2], *(value for value, _ in BAD[7:]), *GOOD[2:]]
    stream.append_encoded(mixed)
    stream.finish()
    feeding.settle(shared, group.name)
    assert features(group) == FEATURES
    check_quarantine(stream, len(mixed))
    shown = [r["row"] for r in stream.records()]
    assert [row is None for row in shown].count(False) == len(GOOD) + 3  # those with a bad event time too


def test_rows_over_http_are_checked_and_stored_as_json(shared, name):
    fs = shared.store()
    stream = make_stream(fs, name)
    group = fs.get_or_create_feature_group(name, sql=SQL.format(stream=name))
    with pytest.raises(millpond.InvalidRowsError) as refused:
        stream.append([event("a", 0), event("a", 0, "many"), {"clicks": 1}])
    assert [(r["row"], r["field"]) for r in refused.value.rows] == [(1, "clicks"), (2, "user_id")]
    assert stream.records() == []
    stream.append([event("a", 0, 2, spent="1.50", unknown=1), event("a", 30, 3, device={"os": "x"})])
    stream.finish()
    feeding.settle(shared, group.name)
    assert features(group) == {"a": (5, "1.50", 1)}
    raw = stream.records()[0]
    assert json.loads(raw["value"])["clicks"] == raw["row"]["clicks"] == 2


@pytest.mark.parametrize(("unit", "per_second"), [("s", 1), ("ms", 1_000), ("us", 1_000_000)])
def test_event_times_as_numbers(shared, name, unit, per_second):
    fs, name = shared.store(), f"{name}_{unit}"
    stream = make_stream(fs, name, event_time_unit=unit)
    assert {c.name: c.type for c in stream.columns}["at"] == "timestamp"
    seconds = int(NOON.timestamp())
    number = text({**event("a", 0), "at": (seconds + 1) * per_second})
    fraction = text({**event("a", 0), "at": (seconds * 10 + 15) * per_second / 10})
    stream.append_encoded([number, fraction, text(event("a", 2))])
    times = [r["row"]["at"] for r in stream.records()]
    assert times == ["2024-05-01T12:00:01Z", "2024-05-01T12:00:01.500Z", "2024-05-01T12:00:02Z"]


def test_the_definition_is_compared(shared, name):
    fs = shared.store()
    stream = make_stream(fs, name)
    assert make_stream(fs, name).definition["uuid"] == stream.definition["uuid"]
    assert stream.definition["format"] == "json"
    with pytest.raises(millpond.ConflictError, match="format"):
        fs.get_or_create_stream(name, None, event_time="at", time="historical")
    options = {"event_time": "at", "time": "historical", "format": "json"}
    wider = fs.get_or_create_stream(name, {**COLUMNS, "page": "string"}, **options)
    assert [c.name for c in wider.columns] == [*COLUMNS, "page"]
    with pytest.raises(millpond.ConflictError):
        fs.get_or_create_stream(name, {**COLUMNS, "clicks": "string"}, **options)
    avro = {"type": "record", "name": "R", "fields": []}
    for wrong in (None, avro, {"user_id": "varchar"}, {"user_id": "string"}):
        with pytest.raises(millpond.MillpondError) as refused:
            fs.get_or_create_stream(f"{name}_no", wrong, **options)
        assert refused.value.hint, wrong


def test_a_real_topic(make_server, kafka, name):
    server = make_server(env={"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap})
    fs = server.store()
    topic = kafka.topic(f"{name}_topic", 1)
    stream = make_stream(fs, name, topic=topic)
    group = fs.get_or_create_feature_group(name, sql=SQL.format(stream=name))
    producer = kafka.producer()
    for value in [*GOOD[:2], *(value for value, _ in BAD), *GOOD[2:]]:
        producer.produce(topic, value, partition=0)
    time = struct.pack(">q", int((NOON + timedelta(minutes=5)).timestamp() * 1e6))
    producer.produce(topic, None, partition=0, headers={"millpond-heartbeat": time})
    assert producer.flush(60) == 0
    group.wait(stream.append([event("c", 301)]))
    feeding.settle(server, group.name)
    assert features(group) == FEATURES
    assert stream.quarantine_counts()["bad_body"] == [reason for _, reason in BAD].count("bad_body")
    (account,) = stream.accounting()
    assert (account.applied, account.heartbeats, account.balanced) == (len(GOOD) + 1, 1, True)
