# Generated from ../_async by scripts/unasync.py. Edit there.
"""The feature store: where streams, feature groups and feature views are made and found."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from .. import _errors
from .._models import Json
from .._query import Query
from .._sinks import Sink, to_json
from .._time import Duration, Instant, rfc3339, seconds
from .feature_group import FeatureGroup
from .feature_view import FeatureView
from .stream import Stream
from .transport import Transport

TEN_MINUTES = timedelta(minutes=10)
Schema = str | Mapping[str, Any]


class FeatureStore:
    """Everything that a Millpond server holds."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    # streams

    def get_or_create_stream(
        self,
        name: str,
        schema: Schema | None = None,
        *,
        subject: str | None = None,
        event_time: str,
        event_time_unit: str | None = None,
        watermark_delay: Duration = 0,
        idle_timeout: Duration | None = None,
        partitions: int = 1,
        topic: str | None = None,
        max_future_skew: Duration = TEN_MINUTES,
        idle_advance: bool = False,
        time: str = "live",
        on_bad_record: str = "quarantine",
        format: str = "avro",
    ) -> Stream:
        """The stream of this definition: made if there is none.

        Args:
            name: lower-case letters, digits, underscores; at most 63.
            schema: Avro record schema, as JSON text or a dict; None: the latest of the subject. With
                format="json" the columns: {"user_id": "string not null", "clicks": "bigint", …}, or a
                JSON Schema of objects.
            subject: in the schema registry; default `<topic or name>-value`.
            event_time: the column that says when an event happened: a timestamp, or a long with
            event_time_unit: "s", "ms" or "us".
            watermark_delay: how far out of order events may come (timedelta or seconds).
            idle_timeout: a partition quiet for so long stops holding the others back.
            partitions: of the embedded log.
            topic: read this Kafka topic and not the embedded log.
            max_future_skew: event times further ahead of the clock are quarantined.
            idle_advance: the watermark of a wholly quiet live stream goes on with the clock.
            time: "live", or "historical" for a replay of old events.
            on_bad_record: "quarantine" or "halt".
            format: what records are: "avro" in a Confluent frame, or "json": plain objects (or framed).
                A missing field is null, an unknown one ignored; with event_time_unit the event time
                may be a number of that unit, ISO text is understood always.

        Raises:
            ConflictError: a stream of that name has another definition; `details` has the diff.
            InvalidSchemaError: the schema cannot be used; the message names the field.
        """
        body: Json = {
            "name": name,
            "schema": _columns(schema) if format == "json" else _parsed(schema),
            "format": format,
            "subject": subject,
            "topic": topic,
            "partitions": partitions if topic is None else None,
            "event_time": event_time,
            "event_time_unit": event_time_unit,
            "watermark_delay": seconds(watermark_delay),
            "idle_timeout": seconds(idle_timeout),
            "idle_advance": idle_advance,
            "max_future_skew": seconds(max_future_skew),
            "time": time,
            "on_bad_record": on_bad_record,
        }
        return Stream(
            self._transport, self._transport.json("POST", "/api/v1/streams", _given(body))
        )

    def get_stream(self, name: str) -> Stream:
        """The stream of that name.

        Raises:
            NotFoundError: there is none.
        """
        return Stream(self._transport, self._transport.json("GET", f"/api/v1/streams/{name}"))

    def get_streams(self) -> list[Stream]:
        """All streams."""
        reply = self._transport.json("GET", "/api/v1/streams")
        return [Stream(self._transport, raw) for raw in reply["streams"]]

    # feature groups

    def create_feature_group(
        self,
        name: str,
        version: int = 1,
        *args: Any,
        **definition: Any,
    ) -> FeatureGroup:
        """A new feature group; arguments as in `get_or_create_feature_group`.

        Raises:
            ConflictError: this version exists already.
        """
        return self._make_group(_group(name, version, *args, **definition), new=True)

    def get_or_create_feature_group(
        self,
        name: str,
        version: int = 1,
        description: str = "",
        online_enabled: bool = True,
        primary_key: Sequence[str] | None = None,
        features: Sequence[Mapping[str, str]] | None = None,
        event_time: str | None = None,
        stream: bool = False,
        *,
        sql: str | None = None,
        emit: str = "on_close",
        allowed_lateness: Duration | None = None,
        ttl: Duration | None = None,
        start: Instant = "earliest",
        schema: Schema | None = None,
        topic: str | None = None,
        watermark_delay: Duration | None = None,
        time: str | None = None,
        sinks: Sequence[Sink] | None = None,
    ) -> FeatureGroup:
        """The feature group of this definition: made if there is none.

        Without `sql`, `schema` or `features` the group must exist, and is returned as it is.

        Args:
            name: lower-case letters, digits, underscores; at most 63.
            version: another definition wants another version.
            description: for people.
            online_enabled: whether it serves vectors.
            primary_key: of an ingested group; a derived one has its GROUP BY columns.
            features: of an ingested group, `[{"name", "type"}]` (or `schema`).
            event_time: of an ingested group.
            stream: accepted; every group is written through a stream.
            sql: one SELECT over streams: the group is derived.
            emit: "on_close": a row for each key and window when the window is complete.
            allowed_lateness: how long after that a window still takes records.
            ttl: values older than this are neither served nor joined.
            start: "earliest", "latest" or an instant: what was appended from then on (of a topic: by its
                records' timestamps).
            schema: Avro schema of an ingested group.
            topic: Kafka topic of an ingested group.
            watermark_delay: of an ingested group.
            time: "live" or "historical", of an ingested group.
            sinks: where else its rows go, from its first row on: `KafkaSink`, `FileSink`.

        Raises:
            ConflictError: this version has another definition; raise the version.
            InvalidSqlError: `details` has the construct that is not supported and the nearest one.
            NotFoundError: nothing to make it of, and there is none.
        """
        if sql is None and schema is None and features is None and topic is None:
            return self._existing_group(name, version)
        body = _group(
            name, version, description, online_enabled, primary_key, features, event_time, stream,
            sql=sql, emit=emit, allowed_lateness=allowed_lateness, ttl=ttl, start=start, schema=schema,
            topic=topic, watermark_delay=watermark_delay, time=time, sinks=sinks,
        )  # fmt: skip
        return self._make_group(body, new=False)

    def get_feature_group(self, name: str, version: int = 1) -> FeatureGroup:
        """One version of a feature group.

        Raises:
            NotFoundError: there is none.
        """
        raw = self._transport.json("GET", f"/api/v1/feature-groups/{name}/{version}")
        return FeatureGroup(self._transport, raw)

    def get_feature_groups(self, name: str | None = None) -> list[FeatureGroup]:
        """All feature groups, or all versions of one."""
        reply = self._transport.json("GET", "/api/v1/feature-groups")
        groups = [FeatureGroup(self._transport, raw) for raw in reply["feature_groups"]]
        return [g for g in groups if name in (None, g.name)]

    # feature views

    def create_feature_view(
        self,
        name: str,
        query: Query,
        version: int = 1,
        description: str = "",
        labels: Sequence[str] | None = None,
    ) -> FeatureView:
        """A new feature view; see `get_or_create_feature_view`.

        Raises:
            ConflictError: this version exists already.
        """
        return self._make_view(_view(name, query, version, description, labels), new=True)

    def get_or_create_feature_view(
        self,
        name: str,
        query: Query,
        version: int = 1,
        description: str = "",
        labels: Sequence[str] | None = None,
    ) -> FeatureView:
        """The feature view of this definition: made if there is none.

        Args:
            name: lower-case letters, digits, underscores; at most 63.
            query: what it reads: `group.select_all()`, `.select([…])`, joined with `.join(…)`.
            version: another definition wants another version.
            description: for people.
            labels: names of the labels: columns of the query, or of the spine of training data.

        Raises:
            ConflictError: this version has another definition; raise the version.
        """
        return self._make_view(_view(name, query, version, description, labels), new=False)

    def get_feature_view(self, name: str, version: int = 1) -> FeatureView:
        """One version of a feature view.

        Raises:
            NotFoundError: there is none.
        """
        raw = self._transport.json("GET", f"/api/v1/feature-views/{name}/{version}")
        return FeatureView(self._transport, raw)

    def get_feature_views(self, name: str | None = None) -> list[FeatureView]:
        """All feature views, or all versions of one."""
        reply = self._transport.json("GET", "/api/v1/feature-views")
        views = [FeatureView(self._transport, raw) for raw in reply["feature_views"]]
        return [v for v in views if name in (None, v.name)]

    def _existing_group(self, name: str, version: int) -> FeatureGroup:
        try:
            return self.get_feature_group(name, version)
        except _errors.NotFoundError as error:
            raise _errors.NotFoundError(
                f"there is no feature group {name} version {version}, and nothing to make it of",
                hint="Give sql='SELECT …' for a derived group, or features=[…], primary_key=[…], "
                "event_time='…' for rows that you insert.",
                status=error.status,
            ) from error

    def _make_group(self, body: Json, *, new: bool) -> FeatureGroup:
        raw = self._post("/api/v1/feature-groups", "feature group", body, new)
        return FeatureGroup(self._transport, raw)

    def _make_view(self, body: Json, *, new: bool) -> FeatureView:
        raw = self._post("/api/v1/feature-views", "feature view", body, new)
        return FeatureView(self._transport, raw)

    def _post(self, path: str, kind: str, body: Json, new: bool) -> Json:
        reply = self._transport.json_reply("POST", path, body)
        # What exists with this very definition after a lost reply is what the lost try made.
        if new and reply.status != 201 and not reply.repeated:
            raise _exists(kind, body["name"], body["version"])
        return dict(reply.body)


def _group(
    name: str,
    version: int,
    description: str = "",
    online_enabled: bool = True,
    primary_key: Sequence[str] | None = None,
    features: Sequence[Mapping[str, str]] | None = None,
    event_time: str | None = None,
    stream: bool = False,
    *,
    sql: str | None = None,
    emit: str = "on_close",
    allowed_lateness: Duration | None = None,
    ttl: Duration | None = None,
    start: Instant = "earliest",
    schema: Schema | None = None,
    topic: str | None = None,
    watermark_delay: Duration | None = None,
    time: str | None = None,
    sinks: Sequence[Sink] | None = None,
) -> Json:
    del stream  # implied
    return _given({
        "name": name,
        "version": version,
        "description": description,
        "online_enabled": online_enabled,
        "primary_key": None if primary_key is None else list(primary_key),
        "features": None if features is None else [dict(f) for f in features],
        "event_time": event_time,
        "sql": sql,
        "emit": emit,
        "allowed_lateness": seconds(allowed_lateness) or 0,
        "ttl": seconds(ttl),
        "start": start if start in ("earliest", "latest") else rfc3339(start),
        "schema": _parsed(schema),
        "topic": topic,
        "watermark_delay": seconds(watermark_delay),
        "time": time,
        "sinks": None if sinks is None else [to_json(sink) for sink in sinks],
    })  # fmt: skip


def _view(name: str, query: Query, version: int, description: str, labels: Sequence[str] | None) -> Json:
    return {
        "name": name,
        "version": version,
        "description": description,
        "query": query.to_json(),
        "labels": list(labels or []),
    }


def _parsed(schema: Schema | None) -> Any:
    return json.loads(schema) if isinstance(schema, str) else schema


def _columns(schema: Schema | None) -> Any:
    """Columns by name, `{"clicks": "bigint not null"}`, as the server takes them, in their order."""
    columns = _parsed(schema)
    if not isinstance(columns, Mapping) or not all(isinstance(text, str) for text in columns.values()):
        return columns  # as the server takes them, or what it refuses
    required = {name: text.lower().endswith(" not null") for name, text in columns.items()}
    return [
        {"name": name, "type": text[:-9].strip() if required[name] else text, "nullable": not required[name]}
        for name, text in columns.items()
    ]


def _given(body: Json) -> Json:
    return {k: v for k, v in body.items() if v is not None}


def _exists(kind: str, name: str, version: int) -> _errors.ConflictError:
    return _errors.ConflictError(
        f"{kind} {name} version {version} exists already",
        hint=f"Use get_or_create_{kind.replace(' ', '_')}, or raise the version.",
    )
