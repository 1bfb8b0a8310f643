"""The same numbers from the raw events, by Polars alone."""

from __future__ import annotations

from datetime import timedelta

import polars as pl


def ctr(events: pl.DataFrame, key: str, every: str) -> pl.DataFrame:
    """Impressions, clicks and their ratio by key and tumbling window; columns: key, window_end, the three."""
    return (
        events.with_columns((pl.col("ts").dt.truncate(every).dt.offset_by(every)).alias("window_end"))
        .group_by(key, "window_end")
        .agg(
            (pl.col("action") == "impression").sum().cast(pl.Int64).alias("impressions"),
            (pl.col("action") == "click").sum().cast(pl.Int64).alias("clicks"),
        )
        .pipe(_ratio)
        .pipe(_shape, key)
    )


def sums(rows: pl.DataFrame, key: str, every: str) -> pl.DataFrame:
    """The same where the events carry counts (schemas/clickstream.avsc)."""
    return (
        rows.with_columns((pl.col("timestamp").dt.truncate(every).dt.offset_by(every)).alias("window_end"))
        .group_by(key, "window_end")
        .agg(pl.col("impressions").sum(), pl.col("clicks").sum())
        .pipe(_ratio)
        .pipe(_shape, key)
    )


def history(delta: pl.DataFrame, key: str) -> pl.DataFrame:
    """A Delta table in the shape of `ctr`."""
    return delta.rename({"_event_time": "window_end"}).pipe(_shape, key)


def point_in_time(labels: pl.DataFrame, windows: pl.DataFrame, delay: timedelta) -> pl.DataFrame:
    """For each label the user's last window that was available then: one that ended `delay` before it."""
    available = windows.with_columns((pl.col("window_end") + delay).alias("available")).sort("available")
    numbered = labels.with_row_index("n").sort("ts")
    joined = numbered.join_asof(
        available, left_on="ts", right_on="available", by="user_id", check_sortedness=False
    )
    return joined.sort("n")


def _ratio(frame: pl.DataFrame) -> pl.DataFrame:
    ratio = pl.when(pl.col("impressions") != 0).then(pl.col("clicks") / pl.col("impressions"))
    return frame.with_columns(ratio.alias("ctr"))


def _shape(frame: pl.DataFrame, key: str) -> pl.DataFrame:
    time = pl.col("window_end").cast(pl.Datetime("us", "UTC"))
    return frame.select(pl.col(key), time, "impressions", "clicks", "ctr").sort(key, "window_end")
