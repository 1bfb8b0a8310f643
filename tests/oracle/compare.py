"""Expected and observed are equal."""

from __future__ import annotations

import base64
import math
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from .expect import Expected
from .judge import Row
from .observe import Observed
from .records import EPOCH, micros


class Mismatch(AssertionError):
    """The server shows something else than the oracle computed."""


def check(expected: Expected, observed: Observed) -> None:
    """Compare everything.

    Raises:
        Mismatch: naming what differs first.
    """
    _rows(
        "Delta",
        expected,
        {_id(r, expected): r for r in expected.rows},
        observed.history,
        with_time=True,
    )
    _rows(
        "online latest",
        expected,
        _by_key(expected.latest, expected),
        observed.latest,
        with_time=False,
    )
    _rows(
        "online previous",
        expected,
        expected.previous,
        observed.previous,
        with_time=False,
    )
    _equal("quarantine", expected.quarantine, observed.quarantine)
    _equal("late records", sorted(expected.late), sorted(observed.late))
    for outcome, count in expected.counts.items():
        _equal(f"accounting: {outcome}", count, observed.counts[outcome])
    _equal("accounting is balanced", True, observed.counts["balanced"])
    for row in observed.history:
        if row["_op"] != "upsert":
            raise Mismatch(f"Delta: unexpected _op in {row}")
        day = (EPOCH + timedelta(microseconds=row["_event_time"])).date()
        _equal("Delta: _event_date", day, row["_event_date"])


def _rows(
    what: str,
    expected: Expected,
    wanted: dict[tuple, Row],
    found: list[Row],
    *,
    with_time: bool,
) -> None:
    seen: dict[tuple, Row] = {}
    for row in found:
        identity = _id(row, expected) if with_time else _key(row, expected)
        if identity in seen:
            raise Mismatch(f"{what}: {identity} is there twice: {seen[identity]} and {row}")
        seen[identity] = row
    if missing := wanted.keys() - seen.keys():
        raise Mismatch(
            f"{what}: {len(missing)} of {len(wanted)} rows are missing, {sorted(map(str, missing))[:3]}"
        )
    if extra := seen.keys() - wanted.keys():
        raise Mismatch(f"{what}: {len(extra)} rows too many, {sorted(map(str, extra))[:3]}")
    for identity, row in wanted.items():
        _row(f"{what} {identity}", expected, row, seen[identity])


def _row(what: str, expected: Expected, wanted: Row, found: Row) -> None:
    for name, value in wanted.items():
        if name == "_commits":
            commit = found["_commit"]
            if commit not in value:
                raise Mismatch(f"{what}: _commit is {commit}, expected one of {list(value)[:5]}")
            _equal(f"{what}: _available_at", value[commit], found["_available_at"])
        elif name not in found:
            raise Mismatch(f"{what}: column {name} is missing")
        elif not _same(plain(value), plain(found[name]), exact=name not in expected.sums):
            raise Mismatch(f"{what}: {name} is {found[name]!r}, expected {value!r}")
    own = {n for n in found if not n.startswith("_")}
    _equal(f"{what}: columns", {n for n in wanted if not n.startswith("_")}, own)


def plain(value: Any) -> Any:
    """One form for what JSON, Arrow and DuckDB write differently."""
    if isinstance(value, datetime):
        return micros(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return ("decimal", value.normalize())
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return value


def _text(value: str) -> Any:
    # JSON: a timestamp, or one of the numbers that JSON has not.
    if value in ("NaN", "Infinity", "-Infinity"):
        return float(value.replace("Infinity", "inf"))
    if len(value) >= 20 and value.endswith("Z") and value[4] == "-" and value[10] == "T":
        return micros(value)
    return value


def _same(wanted: Any, found: Any, *, exact: bool) -> bool:
    if isinstance(wanted, tuple) and isinstance(found, str):  # a decimal, as JSON writes it
        return wanted[1] == Decimal(found).normalize()
    if isinstance(wanted, float) and isinstance(found, (int, float)):
        if math.isnan(wanted) or math.isnan(found):
            return math.isnan(wanted) and math.isnan(found)
        return wanted == found or (not exact and math.isclose(wanted, found, rel_tol=1e-9))
    return type(wanted) is type(found) and wanted == found


def _equal(what: str, wanted: Any, found: Any) -> None:
    if wanted != found:
        if isinstance(wanted, dict) and isinstance(found, dict):
            differing = {
                k: (wanted.get(k), found.get(k))
                for k in wanted.keys() | found.keys()
                if wanted.get(k) != found.get(k)
            }
            raise Mismatch(
                f"{what}: {len(differing)} differ (expected, found): {dict(list(differing.items())[:5])}"
            )
        raise Mismatch(f"{what}: {_short(found)}, expected {_short(wanted)}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 300 else text[:300] + "…"


def _key(row: Row, expected: Expected) -> tuple:
    return tuple(_hashable(plain(row[k])) for k in expected.keys)


def _by_key(rows: dict[tuple, Row], expected: Expected) -> dict[tuple, Row]:
    return {_key(row, expected): row for row in rows.values()}


def _id(row: Row, expected: Expected) -> tuple:
    return (*_key(row, expected), row["_event_time"])


def _hashable(value: Any) -> Any:
    return str(value[1]) if isinstance(value, tuple) else value
