"""Example sessions: every row of every session, as it stood after each epoch and when it was over."""

from __future__ import annotations

from collections import defaultdict

from tests.harness import feeding
from tests.harness.examples import replayed, requests
from tests.oracle.arrivals import arrivals
from tests.oracle.history import check_history

GAP = 30 * 60 * 1_000_000


def cut(events):
    """A user's events as sessions: lists of events that lie less than the gap apart."""
    sessions = []
    for event in sorted(events, key=lambda e: e["us"]):
        if sessions and event["us"] - sessions[-1][-1]["us"] < GAP:
            sessions[-1].append(event)
        else:
            sessions.append([event])
    return sessions


def features(session):
    """The issue's definitions."""
    kinds = [event["event_type"] for event in session]
    start, last = session[0]["us"], session[-1]["us"]
    minutes = (last - start) / 1e6 / 60
    adds, views = kinds.count("cart_add"), kinds.count("page_view")
    score = min(1.0, 0.02 * len(session) + 0.05 * minutes)
    return {
        "user_id": session[0]["user_id"],
        "window_start": start,
        "window_end": last + GAP,
        "session_duration_min": minutes,
        "cart_adds_session": adds,
        "conversion_rate_session": kinds.count("purchase") / views if views else None,
        "engagement_score": score,
        "is_likely_purchaser": adds >= 2 and score > 0.5,
    }


def expected(events, watermarks):
    """After each epoch the sessions that it touched, at their last event; each session once more at its end."""
    by_user = defaultdict(list)
    for event in events:
        by_user[event["user_id"]].append(event)
    rows = []
    for own in by_user.values():
        for epoch in {event["_epoch"] for event in own}:
            for session in cut([event for event in own if event["_epoch"] <= epoch]):
                row = features(session)
                is_open = watermarks[epoch] is None or row["window_end"] > watermarks[epoch]
                if is_open and any(event["_epoch"] == epoch for event in session):
                    rows.append({**row, "_event_time": session[-1]["us"], "_commit": epoch})
        for session in cut(own):
            row = features(session)
            end = row["window_end"]
            closed = min(e for e, mark in watermarks.items() if mark is not None and mark >= end)
            rows.append({**row, "_event_time": end, "_commit": closed})
    return rows


def test_sessions(make_server):
    server = make_server()
    replayed(server, "sessions", "--duration", "7200", "--rate", "1")
    feeding.settle(server, "user_sessions")
    db = arrivals(server, "user_sessions")
    events = db.sql("SELECT *, ts * 1000 AS us FROM clickstream").to_arrow_table().to_pylist()
    watermarks = dict(db.sql("SELECT epoch, watermark FROM epochs").fetchall())
    rows = expected(events, watermarks)
    inexact = ("session_duration_min", "engagement_score")
    check_history(server.http, "user_sessions", rows, inexact=inexact)
    over = [row for row in rows if row["_event_time"] == row["window_end"]]
    assert len(over) > 100
    assert any(row["is_likely_purchaser"] for row in over)
    (account,) = server.store().get_stream("clickstream").accounting()
    assert account.applied == account.read > 7_000
    for path in requests("sessions"):
        assert server.http.get(path).status_code == 200, path
