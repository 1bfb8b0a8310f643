"""What becomes of each record: the outcomes, in the order in which they are judged.

heartbeat, tombstone, decode, event time and skew, WHERE (filtered), null key, late, applied.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from .digest import Digest
from .records import Record, Rejected, micros

Row = dict[str, Any]


@dataclass(frozen=True)
class Span:
    """What an epoch read of one partition: half-open offsets, count and digest."""

    partition: int
    start: int
    end: int
    count: int
    digest: str


@dataclass(frozen=True)
class Epoch:
    """One journal entry, as the oracle needs it; times in microseconds, None before any watermark."""

    number: int
    opened_at: int
    ranges: list[Span]
    watermark: int | None
    source_watermarks: list[int | None]
    available_at: int
    modelled: bool
    closing: bool  # its close goes on in the next epoch
    rows: int


def epochs(journal: Iterable[dict]) -> list[Epoch]:
    """The journal as the server sends it."""
    return [
        Epoch(
            e["epoch"],
            micros(e["opened_at"]) or 0,
            [Span(_partition(r), r["from"], r["to"], r["count"], r["digest"]) for r in e["ranges"]],
            micros(e["watermark"]),
            [micros(w) for w in e["source_watermarks"]],
            micros(e["available_at"]) or 0,
            e["modelled"],
            e.get("close_cursor") is not None,
            e["rows"],
        )
        for e in journal
    ]


def _partition(r: dict) -> int:
    part = r["partition"]
    return part["partition"] if isinstance(part, dict) else part


@dataclass
class Judged:
    """Outcomes of all records that the journal says were read."""

    rows: list[Row] = field(default_factory=list)  # applied, with _window_end
    late: list[tuple[int, int]] = field(default_factory=list)
    quarantine: dict[tuple[int, int], str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    # By epoch: the greatest event time or heartbeat of each partition, and the last window's end.
    times: dict[int, dict[int, int]] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)

    def saw(self, epoch: Epoch, partition: int, time: int) -> None:
        """A time that moves the watermark."""
        times = self.times.setdefault(epoch.number, {})
        times[partition] = max(time, times.get(partition, time))


@dataclass(frozen=True)
class Rules:
    """What of the definition decides about a record."""

    event_time: str
    window: int  # microseconds
    keys: tuple[str, ...]
    where: Callable[[Row], bool]
    skew: int
    unit: int = 1  # microseconds in one unit of the event time


def judge(
    records: Iterable[Record],
    journal: list[Epoch],
    decode: Callable[[bytes], Row],
    rules: Rules,
) -> Judged:
    """Judge each record under the epoch that read it.

    Fails if an epoch left records out, read them twice, or read other bytes.
    """
    spans = _spans(journal)
    judged = Judged(
        counts=dict.fromkeys(
            (
                "read",
                "applied",
                "late",
                "filtered",
                "quarantined",
                "tombstones",
                "heartbeats",
            ),
            0,
        )
    )
    delivered: dict[tuple[int, int], Digest] = {}
    for record in records:
        epoch, before = _epoch_of(record, spans)
        if epoch is None:
            continue  # not read yet
        delivered.setdefault((epoch.number, record.partition), Digest()).add(record)
        judged.counts["read"] += 1
        outcome = _one(record, epoch, before, decode, rules, judged)
        judged.counts[outcome] += 1
    for epoch in journal:
        for span in epoch.ranges:
            digest = delivered.get((epoch.number, span.partition), Digest())
            what = f"epoch {epoch.number}, partition {span.partition}"
            assert digest.count == span.count, f"{what}: {span.count} records were read, not {digest.count}"
            assert digest.value() == span.digest, f"{what}: other bytes were read"
    return judged


def _one(
    record: Record,
    epoch: Epoch,
    before: int | None,
    decode: Callable[[bytes], Row],
    rules: Rules,
    judged: Judged,
) -> str:
    place = (record.partition, record.offset)

    def bad(reason: str) -> str:
        judged.quarantine[place] = reason
        return "quarantined"

    limit = epoch.opened_at + rules.skew
    if record.kind == "heartbeat":
        if record.heartbeat is None:
            return bad("bad_heartbeat")
        if record.heartbeat > limit:
            return bad("future_event_time")
        judged.saw(epoch, record.partition, record.heartbeat)
        return "heartbeats"
    if record.kind == "tombstone":
        return "tombstones" if record.key is not None else bad("tombstone_without_key")
    try:
        row = decode(record.value or b"")
    except Rejected as reason:
        return bad(str(reason))
    time = row[rules.event_time]
    time = None if time is None else time * rules.unit
    if time is None:
        return bad("no_event_time")
    if time > limit:
        return bad("future_event_time")
    judged.saw(epoch, record.partition, time)
    row[rules.event_time] = time
    if not rules.where(row):
        return "filtered"
    if any(row[k] is None for k in rules.keys):
        return bad("null_key")
    end = time - time % rules.window + rules.window
    if before is not None and end <= before:
        judged.late.append(place)
        return "late"
    judged.rows.append({**row, "_window_end": end})
    judged.ends[epoch.number] = max(end, judged.ends.get(epoch.number, end))
    return "applied"


def _spans(
    journal: list[Epoch],
) -> dict[int, tuple[list[int], list[tuple[int, Epoch, int | None]]]]:
    """Per partition: range starts, and (end, epoch, the watermark of the epoch before). Checks that they join."""
    spans: dict[int, tuple[list[int], list[tuple[int, Epoch, int | None]]]] = {}
    before: int | None = None
    number = None
    for epoch in journal:
        assert number is None or epoch.number == number + 1, f"epoch {epoch.number} follows {number}"
        number = epoch.number
        for span in epoch.ranges:
            starts, ends = spans.setdefault(span.partition, ([], []))
            assert not ends or ends[-1][0] == span.start, (
                f"partition {span.partition}: {span.start} does not follow {ends[-1][0]}"
            )
            starts.append(span.start)
            ends.append((span.end, epoch, before))
        assert before is None or (epoch.watermark is not None and epoch.watermark >= before), (
            "a watermark went back"
        )
        before = epoch.watermark
    return spans


def _epoch_of(record: Record, spans: Any) -> tuple[Epoch | None, int | None]:
    starts, ends = spans.get(record.partition, ([], []))
    i = bisect_right(starts, record.offset) - 1
    if i < 0 or record.offset >= ends[i][0]:
        return None, None
    return ends[i][1], ends[i][2]
