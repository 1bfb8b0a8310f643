"""Feature groups that rows are inserted into: in through the client or a topic, out everywhere, and deleted."""

from datetime import datetime, timedelta, timezone

import millpond
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

UTC = timezone.utc
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
FEATURES = [
    {"name": "user_id", "type": "string"},
    {"name": "shop", "type": "bigint"},
    {"name": "score", "type": "double"},
    {"name": "visits", "type": "bigint"},
    {"name": "at", "type": "timestamp"},
]
FRAMES = {"list": list, "pandas": pd.DataFrame, "polars": pl.DataFrame, "arrow": pa.Table.from_pylist}


def row(user, minute, score, visits=1, shop=1):
    at = NOON + timedelta(minutes=minute)
    return {"user_id": user, "shop": shop, "score": score, "visits": visits, "at": at}


def make_group(fs, name, key=("user_id",), **options):
    return fs.get_or_create_feature_group(
        name, primary_key=list(key), event_time="at", features=FEATURES, time="historical", **options
    )


@pytest.fixture
def fs(shared):
    return shared.store()


@pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES)
def test_inserted_rows(fs, name, make):
    group = make_group(fs, name)
    rows = [row("a", 0, 0.5), row("b", 1, None, 2), row("a", 2, 1.5, 3)]
    group.insert(make(rows), wait=True)

    latest = {r["user_id"]: (r["score"], r["visits"], r["at"]) for r in group.rows()}
    assert latest == {"a": (1.5, 3, rows[2]["at"]), "b": (None, 2, rows[1]["at"])}
    assert group.row("a")[1]["score"] == 0.5
    online = group.read(online=True, dataframe_type="python")
    assert sorted(r["user_id"] for r in online) == ["a", "b"]

    history = group.read(dataframe_type="python")
    columns = [c["name"] for c in FEATURES]
    assert [{c: r[c] for c in columns} for r in sorted(history, key=lambda r: r["at"])] == rows
    assert {r["_op"] for r in history} == {"upsert"}

    view = fs.get_or_create_feature_view(name, group.select(["score", "visits"]), labels=["bought"])
    assert view.get_feature_vector({"user_id": "a"}) == {"score": 1.5, "visits": 3}
    assert view.get_feature_vectors([{"user_id": "b"}]) == [{"score": None, "visits": 2}]
    labels = [{"user_id": "a", "when": NOON + timedelta(minutes=m), "bought": m} for m in (-1, 1, 3)]
    x, y = view.training_data(spine_df=make(labels), dataframe_type="python")
    assert [r["score"] for r in x] == [None, 0.5, 1.5]
    assert [r["bought"] for r in y] == [-1, 1, 3]


@pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES)
def test_deleted_rows(fs, name, make):
    group = make_group(fs, name, key=("user_id", "shop"))
    view = fs.get_or_create_feature_view(name, group.select(["score"]))
    group.insert([row("a", 0, 0.5), row("a", 1, 0.25, shop=2), row("[b", 1, 0.75)], wait=True)
    keys = [{"user_id": "a", "shop": 1, "score": 9.0}, {"user_id": "[b", "shop": 1, "score": None}]
    group.commit_delete_record(make(keys), wait=True)

    entries = [{"user_id": user, "shop": shop} for user, shop in (("a", 1), ("a", 2), ("[b", 1))]
    vectors = view.get_feature_vectors(entries, allow_missing=True)
    assert vectors == [{"score": None}, {"score": 0.25}, {"score": None}]
    with pytest.raises(millpond.MillpondError):
        view.get_feature_vector(entries[0])
    latest, previous, _ = group.row(["a", 1])
    assert (latest["_op"], latest["score"], previous["score"]) == ("delete", None, 0.5)
    assert [r["_op"] for r in group.read(dataframe_type="python")].count("delete") == 2

    group.insert([row("a", 5, 2.5)], wait=True)
    assert view.get_feature_vector(entries[0]) == {"score": 2.5}
    # The delete stands at minute 1, the greatest event time before it, and was known right after it.
    labels = [{"user_id": "a", "shop": 1, "when": NOON + timedelta(minutes=m)} for m in (0, 2, 4, 5)]
    x, _ = view.training_data(spine_df=labels, dataframe_type="python")
    assert [r["score"] for r in x] == [0.5, None, None, 2.5]
    (account,) = fs.get_stream(f"{name}_1").accounting()
    assert (account.applied, account.tombstones, account.balanced) == (4, 2, True)


def test_a_derived_group_takes_no_deletes_and_a_delete_needs_its_key(fs, name):
    group = make_group(fs, name, key=("user_id", "shop"))
    with pytest.raises(millpond.InvalidRequestError, match="shop"):
        group.commit_delete_record([{"user_id": "a"}])
    sql = f"""SELECT user_id, COUNT(*) AS n FROM TUMBLE({name}_1, DESCRIPTOR(at), INTERVAL '1' MINUTE)
        GROUP BY user_id, window_end"""
    derived = fs.get_or_create_feature_group(f"{name}_n", sql=sql)
    for refused in (derived.insert, derived.commit_delete_record):
        with pytest.raises(millpond.UnsupportedError, match="derived by SQL"):
            refused([{"user_id": "a"}])


def test_a_topic_of_another_engine_with_tombstones(make_server, kafka, name):
    server = make_server(env={"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap})
    topic = f"{name}_topic"
    group = make_group(server.store(), name, topic=topic)
    group.insert([row("a", 0, 0.5), row("b", 1, 0.25)], wait=True)
    producer = kafka.producer()
    for key in (b"a", b"\xff", None):
        producer.produce(topic, None, key=key, partition=0)
    assert producer.flush(60) == 0
    group.insert([row("c", 2, 1.0)], wait=True)
    group.commit_delete_record([{"user_id": "c"}], wait=True)
    assert {r["user_id"]: r["_op"] for r in group.rows()} == {"a": "delete", "b": "upsert", "c": "delete"}
    log = server.store().get_stream(f"{name}_1")
    assert log.quarantine_counts() == {"bad_key": 1, "tombstone_without_key": 1}
    (account,) = log.accounting()
    assert (account.read, account.applied, account.tombstones, account.quarantined) == (7, 3, 2, 2)


def read(query, **options):
    rows = query.read(dataframe_type="python", **options)
    return sorted((r["user_id"], r["score"]) for r in rows)


def test_filtered_reads(fs, name):
    group = make_group(fs, name)
    group.insert([row("a", 0, 0.5), row("b", 1, None, 2), row("a", 2, 1.5, 3)], wait=True)
    score, visits, at, user = (group[c] for c in ("score", "visits", "at", "user_id"))
    assert read(group.filter(score > 0.5)) == [("a", 1.5)]
    assert read(group.filter((score >= 0.5) & (visits < 3))) == [("a", 0.5)]
    assert read(group.filter((visits == 2) | (visits != 3))) == [("a", 0.5), ("b", None)]
    assert read(group.filter(score.is_null())) == [("b", None)]
    assert read(group.filter(~score.is_null())) == [("a", 0.5), ("a", 1.5)]
    assert read(group.filter(user.isin(["a", "x"]) & (at <= NOON))) == [("a", 0.5)]
    assert read(group.filter(user.like("%b%"))) == [("b", None)]
    assert read(group.filter(score > visits)) == []
    assert read(group.filter(visits > 1), online=True) == [("a", 1.5), ("b", None)]
    frame = group.select(["visits", "score"]).filter(user == "a").read(start_time=NOON + timedelta(minutes=1))
    assert isinstance(frame, pd.DataFrame)
    assert frame.to_dict("records") == [{"visits": 3, "score": 1.5}]
    assert len(group.select_all().show(2)) == 2
    with pytest.raises(millpond.InvalidRequestError, match="score"):
        read(group.filter(score > "high"))


def test_reads_as_of_an_instant(fs, name):
    group = make_group(fs, name)
    for minute in range(3):
        group.insert([row("a", minute, float(minute))], wait=True)
    then = sorted(r["_available_at"] for r in group.read(dataframe_type="python"))
    assert read(group.as_of(then[1])) == [("a", 0.0), ("a", 1.0)]
    assert read(group.as_of(then[1], exclude_until=then[0])) == [("a", 1.0)]
    assert read(group.select(["user_id", "score"]).as_of(then[0].isoformat())) == [("a", 0.0)]
    frame = group.read(wallclock_time=then[1], dataframe_type="python")
    assert sorted(r["score"] for r in frame) == [0.0, 1.0]
    assert group.read(wallclock_time=NOON - timedelta(days=1), dataframe_type="python") == []
    with pytest.raises(millpond.UnsupportedError, match="online store"):
        group.read(wallclock_time=then[1], online=True)
