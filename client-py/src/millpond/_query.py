"""A query: what a feature view reads. A plain value: nothing is asked of the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ._models import Json


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
class Query:
    """Features of one group, and groups joined to it. Made by `group.select(…)`; `join` returns a new one.

    Attributes:
        feature_group: name and version of the left-most group.
        features: names selected, in order; None: all of them, without key and event time.
    """

    feature_group: tuple[str, int]
    features: tuple[str, ...] | None = None
    joins: tuple[_Join, ...] = field(default=())

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

    def to_json(self) -> Json:
        """The form in which the server takes it."""
        name, version = self.feature_group
        return {
            "feature_group": {"name": name, "version": version},
            "features": None if self.features is None else list(self.features),
            "joins": [j.to_json() for j in self.joins],
        }


def _names(columns: Sequence[str] | None) -> tuple[str, ...]:
    if columns is None:
        return ()
    return (columns,) if isinstance(columns, str) else tuple(columns)
