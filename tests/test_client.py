"""The Python client against the real server: each call once, in the order in which people meet them."""

import asyncio
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import millpond
import pandas as pd
import polars as pl
import pytest

from tests.definitions import ORDERS
from tests.harness import feeding

UTC = timezone.utc
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
CLICKS = {
    "type": "record",
    "name": "Clicks",
    "fields": [
        {"name": "user_id", "type": "string"},
        {"name": "clicks", "type": "long"},
        {"name": "spent", "type": {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}},
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    ],
}
SQL = """
SELECT user_id, SUM(clicks) AS clicks, SUM(spent) AS spent, AVG(clicks) AS mean, MAX(ts) AS last_seen
FROM TUMBLE({stream}, DESCRIPTOR(ts), INTERVAL '1' MINUTE) GROUP BY user_id, window_end
"""


def row(user, minute, clicks, spent="1.50"):
    return {
        "user_id": user,
        "clicks": clicks,
        "spent": Decimal(spent),
        "ts": NOON + timedelta(minutes=minute),
    }


@pytest.fixture
def fs(shared):
    return shared.store()


@pytest.fixture
def stream(fs, name):
    return fs.get_or_create_stream(name, CLICKS, event_time="ts", time="historical")


@pytest.fixture
def group(fs, stream):
    return fs.get_or_create_feature_group(stream.name, sql=SQL.format(stream=stream.name))


@pytest.fixture
def filled(shared, stream, group):
    stream.append([row("a", 0, 1), row("b", 0, 5), row("a", 0, 2), row("a", 1, 7, "0.25"), row("a", 2, 100)])
    stream.finish()
    feeding.settle(shared, group.name)
    return group


def test_streams(fs, stream):
    assert stream.name in [s.name for s in fs.get_streams()]
    again = fs.get_or_create_stream(stream.name, CLICKS, event_time="ts", time="historical")
    assert again.definition["uuid"] == stream.definition["uuid"]
    assert {c.name: c.type for c in stream.columns}["spent"] == "decimal(10,2)"
    with pytest.raises(millpond.ConflictError) as conflict:
        fs.get_or_create_stream(stream.name, CLICKS, event_time="ts", watermark_delay=7, time="historical")
    assert conflict.value.hint
    stream.delete()
    with pytest.raises(millpond.NotFoundError):
        fs.get_stream(stream.name)


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, list])
def test_frames_and_rows_say_the_same(stream, make):
    stream.append(make([row("a", 0, 1), row("b", 3, 5, "-0.01")]))
    rows = [r["row"] for r in stream.records()]
    assert rows == [
        {"user_id": "a", "clicks": 1, "spent": "1.50", "ts": "2024-05-01T12:00:00Z"},
        {"user_id": "b", "clicks": 5, "spent": "-0.01", "ts": "2024-05-01T12:03:00Z"},
    ]


def test_rows_that_do_not_fit_are_named(stream):
    with pytest.raises(millpond.InvalidRowsError) as refused:
        stream.append([row("a", 0, 1), {**row("a", 0, 1), "clicks": "many"}, row("a", 0, 2)])
    assert [(r["row"], r["field"]) for r in refused.value.rows] == [(1, "clicks")]
    assert stream.records() == []


def test_a_batch_of_ones_own_sequence_is_stored_once(stream):
    first = stream.append([row("a", 0, 1)], producer_id="p", sequence=1)
    assert stream.append([row("a", 0, 1)], producer_id="p", sequence=1) == first
    stream.append([row("a", 0, 2)], producer_id="p", sequence=2)
    with pytest.raises(millpond.SequenceConflictError) as gap:
        stream.append([row("a", 0, 9)], producer_id="p", sequence=7)
    assert gap.value.last_sequence == 2
    assert [r["row"]["clicks"] for r in stream.records()] == [1, 2]


def test_a_group_from_sql(fs, filled, name):
    assert filled.primary_key == ["user_id"]
    assert fs.get_feature_group(name).definition["uuid"] == filled.definition["uuid"]
    with pytest.raises(millpond.ConflictError, match=name):
        fs.get_or_create_feature_group(name, sql=SQL.format(stream=name).replace("MAX", "MIN"))
    with pytest.raises(millpond.ConflictError, match="exists already"):
        fs.create_feature_group(name, sql=SQL.format(stream=name))
    status = filled.status()
    assert (status.state, status.lag) == ("running", 0)
    assert filled.explain()
    assert filled.epochs()[0]["epoch"] == 1


def test_what_sql_cannot_do_is_named(fs, stream):
    with pytest.raises(millpond.InvalidSqlError) as refused:
        fs.create_feature_group("refused", sql=f"SELECT user_id, clicks FROM {stream.name} ORDER BY clicks")
    assert "order by" in str(refused.value).lower()
    with pytest.raises(millpond.NotFoundError, match="nowhere"):
        fs.create_feature_group("refused", sql=SQL.format(stream="nowhere"))


def test_online_rows(filled):
    rows = {r["user_id"]: r for r in filled.rows()}
    assert rows["a"]["clicks"] == 100
    assert rows["a"]["_event_time"] == NOON + timedelta(minutes=3)
    assert rows["b"] == {**rows["b"], "clicks": 5, "spent": Decimal("1.50"), "mean": 5.0, "last_seen": NOON}
    latest, previous, as_of = filled.row("a")
    assert latest == rows["a"]
    assert (previous["clicks"], previous["spent"]) == (7, Decimal("0.25"))
    assert as_of >= latest["_available_at"]
    assert [r["clicks"] for r in filled.rows("previous")] == [7]
    assert filled.row("nobody")[:2] == (None, None)


@pytest.mark.parametrize("kind", ["pandas", "polars", "arrow", "python"])
def test_history_in_every_form(filled, kind):
    frame = filled.read(dataframe_type=kind)
    assert len(frame) == 4
    rows = filled.read(dataframe_type="python", start_time=NOON + timedelta(minutes=2))
    assert sorted(r["clicks"] for r in rows) == [7, 100]
    before = filled.flush()
    assert before is not None
    assert len(filled.read(dataframe_type=kind)) == 4
    assert pl.read_delta(filled.location).height == 4


def test_vectors(fs, filled, name):
    view = fs.get_or_create_feature_view(name, filled.select(["clicks", "spent", "last_seen"]))
    vector = view.get_feature_vector({"user_id": "b"})
    assert vector == {"clicks": 5, "spent": Decimal("1.50"), "last_seen": NOON}
    assert view.get_feature_vector(serving_keys={"user_id": "b"}, return_type="list") == list(vector.values())
    assert view.get_feature_vector({"user_id": "b"}, include_keys=True) == {"user_id": "b", **vector}
    assert view.get_feature_vector({"user_id": "a"}, which="previous")["clicks"] == 7
    frame = view.get_feature_vectors([{"user_id": "b"}, {"user_id": "a"}], return_type="polars")
    assert frame["clicks"].to_list() == [5, 100]
    with pytest.raises(millpond.MissingFeaturesError, match="nobody"):
        view.get_feature_vector({"user_id": "nobody"})
    nothing = dict.fromkeys(vector)
    assert view.get_feature_vector({"user_id": "nobody"}, allow_missing=True) == nothing
    assert view.get_feature_vector({"user_id": "b"}, allow_missing=True, max_age=10) == nothing
    with pytest.raises(millpond.InvalidRequestError, match="user_id"):
        view.get_feature_vector({"item": "b"})
    many = [{"user_id": f"u{i}"} for i in range(2500)] + [{"user_id": "a"}]
    assert view.get_feature_vectors(many, allow_missing=True)[-1]["clicks"] == 100
    view.delete()
    with pytest.raises(millpond.NotFoundError):
        fs.get_feature_view(name)


def test_vectors_of_joined_groups(fs, shared, stream, filled, name):
    hour = SQL.format(stream=stream.name).replace("'1' MINUTE", "'1' HOUR")
    hourly = fs.get_or_create_feature_group(f"{name}_hour", sql=hour)
    feeding.settle(shared, hourly.name)
    query = filled.select(["clicks"]).join(hourly.select(["clicks", "mean"]), prefix="hour_")
    view = fs.get_or_create_feature_view(name, query, labels=["bought"])
    assert [f.name for f in view.features] == ["clicks", "hour_clicks", "hour_mean"]
    assert view.get_feature_vector({"user_id": "a"}) == {"clicks": 100, "hour_clicks": 110, "hour_mean": 27.5}
    (vector,) = view.read_vectors([{"user_id": "b"}], metadata=True)
    assert [g["status"] for g in vector.groups] == ["found", "found"]
    assert vector.event_time == NOON + timedelta(minutes=1)
    with pytest.raises(millpond.ConflictError):
        filled.delete()
    filled.delete(force=True)
    with pytest.raises(millpond.NotFoundError):
        fs.get_feature_group(name)


LABELS = {
    "user_id": ["b", "a", "a", "a", "nobody"],
    "when": [NOON + timedelta(seconds=s) for s in (60, 59, 60, 179, 600)],
    "bought": [True, False, True, False, True],
}


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
def test_training_data(fs, filled, name, make):
    view = fs.get_or_create_feature_view(name, filled.select(["clicks", "mean"]), labels=["bought"])
    x, y = view.training_data(spine_df=make(LABELS), dataframe_type="python")
    assert [r["clicks"] for r in x] == [5, None, 3, 7, None]
    assert [r["bought"] for r in y] == LABELS["bought"]
    assert list(x[0]) == ["clicks", "mean"]
    keyed, _ = view.training_data(
        NOON + timedelta(minutes=1),
        spine_df=make(LABELS),
        primary_key=True,
        event_time=True,
        dataframe_type="python",
    )
    assert [(r["user_id"], r["when"]) for r in keyed] == [
        (u, t)
        for u, t in zip(LABELS["user_id"], LABELS["when"], strict=True)
        if t >= NOON + timedelta(minutes=1)
    ]
    x_train, x_test, _, y_test = view.train_test_split(
        test_start=NOON + timedelta(minutes=2), spine_df=make(LABELS), dataframe_type="python"
    )
    assert (len(x_train), [r["clicks"] for r in x_test]) == (3, [7, None])
    assert [r["bought"] for r in y_test] == [False, True]


def test_training_data_as_a_file(fs, filled, name, tmp_path):
    view = fs.get_or_create_feature_view(name, filled.select(["clicks"]), labels=["bought"])
    path = view.create_training_data(location=tmp_path / "t.parquet", spine_df=pl.DataFrame(LABELS))
    frame = pl.read_parquet(path)
    assert frame.columns == ["user_id", "when", "clicks", "bought"]
    assert frame["clicks"].to_list() == [5, None, 3, 7, None]


def test_batch_data(fs, filled, name):
    view = fs.get_or_create_feature_view(name, filled.select(["clicks"]))
    view.init_batch_scoring()
    frame = view.get_batch_data(
        end_time=NOON + timedelta(minutes=3), primary_key=True, dataframe_type="python"
    )
    assert sorted((r["user_id"], r["clicks"]) for r in frame) == [("a", 3), ("a", 7), ("b", 5)]
    x, y = view.training_data(dataframe_type="python")
    assert (sorted(r["clicks"] for r in x), y) == ([3, 5, 7, 100], None)


def test_pausing(shared, stream, group):
    group.wait(stream.append([row("a", 0, 1)]))
    group.pause()
    assert group.status().state == "paused"
    position = stream.append([row("a", 9, 1)])
    with pytest.raises(millpond.UnsupportedError, match="paused"):
        group.wait(position, timeout=1)
    group.resume()
    assert group.wait(position)["reached"]
    assert [r["clicks"] for r in group.rows()] == [1]


def test_a_heartbeat_closes_windows(shared, stream, group):
    group.wait(stream.append([row("a", 0, 1)]))
    assert group.rows() == []
    group.wait(stream.heartbeat(NOON + timedelta(minutes=1)))
    feeding.settle(shared, group.name)
    assert [r["clicks"] for r in group.rows()] == [1]
    assert stream.watermark() == NOON + timedelta(minutes=1)


def test_accounting_and_quarantine(shared, stream, group):
    group.wait(stream.append([row("a", 5, 1)]))
    group.wait(stream.append([row("a", 0, 1)]))
    group.wait(stream.append_encoded([b"junk", None]))
    (account,) = stream.accounting()
    assert (account.read, account.applied, account.late, account.quarantined) == (4, 1, 1, 2)
    assert account.balanced
    assert stream.quarantine_counts() == {"bad_frame": 1, "tombstone_without_key": 1}
    letter = stream.quarantine()[0]
    assert (letter["reason"], letter["value"], letter["group"]) == ("bad_frame", b"junk", group.name)
    assert [r["offset"] for r in group.late()] == [1]


def test_a_stream_that_halts(fs, shared, name):
    stream = fs.get_or_create_stream(name, CLICKS, event_time="ts", time="historical", on_bad_record="halt")
    group = fs.get_or_create_feature_group(name, sql=SQL.format(stream=name))
    group.wait(stream.append([row("a", 0, 1)]))
    stream.append_encoded([b"junk"])
    for _ in range(100):
        if group.status().state == "halted":
            break
        asyncio.run(asyncio.sleep(0.1))
    status = group.status()
    assert status.state == "halted"
    assert status.reason
    assert status.mend
    assert len(group.epochs()) >= 1


def test_an_event_time_that_is_a_long(fs, shared, name):
    stream = fs.get_or_create_stream(name, ORDERS, event_time="at", event_time_unit="ms", time="historical")
    assert {c.name: c.type for c in stream.columns}["at"] == "timestamp"


def test_the_asynchronous_client(shared, name):
    async def run():
        async with await millpond.login_async(shared.url) as connection:
            fs = connection.get_feature_store()
            stream = await fs.get_or_create_stream(name, CLICKS, event_time="ts", time="historical")
            group = await fs.get_or_create_feature_group(name, sql=SQL.format(stream=name))
            view = await fs.get_or_create_feature_view(name, group.select(["clicks"]))
            await asyncio.gather(*(stream.append([row("a", 0, n)]) for n in range(10)))
            await group.wait(await stream.append([row("a", 1, 0)]))
            await group.wait(await stream.heartbeat(NOON + timedelta(minutes=2)))
            return await view.get_feature_vector({"user_id": "a"}, which="previous")

    feeding_result = asyncio.run(run())
    assert feeding_result == {"clicks": 45}


def test_a_group_without_a_definition_that_is_not_there(fs):
    with pytest.raises(millpond.NotFoundError, match="nothing to make it of"):
        fs.get_or_create_feature_group(name="not_there", stream=True, online_enabled=True)
