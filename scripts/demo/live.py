"""A live stream: `millpond produce` writes, windows of ten seconds close, vectors change."""

from __future__ import annotations

import subprocess
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import millpond
import polars as pl

from . import recompute
from .screen import Checks, heading, line, table
from .server import main_binary

SECONDS = 24  # two windows close within it, wherever the first one begins
SQL = """
SELECT user_id, SUM(clicks) AS clicks, SUM(impressions) AS impressions,
       SUM(clicks) / NULLIF(SUM(impressions), 0) AS ctr
FROM TUMBLE(clickstream, DESCRIPTOR(timestamp), INTERVAL '10' SECONDS)
GROUP BY user_id, window_end
"""
USERS = ["user_1", "user_2", "user_3"]


def run(fs: millpond.FeatureStore, url: str, checks: Checks) -> None:
    """The whole part."""
    heading(f"6  Live: 500 events/s from 50 users for {SECONDS} s, windows of 10 s")
    stream = fs.get_or_create_stream(
        "clickstream", event_time="timestamp", watermark_delay=timedelta(seconds=1)
    )
    group = fs.get_or_create_feature_group("user_ctr_10s", sql=SQL)
    view = fs.get_or_create_feature_view("user_ctr_live", group.select_all())
    started = datetime.now(timezone.utc)
    options = [
        "--stream",
        "clickstream",
        "--rate",
        "500",
        "--users",
        "50",
        "--clicks",
        "0.05",
        "--seed",
        "42",
    ]
    command = [main_binary(), "produce", "--url", url, "--duration", str(SECONDS), "--quiet", *options]
    producer = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    shown: list[tuple[str, millpond.Vector]] = []
    try:
        shown = watch(view, producer, started)
        if producer.wait() != 0:
            raise RuntimeError("millpond produce failed")
    finally:
        if producer.poll() is None:
            producer.terminate()
            producer.wait()
    raw = pl.DataFrame(events(stream), schema_overrides={"timestamp": pl.Datetime("us", "UTC")})
    windows = recompute.sums(raw, "user_id", "10s")
    line(f"\n  Each vector shown, beside Polars over the {raw.height:,} raw events of the stream:")
    rows = []
    for user, vector in shown:
        found = windows.filter((pl.col("user_id") == user) & (pl.col("window_end") == vector.event_time))
        wanted = found.select(list(vector.values)).row(0, named=True) if found.height == 1 else None
        same = checks.equal(f"live vector of {user} at {vector.event_time}", vector.values, wanted)
        rows.append(
            [
                user,
                f"{vector.event_time:%H:%M:%S}",
                *vector.values.values(),
                *(wanted or {}).values(),
                "=" if same else "≠",
            ]
        )
    names = list(shown[0][1].values) if shown else []
    table(["user_id", "window end", *names, *(f"polars {n}" for n in names), ""], rows)
    times = {vector.event_time for _, vector in shown}
    checks.holds("the vectors changed while events came in", len(times) >= 2)


def watch(
    view: millpond.FeatureView, producer: subprocess.Popen[bytes], started: datetime
) -> list[tuple[str, millpond.Vector]]:
    """Ask for vectors four times a second; keep and show each that is new."""
    seen: dict[str, datetime | None] = {}
    shown: list[tuple[str, millpond.Vector]] = []
    while producer.poll() is None:
        vectors = view.read_vectors([{"user_id": u} for u in USERS])
        for user, vector in zip(USERS, vectors, strict=True):
            if (
                vector.event_time is None
                or vector.event_time < started
                or seen.get(user) == vector.event_time
            ):
                continue
            seen[user] = vector.event_time
            shown.append((user, vector))
            age = (datetime.now(timezone.utc) - vector.event_time).total_seconds()
            values = ", ".join(f"{k} {_short(v)}" for k, v in vector.values.items())
            line(f"  {datetime.now():%H:%M:%S}  {user}: {values}  (window closed {age:.1f} s ago)")
        time.sleep(0.25)
    return shown


def events(stream: millpond.Stream) -> list[dict[str, Any]]:
    """All raw events of the stream."""
    found: list[dict[str, Any]] = []
    for part in stream.refresh()["partitions_detail"]:
        offset = part["start"]
        while offset < part["end"]:
            page = stream.records(part["partition"], offset, 5000)
            found += [r["row"] for r in page if r["row"] is not None]
            offset = page[-1]["offset"] + 1
    for row in found:
        row["timestamp"] = datetime.fromisoformat(row["timestamp"].replace("Z", "+00:00"))
    return found


def _short(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
