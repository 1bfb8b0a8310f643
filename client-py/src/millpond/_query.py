"""A query: what a feature view reads, or one read of a group. A plain value: only `read` asks the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute

from . import _errors
from ._filter import Filter
from ._models import Json
from ._time import Instant, parse


@dataclass(frozen=True)
class _Join:
    query: Query
    on: tuple[str, ...]
    left_on: tuple[str, ...]
    right_on: tuple[str, ...]
    join_type: str
    prefix: str | None

    def to_json(self) -> Json:
        body: Json = {"query": self.query.to_json(), "join_type": self.join_type}
        for name in ("on", "left_on", "right_on"):
            if columns := getattr(self, name):
                body[name] = list(columns)
        if self.prefix is not None:
            body["prefix"] = self.prefix
        return body


@dataclass(frozen=True)
class Reading:
    """How a query is read: the arguments of `Query.read`."""

    online: bool = False
    dataframe_type: str = "default"
    start_time: Instant | None = None
    end_time: Instant | None = None


class Source(Protocol):
    """The group that a query begins with, as far as reading it goes."""

    def read_query(self, query: Query, how: Reading) -> Any:
        """A frame of the query's rows; of the asynchronous client an awaitable of it."""


@dataclass(frozen=True)
class Query:
    """Features of one group, and groups joined to it. Made by `group.select(…)`; `join` returns a new one.

    Attributes:
        feature_group: name and version of the left-most group.
        features: names selected, in order; None: all of them, without key and event time.
        condition: of the rows that `read` returns.
        wallclock_time: `read` sees what was available then …
        exclude_until: … and was not yet at this instant.
        rows: `read` returns at most so many.
    """

    feature_group: tuple[str, int]
    features: tuple[str, ...] | None = None
    joins: tuple[_Join, ...] = field(default=())
    condition: Filter | None = None
    wallclock_time: Instant | None = None
    exclude_until: Instant | None = None
    rows: int | None = None
    source: Source | None = field(default=None, compare=False, repr=False)

    def join(
        self,
        sub_query: Query,
        on: Sequence[str] | None = None,
        left_on: Sequence[str] | None = None,
        right_on: Sequence[str] | None = None,
        join_type: str = "left",
        prefix: str | None = None,
    ) -> Query:
        """This query with another one joined to it.

        Args:
            sub_query: the other one.
            on: columns of the same name on both sides; default: the other group's primary key.
            left_on: columns of the left side, one for each of
            right_on: these of the right side.
            join_type: "left".
            prefix: put before the other one's feature names.
        """
        joined = _Join(sub_query, _names(on), _names(left_on), _names(right_on), join_type.lower(), prefix)
        return replace(self, joins=(*self.joins, joined))

    def filter(self, f: Filter) -> Query:
        """This query with only the rows for which `f` is true, in `read`.

        >>> import millpond
        >>> clicks = millpond.Column("clicks", "bigint")
        >>> Query(("ctr", 1)).filter((clicks > 5) & ~clicks.is_null()).condition.columns
        ('clicks', 'clicks')
        """
        return replace(self, condition=f if self.condition is None else self.condition & f)

    def as_of(self, wallclock_time: Instant | None = None, exclude_until: Instant | None = None) -> Query:
        """This query as it would have been read at an instant, in `read`.

        Args:
            wallclock_time: only what was available then;
            exclude_until: and was not yet at this earlier instant.
        """
        return replace(self, wallclock_time=wallclock_time, exclude_until=exclude_until)

    def limit(self, n: int) -> Query:
        """This query with at most so many rows, in `read`."""
        return replace(self, rows=n)

    def read(
        self,
        online: bool = False,
        dataframe_type: str = "default",
        read_options: Json | None = None,
        start_time: Instant | None = None,
        end_time: Instant | None = None,
    ) -> Any:
        """The rows, as a frame: the features selected, in order; all columns if none are.

        Args:
            online: read the latest row of each key, not the history.
            dataframe_type: "default" (pandas, Polars or Arrow), "pandas", "polars", "arrow", "python".
            read_options: accepted.
            start_time: from this event time …
            end_time: … to before this one.

        Raises:
            UnsupportedError: the query joins groups: make a feature view of it and read that.
        """
        del read_options
        if self.joins:
            raise _errors.UnsupportedError(
                "a query that joins groups cannot be read by itself",
                hint="make a feature view of it: get_batch_data() and training_data() join in time",
            )
        if self.source is None:
            raise _errors.UnsupportedError(
                "this query has no group to read", hint="make it by group.select(…)"
            )
        return self.source.read_query(self, Reading(online, dataframe_type, start_time, end_time))

    def show(self, n: int, online: bool = False) -> Any:
        """The first `n` rows that `read` gives."""
        return self.limit(n).read(online=online)

    def of(self, table: pa.Table) -> pa.Table:
        """What the query leaves of a group's rows."""
        available = pa.compute.field("_available_at")
        if self.wallclock_time is not None:
            table = table.filter(available <= pa.scalar(_instant(self.wallclock_time), _INSTANT))
        if self.exclude_until is not None:
            table = table.filter(available > pa.scalar(_instant(self.exclude_until), _INSTANT))
        if self.condition is not None:
            table = self.condition.apply(table)
        if self.rows is not None:
            table = table.slice(0, self.rows)
        return table if self.features is None else table.select(self.features)

    def to_json(self) -> Json:
        """The form in which the server takes it, of a feature view.

        Raises:
            UnsupportedError: it has a filter, an instant or a limit, which are for reading.
        """
        if (self.condition, self.wallclock_time, self.exclude_until, self.rows) != (None,) * 4:
            raise _errors.UnsupportedError(
                "a feature view serves every row: its query has no filter, as_of or limit",
                hint="filter in the SQL of the feature group, or the frame that training_data() returns",
            )
        name, version = self.feature_group
        return {
            "feature_group": {"name": name, "version": version},
            "features": None if self.features is None else list(self.features),
            "joins": [j.to_json() for j in self.joins],
        }


_INSTANT = pa.timestamp("us", tz="UTC")


def _instant(instant: Instant) -> datetime:
    if isinstance(instant, str):
        return parse(instant)
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=timezone.utc)


def _names(columns: Sequence[str] | None) -> tuple[str, ...]:
    if columns is None:
        return ()
    return (columns,) if isinstance(columns, str) else tuple(columns)
