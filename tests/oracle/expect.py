"""Every (key, window) that must have come out, computed by DuckDB from the records that were applied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import duckdb
import polars as pl

from .judge import Epoch, Judged, Row, Rules


@dataclass(frozen=True)
class Query:
    """A feature group's definition once more, for DuckDB.

    `select` runs over the table `applied` (the reader's columns and `_window_end` in microseconds) and must give the
    group's columns under their names, and `_window_end`. It is written for the test, not derived from the group's SQL.
    """

    select: str
    keys: tuple[str, ...]
    window: int  # microseconds
    event_time: str = "ts"
    where: Callable[[Row], bool] = lambda row: True
    record_keys: tuple[str, ...] | None = (
        None  # columns of the record behind the keys, where the names differ
    )
    schema: dict[str, Any] | None = None  # Polars types of `applied`, where they cannot be inferred
    sums: tuple[str, ...] = ()  # floating-point sums: compared with 1e-9
    unit: int = 1  # microseconds in one unit of the event time: 1,000 for timestamp-millis

    def rules(self, skew: int) -> Rules:
        """What decides about one record."""
        return Rules(
            self.event_time,
            self.window,
            self.record_keys or self.keys,
            self.where,
            skew,
            self.unit,
        )


@dataclass
class Expected:
    """What the server must show. Rows are dicts: features, `_event_time` (µs), `_commit`, `_available_at` (µs)."""

    rows: list[Row]
    keys: tuple[str, ...]
    sums: tuple[str, ...]
    quarantine: dict[tuple[int, int], str]
    late: list[tuple[int, int]]
    counts: dict[str, int]
    latest: dict[tuple, Row] = field(default_factory=dict)
    previous: dict[tuple, Row] = field(default_factory=dict)


def expect(query: Query, judged: Judged, journal: list[Epoch], delay: int) -> Expected:
    """All rows, with the epoch that emitted each and when it became available; latest and previous by key."""
    rows = _computed(query, judged)
    final = max((e.watermark for e in journal if e.watermark is not None), default=None)
    rows = [r for r in rows if final is not None and r["_event_time"] <= final]
    _stamp(rows, journal, delay)
    expected = Expected(rows, query.keys, query.sums, judged.quarantine, judged.late, judged.counts)
    by_key: dict[tuple, list[Row]] = {}
    for row in sorted(rows, key=lambda r: r["_event_time"]):
        by_key.setdefault(tuple(row[k] for k in query.keys), []).append(row)
    expected.latest = {k: r[-1] for k, r in by_key.items()}
    expected.previous = {k: r[-2] for k, r in by_key.items() if len(r) > 1}
    return expected


def _computed(query: Query, judged: Judged) -> list[Row]:
    if not judged.rows:
        return []
    applied = pl.DataFrame(judged.rows, schema=query.schema, infer_schema_length=None)
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        db.register("applied", applied.to_arrow())
        table = db.sql(query.select).to_arrow_table()
    rows = table.to_pylist()
    for row in rows:
        row["_event_time"] = row.pop("_window_end")
    return rows


def _stamp(rows: list[Row], journal: list[Epoch], delay: int) -> None:
    """The commit of a row: the first epoch whose watermark reaches the window's end; later where a close goes on.

    `_commits` holds all epochs that may have emitted it, each with its `_available_at`.
    """
    moves = [(e, journal[i - 1] if i else None) for i, e in enumerate(journal)]
    for row in rows:
        end = row["_event_time"]
        first = _first_reaching(journal, end)
        row["_commits"] = {}
        for epoch, before in moves[first:]:
            if not epoch.modelled:
                row["_commits"][epoch.number] = epoch.available_at
            else:
                clock = -(2**63) if before is None else before.available_at + 1
                row["_commits"][epoch.number] = max(end + delay, clock)
            if not epoch.closing:
                break


def _first_reaching(journal: list[Epoch], end: int) -> int:
    low, high = 0, len(journal) - 1
    while low < high:
        middle = (low + high) // 2
        mark = journal[middle].watermark
        if mark is not None and mark >= end:
            high = middle
        else:
            low = middle + 1
    return low
