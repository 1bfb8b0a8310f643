"""Getting records into a server, over HTTP or Kafka, and waiting until they have come out."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import millpond

from .kafka import Kafka
from .server import Server

Key = Callable[[dict[str, Any]], str]


def register(url: str, subject: str, avro: dict[str, Any]) -> int:
    """Register a schema; returns its id."""
    body = {"schema": json.dumps(avro)}
    reply = httpx.post(f"{url}/subjects/{subject}/versions", json=body, timeout=30)
    assert reply.status_code == 200, reply.text
    return int(reply.json()["id"])


def over_http(stream: millpond.Stream, frames: Sequence[bytes | None]) -> str:
    """Append frames in one partition, in order; returns the position."""
    return stream.append_encoded(frames)


def over_kafka(
    kafka: Kafka,
    topic: str,
    frames: Sequence[bytes | None],
    keys: Sequence[str],
    partitions: int,
) -> None:
    """Produce frames, partitioned by key; returns when all are acknowledged."""
    producer = kafka.producer()
    failed: list[str] = []

    def acknowledged(error: Any, message: Any) -> None:
        if error:
            failed.append(str(error))

    for frame, key in zip(frames, keys, strict=True):
        partition = zlib.crc32(key.encode()) % partitions
        while True:
            try:
                producer.produce(topic, frame, partition=partition, on_delivery=acknowledged)
                break
            except BufferError:
                producer.poll(0.5)
        producer.poll(0)
    assert producer.flush(120) == 0
    assert not failed, failed[:3]


def settle(server: Server, group: str, version: int = 1, timeout: float = 300) -> dict[str, Any]:
    """Wait until the group's pipeline has read everything and commits nothing more; returns the group."""
    deadline = time.monotonic() + timeout
    before, quiet = None, 0
    while True:
        detail = server.get(f"/api/v1/feature-groups/{group}/{version}")
        status = detail["status"]
        assert status["state"] in ("restoring", "running", "backfilling"), status
        still = status["state"] != "restoring" and status["lag"] == 0 and status["epoch"] == before
        quiet = quiet + 1 if still else 0
        before = status["epoch"]
        if quiet >= 4:
            return detail
        assert time.monotonic() < deadline, f"{group} does not settle: {status}"
        time.sleep(0.25)
