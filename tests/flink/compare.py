"""Row by row: equal, but for the differences that the case knows; those are checked too."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from .cases import Case
from .ours import Row


class Different(AssertionError):
    """Flink gives something else, and no known difference says why."""


@dataclass(frozen=True)
class Compared:
    """How much was equal."""

    case: Case
    ours: int
    flink: int
    truncated: int = 0  # ratios that Flink divided to an integer
    repeated: int = 0  # rows of Flink that say what our row before said


def compare(case: Case, keys: Sequence[str], ours: list[Row], flink: list[Row]) -> Compared:
    """Compare all rows.

    Raises:
        Different: naming the first one.
    """
    mine, theirs = _by(keys, ours), _by(keys, flink)
    repeated = 0
    if case.carried:
        theirs, repeated = _unrepeated(case, keys, mine, theirs)
    for what, missing in (("Flink", mine.keys() - theirs.keys()), ("Millpond", theirs.keys() - mine.keys())):
        if missing:
            raise Different(
                f"{case.group}: {what} lacks {len(missing)} rows, such as {sorted(map(str, missing))[:3]}"
            )
    truncated = sum(_row(case, identity, row, theirs[identity]) for identity, row in mine.items())
    return Compared(case, len(ours), len(flink), truncated, repeated)


def _by(keys: Sequence[str], rows: list[Row]) -> dict[tuple, Row]:
    by = {(*(row[k] for k in keys), row["_event_time"]): row for row in rows}
    if len(by) != len(rows):
        raise Different(f"{len(rows) - len(by)} rows have the key and time of another one")
    return by


def _unrepeated(
    case: Case, keys: Sequence[str], mine: dict[tuple, Row], theirs: dict[tuple, Row]
) -> tuple[dict[tuple, Row], int]:
    """Flink's rows without those that we do not repeat, each of which must say what our row before it says; with our
    closing rows, of windows without events, that Flink does not have."""
    times: dict[tuple, list[int]] = defaultdict(list)
    for *key, at in sorted(mine):
        times[tuple(key)].append(at)
    kept = {}
    for identity, row in theirs.items():
        if identity in mine:
            kept[identity] = row
            continue
        *key, at = identity
        before = bisect_right(times[tuple(key)], at) - 1
        if before < 0:
            raise Different(f"{case.group}: we have no row at or before {identity}")
        carried = {**mine[(*key, times[tuple(key)][before])], "_event_time": at}
        _row(case, identity, carried, row)
    closing = {i: row for i, row in mine.items() if i not in theirs and row["events"] == 0}
    return {**kept, **closing}, len(theirs) - len(kept)


def _row(case: Case, identity: tuple, mine: Row, theirs: Row) -> bool:
    """Whether an integer division made a difference."""
    truncated = False
    for name, value in theirs.items():
        if name == case.event_time:
            continue  # a part of the identity; not every definition selects it
        if name not in mine:
            raise Different(f"{case.group}: we have no column {name}")
        own = mine[name]
        if name == case.integer_ratio and own is not None:
            truncated = own != value
            own = math.trunc(own)
        if not _equal(own, value, name in case.sums):
            raise Different(f"{case.group} {identity}: {name} is {own!r} here and {value!r} in Flink")
    return truncated


def _equal(mine: Any, theirs: Any, inexact: bool) -> bool:
    if isinstance(mine, tuple):  # a decimal
        return theirs is not None and mine[1] == Decimal(theirs).normalize()
    if isinstance(mine, float) and isinstance(theirs, (int, float)):
        return mine == theirs or (inexact and math.isclose(mine, theirs, rel_tol=1e-9))
    return mine == theirs
