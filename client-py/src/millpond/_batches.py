"""Bodies of appends: rows or frames in batches that the server takes (10 MiB; 4 MB leave room)."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from typing import Any

BATCH_BYTES = 4_000_000
NULL = struct.pack(">I", 0xFFFFFFFF)


def json_batches(rows: list[dict[str, Any]]) -> Iterator[tuple[int, bytes]]:
    """`{"rows": […]}` bodies and the rows in each; at least one body, even of no rows."""
    texts = (json.dumps(row, allow_nan=False, separators=(",", ":")).encode() for row in rows)
    yield from _batches(texts, b'{"rows":[', b",", b"]}")


def tombstone_batches(keys: list[Any]) -> Iterator[tuple[int, bytes]]:
    """`{"tombstones": […]}` bodies and the keys in each; at least one body, even of no keys."""
    texts = (json.dumps(key, allow_nan=False, separators=(",", ":")).encode() for key in keys)
    yield from _batches(texts, b'{"tombstones":[', b",", b"]}")


def encoded_batches(frames: Iterable[bytes | None]) -> Iterator[tuple[int, bytes]]:
    """Frames, each after its length (u32, big-endian; 0xFFFFFFFF: a null value)."""
    parts = (NULL if f is None else struct.pack(">I", len(f)) + f for f in frames)
    yield from _batches(parts, b"", b"", b"")


def _batches(parts: Iterable[bytes], head: bytes, between: bytes, tail: bytes) -> Iterator[tuple[int, bytes]]:
    batch: list[bytes] = []
    size, first = 0, True
    for part in parts:
        if batch and size + len(part) > BATCH_BYTES:
            yield len(batch), head + between.join(batch) + tail
            batch, size, first = [], 0, False
        batch.append(part)
        size += len(part) + len(between)
    if batch or first:
        yield len(batch), head + between.join(batch) + tail
