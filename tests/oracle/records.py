"""Raw records of a stream and what fastavro makes of them."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import fastavro
import httpx
from confluent_kafka import Consumer, KafkaError, TopicPartition

PAGE = 10_000
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def micros(time: Any) -> int | None:
    """RFC 3339 text or a datetime as microseconds since 1970; text out of the calendar is the end it lies at."""
    if time is None or isinstance(time, int):
        return time
    if isinstance(time, str):
        try:
            time = datetime.fromisoformat(time.replace("Z", "+00:00"))
        except ValueError:
            return -(2**63) if time.startswith("-") else 2**63 - 1
    if time.tzinfo is None:
        time = time.replace(tzinfo=timezone.utc)
    delta = time - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a log: `kind` is event, tombstone or heartbeat; a heartbeat's time is in `heartbeat`."""

    partition: int
    offset: int
    kind: str
    key: bytes | None
    value: bytes | None
    heartbeat: int | None = None


def over_http(http: httpx.Client, stream: str) -> Iterator[Record]:
    """All records of a stream, by partition and offset."""
    detail = http.get(f"/api/v1/streams/{stream}").json()
    for part in detail["partitions_detail"]:
        offset = part["start"]
        while offset < part["end"]:
            params = {"partition": part["partition"], "offset": offset, "limit": PAGE}
            reply = http.get(f"/api/v1/streams/{stream}/records", params=params)
            assert reply.status_code == 200, reply.text
            page = reply.json()["records"]
            if not page:
                break
            for r in page:
                yield Record(
                    r["partition"],
                    r["offset"],
                    r["kind"],
                    _bytes(r["key"]),
                    _bytes(r["value"]),
                    r.get("heartbeat"),
                )
            offset = page[-1]["offset"] + 1


def from_kafka(bootstrap: str, topic: str) -> Iterator[Record]:
    """All committed records of a topic, read with another client than the server's."""
    options = {
        "bootstrap.servers": bootstrap,
        "group.id": "oracle",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
    }
    consumer = Consumer(options)
    partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
    waiting = set(partitions)
    while waiting:
        for message in consumer.consume(10_000, 1.0):
            if message.error():
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                waiting.discard(message.partition())
                continue
            yield _of_message(message)
    consumer.close()


def _of_message(message: Any) -> Record:
    headers = dict(message.headers() or [])
    place = (message.partition(), message.offset())
    if message.value() is not None:
        return Record(*place, "event", message.key(), message.value())
    if "millpond-heartbeat" in headers:
        raw = headers["millpond-heartbeat"]
        time = int.from_bytes(raw, "big", signed=True) if len(raw) == 8 else None
        return Record(*place, "heartbeat", message.key(), None, time)
    return Record(*place, "tombstone", message.key(), None)


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


class Rejected(Exception):
    """A record that cannot become a row; the argument is the server's word for the reason."""


class Decoder:
    """Confluent frames to rows of the reader's schema, by fastavro.

    fastavro lets two things pass: an int beyond 32 bits, and a negative index of an enum (Python counts from the
    end). So each record is also decoded under the writer's schema alone, checked and encoded again.
    """

    def __init__(self, reader: dict, fetch: Callable[[int], str | None]) -> None:
        self.reader = fastavro.parse_schema(_plain_times(reader))
        self._fetch = fetch
        self._writers: dict[int, tuple[Any, bool]] = {}

    def __call__(self, value: bytes) -> dict[str, Any]:
        """One row; timestamps are integers in the field's unit.

        Raises:
            Rejected: bad_frame, unknown_schema, incompatible_schema or bad_body.
        """
        if len(value) < 5 or value[0] != 0:
            raise Rejected("bad_frame")
        writer, is_reader = self._writer(int.from_bytes(value[1:5], "big"))
        body = value[5:]
        try:
            row = self._checked(writer, body)
        except Exception:
            raise Rejected("bad_body") from None
        if is_reader:
            return row
        try:
            return fastavro.schemaless_reader(io.BytesIO(body), writer, self.reader)
        except Exception:
            raise Rejected("incompatible_schema") from None

    def _checked(self, writer: Any, body: bytes) -> dict[str, Any]:
        row = fastavro.schemaless_reader(io.BytesIO(body), writer)
        again = io.BytesIO()
        fastavro.schemaless_writer(again, writer, row)
        if again.getvalue() != body:
            raise ValueError("trailing bytes, or an encoding that is not the value's")
        for field in writer["fields"]:
            if field["type"] == "int" and not -(2**31) <= row[field["name"]] < 2**31:
                raise ValueError("an int of more than 32 bits")
        return row

    def _writer(self, schema_id: int) -> tuple[Any, bool]:
        """A writer's schema, and whether it is the reader's."""
        if schema_id not in self._writers:
            text = self._fetch(schema_id)
            parsed = None if text is None else fastavro.parse_schema(_plain_times(json.loads(text)))
            self._writers[schema_id] = (parsed, parsed == self.reader)
        if self._writers[schema_id][0] is None:
            raise Rejected("unknown_schema")
        return self._writers[schema_id]


def _plain_times(schema: Any) -> Any:
    """The schema without logical timestamps: they are compared as integers."""
    if isinstance(schema, list):
        return [_plain_times(s) for s in schema]
    if isinstance(schema, dict):
        kept = {k: _plain_times(v) for k, v in schema.items()}
        if str(kept.get("logicalType", "")).startswith(("timestamp-", "local-timestamp-")):
            del kept["logicalType"]
        return kept
    return schema


def registry(url: str) -> Callable[[int], str | None]:
    """Fetches writer schemas from a Confluent registry."""

    def fetch(schema_id: int) -> str | None:
        reply = httpx.get(f"{url}/schemas/ids/{schema_id}", timeout=30)
        return reply.json()["schema"] if reply.status_code == 200 else None

    return fetch
