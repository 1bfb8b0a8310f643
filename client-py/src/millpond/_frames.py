"""Frames in and out: pandas, Polars and Arrow, none of them needed unless it is used."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
import pyarrow.parquet

from . import _types
from ._errors import InvalidRequestError
from ._models import Column

FRAME_TYPES = ("default", "pandas", "polars", "arrow", "python")


def _is(value: Any, module: str, name: str) -> bool:
    found = sys.modules.get(module)
    return found is not None and isinstance(value, getattr(found, name))


def to_arrow(frame: Any) -> pa.Table:
    """A pandas or Polars frame, an Arrow table or batch, or a list of dicts, as an Arrow table.

    NaN and NaT of a pandas frame become null, as pandas means them.
    """
    if isinstance(frame, pa.Table):
        return frame
    if isinstance(frame, pa.RecordBatch):
        return pa.Table.from_batches([frame])
    if _is(frame, "pandas", "DataFrame"):
        return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    if _is(frame, "polars", "LazyFrame"):
        frame = frame.collect()
    if _is(frame, "polars", "DataFrame"):
        return frame.to_arrow(compat_level=sys.modules["polars"].CompatLevel.oldest())
    if isinstance(frame, Mapping):
        return pa.Table.from_pylist([dict(frame)])
    if isinstance(frame, list):
        return pa.Table.from_pylist(frame)
    raise InvalidRequestError(
        f"a {type(frame).__name__} is not rows",
        hint="pass a pandas or Polars DataFrame, an Arrow table, or a list of dicts",
    )


def from_arrow(table: pa.Table, frame_type: str = "default") -> Any:
    """An Arrow table as the frame asked for; "default" is pandas, else Polars, else Arrow as it is.

    Raises:
        InvalidRequestError: an unknown frame type, or its library is not installed.
    """
    if frame_type not in FRAME_TYPES:
        raise InvalidRequestError(
            f"unknown dataframe_type '{frame_type}'", hint=f"one of {', '.join(FRAME_TYPES)}"
        )
    if frame_type == "default":
        frame_type = next((t for t in ("pandas", "polars") if _installed(t)), "arrow")
    if frame_type == "pandas":
        _need("pandas")
        return table.to_pandas(date_as_object=True)
    if frame_type == "polars":
        return _need("polars").from_arrow(table)
    return table.to_pylist() if frame_type == "python" else table


def _installed(module: str) -> bool:
    try:
        __import__(module)
    except ImportError:
        return False
    return True


def _need(module: str) -> Any:
    if not _installed(module):
        raise InvalidRequestError(f"{module} is not installed", hint=f'pip install "millpond[{module}]"')
    return sys.modules[module]


def rows_of(data: Any, columns: Iterable[Column]) -> list[dict[str, Any]]:
    """What `append` was given, as rows of JSON values shaped by the stream's columns.

    A datetime without a zone in a `timestamp` column is UTC; a whole float in an integer column
    (pandas makes them of integers with gaps) is an integer.
    """
    types = {c.name: c.type for c in columns}
    if isinstance(data, Mapping):
        data = [data]
    if not isinstance(data, (list, tuple)):
        data = _integers(to_arrow(data), types).to_pylist()
    zoned = [name for name, data_type in types.items() if data_type == "timestamp"]
    rows = []
    for row in data:
        if not isinstance(row, Mapping):
            raise InvalidRequestError(f"a {type(row).__name__} is not a row", hint="rows are dicts")
        plain = dict(row)
        for name in zoned:
            if name in plain:
                plain[name] = _types.utc(plain[name])
        rows.append({k: _types.to_json(v) for k, v in plain.items()})
    return rows


def _integers(table: pa.Table, types: Mapping[str, str]) -> pa.Table:
    for i, field in enumerate(table.schema):
        whole = types.get(field.name) in ("int", "bigint")
        if whole and pa.types.is_floating(field.type):
            table = table.set_column(i, field.name, pc.cast(table.column(i), pa.int64()))
        elif pa.types.is_timestamp(field.type) and field.type.unit == "ns":
            micros = pa.timestamp("us", field.type.tz)
            table = table.set_column(i, field.name, pc.cast(table.column(i), micros, safe=False))
    return table


def ipc_bytes(table: pa.Table) -> bytes:
    """An Arrow IPC stream of the table."""
    sink = io.BytesIO()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def read_ipc(content: bytes) -> pa.Table:
    """The table of an Arrow IPC stream."""
    with pyarrow.ipc.open_stream(io.BytesIO(content)) as reader:
        return reader.read_all()
