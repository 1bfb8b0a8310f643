"""What the server shows: over HTTP, and the Delta table as another reader sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx
from deltalake import DeltaTable

from .judge import Row
from .records import micros

ALL = 100_000


@dataclass
class Observed:
    """Everything that can be seen of one feature group; times in microseconds."""

    latest: list[Row]
    previous: list[Row]
    history: list[Row]
    quarantine: dict[tuple[int, int], str]
    late: list[tuple[int, int]]
    counts: dict[str, Any]
    journal: list[dict]
    group: dict[str, Any]


def observe(http: httpx.Client, stream: str, group: str, version: int = 1) -> Observed:
    """Flush, then read all of it."""
    path = f"/api/v1/feature-groups/{group}/{version}"
    _ok(http.post(f"{path}/flush", timeout=300))
    detail = _ok(http.get(path))
    accounting = _ok(http.get(f"/api/v1/streams/{stream}/accounting"))["groups"]
    return Observed(
        latest=[
            _row(r) for r in _ok(http.get(f"{path}/rows", params={"which": "latest", "limit": ALL}))["rows"]
        ],
        previous=[
            _row(r) for r in _ok(http.get(f"{path}/rows", params={"which": "previous", "limit": ALL}))["rows"]
        ],
        history=delta(detail["location"]),
        quarantine={
            _place(r): r["reason"]
            for r in paged(http, f"/api/v1/streams/{stream}/quarantine", "records")
            if r["group"] == group and r["version"] == version
        },
        late=[_place(r) for r in paged(http, f"{path}/late", "records")],
        counts=next(a for a in accounting if a["name"] == group and a["version"] == version),
        journal=journal(http, path),
        group=detail,
    )


def journal(http: httpx.Client, path: str) -> list[dict]:
    """All epochs."""
    found: list[dict] = []
    while True:
        start = found[-1]["epoch"] + 1 if found else 0
        page = _ok(http.get(f"{path}/epochs", params={"from": start, "limit": 1000}))["epochs"]
        if not page:
            return found
        found += page


def paged(http: httpx.Client, path: str, name: str) -> list[dict]:
    """All of a list that pages by `after`."""
    found: list[dict] = []
    after = None
    while True:
        params = {"limit": 1000, **({"after": after} if after is not None else {})}
        reply = _ok(http.get(path, params=params))
        found += reply[name]
        after = reply.get("next")
        if after is None:
            return found


def delta(location: str) -> list[Row]:
    """The Delta table's rows, read by delta-rs' Python package; times in microseconds."""
    rows = DeltaTable(location).to_pyarrow_table().to_pylist()
    for row in rows:
        for name in ("_event_time", "_available_at"):
            row[name] = micros(row[name])
    return rows


def _row(row: Row) -> Row:
    return {
        **row,
        "_event_time": micros(row["_event_time"]),
        "_available_at": micros(row["_available_at"]),
    }


def _place(r: dict) -> tuple[int, int]:
    return r["partition"], r["offset"]


def _ok(reply: httpx.Response) -> Any:
    assert reply.is_success, f"{reply.request.url}: {reply.status_code} {reply.text}"
    return reply.json()
