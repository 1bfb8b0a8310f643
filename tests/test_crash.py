"""kill -9 at random moments, over both logs: nothing is lost, nothing comes twice.

A kill counts as landed with records in flight if records that were acknowledged before it lie, says the journal,
in an epoch opened after it; and as landed with a non-empty outbox if rows committed before it are, says Delta's own
log, in a version written after it.
"""

import json
import random
import threading
import time
import zlib
from pathlib import Path

import pytest

from tests.definitions import CTR, CTR_SQL
from tests.harness import feeding
from tests.harness.events import encode, generate, schema
from tests.oracle import verify
from tests.oracle.judge import epochs
from tests.oracle.records import from_kafka

EVENT = schema("event")
KILLS = 14  # for each log
ENV = {"MILLPOND_OFFLINE__DRAIN_INTERVAL": "1", "MILLPOND_PIPELINE__MIN_EPOCH_AGE": "0.5"}


class Feeder(threading.Thread):
    """Sends frames in small batches until told to stop; remembers when how many were acknowledged."""

    def __init__(self, frames, send):
        super().__init__(daemon=True)
        self.frames, self.send = frames, send
        self.acknowledged = [(0, 0.0)]  # (records, wall clock), ascending
        self.stopping = threading.Event()
        self.error = None

    def run(self):
        sent, batch = 0, 400
        try:
            while sent < len(self.frames) and not self.stopping.is_set():
                self.send(self.frames[sent : sent + batch])
                sent = min(sent + batch, len(self.frames))
                self.acknowledged.append((sent, time.time()))
                time.sleep(0.01)  # so that the frames last until the last kill
        except Exception as error:
            self.error = error

    def before(self, instant):
        return max((n for n, at in self.acknowledged if at <= instant), default=0)


def live_frames(schema_id, count, seed):
    rows = generate(count, users=200, minutes=count // 2000, disorder=20, seed=seed).rows
    return encode(schema_id, EVENT, rows)


def kill_and_restart(server, feeder, kills, seed):
    """Kill the server so many times while it works; returns the instants."""
    rng = random.Random(seed)
    instants = []
    for _ in range(kills):
        resumed = time.time()
        while feeder.acknowledged[-1][1] < resumed:
            assert feeder.is_alive(), f"the frames did not last: {feeder.error}"
            time.sleep(0.01)
        time.sleep(rng.uniform(0.1, 1.5))
        assert feeder.is_alive(), "the frames did not last"
        instants.append(time.time())
        server.kill()
        server.start()
    feeder.stopping.set()
    feeder.join(120)
    assert not feeder.is_alive()
    assert feeder.error is None, feeder.error
    return instants


def in_flight(journal, feeder, instants):
    """Kills with records that were acknowledged before and read by an epoch opened after."""
    counted = 0
    for instant in instants:
        read = sum(sum(s.count for s in e.ranges) for e in journal if e.opened_at < instant * 1e6)
        counted += feeder.before(instant) > read
    return counted


def with_outbox(history, location, journal, instants):
    """Kills with rows that were committed before and written to Delta after."""
    written = {}  # rows of each Delta version, by the time it was written
    for path in sorted(Path(location, "_delta_log").glob("*.json")):
        actions = [json.loads(line) for line in path.read_text().splitlines()]
        at = next(
            (a["commitInfo"]["timestamp"] / 1e3 for a in actions if "commitInfo" in a),
            None,
        )
        rows = sum(
            json.loads(a["add"]["stats"])["numRecords"]
            for a in actions
            if "add" in a and a["add"]["dataChange"]
        )
        written[at] = written.get(at, 0) + rows
    committed = [(e.number, e.rows, e.opened_at / 1e6) for e in journal]
    counted = 0
    for instant in instants:
        owed = sum(
            rows for _, rows, at in committed if at < instant
        )  # what the journal has was committed under this start
        counted += owed > sum(rows for at, rows in written.items() if at <= instant)
    return counted


def confirm(verified, feeder, instants):
    journal = epochs(verified.observed.journal)
    flying = in_flight(journal, feeder, instants)
    owing = with_outbox(
        verified.observed.history,
        verified.observed.group["location"],
        journal,
        instants,
    )
    print(f"{len(instants)} kills: {flying} with records in flight, {owing} with a non-empty outbox")
    assert verified.expected.counts["read"] == feeder.acknowledged[-1][0]
    return flying, owing


def embedded(make_server, kills, count):
    server = make_server(ENV)
    fs = server.store(retries=60, timeout=20)
    stream = fs.get_or_create_stream("events", EVENT, event_time="ts", watermark_delay=20, time="historical")
    fs.get_or_create_feature_group("ctr", sql=CTR_SQL.format(stream="events"))
    feeder = Feeder(live_frames(stream.schema_id, count, seed=21), stream.append_encoded)
    feeder.start()
    instants = kill_and_restart(server, feeder, kills, seed=1)
    stream.finish()
    feeding.settle(server, "ctr")
    return confirm(verify(server, "events", "ctr", CTR), feeder, instants)


def over_kafka(kafka, make_server, topic, kills, count):
    kafka.topic(topic, 4)
    server = make_server({**ENV, "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap})
    fs = server.store(retries=60, timeout=20)
    stream = fs.get_or_create_stream(
        "events", EVENT, event_time="ts", watermark_delay=20, time="historical", topic=topic
    )
    fs.get_or_create_feature_group("ctr", sql=CTR_SQL.format(stream="events"))
    producer = kafka.producer()

    def send(frames):
        for frame in frames:
            producer.produce(topic, frame, partition=zlib.crc32(frame[6:12]) % 4)
        assert producer.flush(60) == 0

    feeder = Feeder(live_frames(stream.schema_id, count, seed=22), send)
    feeder.start()
    instants = kill_and_restart(server, feeder, kills, seed=2)
    stream.finish()
    feeding.settle(server, "ctr")
    raw = list(from_kafka(kafka.bootstrap, topic))
    return confirm(verify(server, "events", "ctr", CTR, records=raw), feeder, instants)


@pytest.fixture(scope="module")
def tally():
    return []


def test_embedded(make_server, tally):
    tally.append(embedded(make_server, KILLS, 1_000_000))


def test_kafka(kafka, make_server, tally):
    tally.append(over_kafka(kafka, make_server, "crash", KILLS, 1_000_000))


def test_enough_kills_landed(tally):
    assert len(tally) == 2, "the tests before did not end"
    assert sum(flying for flying, _ in tally) >= 20
    assert sum(owing for _, owing in tally) >= 5


@pytest.mark.long
def test_many_kills_embedded(make_server):
    flying, owing = embedded(make_server, 500, 20_000_000)
    assert flying >= 400
    assert owing >= 100


@pytest.mark.long
def test_many_kills_kafka(kafka, make_server):
    flying, owing = over_kafka(kafka, make_server, "many_crashes", 500, 20_000_000)
    assert flying >= 400
    assert owing >= 100
