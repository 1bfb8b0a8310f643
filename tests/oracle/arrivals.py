"""The records of all streams that a group reads, decoded without the server's code, each with the epoch that read it.

For definitions over several streams, and of any shape: what rows must come out of them is said in SQL, for DuckDB, over

    <stream>  the columns; `_epoch` that read the record, `_before`: the watermark before that epoch; `_order` of reading
    epochs    `epoch`, `watermark` after it
"""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

import duckdb
import polars as pl

from tests.harness.server import Server

from .observe import journal
from .records import Decoder, Record, micros, over_http, registry

Row = dict[str, Any]


@dataclass(frozen=True)
class _Span:
    start: int
    end: int
    epoch: int
    before: int | None


def arrivals(server: Server, group: str, version: int = 1) -> duckdb.DuckDBPyConnection:
    """Everything that the group has read, as tables. All records must be events, and good ones."""
    path = f"/api/v1/feature-groups/{group}/{version}"
    epochs = journal(server.http, path)
    assert not any(e.get("close_cursor") for e in epochs), "a close goes on over several epochs"
    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")
    marks = [{"epoch": e["epoch"], "watermark": micros(e["watermark"])} for e in epochs]
    db.register("epochs", pl.DataFrame(marks, schema={"epoch": pl.Int64, "watermark": pl.Int64}).to_arrow())
    for source, stream in enumerate(s["stream"] for s in server.get(path)["sources"]):
        rows = _rows(server, stream, _spans(epochs, source))
        db.register(stream, pl.DataFrame(rows, infer_schema_length=None).to_arrow())
    return db


def _spans(epochs: list[dict], source: int) -> dict[int, list[_Span]]:
    """By partition what each epoch read, in order; half-open ranges that join."""
    spans: dict[int, list[_Span]] = {}
    before = None
    for entry in epochs:
        for read in entry["ranges"]:
            if read["source"] == source:
                known = spans.setdefault(read["partition"], [])
                assert not known or known[-1].end == read["from"], f"{read} does not follow {known[-1]}"
                known.append(_Span(read["from"], read["to"], entry["epoch"], before))
        before = micros(entry["watermark"])
    return spans


def _rows(server: Server, stream: str, spans: dict[int, list[_Span]]) -> list[Row]:
    definition = server.get(f"/api/v1/streams/{stream}")
    decode = _decoder(server, definition)
    rows = []
    for order, record in enumerate(over_http(server.http, stream)):
        assert record.kind == "event", record
        span = _span(record, spans.get(record.partition, []))
        row = {"_epoch": span.epoch, "_before": span.before, "_order": order}
        rows.append({**decode(record.value or b""), **row})
    return rows


def _span(record: Record, spans: list[_Span]) -> _Span:
    at = bisect_right([span.start for span in spans], record.offset) - 1
    assert at >= 0, f"{record} was not read"
    assert record.offset < spans[at].end, f"{record} was not read"
    return spans[at]


def _decoder(server: Server, definition: Row) -> Any:
    if definition["format"] == "json":
        return json.loads
    return Decoder(definition["schema"], registry(f"{server.url}/schema-registry"))
