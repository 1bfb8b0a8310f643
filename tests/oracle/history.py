"""The rows that must have come out of a group, against its Delta table and its online rows: all of them, and no others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import httpx

from .compare import Mismatch, plain
from .observe import delta
from .records import micros

Row = dict[str, Any]


def check_history(
    http: httpx.Client, group: str, expected: Sequence[Row], *, inexact: Sequence[str] = ()
) -> list[Row]:
    """Compare every revision: `expected` are rows with the features, `_event_time` (µs), `_commit`, and `_op` where
    it is a delete. `inexact` are sums of floating-point numbers: 1e-9. Returns the rows that were found.

    Raises:
        Mismatch: naming what differs first.
    """
    path = f"/api/v1/feature-groups/{group}/1"
    http.post(f"{path}/flush", timeout=300).raise_for_status()
    detail = http.get(path).json()
    keys = detail["primary_key"]
    found = delta(detail["location"])

    def revision(row: Row) -> tuple:
        return (*(row[k] for k in keys), row["_event_time"], row["_commit"])

    _same("history", _by(expected, revision), _by(found, revision), inexact)
    for which, rank in (("latest", 0), ("previous", 1)):
        online = http.get(f"{path}/rows", params={"which": which, "limit": 100_000}).json()["rows"]
        rows = [{**row, "_event_time": micros(row["_event_time"])} for row in online]
        wanted = _ranked(expected, keys, rank)
        _same(f"online {which}", _by(wanted, revision), _by(rows, revision), inexact)
    return found


def _ranked(rows: Sequence[Row], keys: Sequence[str], rank: int) -> list[Row]:
    """Of each key the newest revision of its greatest event time, or of the one before; a delete is no value."""
    newest: dict[tuple, dict[int, Row]] = {}
    for row in sorted(rows, key=lambda row: row["_commit"]):
        newest.setdefault(tuple(row[k] for k in keys), {})[row["_event_time"]] = row
    chosen = [times[sorted(times)[-1 - rank]] for times in newest.values() if len(times) > rank]
    return [row for row in chosen if row.get("_op", "upsert") == "upsert"]


def _by(rows: Sequence[Row], identity: Callable[[Row], tuple]) -> dict[tuple, Row]:
    by = {identity(row): row for row in rows}
    if len(by) != len(rows):
        raise Mismatch(f"{len(rows) - len(by)} rows are there twice")
    return by


def _same(what: str, wanted: dict[tuple, Row], found: dict[tuple, Row], inexact: Sequence[str]) -> None:
    if missing := wanted.keys() - found.keys():
        raise Mismatch(
            f"{what}: {len(missing)} of {len(wanted)} rows are missing: {sorted(map(str, missing))[:3]}"
        )
    if extra := found.keys() - wanted.keys():
        raise Mismatch(f"{what}: {len(extra)} rows too many: {sorted(map(str, extra))[:3]}")
    for identity, row in wanted.items():
        op = row.get("_op", "upsert")
        if op != found[identity]["_op"]:
            raise Mismatch(f"{what} {identity}: _op is {found[identity]['_op']}, expected {op}")
        for name, value in row.items():
            if op == "delete" and name not in ("_event_time", "_commit"):
                continue
            if not _equal(plain(value), plain(found[identity][name]), name in inexact):
                shown = found[identity][name]
                raise Mismatch(f"{what} {identity}: {name} is {shown!r}, expected {value!r}")


def _equal(wanted: Any, found: Any, inexact: bool) -> bool:
    if isinstance(wanted, tuple) and isinstance(found, str):  # a decimal, as JSON writes it
        return wanted[1] == Decimal(found).normalize()
    if isinstance(wanted, float) and isinstance(found, (int, float)):
        return wanted == found or (inexact and math.isclose(wanted, found, rel_tol=1e-9, abs_tol=1e-12))
    return type(wanted) is type(found) and wanted == found
