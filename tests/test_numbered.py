"""Numbered batches over HTTP to a Kafka topic: once each, whenever the server dies."""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from collections import Counter
from typing import Any

import httpx
import millpond
import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from tests.harness import feeding

COLUMNS = {"user_id": "string not null", "n": "bigint", "at": "timestamp"}
SQL = """SELECT user_id, COUNT(*) AS k, SUM(n) AS n
FROM TUMBLE({stream}, DESCRIPTOR(at), INTERVAL '1' MINUTE) GROUP BY user_id, window_end"""


def row(n: int, user: str = "u") -> dict[str, Any]:
    return {"user_id": user, "n": n, "at": f"2024-05-01T12:00:{n % 60:02}Z"}


def committed(kafka, topic: str, partitions: int) -> list[Any]:
    """Every committed record of the topic."""
    consumer = Consumer({
        "bootstrap.servers": kafka.bootstrap,
        "group.id": str(uuid.uuid4()),
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
    })  # fmt: skip
    consumer.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
    records, open_partitions = [], set(range(partitions))
    while open_partitions:
        message = consumer.poll(30)
        assert message is not None, "the topic does not end"
        if message.error():
            assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
            open_partitions.discard(message.partition())
        else:
            records.append(message)
    consumer.close()
    return records


def values(records: list[Any]) -> list[int]:
    return [json.loads(r.value())["n"] for r in records]


@pytest.fixture
def numbered(kafka, make_server, name):
    """A server over Kafka, and a stream of it."""
    kafka.topic(name, 2)
    server = make_server({"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap})
    stream = server.store(retries=0).get_or_create_stream(
        name, COLUMNS, event_time="at", time="historical", format="json", topic=name
    )
    return server, stream


def test_the_same_sequence_has_the_same_reply(numbered, kafka, name):
    server, stream = numbered
    first = stream.append([row(1), row(2)], producer_id="p", sequence=4)
    assert stream.append([row(1), row(2)], producer_id="p", sequence=4) == first
    other = stream.append([row(9)], producer_id="q", sequence=1)
    assert stream.append([row(3)], producer_id="p", sequence=5) != first
    for sequence, rows in [(5, [row(7)]), (4, [row(1), row(2)]), (7, [row(3)])]:
        with pytest.raises(millpond.SequenceConflictError) as conflict:
            stream.append(rows, producer_id="p", sequence=sequence)
        assert conflict.value.last_sequence == 5
    server.stop()
    server.start()
    assert stream.append([row(9)], producer_id="q", sequence=1) == other
    stream.append([row(4)], producer_id="p", sequence=6)
    stream.append([], producer_id="p", sequence=7)
    stream.append([row(5)], producer_id="p", sequence=8)
    assert sorted(values(committed(kafka, name, 2))) == [1, 2, 3, 4, 5, 9]
    marks = [dict(r.headers() or []).get("millpond-batch") for r in committed(kafka, name, 2)]
    uuid_ = stream.definition["uuid"]
    assert f"{uuid_}/4/p".encode() in marks
    assert sum(mark is None for mark in marks) == 1  # the first of the two that came together


def test_a_group_reads_past_the_markers(numbered, name):
    """What is waited for may lie behind a transaction's marker, where there is no record."""
    server, stream = numbered
    group = server.store().get_or_create_feature_group(name, sql=SQL.format(stream=name))
    position = ""
    for n in range(5):
        position = stream.append([row(n, f"u{n % 2}")], producer_id="p", sequence=n + 1)
    group.wait(position)
    group.wait(stream.finish(), timeout=30)
    server.http.post(f"/api/v1/feature-groups/{name}/1/wait?timeout=30").raise_for_status()
    feeding.settle(server, name)
    assert {(r["user_id"], r["k"], r["n"]) for r in group.rows()} == {("u0", 3, 6), ("u1", 2, 4)}


class Sender:
    """Sends batches of the producer p to partition 0 over a connection that is kept."""

    def __init__(self, server, stream) -> None:
        self.http = httpx.Client(timeout=60)
        self.url = f"{server.url}/api/v1/streams/{stream.name}/records"

    def send(self, sequence: int, rows: list[Any]) -> httpx.Response | None:
        """One batch; None if no reply came."""
        headers = {"Millpond-Producer-Id": "p", "Millpond-Sequence": str(sequence), "Millpond-Partition": "0"}
        try:
            return self.http.post(self.url, json={"rows": rows}, headers=headers)
        except httpx.TransportError:
            return None


def settlements(server) -> list[str]:
    """What the server said of batches that an earlier one had not settled."""
    lines = server.process.log.read_text().splitlines()
    return [line for line in lines if "a batch that was not settled" in line]


def was_found(line: str) -> bool:
    return "found=true" in line or '"found":true' in line


KILLS = 25


def test_every_batch_is_in_the_topic_once_whenever_the_server_dies(numbered, kafka, name):
    """kill -9 at random moments, most of them in the middle of a batch; each batch is sent until it is answered."""
    server, stream = numbered
    rng = random.Random(7)
    sequence, answered, unanswered = 0, {}, 0
    stopping = threading.Event()
    lock = threading.Lock()
    sender = Sender(server, stream)

    def feed() -> None:
        nonlocal sequence, unanswered
        while not stopping.is_set():
            sequence += 1
            rows = [row(sequence * 10 + i) for i in range(3)]
            while True:
                with lock:
                    pass  # the server is being started
                reply = sender.send(sequence, rows)
                if reply is not None and reply.status_code == 200:
                    answered[sequence] = reply.json()["position"]
                    break
                assert reply is None or reply.status_code == 503, reply.text
                unanswered += 1

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    for _ in range(KILLS):
        before = len(answered)
        while len(answered) < before + 3:
            assert feeder.is_alive()
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.04))
        with lock:
            server.kill()
            server.start()
    stopping.set()
    feeder.join(120)
    assert not feeder.is_alive()
    seen = Counter(values(committed(kafka, name, 2)))
    expected = [s * 10 + i for s in range(1, sequence + 1) for i in range(3)]
    assert seen == Counter(expected)
    settled = settlements(server)
    found = sum(map(was_found, settled))
    print(
        f"{sequence} batches, {unanswered} without a reply, {len(settled)} settled, {found} found in the topic"
    )
    assert len(settled) >= 3
    reply = sender.send(sequence, [row(sequence * 10 + i) for i in range(3)])
    assert reply.json()["position"] == answered[sequence]


def test_a_batch_that_came_through_before_the_server_died_is_found(numbered, kafka, name):
    """The last moment before a kill is made by hand: the batch is committed, with its mark, and the reply was not
    written down. (A kill that came before the server had noted its intent proves nothing and is repeated.)"""
    server, stream = numbered
    rng = random.Random(3)
    producer = kafka.producer()
    copies: Counter[int] = Counter()
    sender = Sender(server, stream)
    for sequence in range(2, 60, 2):
        before = sender.send(sequence - 1, [row(sequence * 10 + 9)])  # opens what is opened once
        assert before is not None
        copies[sequence * 10 + 9] = 1
        rows = [row(sequence * 10 + i) for i in range(2)]
        under_way = threading.Thread(target=sender.send, args=(sequence, rows))
        under_way.start()
        time.sleep(rng.uniform(0.004, 0.02))
        server.kill()
        under_way.join()
        there = values(committed(kafka, name, 1))
        if rows[0]["n"] not in there:
            mark = f"{stream.definition['uuid']}/{sequence}/p"
            for r in rows:
                headers = [("millpond-batch", mark.encode())] if r is rows[-1] else []
                producer.produce(name, json.dumps(r), partition=0, headers=headers)
            assert producer.flush(60) == 0
        server.start()
        settled_before = len(settlements(server))
        first = sender.send(sequence, rows)
        assert first is not None
        assert first.status_code == 200, first.text
        assert sender.send(sequence, rows).json() == first.json()
        settled = settlements(server)[settled_before:]
        found = bool(settled) and was_found(settled[0])
        # Killed before its intent, the server knows of nothing, and what stands there by hand is not its own.
        copies.update({r["n"]: 1 if found or rows[0]["n"] in there else 2 for r in rows})
        if found:
            break
    assert found, "no kill landed between the intent and the reply"
    assert Counter(values(committed(kafka, name, 2))) == copies
