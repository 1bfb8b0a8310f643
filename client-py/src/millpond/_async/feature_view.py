"""A feature view: what a model reads, as vectors now and as training data at any time."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from .. import _frames, _types
from .._models import Feature, Json, Vector
from .._spine import Spine, cut_labels, split
from .._time import Duration, Instant, rfc3339, seconds
from .._vectors import PAGE, as_returned, complete, decoded
from .transport import ARROW, PARQUET, AsyncTransport

Entry = Mapping[str, Any]


class AsyncFeatureView:
    """One version of a feature view. Made by `get_or_create_feature_view`."""

    def __init__(self, transport: AsyncTransport, raw: Json) -> None:
        self._transport = transport
        self._raw = raw

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name!r}, version={self.version}, serving_keys={self.serving_keys})"
        )

    @property
    def name(self) -> str:
        """Its name."""
        return str(self._raw["name"])

    @property
    def version(self) -> int:
        """Its version, from 1."""
        return int(self._raw["version"])

    @property
    def features(self) -> list[Feature]:
        """Its features, in the order in which they are served."""
        return [Feature.of(f) for f in self._raw["features"]]

    @property
    def serving_keys(self) -> list[str]:
        """Names that an entry must carry."""
        return list(self._raw["serving_keys"])

    @property
    def labels(self) -> list[str]:
        """Names of its labels."""
        return list(self._raw.get("labels") or [])

    @property
    def definition(self) -> Json:
        """All that the server says about it, as JSON."""
        return dict(self._raw)

    # serving

    async def init_serving(self, training_dataset_version: int | None = None, **options: Any) -> None:
        """Accepted for users of Hopsworks: nothing needs to be prepared."""
        del training_dataset_version, options

    async def init_batch_scoring(self, training_dataset_version: int | None = None, **options: Any) -> None:
        """Accepted for users of Hopsworks: nothing needs to be prepared."""
        del training_dataset_version, options

    async def get_feature_vector(
        self,
        entry: Entry | None = None,
        *,
        serving_keys: Entry | None = None,
        return_type: str = "dict",
        allow_missing: bool = False,
        include_keys: bool = False,
        which: str = "latest",
        max_age: Duration | None = None,
        min_position: str | None = None,
    ) -> Any:
        """One entity's features, now.

        Args:
            entry: the serving keys, for example `{"user_id": "user_123"}`.
            serving_keys: the same, under its name in Hopsworks.
            return_type: "dict" (name → value, in the view's order), "list", "numpy", "pandas", "polars".
            allow_missing: None for what is not there, in place of an error.
            include_keys: the serving keys stand before the features.
            which: "latest", or "previous": the event time before the latest one.
            max_age: rows older than this count as missing (timedelta or seconds).
            min_position: wait until what stands before this position (see `append`) is committed.

        Raises:
            MissingFeaturesError: a group has no row for this entry, or it is expired or deleted.
        """
        vectors = await self.get_feature_vectors(
            None if entry is None else [entry],
            serving_keys=None if serving_keys is None else [serving_keys],
            return_type=return_type if return_type in ("pandas", "polars") else "list",
            allow_missing=allow_missing,
            include_keys=include_keys,
            which=which,
            max_age=max_age,
            min_position=min_position,
        )
        if return_type in ("pandas", "polars"):
            return vectors
        names = [*(self.serving_keys if include_keys else []), *(f.name for f in self.features)]
        return as_returned([dict(zip(names, vectors[0], strict=True))], return_type, single=True)

    async def get_feature_vectors(
        self,
        entry: Sequence[Entry] | None = None,
        *,
        serving_keys: Sequence[Entry] | None = None,
        return_type: str = "dict",
        allow_missing: bool = False,
        include_keys: bool = False,
        which: str = "latest",
        max_age: Duration | None = None,
        min_position: str | None = None,
    ) -> Any:
        """Several entities' features, in the order of the entries; arguments as in `get_feature_vector`.

        Returns:
            A list of dicts or lists, a numpy array, or a frame with one row for each entry.
        """
        entries = list(entry if entry is not None else serving_keys or [])
        found: list[Vector] = []
        for i in range(0, len(entries), PAGE):
            found += await self.read_vectors(
                entries[i : i + PAGE],
                include_keys=include_keys,
                which=which,
                max_age=max_age,
                min_position=min_position,
            )
        if not allow_missing:
            complete(self.name, entries, found)
        return as_returned([v.values for v in found], return_type)

    async def read_vectors(
        self,
        entries: Sequence[Entry],
        *,
        include_keys: bool = False,
        which: str = "latest",
        max_age: Duration | None = None,
        min_position: str | None = None,
        metadata: bool = False,
    ) -> list[Vector]:
        """Up to 1,000 entities' features from one snapshot, each with status, event time and `as_of`.

        Training data whose spine asks for this `as_of` have the same values, bit for bit.
        `metadata` adds what each group gave: status, event time, availability, commit.
        """
        body: Json = {
            "entries": [{k: _types.to_json(v) for k, v in e.items()} for e in entries],
            "include_keys": include_keys,
            "which": which,
            "metadata": metadata,
        }
        if max_age is not None:
            body["max_age"] = seconds(max_age)
        if min_position is not None:
            body["min_position"] = min_position
        reply = await self._transport.json("POST", self._path("/vectors"), body)
        return decoded(reply, {f.name: f.type for f in self.features}, entries if include_keys else None)

    # offline

    async def training_data(
        self,
        start_time: Instant | None = None,
        end_time: Instant | None = None,
        description: str = "",
        *,
        spine_df: Any = None,
        primary_key: bool = False,
        event_time: bool = False,
        spine_event_time: str | None = None,
        as_of: Instant | None = None,
        dataframe_type: str = "default",
    ) -> tuple[Any, Any]:
        """Features as they were served at the time of each label: `(X, y)`, in the labels' order.

        Args:
            start_time: labels from this time …
            end_time: … to before this one.
            description: accepted.
            spine_df: the labels, as a frame: the serving keys, a timestamp, label columns. None: the
                rows of the view's left-most group, with the view's labels among its features.
            primary_key: put the serving keys before X's features.
            event_time: put the label's time before X's features.
            spine_event_time: name of the spine's timestamp; default: its only timestamp column.
            as_of: see only what was available then.
            dataframe_type: "default" (pandas, Polars or Arrow), "pandas", "polars", "arrow", "python".

        Returns:
            X with the view's features in the view's order, and y with the view's labels (without
            any, the spine's other columns), None if there are no labels. Features of a label
            without an earlier row are null.
        """
        del description
        table, x, y = await self._training(
            start_time, end_time, spine_df, primary_key, event_time, spine_event_time, as_of
        )
        return _frames.from_arrow(table.select(x), dataframe_type), (
            _frames.from_arrow(table.select(y), dataframe_type) if y else None
        )

    async def create_training_data(
        self,
        start_time: Instant | None = None,
        end_time: Instant | None = None,
        *,
        location: str | Path,
        spine_df: Any,
        primary_key: bool = True,
        event_time: bool = True,
        spine_event_time: str | None = None,
        as_of: Instant | None = None,
        data_format: str = "parquet",
    ) -> Path:
        """Training data as a file, written as it comes; returns its path. Arguments as in `training_data`.

        Columns: [keys] [event time] features … labels …; `data_format` is "parquet" or "arrow".
        """
        spine = Spine.of(spine_df, self.serving_keys, spine_event_time).between(start_time, end_time)
        path = Path(location)
        with path.open("wb") as sink:  # noqa: ASYNC230 (a local disk)
            await self._transport.download(
                "POST",
                self._path("/training-data"),
                sink,
                accept=PARQUET if data_format == "parquet" else ARROW,
                content=_frames.ipc_bytes(spine.table),
                params=_training_params(spine.event_time, primary_key, event_time, as_of),
            )
        return path

    async def train_test_split(
        self,
        test_size: float | None = None,
        train_start: Instant | None = None,
        train_end: Instant | None = None,
        test_start: Instant | None = None,
        test_end: Instant | None = None,
        description: str = "",
        *,
        spine_df: Any = None,
        primary_key: bool = False,
        event_time: bool = False,
        spine_event_time: str | None = None,
        seed: int | None = None,
        dataframe_type: str = "default",
    ) -> tuple[Any, Any, Any, Any]:
        """`(X_train, X_test, y_train, y_test)`, split by time or, with `test_size` (0 to 1), at random.

        Arguments as in `training_data`; `seed` makes the random split repeatable.
        """
        del description
        start, end = (train_start, train_end) if test_size is not None else (None, None)
        table, x, y = await self._training(start, end, spine_df, primary_key, True, spine_event_time, None)
        time = next(n for n in x if pa.types.is_timestamp(table.schema.field(n).type))
        train, test = split(table, time, test_size, seed, (train_start, train_end), (test_start, test_end))
        if not event_time:
            x = [n for n in x if n != time]
        return (
            _frames.from_arrow(train.select(x), dataframe_type),
            _frames.from_arrow(test.select(x), dataframe_type),
            _frames.from_arrow(train.select(y), dataframe_type) if y else None,
            _frames.from_arrow(test.select(y), dataframe_type) if y else None,
        )

    async def get_batch_data(
        self,
        start_time: Instant | None = None,
        end_time: Instant | None = None,
        read_options: Json | None = None,
        *,
        primary_key: bool = False,
        event_time: bool = False,
        dataframe_type: str = "default",
    ) -> Any:
        """The view's features for every row of its left-most group in a stretch of event time, as a frame."""
        del read_options
        table = await self._batch(start_time, end_time, primary_key, event_time)
        return _frames.from_arrow(table, dataframe_type)

    async def delete(self, force: bool = False) -> None:
        """Remove the view; its feature groups stay. `force` is accepted."""
        del force
        await self._transport.json("DELETE", self._path())

    async def _training(
        self,
        start_time: Instant | None,
        end_time: Instant | None,
        spine_df: Any,
        primary_key: bool,
        event_time: bool,
        spine_event_time: str | None,
        as_of: Instant | None,
    ) -> tuple[pa.Table, list[str], list[str]]:
        if spine_df is None:
            table = await self._batch(start_time, end_time, primary_key, event_time)
            return table, *cut_labels(table.column_names, self.labels, [])
        spine = Spine.of(spine_df, self.serving_keys, spine_event_time).between(start_time, end_time)
        sink = io.BytesIO()
        await self._transport.download(
            "POST",
            self._path("/training-data"),
            sink,
            accept=ARROW,
            content=_frames.ipc_bytes(spine.table),
            params=_training_params(spine.event_time, primary_key, event_time, as_of),
        )
        table = _frames.read_ipc(sink.getvalue())
        return table, *cut_labels(table.column_names, self.labels, spine.others)

    async def _batch(
        self, start_time: Instant | None, end_time: Instant | None, primary_key: bool, event_time: bool
    ) -> pa.Table:
        body: Json = {"primary_key": primary_key, "event_time": event_time}
        for name, instant in (("start_time", start_time), ("end_time", end_time)):
            if instant is not None:
                body[name] = rfc3339(instant)
        sink = io.BytesIO()
        await self._transport.download(
            "POST",
            self._path("/batch-data"),
            sink,
            accept=ARROW,
            content=json.dumps(body).encode(),
            content_type="application/json",
        )
        return _frames.read_ipc(sink.getvalue())

    def _path(self, rest: str = "") -> str:
        return f"/api/v1/feature-views/{self.name}/{self.version}{rest}"


def _training_params(spine_time: str, primary_key: bool, event_time: bool, as_of: Instant | None) -> Json:
    return {
        "event_time": spine_time,
        "primary_key": primary_key,
        "include_event_time": event_time,
        "as_of": rfc3339(as_of),
    }
