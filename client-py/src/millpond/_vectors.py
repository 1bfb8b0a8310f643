"""Replies of the vector routes as Python values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from . import _frames, _types
from ._errors import InvalidRequestError, MissingFeaturesError
from ._models import Json, Vector
from ._time import parse_optional

PAGE = 1000  # entries that the server takes in one request
RETURN_TYPES = ("dict", "list", "numpy", "pandas", "polars")


def decoded(
    reply: Json, types: Mapping[str, str], entries: Sequence[Mapping[str, Any]] | None
) -> list[Vector]:
    """The vectors of a reply. Keys, where they are included, come back as they were given."""
    as_of: Any = reply.get("as_of")
    as_of = (
        {k: parse_optional(v) for k, v in as_of.items()} if isinstance(as_of, dict) else parse_optional(as_of)
    )
    names = list(reply["features"])
    decoders = [_types.decoder(types[n]) if n in types else None for n in names]
    vectors = []
    for i, raw in enumerate(reply["vectors"]):
        pairs = zip(names, decoders, raw["values"], strict=True)
        values = {n: v if v is None or d is None else d(v) for n, d, v in pairs}
        if entries is not None:
            values.update({k: v for k, v in entries[i].items() if k in values and k not in types})
        time = parse_optional(raw.get("event_time"))
        vectors.append(Vector(values, raw["status"], time, as_of, raw.get("groups") or []))
    return vectors


def complete(view: str, entries: Sequence[Mapping[str, Any]], vectors: Sequence[Vector]) -> None:
    """Check that nothing is missing.

    Raises:
        MissingFeaturesError: naming the first entry that is incomplete.
    """
    incomplete = [i for i, v in enumerate(vectors) if v.status != "complete"]
    if not incomplete:
        return
    first = incomplete[0]
    more = f" (and {len(incomplete) - 1} other entries)" if len(incomplete) > 1 else ""
    raise MissingFeaturesError(
        f"feature view {view} has no {_what(vectors[first])} for {dict(entries[first])}{more}",
        hint="allow_missing=True gives None for what is not there; read_vectors(…, metadata=True) says why.",
        details=[{"entry": i, "status": vectors[i].status} for i in incomplete],
    )


def _what(vector: Vector) -> str:
    return "features" if vector.status == "missing" else "complete vector"


def as_returned(rows: list[dict[str, Any]], return_type: str, *, single: bool = False) -> Any:
    """Rows in the form asked for; a single one without the list around it.

    Raises:
        InvalidRequestError: an unknown return type.
    """
    if return_type == "dict":
        return rows[0] if single else rows
    if return_type == "list":
        lists = [list(row.values()) for row in rows]
        return lists[0] if single else lists
    if return_type == "numpy":
        import numpy as np  # noqa: PLC0415 (comes with pandas, not with us)

        array = np.array([list(row.values()) for row in rows])
        return array[0] if single else array
    if return_type in ("pandas", "polars"):
        return _frames.from_arrow(pa.Table.from_pylist(rows), return_type)
    raise InvalidRequestError(
        f"unknown return_type '{return_type}'", hint=f"one of {', '.join(RETURN_TYPES)}"
    )
