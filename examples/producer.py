"""How an example's `produce` is run: a seeded list of events, written at the pace of the clock or replayed at once.

A live stream gets each event when it arrives, with event times of now. A historical one gets all of them as fast as it
takes them, from a fixed instant on, and then the end of the replay.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import millpond

Row = dict[str, Any]
REPLAYED_FROM = datetime(2026, 1, 5, 12, tzinfo=timezone.utc)
TICK = 0.05  # seconds between two appends
BATCH = 500  # rows of an append of a replay


@dataclass(frozen=True)
class Settings:
    """What decides about every event."""

    start: datetime
    rate: float  # events a second
    duration: float  # seconds
    seed: int

    def at(self, seconds: float) -> datetime:
        """An instant, in whole milliseconds."""
        return self.start + timedelta(milliseconds=int(seconds * 1000))


@dataclass(frozen=True)
class Event:
    """A row, its stream, and when it arrives, in seconds after the start."""

    arrival: float
    stream: str
    row: Row


Events = Callable[[Settings], list[Event]]
Write = Callable[[str, Sequence[Row]], object]


def live(events: Iterable[Event], write: Write) -> None:
    """Write each event when it arrives."""
    begun = time.monotonic()
    due: dict[str, list[Row]] = defaultdict(list)
    for event in events:
        ahead = event.arrival - (time.monotonic() - begun)
        if ahead > 0:
            _flush(due, write)
            time.sleep(max(ahead, TICK))
        due[event.stream].append(event.row)
    _flush(due, write)


def replay(events: Iterable[Event], write: Write) -> None:
    """Write all events, in the order of their arrival."""
    due: dict[str, list[Row]] = defaultdict(list)
    for count, event in enumerate(events, 1):
        due[event.stream].append(event.row)
        if count % BATCH == 0:
            _flush(due, write)
    _flush(due, write)


def _flush(due: dict[str, list[Row]], write: Write) -> None:
    for stream, rows in due.items():
        write(stream, rows)
    due.clear()


def parser(doc: str | None, *, rate: float, duration: float) -> argparse.ArgumentParser:
    """The options of every producer."""
    made = argparse.ArgumentParser(description=doc)
    made.add_argument("--url", help="the server; default: $MILLPOND_URL, else http://127.0.0.1:7878")
    made.add_argument("--rate", type=float, default=rate, help=f"events a second (default {rate:g})")
    made.add_argument("--duration", type=float, default=duration, help=f"seconds (default {duration:g})")
    made.add_argument("--seed", type=int, default=1, help="the same seed makes the same events (default 1)")
    return made


def produce(given: argparse.Namespace, names: Sequence[str], events: Events) -> None:
    """Write events into the streams `names` of a running server."""
    store = millpond.login(given.url).get_feature_store()
    streams = {name: store.get_stream(name) for name in names}
    past = any(stream.time == "historical" for stream in streams.values())
    start = REPLAYED_FROM if past else datetime.now(timezone.utc)
    made = events(Settings(start, given.rate, given.duration, given.seed))
    try:
        (replay if past else live)(made, lambda name, rows: streams[name].append(list(rows)))
    except KeyboardInterrupt:
        print("stopped")
        return
    if past:
        for stream in streams.values():
            stream.finish()
    print(f"{len(made):,} events written to {', '.join(names)}{', and the replay finished' * past}")
