"""Values between JSON and Python, by the column types that the server states.

| type | JSON | Python |
| --- | --- | --- |
| boolean, int, bigint, string | as it is | bool, int, int, str |
| float, double | number, "NaN", "Infinity", "-Infinity" | float |
| decimal(p,s) | string | Decimal |
| binary | base64 | bytes |
| date | ISO | date |
| timestamp | RFC 3339 with Z | datetime in UTC |
| timestamp_ntz | ISO without zone | datetime without zone |
| array<…>, map<string,…>, struct<name:…> | array, object | list, dict |
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import cache
from typing import Any

from . import _time

Decode = Callable[[Any], Any]


def to_json(value: Any) -> Any:
    """A Python value as the JSON that `append` sends; what JSON has already is left as it is."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _not_finite(value)
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds") if value.tzinfo is None else _time.rfc3339(value)
    return _to_json_rare(value)


def _to_json_rare(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return _time.seconds(value)
    if isinstance(value, dict):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(v) for v in value]
    if hasattr(value, "item"):  # a numpy scalar
        return to_json(value.item())
    return str(value)  # UUIDs and the like


def _not_finite(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


@cache
def decoder(data_type: str) -> Decode | None:
    """How a JSON value of this type becomes Python's; None where it is Python's already."""
    if data_type in ("float", "double"):
        return float
    if data_type.startswith("decimal"):
        return Decimal
    if data_type in _PLAIN:
        return _PLAIN[data_type]
    if data_type.startswith("array<"):
        return _array(data_type[6:-1])
    if data_type.startswith("map<"):
        return _map(_split(data_type[4:-1])[1])
    if data_type.startswith("struct<"):
        return _struct(data_type[7:-1])
    return None


_PLAIN: dict[str, Decode] = {
    "binary": base64.b64decode,
    "date": date.fromisoformat,
    "timestamp": _time.parse,
    "timestamp_ntz": lambda text: _time.parse(text).replace(tzinfo=None),
}


def decode(data_type: str, value: Any) -> Any:
    """One JSON value as Python's; null is None."""
    convert = decoder(data_type)
    return value if value is None or convert is None else convert(value)


def _array(item: str) -> Decode:
    return lambda values: [decode(item, v) for v in values]


def _map(item: str) -> Decode:
    return lambda values: {k: decode(item, v) for k, v in values.items()}


def _struct(fields: str) -> Decode:
    types = dict(part.strip().split(":", 1) for part in _split(fields))
    return lambda values: {k: decode(types.get(k, "").strip(), v) for k, v in values.items()}


def _split(text: str) -> list[str]:
    """Split at the commas that stand outside angle brackets and parentheses."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "<(") - (c in ">)")
        if c == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    return [*parts, text[start:].strip()]


def utc(value: Any) -> Any:
    """A datetime without a zone, given for a `timestamp` column, is taken as UTC."""
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=timezone.utc)
    return value
