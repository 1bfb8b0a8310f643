"""What the server says about itself, as plain values."""

from __future__ import annotations

from dataclasses import astuple, dataclass, field
from datetime import datetime
from typing import Any

from ._filter import Comparable
from ._time import parse_optional

Json = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Column(Comparable):
    """A column of a stream, feature group or view: name, type (see `millpond._types`), nullability.

    Compared with a value it makes a filter: `group["clicks"] > 5`.
    """

    name: str
    type: str
    nullable: bool = True

    def __eq__(self, other: object) -> Any:
        if isinstance(other, Column):
            return type(self) is type(other) and astuple(self) == astuple(other)
        return self.equals(other)

    def __ne__(self, other: object) -> Any:
        return not self == other if isinstance(other, Column) else ~self.equals(other)

    def __hash__(self) -> int:
        return hash(astuple(self))

    @classmethod
    def of(cls, raw: Json) -> Column:
        """From the server's JSON."""
        return cls(raw["name"], raw["type"], raw.get("nullable", True))


@dataclass(frozen=True, eq=False)
class Feature(Column):
    """A feature of a view: also where it comes from."""

    feature_group: str = ""
    version: int = 1
    column: str = ""

    @classmethod
    def of(cls, raw: Json) -> Feature:
        """From the server's JSON."""
        name = raw["name"]
        return cls(
            name,
            raw["type"],
            raw.get("nullable", True),
            str(raw.get("feature_group", "")),
            int(raw.get("version", 1)),
            str(raw.get("column", name)),
        )


@dataclass(frozen=True)
class Status:
    """How a feature group's pipeline is doing.

    Attributes:
        state: restoring, running, backfilling, paused, waiting or halted.
        reason: why, where it is not running.
        mend: what to do about it.
        watermark: event time up to which the group is complete; None: nothing seen yet.
        lag: records not read yet.
        epoch: number of the last commit.
        outbox_rows: rows committed and not yet in Delta.
        delta_version: version of the Delta table, None before the first drain.
        warning: something odd that stops nothing.
        state_memory_bytes: what its state takes of the server's memory, about.
        state_disk_bytes: what it takes on disk, about and compressed, without what was written last.
    """

    state: str
    reason: str | None = None
    mend: str | None = None
    watermark: datetime | None = None
    lag: int | None = None
    epoch: int | None = None
    outbox_rows: int | None = None
    delta_version: int | None = None
    warning: str | None = None
    state_memory_bytes: int | None = None
    state_disk_bytes: int | None = None

    @classmethod
    def of(cls, raw: Json) -> Status:
        """From the server's JSON."""
        return cls(
            raw["state"],
            raw.get("reason"),
            raw.get("mend"),
            parse_optional(raw.get("watermark")),
            raw.get("lag"),
            raw.get("epoch"),
            raw.get("outbox_rows"),
            raw.get("delta_version"),
            raw.get("warning"),
            raw.get("state_memory_bytes"),
            raw.get("state_disk_bytes"),
        )


@dataclass(frozen=True)
class Accounting:
    """What became of the records that a feature group has read; `balanced` says that the sum is right.

    read = applied + late + filtered + quarantined + tombstones + heartbeats + superseded

    A group that mentions the stream twice reads it twice: `source` says which of its sources this is, from 0.
    """

    feature_group: str
    version: int
    source: int
    read: int
    applied: int
    late: int
    filtered: int
    quarantined: int
    tombstones: int
    heartbeats: int
    superseded: int
    balanced: bool

    @classmethod
    def of(cls, raw: Json) -> Accounting:
        """From the server's JSON."""
        return cls(
            raw["name"],
            raw["version"],
            int(raw.get("source", 0)),
            raw["read"],
            raw["applied"],
            raw["late"],
            raw["filtered"],
            raw["quarantined"],
            raw["tombstones"],
            raw["heartbeats"],
            raw["superseded"],
            bool(raw["balanced"]),
        )


@dataclass(frozen=True)
class Vector:
    """One entity's values, with what is known about them.

    Attributes:
        values: feature name → value, in the view's order; None where there is none.
        status: complete, partial or missing.
        event_time: event time of the oldest group's row, None if there is none.
        as_of: the instant at which training data have the same values; over historical groups,
            one instant by group (`name_version`).
        groups: with `metadata=True`, what each group gave.
    """

    values: dict[str, Any]
    status: str
    event_time: datetime | None
    as_of: datetime | dict[str, datetime | None] | None
    groups: list[Json] = field(default_factory=list)
