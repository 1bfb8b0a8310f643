"""HOP, CUMULATE, SESSION, UNION ALL, allowed lateness and on_update over HTTP, against a recomputation in plain Python."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import polars as pl

from tests.harness import feeding
from tests.harness.events import MINUTE, T0, generate, schema

EVENT = schema("event")
Row = dict[str, Any]


def windows(call: str) -> str:
    return f"""SELECT user_id, COUNT(*) AS n, SUM(item_id) AS items, MAX(item_id) AS top
               FROM {call} GROUP BY user_id, window_end"""


def history(server, group: str) -> dict[tuple[str, int], list[tuple]]:
    """Every revision of each (key, event time), in the order of the commits."""
    frame = server.store().get_feature_group(group).read(dataframe_type="polars")
    found = defaultdict(list)
    for row in frame.sort("_commit").iter_rows(named=True):
        at = int(row["_event_time"].timestamp() * 1e6)
        found[row["user_id"], at].append((row["n"], row["items"], row["top"]))
    return dict(found)


def aggregate(rows: list[Row]) -> tuple:
    items = [row["item_id"] for row in rows]
    return (len(items), sum(items) if items else None, max(items, default=None))


def by_user(rows: list[Row]) -> dict[str, list[Row]]:
    users = defaultdict(list)
    for row in rows:
        users[row["user_id"]].append(row)
    return users


def hop(rows: list[Row], slide: int, size: int) -> dict[tuple[str, int], tuple]:
    """A row where the slices of a window that hold the key differ from those of the window before, up to
    the last window that holds an event: that is how far a finish goes."""
    expected = {}
    last = max(row["ts"] for row in rows) // slide * slide + size
    for user, own in by_user(rows).items():
        first = min(row["ts"] for row in own) // slide * slide + slide
        for end in range(first, last + 1, slide):

            def within(start: int, stop: int, own: list[Row] = own) -> list[Row]:
                return [row for row in own if start <= row["ts"] < stop]

            changed = within(end - slide, end) or within(end - size - slide, end - size)
            if changed:
                expected[user, end] = aggregate(within(end - size, end))
    return expected


def cumulate(rows: list[Row], step: int, size: int) -> dict[tuple[str, int], tuple]:
    """A row where a step brought the key events, over all of its window so far."""
    expected = {}
    for user, own in by_user(rows).items():
        for end in {row["ts"] // step * step + step for row in own}:
            begin = (end - 1) // size * size
            expected[user, end] = aggregate([row for row in own if begin <= row["ts"] < end])
    return expected


def tumble(rows: list[Row], size: int) -> dict[tuple[str, int], tuple]:
    return cumulate(rows, size, size)


def sessions(rows: list[Row], gap: int) -> dict[tuple[str, int], tuple]:
    """A row at the end of each session: events of a user, sorted, cut where they are the gap apart."""
    expected = {}
    for user, own in by_user(rows).items():
        session: list[Row] = []
        for row in sorted(own, key=lambda row: row["ts"]):
            if session and row["ts"] - session[-1]["ts"] >= gap:
                expected[user, session[-1]["ts"] + gap] = aggregate(session)
                session = []
            session.append(row)
        expected[user, session[-1]["ts"] + gap] = aggregate(session)
    return expected


def fed(server, rows: list[Row], *, delay: int, groups: dict[str, dict]) -> None:
    fs = server.store()
    stream = fs.get_or_create_stream(
        "events", EVENT, event_time="ts", watermark_delay=delay, time="historical"
    )
    for name, options in groups.items():
        fs.get_or_create_feature_group(name, **options)
    for start in range(0, len(rows), 2_000):
        stream.append(rows[start : start + 2_000])
    stream.finish()
    for name in groups:
        feeding.settle(server, name)


def last_revisions(found: dict[tuple[str, int], list[tuple]]) -> dict[tuple[str, int], tuple]:
    return {identity: revisions[-1] for identity, revisions in found.items()}


def test_windows_that_share_slices(make_server):
    rows = generate(20_000, users=40, minutes=60, disorder=20, seed=5).rows
    # One key that goes quiet: its windows empty out.
    rows = [row for row in rows if row["user_id"] != "user_7" or row["ts"] < T0 + 10 * MINUTE]
    server = make_server()
    calls = {
        "hop": "HOP(events, DESCRIPTOR(ts), INTERVAL '2' MINUTES, INTERVAL '10' MINUTES)",
        "uneven": "HOP(events, DESCRIPTOR(ts), INTERVAL '4' MINUTES, INTERVAL '10' MINUTES)",
        "cumulate": "TABLE(CUMULATE(TABLE events, DESCRIPTOR(ts), INTERVAL '5' MINUTES, INTERVAL '20' MINUTES))",
    }
    fed(server, rows, delay=20, groups={name: {"sql": windows(call)} for name, call in calls.items()})
    found = {name: history(server, name) for name in calls}
    for name, revisions in found.items():
        assert all(len(r) == 1 for r in revisions.values()), (
            f"{name}: nothing was late, so nothing is revised"
        )
    assert last_revisions(found["hop"]) == hop(rows, 2 * MINUTE, 10 * MINUTE)
    assert last_revisions(found["cumulate"]) == cumulate(rows, 5 * MINUTE, 20 * MINUTE)
    empty = [n for (user, _), (n, _, _) in last_revisions(found["hop"]).items() if user == "user_7"]
    assert empty[-1] == 0 or 0 in empty, "the quiet key has a closing row"
    # Every window of a size that is no multiple of its slide has the right value, whatever rows come out.
    users = by_user(rows)
    for (user, end), value in last_revisions(found["uneven"]).items():
        own = [row for row in users[user] if end - 10 * MINUTE <= row["ts"] < end]
        assert value == aggregate(own), (user, end)


def test_lateness_revises_its_own_window(make_server):
    rows = generate(20_000, users=20, minutes=40, disorder=90, seed=6).rows
    server = make_server()
    call = "TUMBLE(events, DESCRIPTOR(ts), INTERVAL '1' MINUTE)"
    groups = {
        "strict": {"sql": windows(call)},
        "patient": {"sql": windows(call), "allowed_lateness": 120},
        "eager": {"sql": windows(call), "allowed_lateness": 120, "emit": "on_update"},
    }
    fed(server, rows, delay=0, groups=groups)
    everything = tumble(rows, MINUTE)
    strict, patient = history(server, "strict"), history(server, "patient")
    assert last_revisions(patient) == everything, "no record is later than that"
    assert last_revisions(strict) != everything, "without it some are"
    assert max(map(len, patient.values())) > 1, "late records came as revisions"
    # on_update: rows before the close too, and each window's own row at its end is right in the end.
    eager = history(server, "eager")
    ends = {identity: revisions for identity, revisions in eager.items() if identity in everything}
    assert last_revisions(ends) == everything
    assert len(eager) > len(ends), "values before the windows closed"


def test_sessions(make_server):
    rows = generate(12_000, users=400, minutes=120, disorder=60, seed=8).rows
    server = make_server()
    gap = 4 * MINUTE
    call = "SESSION(events PARTITION BY user_id, DESCRIPTOR(ts), INTERVAL '4' MINUTES)"
    groups = {
        "on_time": {"sql": windows(call)},
        "eager": {"sql": windows(call), "emit": "on_update"},
    }
    fed(server, rows, delay=60, groups=groups)
    everything = sessions(rows, gap)
    assert len(everything) > 1_000, "the sessions are many"
    on_time, eager = history(server, "on_time"), history(server, "eager")
    assert last_revisions(on_time) == everything
    assert all(len(revisions) == 1 for revisions in on_time.values()), "nothing was late"
    # on_update: the same rows at the ends, and before them what each session held so far.
    ends = {identity: revisions[-1] for identity, revisions in eager.items() if identity in everything}
    assert ends == everything
    events = {(row["user_id"], row["ts"]) for row in rows}
    assert set(eager) - set(everything) <= events, "the others stand at an event"
    assert len(eager) > len(everything), "values before the sessions closed"


def test_lateness_moves_the_ends_of_sessions(make_server):
    rows = generate(8_000, users=200, minutes=60, disorder=240, seed=9).rows
    server = make_server()
    gap = 2 * MINUTE
    call = "SESSION(events, DESCRIPTOR(ts), INTERVAL '2' MINUTES)"
    groups = {"patient": {"sql": windows(call), "allowed_lateness": 300}}
    fed(server, rows, delay=0, groups=groups)
    everything = sessions(rows, gap)
    frame = server.store().get_feature_group("patient").read(dataframe_type="polars")
    left, deleted = {}, 0
    for row in frame.sort("_commit").iter_rows(named=True):
        identity = (row["user_id"], int(row["_event_time"].timestamp() * 1e6))
        if row["_op"] == "delete":
            deleted += 1
            left.pop(identity, None)
        else:
            left[identity] = (row["n"], row["items"], row["top"])
    assert left == everything, "what was deleted is no session, and what is left is all of them"
    assert deleted > 0, "late records moved ends"


def test_union_all(make_server):
    rows = generate(8_000, users=20, minutes=30, disorder=10, seed=7).rows
    server = make_server()
    fs = server.store()
    options = {"event_time": "ts", "watermark_delay": 10, "time": "historical"}
    streams = [fs.get_or_create_stream(name, EVENT, **options) for name in ("web", "app")]
    sql = windows(
        "TUMBLE((SELECT user_id, item_id, ts FROM web UNION ALL SELECT user_id, item_id + 100, ts FROM app), "
        "DESCRIPTOR(ts), INTERVAL '5' MINUTES)"
    )
    fs.get_or_create_feature_group("both", sql=sql)
    halves = [rows[0::2], rows[1::2]]
    for start in range(0, 4_000, 500):
        for stream, half in zip(streams, halves, strict=True):
            stream.append(half[start : start + 500])
    for stream in streams:
        stream.finish()
    feeding.settle(server, "both")
    together = halves[0] + [{**row, "item_id": row["item_id"] + 100} for row in halves[1]]
    assert last_revisions(history(server, "both")) == tumble(together, 5 * MINUTE)
    frame = fs.get_feature_group("both").read(dataframe_type="polars")
    assert isinstance(frame, pl.DataFrame)
