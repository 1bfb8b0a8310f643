"""When to try again, and after how long. Pure: the caller sleeps."""

from __future__ import annotations

import random

# What a reply must say to be asked for again: too much in flight, not ready, a proxy between.
RETRIED = frozenset({429, 502, 503})
FIRST, LONGEST = 0.1, 5.0


def pause(attempt: int, retry_after: str | None = None) -> float:
    """Seconds to wait after failed attempt number `attempt`, counted from 0.

    What the server asks for, at most 30 s; else doubling from 0.1 s to 5 s, less up to half of it
    so that clients do not return together.
    """
    if retry_after is not None:
        try:
            return min(max(float(retry_after), 0.0), 30.0)
        except ValueError:
            pass
    longest: float = min(LONGEST, FIRST * 2.0**attempt)
    return longest * random.uniform(0.5, 1.0)
