"""Sinks: where else the rows of a feature group go, besides the online store and Delta."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from ._models import Json


@dataclass(frozen=True)
class _Sink:
    kind: ClassVar[str]

    def to_json(self) -> Json:
        """As the server takes it."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return {"kind": self.kind, **given}


@dataclass(frozen=True)
class KafkaSink(_Sink):
    """The changelog of a group as a Kafka topic: a record for each row of its history.

    Key (the primary key) and value (all columns of the history) are Avro, registered as `<topic>-key`
    and `<topic>-value`; a delete is a null value. Consumers with `isolation.level=read_committed`, which
    is librdkafka's default and not Java's, see each row once.

    >>> KafkaSink("ctr_changelog").to_json()
    {'kind': 'kafka', 'topic': 'ctr_changelog'}

    Attributes:
        topic: made if there is none, with
        partitions: so many (one by default).
        name: unique within the group; "kafka" by default.
    """

    kind: ClassVar[str] = "kafka"
    topic: str
    partitions: int | None = None
    name: str | None = None


@dataclass(frozen=True)
class FileSink(_Sink):
    """The history of a group as files on the server's disk, each of which appears whole.

    `<path>/<column>=<value>/part-<first>-<last>.csv` (or `.parquet`): the order of names is the order of
    commits. CSV files have all columns, Parquet files leave `partition_by` to the path, as Hive does.

    >>> FileSink("csv", path="ctr", partition_by="campaign_id").to_json()
    {'kind': 'files', 'format': 'csv', 'path': 'ctr', 'partition_by': 'campaign_id'}

    Attributes:
        format: "csv" or "parquet".
        path: below the server's `sinks.root`; by default named after the group, with its uuid.
        partition_by: a column of text, integers, booleans or dates (`_event_date` is one).
        name: unique within the group; "files" by default.
    """

    kind: ClassVar[str] = "files"
    format: str
    path: str | None = None
    partition_by: str | None = None
    name: str | None = None


Sink = KafkaSink | FileSink | Mapping[str, Any]


def to_json(sink: Sink) -> Json:
    """A sink as the server takes it; a mapping is taken to be that already."""
    return dict(sink) if isinstance(sink, Mapping) else sink.to_json()
