"""A group's changelog as a Kafka topic, read by Confluent's consumer and deserializer as they are; what sinks refuse.

What must hold: a topic (read_committed) has exactly the rows of the group's history, each once, in the order of
commits, whatever was killed and whenever somebody looked.
"""

import random
import signal
import time
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import millpond
import polars as pl
import pytest

from tests.definitions import CTR_SQL
from tests.harness import feeding
from tests.harness.events import encode, generate, schema
from tests.harness.sinks import (
    Changelog,
    assert_changelog_is_history,
    assert_ordered,
    consume,
    history,
    sink,
    windows,
)

EVENT = schema("event")
UTC = timezone.utc
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
PROFILE = [
    {"name": "shop", "type": "bigint"},
    {"name": "user_id", "type": "string"},
    {"name": "score", "type": "double"},
    {"name": "spent", "type": "decimal(20,3)"},
    {"name": "vip", "type": "boolean"},
    {"name": "tags", "type": "array<string>"},
    {"name": "seen", "type": "map<string,bigint>"},
    {"name": "born", "type": "date"},
    {"name": "where", "type": "struct<city:string,zip:int>"},
    {"name": "raw", "type": "binary"},
    {"name": "at", "type": "timestamp"},
]


def profile(i, rng):
    def maybe(value):
        return None if rng.random() < 0.2 else value

    return {
        "shop": rng.randrange(3),
        "user_id": rng.choice(["a", "日本", "", 'q"'] + [f"u{n}" for n in range(9)]),
        "score": maybe(rng.choice([rng.random(), -0.0, float("inf"), 1e-300])),
        "spent": maybe(Decimal(rng.randrange(-(10**19), 10**19)).scaleb(-3)),
        "vip": maybe(rng.random() < 0.5),
        "tags": maybe([maybe(t) for t in "xyz"[: rng.randrange(4)]]),
        "seen": maybe({k: maybe(rng.randrange(-(2**62), 2**62)) for k in "ab"[: rng.randrange(3)]}),
        "born": maybe((NOON - timedelta(days=rng.randrange(30_000))).date()),
        "where": maybe({"city": maybe("Ulm"), "zip": maybe(rng.randrange(10**5))}),
        "raw": maybe(bytes(rng.randrange(256) for _ in range(rng.randrange(5)))),
        "at": NOON + timedelta(seconds=i, microseconds=rng.randrange(10**6)),
    }


def test_a_changelog_is_the_history_with_its_deletes(sinking, kafka, name):
    """Every type, a compound key, deletes, over four partitions."""
    rng = random.Random(4)
    fs = sinking.store()
    sinks = [millpond.KafkaSink("profiles", partitions=4), millpond.FileSink("parquet", path="profiles")]
    group = fs.get_or_create_feature_group(
        name,
        primary_key=["user_id", "shop"],
        event_time="at",
        features=PROFILE,
        time="historical",
        sinks=sinks,
    )
    again = fs.get_or_create_feature_group(
        name,
        primary_key=["user_id", "shop"],
        event_time="at",
        features=PROFILE,
        time="historical",
        sinks=sinks,
    )
    assert again.definition["id"] == group.definition["id"]
    for batch in range(6):
        rows = [profile(batch * 50 + i, rng) for i in range(50)]
        group.insert(rows, wait=True)
        gone = rng.sample(rows, 3)
        group.commit_delete_record([{k: r[k] for k in ("user_id", "shop")} for r in gone], wait=True)
    group.flush()
    changelog = Changelog(f"{sinking.url}/schema-registry", kafka.bootstrap, "profiles")
    assert len({partition for partition, *_ in changelog.records}) > 1
    assert sum(row is None for _, row, _ in changelog.rows) >= 6
    assert_ordered(changelog)
    assert_changelog_is_history(changelog, group)
    assert [s["lag_rows"] for s in group.sinks] == [0, 0]
    # The same rows as Parquet, without partitions: nested types and all.
    frame = pl.read_parquet(sink(group, "files")["location"])
    assert frame.height == len(history(group))
    assert frame.schema == pl.from_arrow(group.read(dataframe_type="arrow")).select(frame.columns).schema
    metrics = sinking.metrics()
    label = f'{{feature_group="{name}_1",sink="kafka"}}'
    assert metrics[f"sink_rows_total{label}"] == len(changelog.rows)
    assert metrics[f"sink_lag_rows{label}"] == 0


def test_brokers_that_do_not_answer_stop_only_the_topic(sinking, kafka, name):
    fs = sinking.store()
    stream = fs.get_or_create_stream(f"{name}_events", EVENT, event_time="ts", time="historical")
    sinks = [millpond.KafkaSink(name), millpond.FileSink("csv", path=name)]
    group = fs.get_or_create_feature_group(name, sql=CTR_SQL.format(stream=stream.name), sinks=sinks)
    rows = generate(6_000, users=20, minutes=60, disorder=0, seed=3).rows
    stream.append_encoded(encode(stream.schema_id, EVENT, rows[:3_000]))
    feeding.settle(sinking, name)
    group.flush()
    assert [s["state"] for s in group.refresh()["sinks"]] == ["running", "running"]
    kafka.process.popen.send_signal(signal.SIGSTOP)
    try:
        stream.append_encoded(encode(stream.schema_id, EVENT, rows[3_000:]))
        stream.finish()
        feeding.settle(sinking, name)
        version = group.flush()
        topic, files = group.refresh()["sinks"]
        assert version is not None
        assert (files["state"], files["lag_rows"]) == ("running", 0)
        assert topic["state"] == "failing"
        assert topic["lag_rows"] > 0
        assert topic["reason"]
        assert topic["mend"]
        assert "sink kafka failed" in group.status().warning
        assert group.status().outbox_rows == 0, "Delta has all"
    finally:
        kafka.process.popen.send_signal(signal.SIGCONT)
    deadline = time.monotonic() + 90
    while sink(group, "kafka")["lag_rows"]:
        assert time.monotonic() < deadline, sink(group, "kafka")
        time.sleep(0.5)
    changelog = Changelog(f"{sinking.url}/schema-registry", kafka.bootstrap, name)
    assert_changelog_is_history(changelog, group)


def test_dropping(sinking, kafka, name):
    group = windows(
        sinking, name, [millpond.KafkaSink("dropped"), millpond.FileSink("parquet", path="dropped")], CTR_SQL
    )
    rows = len(history(group))
    group.drop_sink("kafka")
    assert [s["name"] for s in group.sinks] == ["files"]
    with pytest.raises(millpond.NotFoundError, match="sink kafka"):
        group.drop_sink("kafka")
    folder = group.sinks[0]["location"]
    group.delete()
    assert pl.read_parquet(f"{folder}/*.parquet").height == rows
    assert len(consume(kafka.bootstrap, "dropped")) == rows
    # The folder has somebody's rows; the topic can be written by the next one, who does not take them for its own.
    with pytest.raises(millpond.InvalidRequestError, match="is not empty"):
        windows(sinking, f"{name}_2", [millpond.FileSink("parquet", path="dropped")], CTR_SQL)
    fs = sinking.store()
    again = fs.get_or_create_feature_group(
        name, sql=CTR_SQL.format(stream=f"{name}_events"), sinks=[millpond.KafkaSink("dropped")]
    )
    feeding.settle(sinking, name)
    again.flush()
    changelog = consume(kafka.bootstrap, "dropped")
    assert len(changelog) == 2 * rows


@pytest.mark.parametrize(
    ("sinks", "said"),
    [
        ([millpond.FileSink("csv", path="../x")], "'..' cannot be a part of it"),
        ([millpond.FileSink("csv", path="/etc/x")], "is not below the folder of all sinks"),
        ([millpond.FileSink("csv", partition_by="ctr")], "folders cannot be named after that"),
        ([millpond.FileSink("csv", partition_by="nope")], "there is no column nope"),
        (
            [millpond.FileSink("csv", path="a"), millpond.FileSink("csv", path="b")],
            "two sinks are called files",
        ),
        (
            [millpond.FileSink("csv", path="a"), millpond.FileSink("csv", path="a/b", name="b")],
            "is written by sink files",
        ),
        ([millpond.KafkaSink("a b")], "'a b' is not the name of a topic"),
        ([{"kind": "redis"}], "redis"),
    ],
)
def test_refusals(sinking, name, sinks, said):
    fs = sinking.store()
    fs.get_or_create_stream("refusals", EVENT, event_time="ts", time="historical")
    with pytest.raises(millpond.MillpondError, match=said):
        fs.get_or_create_feature_group("refused", sql=CTR_SQL.format(stream="refusals"), sinks=sinks)
    assert not fs.get_feature_groups("refused")


def test_other_sinks_are_another_definition(sinking, name):
    fs = sinking.store()
    fs.get_or_create_stream("conflicts", EVENT, event_time="ts", time="historical")
    sql = CTR_SQL.format(stream="conflicts")
    first = fs.get_or_create_feature_group(name, sql=sql, sinks=[millpond.FileSink("csv")])
    assert fs.get_or_create_feature_group(name, sql=sql).definition["id"] == first.definition["id"]
    with pytest.raises(millpond.ConflictError, match="sinks: it has files"):
        fs.get_or_create_feature_group(name, sql=sql, sinks=[millpond.FileSink("parquet")])
