"""Filters on the rows that a read returns: `fg["clicks"] > 5`, joined with `&`, `|` and `~`.

A filter is a plain value. It is applied to the frame that was read, by Arrow's rules: a comparison
with null is not true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ._errors import InvalidRequestError


@dataclass(frozen=True)
class Filter:
    """A condition on rows. Made by comparing a column (`fg["clicks"] > 5`)."""

    columns: tuple[str, ...]
    expression: pc.Expression

    def __and__(self, other: Filter) -> Filter:
        return Filter(self.columns + _condition(other).columns, self.expression & other.expression)

    def __or__(self, other: Filter) -> Filter:
        return Filter(self.columns + _condition(other).columns, self.expression | other.expression)

    def __invert__(self) -> Filter:
        return Filter(self.columns, ~self.expression)

    def __bool__(self) -> bool:
        raise InvalidRequestError(
            "a filter is neither true nor false", hint="join filters with &, | and ~, each in parentheses"
        )

    def apply(self, table: pa.Table) -> pa.Table:
        """The rows of the table for which the condition is true.

        Raises:
            InvalidRequestError: a value of another type than its column's.
        """
        try:
            return table.filter(self.expression)
        except pa.ArrowException as error:
            raise InvalidRequestError(
                f"the filter on {', '.join(dict.fromkeys(self.columns))} cannot be applied: {error}",
                hint="compare a column with a value of its type",
            ) from error


class Comparable:
    """What has a name and can be compared with a value, giving a filter."""

    name: str

    def __lt__(self, value: Any) -> Filter:
        return self._with(value, pc.Expression.__lt__)

    def __le__(self, value: Any) -> Filter:
        return self._with(value, pc.Expression.__le__)

    def __gt__(self, value: Any) -> Filter:
        return self._with(value, pc.Expression.__gt__)

    def __ge__(self, value: Any) -> Filter:
        return self._with(value, pc.Expression.__ge__)

    def isin(self, values: Iterable[Any]) -> Filter:
        """Rows with one of these values."""
        return Filter((self.name,), pc.field(self.name).isin(list(values)))

    def contains(self, values: Iterable[Any]) -> Filter:
        """As `isin`, under its name in Hopsworks."""
        return self.isin(values)

    def is_null(self) -> Filter:
        """Rows without a value."""
        return Filter((self.name,), pc.field(self.name).is_null())

    def like(self, pattern: str) -> Filter:
        """Rows whose text is like the pattern: `%` stands for any text, `_` for one character."""
        return Filter((self.name,), pc.match_like(pc.field(self.name), pattern))

    def equals(self, value: Any) -> Filter:
        """As `==`."""
        return self._with(value, pc.Expression.__eq__)

    def _with(self, value: Any, compare: Callable[[pc.Expression, Any], pc.Expression]) -> Filter:
        if value is None:
            raise InvalidRequestError(
                f"'{self.name}' is compared with None, which is never true", hint="use is_null()"
            )
        if isinstance(value, Comparable):
            other, names = pc.field(value.name), (self.name, value.name)
            return Filter(names, compare(pc.field(self.name), other))
        return Filter((self.name,), compare(pc.field(self.name), pc.scalar(value)))


def _condition(other: Any) -> Filter:
    if not isinstance(other, Filter):
        raise InvalidRequestError(
            f"a {type(other).__name__} is not a filter", hint="put parentheses around each comparison"
        )
    return other
