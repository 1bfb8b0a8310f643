"""A replay of real events: 5-minute CTR by user, CTR by campaign and day; history, vectors, training data."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import httpx
import millpond
import polars as pl

from examples.data import events as bandit

from . import recompute
from .screen import Checks, heading, line, progress, table

ROOT = Path(__file__).resolve().parent.parent.parent
DELAY = timedelta(seconds=10)
BATCH = 500
CTR = """
SELECT {key},
       COUNT(*) FILTER (WHERE action = 'impression') AS impressions,
       COUNT(*) FILTER (WHERE action = 'click') AS clicks,
       clicks / NULLIF(impressions, 0) AS ctr
FROM TUMBLE(bandit, DESCRIPTOR(ts), INTERVAL {size})
GROUP BY {key}, window_end
"""
FEATURES = ["impressions", "clicks", "ctr"]


def run(fs: millpond.FeatureStore, url: str, folder: Path, checks: Checks) -> None:
    """The whole part."""
    heading("1  Schemas, streams, feature groups, feature views")
    for path in sorted((ROOT / "schemas").glob("*.avsc")):
        subject = {"event": "bandit-value", "clickstream": "clickstream-value"}.get(
            path.stem, f"{path.stem}-value"
        )
        body = {"schema": path.read_text()}
        reply = httpx.post(f"{url}/schema-registry/subjects/{subject}/versions", json=body, timeout=30)
        reply.raise_for_status()
        line(f"  schemas/{path.name} → subject {subject}, id {reply.json()['id']}")
    stream = fs.get_or_create_stream("bandit", event_time="ts", watermark_delay=DELAY, time="historical")
    by_user = fs.get_or_create_feature_group(
        "user_ctr_5min", sql=CTR.format(key="user_id", size="'5' MINUTES")
    )
    by_day = fs.get_or_create_feature_group(
        "campaign_ctr_day", sql=CTR.format(key="campaign_id", size="'1' DAY")
    )
    view = fs.get_or_create_feature_view("user_ctr", by_user.select_all(), labels=["clicked"])
    line(f"  stream {stream.name}, feature groups {by_user.name} and {by_day.name}, feature view {view.name}")

    events = bandit.events()
    heading(f"2  Replay of {len(events):,} real events (Open Bandit Dataset), as a historical stream")
    replay(stream, events, [by_user, by_day])

    raw = pl.DataFrame(events)
    windows = recompute.ctr(raw, "user_id", "5m")
    days = recompute.ctr(raw, "campaign_id", "1d")
    heading("3  The history, read from Delta by Polars, beside Polars' own computation from the raw events")
    for group, key, expected in ((by_user, "user_id", windows), (by_day, "campaign_id", days)):
        group.flush()
        delta = recompute.history(pl.read_delta(group.location), key)
        checks.equal(f"history of {group.name}", delta.rows(), expected.rows())
        line(f"  {group.name}: {delta.height:,} rows in Delta, {expected.height:,} recomputed, all compared")
    plot(days)

    heading("4  Feature vectors, beside the same")
    vectors(view, windows, checks)
    heading("5  Training data: the features as they stood at each impression, whether it was clicked")
    training(view, windows, folder / "training.parquet", checks)


def replay(
    stream: millpond.Stream, events: list[dict[str, object]], groups: list[millpond.FeatureGroup]
) -> None:
    """Append what the stream does not have yet (all of it, unless an earlier run was stopped); wait for the windows."""
    done = sum(p["end"] for p in stream.refresh()["partitions_detail"])
    if done:
        line(f"  {done:,} events are there from an earlier run")
    position = None
    for start in range(done, len(events), BATCH):
        position = stream.append(events[start : start + BATCH])
        progress(min(start + BATCH, len(events)), len(events), "events")
    position = stream.finish(position)
    for group in groups:
        group.wait(position, timeout=60)
        _finished(group)


def _finished(group: millpond.FeatureGroup) -> None:
    # `wait` returns when the last event is committed; the windows that `finish` closes come right after it.
    deadline = time.monotonic() + 30
    last = bandit.events()[-1]["ts"]
    while time.monotonic() < deadline:
        mark = group.status().watermark
        if mark is not None and mark > last:
            return
        time.sleep(0.05)
    raise TimeoutError(f"the last windows of {group.name} do not close")


def plot(days: pl.DataFrame) -> None:
    """CTR by day over all campaigns, as bars of text."""
    line("\n  CTR by day (all campaigns)")
    totals = days.group_by("window_end").agg(pl.col("impressions", "clicks").sum()).sort("window_end")
    for end, impressions, clicks in totals.iter_rows():
        ctr = clicks / impressions if impressions else 0.0
        line(
            f"  {end - timedelta(days=1):%a %d %b}  {'█' * round(ctr * 4000):<30} {ctr:.2%} of {impressions:,}"
        )


def vectors(view: millpond.FeatureView, windows: pl.DataFrame, checks: Checks) -> None:
    """The vectors of the ten busiest users, and of those with clicks, against the last window of each."""
    last = windows.sort("window_end").group_by("user_id", maintain_order=True).last()
    totals = windows.group_by("user_id").agg(
        pl.col("impressions").sum().alias("n"), pl.col("clicks").sum().alias("c")
    )
    chosen = totals.sort(["c", "n", "user_id"], descending=[True, True, False])["user_id"].head(10).to_list()
    found = view.read_vectors([{"user_id": u} for u in chosen])
    rows = []
    for user, vector in zip(chosen, found, strict=True):
        recomputed = last.row(by_predicate=pl.col("user_id") == user, named=True)
        same = checks.equal(f"vector of {user}", vector.values, {f: recomputed[f] for f in FEATURES})
        checks.equal(f"event time of {user}", vector.event_time, recomputed["window_end"])
        rows.append([user, *vector.values.values(), *(recomputed[f] for f in FEATURES), "=" if same else "≠"])
    table(["user_id", *FEATURES, *(f"polars {f}" for f in FEATURES), ""], rows)
    everyone = last["user_id"].to_list()
    for start in range(0, len(everyone), 1000):
        users = everyone[start : start + 1000]
        for user, values in zip(
            users, view.get_feature_vectors([{"user_id": u} for u in users]), strict=True
        ):
            wanted = last.row(by_predicate=pl.col("user_id") == user, named=True)
            checks.equal(f"vector of {user}", values, {f: wanted[f] for f in FEATURES})
    line(f"  and the vectors of all {len(everyone)} users are equal to the recomputation")


def training(view: millpond.FeatureView, windows: pl.DataFrame, path: Path, checks: Checks) -> None:
    """Training data as Parquet, against a join in Polars; most labels with an earlier window have features."""
    labels = pl.DataFrame([
        {"user_id": i["user_id"], "ts": i["ts"], "clicked": i["clicked"]} for i in bandit.impressions()
    ])  # fmt: skip
    view.create_training_data(location=path, spine_df=labels)
    data = pl.read_parquet(path)
    expected = recompute.point_in_time(labels, windows, DELAY)
    checks.equal("training data", data.select(FEATURES).rows(), expected.select(FEATURES).rows())
    checks.equal("labels", data["clicked"].to_list(), labels["clicked"].to_list())
    earlier = expected["window_end"].is_not_null()
    share = data.filter(earlier)["impressions"].is_not_null().mean()
    checks.holds(
        "at least 90 % of the labels with an earlier window have features", bool(share and share >= 0.9)
    )
    line(
        f"  {data.height:,} labels, {earlier.sum():,} with an earlier closed window, {share:.1%} of these have features"
    )
    line(f"  {path} ({path.stat().st_size / 1024:.0f} KiB): {', '.join(data.columns)}")
    table(data.columns, data.filter(pl.col("clicked")).head(3).rows())
