"""How far event time has come after each epoch, from the times of the raw records and the journal's ranges.

Per partition the greatest time, over partitions the least, less the delay; on a live stream never beyond the
epoch's `opened_at`, and never back. While a close goes on, nothing moves. A finish, once every partition has passed
it, moves the watermark to the end of the last window that has records.
"""

from __future__ import annotations

from dataclasses import dataclass

from .judge import Epoch, Judged


@dataclass(frozen=True)
class Stream:
    """What of a stream's definition moves its watermark; times in microseconds."""

    partitions: int
    delay: int
    live: bool
    finish: tuple[int, ...] | None
    idles: bool  # idle_timeout or idle_advance: how long a partition was quiet stands nowhere

    @classmethod
    def of(cls, definition: dict) -> Stream:
        """From the server's JSON."""
        finish = definition.get("finish")
        return cls(
            definition["partitions"],
            round(definition["watermark_delay"] * 1_000_000),
            definition["time"] == "live",
            None if finish is None else tuple(finish),
            bool(definition.get("idle_timeout") or definition.get("idle_advance")),
        )


def check_watermarks(stream: Stream, journal: list[Epoch], judged: Judged) -> int:
    """Fails where the journal's watermarks are not those of the records. Returns how many were compared."""
    state = _State(stream)
    for epoch, before in zip(journal, [None, *journal], strict=False):
        state.read(epoch, judged)
        if before is None or not before.closing:
            state.advance(epoch)
        _compare(state, epoch)
        state.pipeline = epoch.watermark
    everything = stream.finish is not None and state.is_past_finish(exactly=True)
    if everything and state.last_end is not None:
        assert state.pipeline is not None, "the finish moved nothing"
        assert state.pipeline >= state.last_end, "the finish left windows open"
    return len(journal)


class _State:
    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.seen: list[int | None] = [None] * stream.partitions
        self.positions = [0] * stream.partitions
        self.source: int | None = None
        self.pipeline: int | None = None
        self.last_end: int | None = None

    def read(self, epoch: Epoch, judged: Judged) -> None:
        for partition, time in judged.times.get(epoch.number, {}).items():
            self.seen[partition] = _greatest(self.seen[partition], time)
        for span in epoch.ranges:
            self.positions[span.partition] = span.end
        self.last_end = _greatest(self.last_end, judged.ends.get(epoch.number))

    def advance(self, epoch: Epoch) -> None:
        known = [time for time in self.seen if time is not None]
        if len(known) < len(self.seen):
            return
        moved = min(known) - self.stream.delay
        if self.stream.live:
            moved = min(moved, epoch.opened_at)
        self.source = _greatest(self.source, moved)
        self.pipeline = _greatest(self.pipeline, self.source)

    def is_past_finish(self, exactly: bool = False) -> bool:
        finish = self.stream.finish
        if finish is None:
            return False
        pairs = list(zip(self.positions, finish, strict=False))
        return all(at == end if exactly else at >= end for at, end in pairs)


def _compare(state: _State, epoch: Epoch) -> None:
    what = f"epoch {epoch.number}: the journal's watermark {epoch.watermark}, by the records {state.pipeline}"
    if not state.stream.idles:
        said = epoch.source_watermarks
        assert said == [state.source], (
            f"epoch {epoch.number}: the source's watermark {said} is not {state.source}"
        )
    if epoch.watermark == state.pipeline:
        return
    assert epoch.watermark is not None, what
    assert state.pipeline is None or epoch.watermark > state.pipeline, what
    if state.stream.idles:
        return  # how far is checked by what comes out: late records, and rows of windows that closed
    assert state.is_past_finish(), what
    assert epoch.watermark == state.last_end, f"{what}, by the finish {state.last_end}"


def _greatest(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)
