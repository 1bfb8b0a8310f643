"""Recomputes everything that the server should show, from the raw records, without any of its code.

    records   raw bytes of a stream (over HTTP or from Kafka), decoded by fastavro
    digest    count and xxh3 of each range that the journal says was read
    judge     what becomes of each record; lateness by the journal's epochs
    watermarks  how far time came after each epoch, by the records' times
    expect    DuckDB computes every (key, window) that must have come out
    observe   what the server shows: online rows, the Delta table, quarantine, accounting
    compare   both are equal, exactly but for floating-point sums (1e-9 relative)

The journal is input: which records an epoch read, when it was opened and when its rows became available. Everything
else is recomputed: the watermarks too, but for streams that go on by the clock (`idle_timeout`, `idle_advance`).
"""

from .compare import Mismatch, check
from .expect import Expected, Query, expect
from .observe import Observed, observe
from .verify import verify

__all__ = [
    "Expected",
    "Mismatch",
    "Observed",
    "Query",
    "check",
    "expect",
    "observe",
    "verify",
]
