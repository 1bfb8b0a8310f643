"""Events for the tests: encoding, generated streams with disorder, records malformed in many ways."""

from __future__ import annotations

import io
import json
import random
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
import numpy as np

SCHEMAS = Path(__file__).resolve().parent.parent.parent / "schemas"
MINUTE = 60 * 1_000_000
T0 = 1_700_000_100 * 1_000_000  # a multiple of five minutes


def schema(name: str) -> dict[str, Any]:
    """One of schemas/*.avsc."""
    return json.loads((SCHEMAS / f"{name}.avsc").read_text())


def frame(schema_id: int, body: bytes) -> bytes:
    """Confluent's frame."""
    return b"\x00" + struct.pack(">I", schema_id) + body


def encode(schema_id: int, avro: dict[str, Any], rows: Iterable[dict[str, Any]]) -> list[bytes]:
    """Rows as Confluent-framed Avro, by fastavro."""
    parsed = fastavro.parse_schema(avro)
    head = frame(schema_id, b"")
    frames = []
    for row in rows:
        out = io.BytesIO()
        out.write(head)
        fastavro.schemaless_writer(out, parsed, row)
        frames.append(out.getvalue())
    return frames


@dataclass(frozen=True)
class Generated:
    """A stream of schemas/event.avsc: rows in the order of their arrival."""

    rows: list[dict[str, Any]]
    displaced: float  # share of rows that come after a row with a later event time


def generate(count: int, *, users: int, minutes: int, disorder: int, seed: int) -> Generated:
    """Seeded events over `minutes`, from T0 on; each arrives up to `disorder` seconds (µs inside) after it happened."""
    rng = np.random.default_rng(seed)
    times = np.sort(T0 + rng.integers(0, minutes * MINUTE, count))
    late = np.where(rng.random(count) < 0.6, rng.integers(0, disorder * 1_000_000 + 1, count), 0)
    order = np.argsort(times + late, kind="stable")
    times = times[order]
    displaced = float(np.mean(times < np.maximum.accumulate(times)))
    user = rng.integers(0, users, count)
    item = rng.integers(0, 80, count)
    click = rng.random(count) < 0.05
    rows = [
        {
            "user_id": f"user_{u}",
            "item_id": i,
            "campaign_id": i % 8,
            "action": "click" if c else "impression",
            "ts": t,
        }
        for u, i, c, t in zip(user.tolist(), item.tolist(), click.tolist(), times.tolist(), strict=True)
    ]
    return Generated(rows, displaced)


def mixed_in(frames: list[bytes | None], bad: Iterable[bytes | None], seed: int) -> list[bytes | None]:
    """The bad ones at seeded places among the good ones; order within each kept."""
    rng = random.Random(seed)
    bad = list(bad)
    places = sorted(rng.sample(range(len(frames) + 1), len(bad)))
    result: list[bytes | None] = []
    start = 0
    for place, record in zip(places, bad, strict=True):
        result += frames[start:place]
        result.append(record)
        start = place
    return result + frames[start:]


def malformed(schema_id: int, good: bytes) -> list[tuple[str, bytes | None]]:
    """Records of schemas/event.avsc that cannot become rows, with the reason that each is quarantined for.

    `good` is a well-formed frame. Its body: user_id (length, bytes), item_id, campaign_id, action, ts.
    """
    body = good[5:]
    name = body[0] // 2  # zig-zag length of user_id, below 64
    after_name = body[1 + name :]
    ts = T0
    varint = _varint
    return [
        ("bad_frame", b""),
        ("bad_frame", b"\x00"),
        ("bad_frame", good[:4]),
        ("bad_frame", b"\x01" + good[1:]),
        ("unknown_schema", frame(987_654, body)),
        ("unknown_schema", frame(0xFFFFFFFF, body)),
        ("bad_body", good[:5]),  # nothing after the frame
        ("bad_body", good[:-1]),  # the last byte is missing
        ("bad_body", good[: 6 + name // 2]),  # ends within the string
        ("bad_body", good + b"\x00"),  # trailing bytes
        ("bad_body", frame(schema_id, b"\x04\xff\xfe" + after_name)),  # not UTF-8
        ("bad_body", frame(schema_id, b"\x01" + after_name)),  # length −1
        (
            "bad_body",
            frame(schema_id, varint(2**40) + b"x" + after_name),
        ),  # length beyond the record
        (
            "bad_body",
            frame(schema_id, b"\xff" * 11 + after_name),
        ),  # a varint that does not end
        (
            "bad_body",
            frame(schema_id, b"\x02a" + varint(2**31) + b"\x00\x00" + varint(ts)),
        ),  # int overflow
        (
            "bad_body",
            frame(schema_id, b"\x02a\x00\x00\x04" + varint(ts)),
        ),  # enum index 2 of 2
        (
            "bad_body",
            frame(schema_id, b"\x02a\x00\x00\x01" + varint(ts)),
        ),  # enum index −1
        (
            "future_event_time",
            frame(schema_id, b"\x02a\x00\x00\x00" + varint(4_000_000_000 * 1_000_000)),
        ),
        ("tombstone_without_key", None),
    ]


def _varint(value: int) -> bytes:
    encoded = value << 1 if value >= 0 else (-value << 1) - 1
    out = bytearray()
    while encoded > 0x7F:
        out.append(encoded & 0x7F | 0x80)
        encoded >>= 7
    return bytes([*out, encoded])
