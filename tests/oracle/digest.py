"""Count and xxh3 of the records of a range, by the layout that `server/src/log/digest.rs` states."""

from __future__ import annotations

import struct

import xxhash

from .records import Record

KINDS = {"event": 0, "tombstone": 1, "heartbeat": 2}
BAD_HEARTBEAT = 3


class Digest:
    """Takes the records of one range in, in the order of their offsets."""

    def __init__(self) -> None:
        self.count = 0
        self._hash = xxhash.xxh3_64()

    def add(self, record: Record) -> None:
        """One record more."""
        kind, time = KINDS[record.kind], record.heartbeat or 0
        if record.kind == "heartbeat" and record.heartbeat is None:
            kind = BAD_HEARTBEAT
        key = b"" if record.key is None else record.key
        length = 0 if record.key is None else len(key) + 1
        value = (record.value or b"") if record.kind == "event" else b""
        self._hash.update(struct.pack("<qBqI", record.offset, kind, time, length))
        self._hash.update(key + struct.pack("<I", len(value)) + value)
        self.count += 1

    def value(self) -> str:
        """As the journal shows it."""
        return f"{self._hash.intdigest():016x}"
