"""Instants and durations on their way to JSON and back. Everything is UTC, to the microsecond."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from datetime import datetime, timedelta, timezone
from typing import Any

# The two names that the generated client takes in place of asyncio's.
AsyncLock = asyncio.Lock
Lock = threading.Lock
async_sleep = asyncio.sleep
sleep = time.sleep

Instant = datetime | str
Duration = timedelta | float | int

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?\s*([Zz]|[+-]\d\d:?\d\d)?", re.ASCII
)


def seconds(duration: Duration | None) -> float | int | None:
    """A duration as JSON wants it: seconds, whole where it is whole."""
    if duration is None:
        return None
    value = duration.total_seconds() if isinstance(duration, timedelta) else duration
    return int(value) if float(value).is_integer() else float(value)


def rfc3339(instant: Instant | None) -> str | None:
    """An instant as RFC 3339 with `Z`. A datetime or text without a zone is taken as UTC."""
    if instant is None:
        return None
    if isinstance(instant, str):
        return rfc3339(parse(instant))
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=timezone.utc)
    return instant.astimezone(timezone.utc).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def parse(text: str) -> datetime:
    """RFC 3339 text, or a bare date, as an aware datetime in UTC; digits below a microsecond are dropped.

    Raises:
        ValueError: the text is neither.
    """
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        text += "T00:00:00Z"
    match = _RFC3339.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"'{text}' is not an RFC 3339 timestamp such as 2024-05-01T12:00:00Z")
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    micros = int((fraction or "0").ljust(6, "0")[:6])
    instant = datetime(
        int(year), int(month), int(day), int(hour), int(minute), int(second), micros, timezone.utc
    )
    if zone is None or zone in "Zz":
        return instant
    sign = -1 if zone[0] == "-" else 1
    digits = zone[1:].replace(":", "")
    return instant - sign * timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))


def parse_optional(value: Any) -> datetime | None:
    """As `parse`; None stays None."""
    return None if value is None else parse(str(value))
