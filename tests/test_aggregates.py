"""Every kind of aggregate through the whole server, against Polars: offline as a frame, online as JSON."""

from __future__ import annotations

import math
from typing import Any

import millpond
import polars as pl
import pytest

from tests.harness import feeding
from tests.harness.events import MINUTE, generate, schema

EVENT = schema("event")

# Each feature: SQL, and the same in Polars over the rows of a user and window in the order of time and log.
CLICKED = pl.col("item_id").filter(pl.col("action") == "click")
ITEM, CAMPAIGN = pl.col("item_id"), pl.col("campaign_id")
SECONDS = pl.col("ts") % MINUTE / 1e6
FEATURES: dict[str, tuple[str, pl.Expr]] = {
    "n": ("COUNT(*)", pl.len()),
    "items": ("COUNT(DISTINCT item_id)", ITEM.n_unique()),
    "sum_distinct": ("SUM(DISTINCT item_id)", ITEM.unique().sum()),
    "avg_distinct": ("AVG(DISTINCT item_id)", ITEM.unique().mean()),
    "var_pop": ("var_pop(item_id)", ITEM.var(ddof=0)),
    "var_samp": ("var(item_id)", ITEM.var()),
    "stddev_pop": ("stddev_pop(item_id)", ITEM.std(ddof=0)),
    "stddev_samp": ("stddev(item_id)", ITEM.std()),
    "covar": ("covar_samp(item_id, campaign_id)", pl.cov(ITEM, CAMPAIGN)),
    "corr": ("corr(item_id, campaign_id)", pl.corr(ITEM, CAMPAIGN)),
    "slope": ("regr_slope(item_id, campaign_id)", pl.cov(ITEM, CAMPAIGN) / CAMPAIGN.var()),
    "median": ("median(item_id)", ITEM.median()),
    "p90": ("percentile_cont(0.9) WITHIN GROUP (ORDER BY item_id)", ITEM.quantile(0.9, "linear")),
    "about_p90": ("approx_percentile_cont(item_id, 0.9)", ITEM.quantile(0.9, "linear")),  # below 128: exact
    "any_click": ("bool_or(action = 'click')", (pl.col("action") == "click").any()),
    "all_clicks": ("bool_and(action = 'click')", (pl.col("action") == "click").all()),
    "bits": ("bit_or(campaign_id)", ITEM.mod(8).bitwise_or()),
    "first": ("first_value(item_id)", ITEM.first()),
    "last": ("last_value(item_id)", ITEM.last()),
    "last_action": ("last_value(action)", pl.col("action").last()),
    "third": ("nth_value(item_id, 3)", ITEM.slice(2, 1).first()),
    "least_of_most": (
        "first_value(item_id ORDER BY campaign_id DESC, item_id)",
        ITEM.sort_by(CAMPAIGN, ITEM, descending=[True, False]).first(),
    ),
    "last_5": ("last_k(item_id, 5)", ITEM.tail(5).reverse()),
    "first_3": ("first_k(item_id, 3)", ITEM.head(3)),
    "last_campaigns": (
        "last_k(DISTINCT campaign_id, 3)",
        CAMPAIGN.reverse().unique(maintain_order=True).head(3),
    ),
    "last_clicked": ("last_k(item_id, 2) FILTER (WHERE action = 'click')", CLICKED.tail(2).reverse()),
    "top_3": ("top_k(item_id, 3)", ITEM.sort(descending=True).head(3)),
    "some": ("collect_set(campaign_id, 4)", CAMPAIGN.unique().sort().head(4)),
    "up_to_20": ("bounded_unique_count(item_id, 20)", pl.min_horizontal(ITEM.n_unique(), pl.lit(20))),
    "listed": ("array_agg(item_id LIMIT 4)", ITEM.head(4)),
    "actions": ("string_agg(action, '+' LIMIT 3)", pl.col("action").head(3).str.join("+")),
}
SQL = ",\n".join(f"{sql} AS {name}" for name, (sql, _) in FEATURES.items())


def alike(found: Any, wanted: Any) -> bool:
    if isinstance(found, float) and isinstance(wanted, int | float):
        if math.isnan(wanted):  # of a constant, which is NULL in SQL
            return math.isnan(found)
        return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-9)
    if wanted is None or (isinstance(wanted, float) and math.isnan(wanted)):
        return found is None
    return bool(found == wanted)


def expected(rows: list[dict[str, Any]], size: int) -> dict[tuple[str, int], dict[str, Any]]:
    frame = pl.DataFrame(rows).with_row_index("log").sort("ts", "log")
    frame = frame.with_columns(end=pl.col("ts") // size * size + size)
    aggregated = frame.group_by("user_id", "end", maintain_order=True).agg(
        **{name: expr for name, (_, expr) in FEATURES.items()}
    )
    return {(row["user_id"], row["end"]): row for row in aggregated.iter_rows(named=True)}


def test_aggregates_offline_and_online(make_server):
    rows = generate(12_000, users=25, minutes=40, disorder=20, seed=11).rows
    for row in rows:
        row["ts"] -= row["ts"] % 2_000_000  # many events share an instant
    server = make_server()
    fs = server.store()
    stream = fs.get_or_create_stream("events", EVENT, event_time="ts", watermark_delay=30, time="historical")
    group = fs.get_or_create_feature_group(
        "all_of_them",
        sql=f"""SELECT user_id, {SQL} FROM TUMBLE(events, DESCRIPTOR(ts), INTERVAL '5' MINUTES)
                GROUP BY user_id, window_end""",
    )
    for start in range(0, len(rows), 1_500):
        stream.append(rows[start : start + 1_500])
    stream.finish()
    feeding.settle(server, "all_of_them")

    wanted = expected(rows, 5 * MINUTE)
    frame = group.read(dataframe_type="polars")
    assert frame.height == len(wanted)
    newest: dict[str, int] = {}
    for found in frame.iter_rows(named=True):
        at = int(found["_event_time"].timestamp() * 1e6)
        newest[found["user_id"]] = max(at, newest.get(found["user_id"], 0))
        row = wanted[found["user_id"], at]
        wrong = {name: (found[name], row[name]) for name in FEATURES if not alike(found[name], row[name])}
        assert not wrong, (found["user_id"], at, wrong)
    online = {
        row["user_id"]: row for row in group.read(online=True, dataframe_type="polars").iter_rows(named=True)
    }
    assert online.keys() == newest.keys()
    for user, found in online.items():
        row = wanted[user, newest[user]]
        wrong = {name: (found[name], row[name]) for name in FEATURES if not alike(found[name], row[name])}
        assert not wrong, (user, wrong)


def test_what_has_no_bound_says_so(shared, name):
    fs = shared.store()
    fs.get_or_create_stream(name, EVENT, event_time="ts", time="historical")
    over = f"FROM TUMBLE({name}, DESCRIPTOR(ts), INTERVAL '5' MINUTES) GROUP BY user_id, window_end"

    def created(suffix: str, features: str) -> millpond.FeatureGroup:
        return fs.get_or_create_feature_group(f"{name}_{suffix}", sql=f"SELECT user_id, {features} {over}")

    exact = created("exact", "COUNT(DISTINCT item_id) AS items, median(item_id) AS mid")
    assert "count(DISTINCT item_id) keeps each distinct value" in exact.status().warning
    assert "approx_percentile_cont" in exact.status().warning
    bounded = created(
        "bounded", "approx_distinct(item_id) AS items, approx_median(item_id) AS mid, last_k(item_id, 3) AS l"
    )
    assert bounded.status().warning is None
    kept = {state["of"]: state["bound"] for state in bounded.explain()["state"]}
    assert list(kept.values()) == ["at most 4096 bytes", "at most 65536 bytes", "at most 3 values"], kept
    with pytest.raises(millpond.InvalidSqlError) as refused:
        created("refused", "array_agg(item_id) AS items")
    assert "LIMIT" in str(refused.value)
