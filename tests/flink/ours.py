"""A server that replays an example; the rows that are final."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from examples.definition import Setting
from examples.producer import REPLAYED_FROM, Event, Settings, replay
from tests.harness import feeding
from tests.harness.server import Server
from tests.oracle.compare import plain
from tests.oracle.records import micros

from .cases import Case, Replay

Row = dict[str, Any]


@dataclass
class Replayed:
    """What went in, and the columns of each stream by name and type."""

    events: list[Event]
    columns: dict[str, dict[str, str]]
    delays: dict[str, float]  # watermark delays in seconds
    times: dict[str, str]  # event-time columns


def replayed(server: Server, given: Replay) -> Replayed:
    """Define, append every event in the order of its arrival, finish, wait."""
    fs = server.store()
    given.define(fs, Setting(historical=True))
    streams = {name: fs.get_stream(name) for name in given.streams}
    made = given.events(Settings(REPLAYED_FROM, given.rate, given.duration, seed=1))
    replay(made, lambda name, rows: streams[name].append(list(rows)))
    for stream in streams.values():
        stream.finish()
        assert not stream.quarantine_counts()
    for case in given.cases:
        feeding.settle(server, case.group)
    for stream in streams.values():
        for account in stream.accounting():
            assert account.applied == account.read, f"the comparison is of events on time: {account}"
    return Replayed(
        made,
        {name: {c.name: c.type for c in stream.columns} for name, stream in streams.items()},
        {name: stream.definition["watermark_delay"] for name, stream in streams.items()},
        {name: stream.event_time for name, stream in streams.items()},
    )


def rows(server: Server, case: Case) -> tuple[Sequence[str], list[Row]]:
    """Key columns, and the last revision of each key and event time."""
    group = server.store().get_feature_group(case.group)
    revisions: dict[tuple, list[Row]] = defaultdict(list)
    for row in group.read(dataframe_type="python"):
        at = micros(row["_event_time"])
        if case.at_end and at != micros(row["window_end"]):
            continue
        revisions[(*(row[k] for k in group.primary_key), at)].append(row)
    names = [column.name for column in group.features]
    final = []
    for identity, found in revisions.items():
        last = max(found, key=lambda row: row["_commit"])
        if last["_op"] == "upsert":
            final.append({**{name: plain(last[name]) for name in names}, "_event_time": identity[-1]})
    return group.primary_key, final
