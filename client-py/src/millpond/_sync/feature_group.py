# Generated from ../_async by scripts/unasync.py. Edit there.
"""A feature group: a versioned table of features, and the pipeline that keeps it up to date."""

from __future__ import annotations

import io
import json
import urllib.parse
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from .. import _errors, _frames, _types
from .._filter import Filter
from .._models import Column, Json, Status
from .._query import Query, Reading
from .._time import Instant, parse, rfc3339
from .stream import Stream
from .transport import ARROW, Transport

MOST = 100_000  # online rows that the server gives in one reply
Keys = Any  # one value, or a sequence of them for a compound key
_META = {"_event_time": "timestamp", "_available_at": "timestamp", "_commit": "bigint", "_op": "string"}


class FeatureGroup:
    """One version of a feature group. Made by `get_or_create_feature_group`."""

    def __init__(self, transport: Transport, raw: Json) -> None:
        self._transport = transport
        self._raw = raw
        self._log: Stream | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, version={self.version}, primary_key={self.primary_key})"

    @property
    def name(self) -> str:
        """Its name."""
        return str(self._raw["name"])

    @property
    def version(self) -> int:
        """Its version, from 1."""
        return int(self._raw["version"])

    @property
    def description(self) -> str:
        """What it is, for people."""
        return str(self._raw.get("description") or "")

    @property
    def sql(self) -> str | None:
        """The SQL of a derived group; None: rows are inserted."""
        sql = self._raw.get("sql")
        return None if sql is None else str(sql)

    @property
    def primary_key(self) -> list[str]:
        """Names of the primary key's columns, in order."""
        return list(self._raw["primary_key"])

    @property
    def event_time(self) -> str:
        """Name of the event-time column."""
        return str(self._raw["event_time"])

    @property
    def online_enabled(self) -> bool:
        """Whether it serves vectors."""
        return bool(self._raw.get("online_enabled", True))

    @property
    def location(self) -> str:
        """Path or URL of its Delta table."""
        return str(self._raw["location"])

    @property
    def sinks(self) -> list[Json]:
        """Where else its rows go: name, kind, location, state, `lag_rows`; as of the last `refresh`."""
        return list(self._raw.get("sinks") or [])

    @property
    def features(self) -> list[Column]:
        """Its columns: the features with the primary key."""
        return [Column.of(c) for c in self._raw["columns"]]

    @property
    def definition(self) -> Json:
        """All that the server says about it, as JSON."""
        return dict(self._raw)

    # selecting

    def select_all(self, include_primary_key: bool = False, include_event_time: bool = False) -> Query:
        """All features; the key and the event time only if asked for."""
        if not (include_primary_key or include_event_time):
            return Query((self.name, self.version), source=self)
        left_out = set() if include_primary_key else set(self.primary_key)
        left_out |= set() if include_event_time else {self.event_time}
        return self.select_except(sorted(left_out))

    def select_features(self) -> Query:
        """All features, without key and event time: as `select_all()`."""
        return self.select_all()

    def select(self, features: Sequence[str | Column]) -> Query:
        """These features, in this order.

        Raises:
            NotFoundError: the group has no such feature.
        """
        names = tuple(f if isinstance(f, str) else f.name for f in features)
        for name in names:
            self.get_feature(name)
        return Query((self.name, self.version), names, source=self)

    def select_except(self, features: Sequence[str | Column] | None = None) -> Query:
        """All columns but these."""
        left_out = {f if isinstance(f, str) else f.name for f in features or []}
        names = tuple(c.name for c in self.features if c.name not in left_out)
        return Query((self.name, self.version), names, source=self)

    def filter(self, f: Filter) -> Query:
        """All columns of the rows for which `f` is true: `group.filter(group["clicks"] > 5).read()`."""
        return Query((self.name, self.version), source=self).filter(f)

    def as_of(self, wallclock_time: Instant | None = None, exclude_until: Instant | None = None) -> Query:
        """The group as it was at an instant; see `Query.as_of`."""
        return Query((self.name, self.version), source=self).as_of(wallclock_time, exclude_until)

    def __getitem__(self, name: str) -> Column:
        return self.get_feature(name)

    def get_feature(self, name: str) -> Column:
        """The column of that name.

        Raises:
            NotFoundError: there is none; the hint lists those that are there.
        """
        for column in self.features:
            if column.name == name:
                return column
        raise _errors.NotFoundError(
            f"feature group {self.name} version {self.version} has no feature '{name}'",
            hint=f"It has {', '.join(c.name for c in self.features)}.",
        )

    # the pipeline

    def refresh(self) -> Json:
        """Ask the server again: definition and status, as JSON."""
        self._raw = self._transport.json("GET", self._path())
        return dict(self._raw)

    def status(self) -> Status:
        """How its pipeline is doing now."""
        return Status.of((self.refresh())["status"])

    def pause(self) -> None:
        """Stop reading; what is committed stays readable."""
        self._raw = self._transport.json("POST", self._path("/pause"))

    def resume(self) -> None:
        """Read on after `pause`, or after what halted the pipeline was mended."""
        self._raw = self._transport.json("POST", self._path("/resume"))

    def wait(self, position: str, timeout: float = 30.0) -> Json:
        """Wait until everything before `position` (what `append` returned) is committed.

        Returns:
            The server's reply: `reached`, and the watermark. That an event is committed does not
            mean that its window is closed: that takes the watermark (see `stream.heartbeat`, `finish`).

        Raises:
            DeadlineError: not within `timeout` seconds.
        """
        params = {"position": position, "timeout": timeout}
        path = self._path("/wait")
        return dict(self._transport.json("POST", path, params=params, timeout=timeout + 10))

    def flush(self) -> int | None:
        """Write what is committed to the Delta table and the sinks now; returns the table's version, if any.

        A sink that does not take its rows is no error: `refresh()["sinks"]` says how each stands.
        """
        version = (self._transport.json("POST", self._path("/flush"), timeout=120))["delta_version"]
        return None if version is None else int(version)

    def explain(self) -> Json:
        """The plan: what the SQL was lowered to, the state for each key, when rows come out."""
        return dict(self._transport.json("GET", self._path("/explain")))

    def epochs(self, start: int = 0, limit: int = 100) -> list[Json]:
        """The journal from commit `start` on: ranges read, watermarks, counts, as JSON."""
        params = {"from": start, "limit": limit}
        return list((self._transport.json("GET", self._path("/epochs"), params=params))["epochs"])

    def late(self, limit: int = 100) -> list[Json]:
        """Records that came after all of their windows had closed."""
        return list(
            (self._transport.json("GET", self._path("/late"), params={"limit": limit}))["records"]
        )

    def drop_sink(self, name: str) -> None:
        """Drop a sink: what it wrote stays, what it does not have yet it will not get.

        Raises:
            NotFoundError: the group has no such sink.
        """
        self._raw = self._transport.json("DELETE", self._path(f"/sinks/{name}"), timeout=120)

    # reading

    def read(
        self,
        wallclock_time: Instant | None = None,
        online: bool = False,
        dataframe_type: str = "default",
        read_options: Json | None = None,
        start_time: Instant | None = None,
        end_time: Instant | None = None,
    ) -> Any:
        """All rows ever committed, in Delta or not yet, as a frame; with `online`, the latest row by key.

        Columns: the features, then `_event_time`, `_available_at`, `_commit`, `_op` and others that
        begin with an underscore.

        Args:
            wallclock_time: only rows that were available at this instant.
            online: read the online store.
            dataframe_type: "default" (pandas, Polars or Arrow), "pandas", "polars", "arrow", "python".
            read_options: accepted.
            start_time: from this event time …
            end_time: … to before this one.
        """
        del read_options
        query = Query((self.name, self.version)).as_of(wallclock_time)
        return self.read_query(query, Reading(online, dataframe_type, start_time, end_time))

    def read_query(self, query: Query, how: Reading) -> Any:
        """What `query.read(…)` returns, of a query over this group alone."""
        if how.online:
            given = (query.wallclock_time, query.exclude_until, how.start_time, how.end_time)
            if given != (None,) * len(given):
                raise _errors.UnsupportedError(
                    "the online store has the newest rows only", hint="read the history: online=False"
                )
            rows = self.rows()
            table = query.of(_frames.to_arrow(rows)) if rows else _frames.to_arrow(rows)
        else:
            table = query.of(self.history(how.start_time, how.end_time, dataframe_type="arrow"))
        return _frames.from_arrow(table, how.dataframe_type)

    def history(
        self,
        start_time: Instant | None = None,
        end_time: Instant | None = None,
        limit: int | None = None,
        dataframe_type: str = "default",
    ) -> Any:
        """Rows of the offline history with `start_time <= event time < end_time`, as a frame."""
        params = {"start_time": rfc3339(start_time), "end_time": rfc3339(end_time), "limit": limit}
        sink = io.BytesIO()
        self._transport.download("GET", self._path("/history"), sink, accept=ARROW, params=params)
        return _frames.from_arrow(_frames.read_ipc(sink.getvalue()), dataframe_type)

    def rows(self, which: str = "latest", limit: int | None = None) -> list[Json]:
        """Online rows: one dict for each key, features and `_event_time`, `_available_at`, `_commit`, `_op`.

        Args:
            which: "latest", or "previous": the event time before the latest one.
            limit: at most so many; the server gives 100,000 at most.
        """
        params = {"which": which, "limit": MOST if limit is None else limit}
        reply = self._transport.json("GET", self._path("/rows"), params=params)
        return [self._decoded(row) for row in reply["rows"]]

    def row(self, key: Keys) -> tuple[Json | None, Json | None, datetime | None]:
        """One key's online rows: (latest, previous, as_of); None where there is none.

        Args:
            key: the primary key; for a compound one a sequence in its order.
        """
        parts = list(key) if isinstance(key, (list, tuple)) else [key]
        text = str(_types.to_json(parts[0]))
        if len(parts) != 1 or text.startswith("["):  # which would be read as a compound key
            text = json.dumps([_types.to_json(p) for p in parts])
        reply = self._transport.json("GET", self._path(f"/rows/{urllib.parse.quote(text, safe='')}"))
        latest, previous = (
            None if reply[w] is None else self._decoded(reply[w]) for w in ("latest", "previous")
        )
        return latest, previous, parse(reply["as_of"]) if reply.get("as_of") else None

    # writing

    def insert(
        self,
        features: Any,
        overwrite: bool = False,
        operation: str = "upsert",
        *,
        write_options: Json | None = None,
        wait: bool = False,
    ) -> str:
        """Insert rows into a group without SQL; returns the position after them.

        Args:
            features: a list of dicts, a pandas or Polars DataFrame, or an Arrow table.
            overwrite: not supported: the history is append-only.
            operation: "upsert".
            write_options: accepted.
            wait: return only when the rows can be read.

        Raises:
            UnsupportedError: the group is derived by SQL: append to its streams.
        """
        del write_options
        if overwrite or operation != "upsert":
            raise _errors.UnsupportedError(
                "only upsert is supported", hint="leave overwrite and operation out"
            )
        position = (self._own_log()).append(features)
        if wait:
            self.wait(position)
        return position

    def commit_delete_record(
        self, delete_df: Any, write_options: Json | None = None, *, wait: bool = False
    ) -> str:
        """Delete the rows of these keys from a group without SQL; returns the position after them.

        From the greatest event time that was inserted before, the keys have no value: vectors say
        "deleted", and training data has none from that time on. The history keeps what was, and a
        row with `_op` "delete". A row inserted later with a later event time is a value again.

        Args:
            delete_df: rows as `insert` takes them; only the primary key's columns are looked at.
            write_options: accepted.
            wait: return only when the rows are gone.

        Raises:
            UnsupportedError: the group is derived by SQL.
            InvalidRequestError: a row lacks a column of the primary key.
        """
        del write_options
        log = self._own_log()
        rows = _frames.rows_of(delete_df, self.features)
        for row in rows:
            missing = [name for name in self.primary_key if row.get(name) is None]
            if missing:
                raise _errors.InvalidRequestError(
                    f"a row to delete has no {', '.join(missing)}",
                    hint=f"give the primary key: {', '.join(self.primary_key)}",
                )
        position = log.append_tombstones([[row[name] for name in self.primary_key] for row in rows])
        if wait:
            self.wait(position)
        return position

    def delete(self, force: bool = False, *, purge: bool = False) -> None:
        """Stop the pipeline and remove the group; its Delta table stays unless `purge`, and what sinks wrote.

        Args:
            force: also if feature views use it (they are deleted too).
            purge: remove the Delta table as well.

        Raises:
            ConflictError: feature views use it.
        """
        params = {"purge": purge, "force": force}
        self._transport.json("DELETE", self._path(), params=params, timeout=120)

    def _own_log(self) -> Stream:
        if self.sql is not None:
            names = ", ".join(str(s["stream"]) for s in self._raw.get("sources", []))
            raise _errors.UnsupportedError(
                f"feature group {self.name} is derived by SQL: rows cannot be inserted or deleted",
                hint=f"Append events to what it reads: {names}.",
            )
        if self._log is None:
            name = self._raw["sources"][0]["stream"]
            raw = self._transport.json("GET", f"/api/v1/streams/{name}")
            self._log = Stream(self._transport, raw)
        return self._log

    def _decoded(self, row: Json) -> Json:
        types = {**{c.name: c.type for c in self.features}, **_META}
        return {k: _types.decode(types.get(k, ""), v) for k, v in row.items()}

    def _path(self, rest: str = "") -> str:
        return f"/api/v1/feature-groups/{self.name}/{self.version}{rest}"
