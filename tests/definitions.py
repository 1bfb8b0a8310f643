"""Feature groups of the tests: the SQL that the server gets, and the same once more for the oracle."""

from __future__ import annotations

from typing import Any

import polars as pl

from tests.harness.events import MINUTE
from tests.oracle import Query

CTR_SQL = """
SELECT user_id,
       COUNT(*) FILTER (WHERE action = 'impression') AS impressions,
       COUNT(*) FILTER (WHERE action = 'click') AS clicks,
       clicks / NULLIF(impressions, 0) AS ctr,
       window_end
FROM TUMBLE({stream}, DESCRIPTOR(ts), INTERVAL '5' MINUTES)
GROUP BY user_id, window_end
"""
CTR = Query(
    select="""
        SELECT user_id,
               sum(CASE action WHEN 'impression' THEN 1 ELSE 0 END)::BIGINT AS impressions,
               sum(CASE action WHEN 'click' THEN 1 ELSE 0 END)::BIGINT AS clicks,
               CASE WHEN impressions = 0 THEN NULL ELSE clicks::DOUBLE / impressions::DOUBLE END AS ctr,
               _window_end AS window_end, _window_end
        FROM applied GROUP BY user_id, _window_end""",
    keys=("user_id",),
    window=5 * MINUTE,
)

# Everything an aggregate can be, with WHERE and HAVING.
WIDE_SQL = """
SELECT campaign_id, window_start, window_end,
       COUNT(*) AS events, COUNT(DISTINCT user_id) AS users, SUM(item_id) AS items, AVG(item_id) AS mean_item,
       MIN(item_id) AS first_item, MAX(user_id) AS last_user, MIN(ts) AS first_ts
FROM TABLE(TUMBLE(TABLE {stream}, DESCRIPTOR(ts), INTERVAL '5' MINUTES))
WHERE item_id <> 7
GROUP BY campaign_id, window_start, window_end
HAVING COUNT(*) > 2
"""
WIDE = Query(
    select="""
        SELECT campaign_id, _window_end - 300000000 AS window_start, _window_end AS window_end,
               count(*) AS events, count(DISTINCT user_id) AS users, sum(item_id)::BIGINT AS items,
               sum(item_id)::DOUBLE / count(*) AS mean_item, min(item_id) AS first_item, max(user_id) AS last_user,
               min(ts) AS first_ts, _window_end
        FROM applied GROUP BY campaign_id, _window_end HAVING count(*) > 2""",
    keys=("campaign_id",),
    window=5 * MINUTE,
    where=lambda row: row["item_id"] != 7,
    sums=("mean_item",),
)

DAY_SQL = """
SELECT campaign_id,
       COUNT(*) FILTER (WHERE action = 'impression') AS impressions,
       COUNT(*) FILTER (WHERE action = 'click') AS clicks,
       clicks / NULLIF(impressions, 0) AS ctr,
       window_end
FROM TUMBLE({stream}, DESCRIPTOR(ts), INTERVAL '1' DAY)
GROUP BY campaign_id, window_end
"""
DAY = Query(
    select=CTR.select.replace("user_id", "campaign_id"),
    keys=("campaign_id",),
    window=24 * 60 * MINUTE,
)

# A schema that no example uses: compound key, string, decimal, nested, nulls, a long as event time.
ORDERS: dict[str, Any] = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "shop", "type": "string"},
        {"name": "Country", "type": ["null", "string"]},
        {
            "name": "amount",
            "type": {
                "type": "bytes",
                "logicalType": "decimal",
                "precision": 12,
                "scale": 2,
            },
        },
        {"name": "weight", "type": ["null", "double"], "default": None},
        {
            "name": "buyer",
            "type": {
                "type": "record",
                "name": "Buyer",
                "fields": [
                    {"name": "age", "type": ["null", "int"]},
                    {"name": "vip", "type": "boolean"},
                ],
            },
        },
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "at", "type": ["null", "long"]},
    ],
}
ORDERS_SQL = """
SELECT shop, country AS "Country", COUNT(*) AS orders, SUM(amount) AS revenue, MAX(amount) AS largest,
       SUM(weight) AS weight, COUNT(weight) AS weighed, AVG(buyer['age']) AS age,
       COUNT(*) FILTER (WHERE buyer['vip']) AS vips, MAX(UPPER(shop)) AS shouted, window_end
FROM TUMBLE({stream}, DESCRIPTOR(at), INTERVAL '10' MINUTES)
WHERE amount > 0
GROUP BY shop, country, window_end
"""
ORDERS_QUERY = Query(
    select="""
        SELECT shop, "Country", count(*) AS orders, sum(amount) AS revenue, max(amount) AS largest,
               sum(weight) AS weight, count(weight) AS weighed,
               sum(buyer.age)::DOUBLE / nullif(count(buyer.age), 0) AS age,
               sum(CASE WHEN buyer.vip THEN 1 ELSE 0 END)::BIGINT AS vips, max(upper(shop)) AS shouted,
               _window_end AS window_end, _window_end
        FROM applied GROUP BY shop, "Country", _window_end""",
    keys=("shop", "Country"),
    window=10 * MINUTE,
    event_time="at",
    unit=1000,
    where=lambda row: row["amount"] > 0,
    sums=("weight", "age"),
    schema={
        "shop": pl.String,
        "Country": pl.String,
        "amount": pl.Decimal(12, 2),
        "weight": pl.Float64,
        "buyer": pl.Struct({"age": pl.Int32, "vip": pl.Boolean}),
        "tags": pl.List(pl.String),
        "at": pl.Int64,
        "_window_end": pl.Int64,
    },
)
