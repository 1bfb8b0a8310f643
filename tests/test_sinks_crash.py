"""kill -9 while a sink owes rows or writes them, and readers who look at the files all the time."""

import glob
import random
import threading
import time
from pathlib import Path

import duckdb
import millpond
import pandas as pd
import polars as pl

from tests.definitions import CTR_SQL
from tests.harness import feeding
from tests.harness.events import schema
from tests.harness.sinks import Changelog, assert_changelog_is_history, assert_ordered, sink
from tests.test_crash import Feeder, live_frames

EVENT = schema("event")
KILLS = 12


def test_kills_while_rows_are_exported(kafka, make_server):
    """kill -9 while a sink owes rows or writes them: no row is lost, none is there twice, in neither kind."""
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "MILLPOND_OFFLINE__DRAIN_INTERVAL": "1",
        "MILLPOND_OFFLINE__DRAIN_ROWS": "500",
        "MILLPOND_SINKS__INTERVAL": "0.2",
    }
    server = make_server(env)
    fs = server.store(retries=60, timeout=20)
    stream = fs.get_or_create_stream("events", EVENT, event_time="ts", watermark_delay=20, time="historical")
    group = fs.get_or_create_feature_group(
        "killed",
        sql=CTR_SQL.format(stream="events"),
        sinks=[
            millpond.KafkaSink("killed", partitions=3),
            millpond.FileSink("csv", path="killed/csv", partition_by="user_id"),
            millpond.FileSink("parquet", path="killed/parquet", partition_by="_event_date", name="parquet"),
        ],
    )
    feeder = Feeder(live_frames(stream.schema_id, 1_200_000, seed=31), stream.append_encoded)
    readers = Readers(server.data / "sinks" / "killed")
    feeder.start()
    readers.start()
    rng = random.Random(7)
    owing = {"kafka": 0, "files": 0, "parquet": 0}
    for kill in range(KILLS):
        wanted = list(owing)[kill % 3]
        deadline = time.monotonic() + 60
        while not (lag := {s["name"]: s["lag_rows"] for s in group.refresh()["sinks"]})[wanted]:
            assert feeder.is_alive(), f"the frames did not last: {feeder.error}"
            assert time.monotonic() < deadline, f"{wanted} owes nothing: {group.definition['sinks']}"
        time.sleep(rng.uniform(0, 0.1))
        for sink_name, rows in lag.items():
            owing[sink_name] += rows > 0
        server.kill()
        server.start()
    feeder.stopping.set()
    feeder.join(120)
    assert feeder.error is None, feeder.error
    stream.finish()
    feeding.settle(server, "killed")
    group.flush()
    readers.stop()
    print(f"{KILLS} kills, of which found owing: {owing}; {readers.looks} looks of readers")
    assert min(owing.values()) >= KILLS // 3
    assert [s["lag_rows"] for s in group.refresh()["sinks"]] == [0, 0, 0]

    changelog = Changelog(f"{server.url}/schema-registry", kafka.bootstrap, "killed")
    assert_ordered(changelog)
    assert_changelog_is_history(changelog, group)
    expected = pl.from_arrow(group.read(dataframe_type="arrow")).sort("user_id", "_commit")
    parquet = pl.scan_parquet(
        f"{sink(group, 'parquet')['location']}/**/*.parquet",
        hive_partitioning=True,
        try_parse_hive_dates=True,
    )
    assert parquet.collect().select(expected.columns).sort("user_id", "_commit").equals(expected)
    csv = pl.concat(
        [pl.read_csv(f, schema_overrides={"ctr": pl.Float64}) for f in csv_files(sink(group, "files"))]
    )
    csv = csv.sort("user_id", "_commit")
    assert csv.columns == expected.columns
    for column in ("user_id", "impressions", "clicks", "ctr", "_commit", "_op", "_modelled"):
        assert csv[column].equals(expected[column]), column
    owed = server.store().get_feature_group("killed").status()
    assert owed.outbox_rows == 0


def csv_files(of):
    return sorted(glob.glob(f"{of['location']}/*/*.csv"))


class Readers(threading.Thread):
    """Looks at the folders all the time, with three programs: every look must succeed and find no row twice."""

    def __init__(self, folder: Path):
        super().__init__(daemon=True)
        self.folder, self.looks, self.error, self.ending = folder, 0, None, threading.Event()

    def run(self):
        try:
            while not self.ending.is_set():
                self.look()
                self.looks += 1
                time.sleep(0.05)
        except Exception as error:
            self.error = error

    def look(self):
        if parquet := glob.glob(f"{self.folder}/parquet/**/*.parquet", recursive=True):
            rows = pl.scan_parquet(parquet, hive_partitioning=True).select("user_id", "_commit").collect()
            assert rows.is_unique().all(), "a row is there twice"
            duck = duckdb.connect()
            glob_ = f"{self.folder}/parquet/**/*.parquet"
            n, distinct = duck.sql(
                f"SELECT count(*), count(DISTINCT (user_id, _commit)) FROM read_parquet('{glob_}')"
            ).fetchall()[0]
            assert n == distinct >= rows.height
        if csv := glob.glob(f"{self.folder}/csv/user_id=user_1*/*.csv"):
            frame = pd.concat([pd.read_csv(f) for f in csv])
            assert not frame.duplicated(["user_id", "_commit"]).any()
            assert frame["_op"].eq("upsert").all(), "half a line"

    def stop(self):
        self.ending.set()
        self.join(60)
        assert self.error is None, self.error
        assert self.looks > 10
