"""Recomputes everything that the server should show, from the raw records, without any of its code.

    records   raw bytes of a stream (over HTTP or from Kafka), decoded by fastavro
    judge     what becomes of each record; lateness by the journal's epochs
    expect    DuckDB computes every (key, window) that must have come out
    observe   what the server shows: online rows, the Delta table, quarantine, accounting
    compare   both are equal, exactly but for floating-point sums (1e-9 relative)

The journal is input: which record an epoch read, and which watermark it committed. Everything else is recomputed.
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
