# Generated from ../_async by scripts/unasync.py. Edit there.
"""A stream: events go in here."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from .. import _errors, _frames, _types
from .._batches import encoded_batches, json_batches, tombstone_batches
from .._models import Accounting, Column, Json
from .._time import Lock, Instant, parse_optional, rfc3339
from .transport import Transport

ENCODED = "application/vnd.millpond.avro"


class Stream:
    """A named, append-only log of events. Made by `get_or_create_stream`.

    One object appends in order, under one producer id: an append that is repeated because no reply
    came is stored once. (On a stream with a Kafka topic that takes a `producer_id` and a `sequence` of
    yours, for every such batch is a transaction there; without them it is not repeated.)
    """

    def __init__(self, transport: Transport, raw: Json) -> None:
        self._transport = transport
        self._raw = raw
        self._producer = str(uuid.uuid4())
        self._sequence = 0
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, event_time={self.event_time!r}, time={self.time!r})"

    @property
    def name(self) -> str:
        """Its name."""
        return str(self._raw["name"])

    @property
    def subject(self) -> str:
        """Its subject in the schema registry."""
        return str(self._raw["subject"])

    @property
    def schema_id(self) -> int:
        """The id of its schema in the registry."""
        return int(self._raw["schema_id"])

    @property
    def event_time(self) -> str:
        """The column that says when an event happened."""
        return str(self._raw["event_time"])

    @property
    def time(self) -> str:
        """"live" or "historical"."""  # fmt: skip
        return str(self._raw.get("time", "live"))

    @property
    def topic(self) -> str | None:
        """The Kafka topic, None for the embedded log."""
        topic = self._raw.get("topic")
        return None if topic is None else str(topic)

    @property
    def columns(self) -> list[Column]:
        """Its columns."""
        return [Column.of(c) for c in self._raw.get("columns", [])]

    @property
    def definition(self) -> Json:
        """All that the server says about it, as JSON."""
        return dict(self._raw)

    def refresh(self) -> Json:
        """Ask the server again: definition, positions, watermarks and lags, as JSON."""
        self._raw = self._transport.json("GET", self._path())
        return dict(self._raw)

    def append(
        self,
        rows: Any,
        *,
        partition: int | None = None,
        producer_id: str | None = None,
        sequence: int | None = None,
    ) -> str:
        """Append events; returns the position after them, for `feature_group.wait(position)`.

        Args:
            rows: a list of dicts (or one dict), a pandas or Polars DataFrame, or an Arrow table.
                Datetimes without a zone are UTC. Rows beyond about 4 MB go as several batches.
            partition: default: one chosen by the producer id, so the order is kept.
            producer_id: with `sequence`, makes a batch idempotent across processes: give both, and
            sequence: one more for each batch. The rows must then fit one batch.

        Raises:
            InvalidRowsError: rows do not fit the schema; nothing of their batch was stored.
            SequenceConflictError: `sequence` is not the next one; `last_sequence` says which is.
            UnreachableError: no reply in spite of repeats: the rows may or may not be stored.
        """
        batches = json_batches(_frames.rows_of(rows, self.columns))
        return self._send(batches, "application/json", partition, producer_id, sequence)

    def append_tombstones(
        self,
        keys: Iterable[Any],
        *,
        partition: int | None = None,
        producer_id: str | None = None,
        sequence: int | None = None,
    ) -> str:
        """Append records of a message key and no value; see `FeatureGroup.commit_delete_record`.

        Args:
            keys: primary keys: one value each, or a sequence in key order for a compound key.
            partition: as in `append`.
            producer_id: as in `append`.
            sequence: as in `append`.
        """
        batches = tombstone_batches([_types.to_json(key) for key in keys])
        return self._send(batches, "application/json", partition, producer_id, sequence)

    def append_encoded(
        self,
        frames: Iterable[bytes | None],
        *,
        partition: int | None = None,
        producer_id: str | None = None,
        sequence: int | None = None,
    ) -> str:
        """Append records as they are: Confluent-framed Avro, None for a null value (tombstone).

        The server stores the bytes; what cannot be decoded is quarantined by each feature group.
        """
        return self._send(encoded_batches(frames), ENCODED, partition, producer_id, sequence)

    def heartbeat(self, time: Instant, partition: int | None = None) -> str:
        """Say that time has come this far without an event: the watermark moves as if there were one.

        Args:
            time: a datetime or RFC 3339 text; UTC.
            partition: default: all of them.
        """
        body: Json = {"time": rfc3339(time)}
        if partition is not None:
            body["partition"] = partition
        return str((self._transport.json("POST", self._path("/heartbeat"), body))["position"])

    def finish(self, position: str | None = None) -> str:
        """Say that a bounded replay ends here (or at `position`): all windows that are open close.

        The stream stays open: later events open later windows.
        """
        body = {} if position is None else {"position": position}
        return str((self._transport.json("POST", self._path("/finish"), body))["position"])

    def quarantine(self, limit: int = 100) -> list[Json]:
        """Records that could not become rows: group, version, partition, offset, reason, detail, key, value.

        `key` and `value` are bytes, or None.
        """
        reply = self._transport.json("GET", self._path("/quarantine"), params={"limit": limit})
        return [{**r, "key": _bytes(r.get("key")), "value": _bytes(r.get("value"))} for r in reply["records"]]

    def quarantine_counts(self) -> dict[str, int]:
        """How many records are in quarantine, by reason."""
        reply = self._transport.json("GET", self._path("/quarantine"), params={"limit": 1})
        return {str(k): int(v) for k, v in reply["by_reason"].items()}

    def accounting(self) -> list[Accounting]:
        """What became of every record, for each feature group that reads this stream."""
        reply = self._transport.json("GET", self._path("/accounting"))
        return [Accounting.of(raw) for raw in reply["groups"]]

    def records(self, partition: int = 0, offset: int = 0, limit: int = 100) -> list[Json]:
        """Raw records: partition, offset, kind, key, value (bytes), row (the decoded JSON, or None)."""
        params = {"partition": partition, "offset": offset, "limit": limit}
        reply = self._transport.json("GET", self._path("/records"), params=params)
        return [{**r, "key": _bytes(r.get("key")), "value": _bytes(r.get("value"))} for r in reply["records"]]

    def watermark(self) -> datetime | None:
        """The least watermark of the groups that read this stream; None: no statement yet."""
        groups = (self.refresh()).get("groups", [])
        marks = [parse_optional(g.get("watermark")) for g in groups]
        known = [m for m in marks if m is not None]
        return min(known) if known and len(known) == len(marks) else None

    def delete(self) -> None:
        """Drop the stream and its embedded log.

        Raises:
            ConflictError: feature groups read it; delete them first.
        """
        self._transport.json("DELETE", self._path())

    def _send(
        self,
        batches: Iterator[tuple[int, bytes]],
        content_type: str,
        partition: int | None,
        producer_id: str | None,
        sequence: int | None,
    ) -> str:
        if (producer_id is None) != (sequence is None):
            raise _errors.InvalidRequestError(
                "producer_id and sequence go together", hint="give both, or neither"
            )
        position, sent = "", 0
        with self._lock:
            for count, content in batches:
                if sequence is not None and sent:
                    raise _errors.InvalidRequestError(
                        f"the rows do not fit one batch: {sent} of them are stored under sequence {sequence}",
                        hint="with a sequence of your own, append at most 4 MB at a time",
                    )
                try:
                    position = self._one(content, content_type, partition, producer_id, sequence)
                except _errors.InvalidRowsError as error:
                    raise _shifted(error, sent) from None
                sent += count
        return position

    def _one(
        self,
        content: bytes,
        content_type: str,
        partition: int | None,
        producer_id: str | None,
        sequence: int | None,
    ) -> str:
        own = producer_id is None
        numbered = self.topic is None or sequence is not None
        headers = {
            "Content-Type": content_type,
            "Accept": "application/json",
            "Millpond-Producer-Id": producer_id or self._producer,
        }
        if sequence is not None:
            headers["Millpond-Sequence"] = str(sequence)
        elif numbered:
            headers["Millpond-Sequence"] = str(self._sequence + 1)
        if partition is not None:
            headers["Millpond-Partition"] = str(partition)
        try:
            reply = self._transport.send(
                "POST", self._path("/records"), content=content, headers=headers, repeatable=numbered
            )
        except (_errors.UnreachableError, _errors.SequenceConflictError):
            if own:  # whether the batch was stored is not known: what follows is a new producer's
                self._producer, self._sequence = str(uuid.uuid4()), 0
            raise
        if own:
            self._sequence += 1
        return str(reply.json()["position"])

    def _path(self, rest: str = "") -> str:
        return f"/api/v1/streams/{self.name}{rest}"


def _shifted(error: _errors.InvalidRowsError, sent: int) -> _errors.InvalidRowsError:
    """Row numbers count from the start of the call, not of the batch."""
    error.appended = sent
    if sent:
        error.details = [{**r, "row": r["row"] + sent} for r in error.rows]
    return error


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
