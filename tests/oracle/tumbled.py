"""Every revision of tumbling windows, in SQL for DuckDB: what `arrivals` gives in, rows of `check_history` out."""

from __future__ import annotations

import duckdb

from .arrivals import Row


def tumbled(
    db: duckdb.DuckDBPyConnection, source: str, key: str, select: str, *, size: int, lateness: int = 0
) -> list[Row]:
    """Rows by `key` and window; times in microseconds.

    `source` is a SELECT with `key`, `us` (the event time), `_epoch` and `_before`. A record is taken unless its window's
    end and the lateness lie at or before the watermark that stood before its epoch. A window's first row comes with the
    epoch whose watermark reaches its end, or with its first record if that is later; each later epoch that brings
    records revises it.
    """
    query = f"""
        WITH taken AS (
            SELECT *, us - us % {size} + {size} AS _event_time FROM ({source}) AS s
            WHERE _before IS NULL OR us - us % {size} + {size} + {lateness} > _before),
        closes AS (
            SELECT _event_time, min(epoch) AS closed
            FROM (SELECT DISTINCT _event_time FROM taken) JOIN epochs ON watermark >= _event_time GROUP BY ALL),
        emissions AS (
            SELECT DISTINCT {key}, _event_time, greatest(_epoch, closed) AS _commit
            FROM taken JOIN closes USING (_event_time))
        SELECT {key}, _event_time, _commit, {select}
        FROM emissions JOIN taken USING ({key}, _event_time)
        WHERE _epoch <= _commit GROUP BY {key}, _event_time, _commit"""
    return db.sql(query).to_arrow_table().to_pylist()
