"""Labels of training data: which columns are what, which rows are wanted, how they are split."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from . import _frames
from ._errors import InvalidRequestError
from ._time import Instant, parse, rfc3339

UTC_MICROS = pa.timestamp("us", "UTC")
Range = tuple[Instant | None, Instant | None]


@dataclass(frozen=True)
class Spine:
    """Label rows: serving keys, one timestamp (microseconds, UTC), labels.

    Attributes:
        table: the rows, in the user's order.
        event_time: name of the timestamp.
        others: the columns that are neither keys nor the timestamp.
    """

    table: pa.Table
    event_time: str
    others: list[str]

    @classmethod
    def of(cls, frame: Any, keys: Sequence[str], event_time: str | None) -> Spine:
        """Check a frame of labels; a timestamp without a zone is taken as UTC.

        Raises:
            InvalidRequestError: a serving key is missing, or it is not clear which column is the time.
        """
        table = _frames.to_arrow(frame)
        missing = [k for k in keys if k not in table.column_names]
        if missing:
            raise InvalidRequestError(
                f"the labels have no column {', '.join(missing)}",
                hint=f"They need the serving keys {', '.join(keys)} and a timestamp.",
            )
        name = event_time or _only_timestamp(table)
        if name not in table.column_names or not pa.types.is_timestamp(table.schema.field(name).type):
            raise InvalidRequestError(f"the labels' column '{name}' is not a timestamp", hint="cast it first")
        i = table.column_names.index(name)
        micros = pc.cast(table.column(i), pa.timestamp("us", table.schema.field(i).type.tz), safe=False)
        table = table.set_column(i, name, pc.cast(micros, UTC_MICROS))
        return cls(table, name, [n for n in table.column_names if n != name and n not in keys])

    def between(self, start: Instant | None, end: Instant | None) -> Spine:
        """The rows with `start <= time < end`."""
        return replace(self, table=between(self.table, self.event_time, start, end))


def _only_timestamp(table: pa.Table) -> str:
    names = [f.name for f in table.schema if pa.types.is_timestamp(f.type)]
    if len(names) != 1:
        found = f"{len(names)} timestamp columns ({', '.join(names)})" if names else "no timestamp column"
        raise InvalidRequestError(
            f"the labels have {found}", hint="Name the label's time with spine_event_time='…'."
        )
    return str(names[0])


def between(table: pa.Table, time: str, start: Instant | None, end: Instant | None) -> pa.Table:
    """The rows of a table with `start <= time < end`; None: no bound."""
    for bound, keep in ((start, pc.greater_equal), (end, pc.less)):
        if bound is not None:
            instant = pa.scalar(parse(str(rfc3339(bound))), UTC_MICROS)
            table = table.filter(keep(pc.cast(table.column(time), UTC_MICROS), instant))
    return table


def cut_labels(
    columns: Sequence[str], labels: Sequence[str], others: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Names of X's and y's columns: y has the view's labels or, without any, the spine's other columns."""
    y = [n for n in labels if n in columns] if labels else [n for n in others if n in columns]
    return [n for n in columns if n not in y and n not in others], y


def split(
    table: pa.Table, time: str, test_size: float | None, seed: int | None, train: Range, test: Range
) -> tuple[pa.Table, pa.Table]:
    """Two parts of the rows: at random (order kept), or by time; the test begins where training ends.

    Raises:
        InvalidRequestError: neither a size nor a boundary, or a size outside 0 to 1.
    """
    if test_size is not None:
        if not 0 < test_size < 1:
            raise InvalidRequestError(f"test_size is {test_size}", hint="between 0 and 1")
        chosen = random.Random(seed).sample(range(table.num_rows), round(table.num_rows * test_size))
        marks = [False] * table.num_rows
        for i in chosen:
            marks[i] = True
        mask = pa.array(marks, pa.bool_())
        return table.filter(pc.invert(mask)), table.filter(mask)
    boundary = test[0] or train[1]
    if boundary is None:
        raise InvalidRequestError(
            "nothing says what is test and what is training", hint="give test_size=0.2, or test_start='…'"
        )
    return (
        between(table, time, train[0], train[1] or boundary),
        between(table, time, boundary, test[1]),
    )
