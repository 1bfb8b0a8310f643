"""The Open Bandit sample as events, in the order in which they happened. Standard library only."""

from __future__ import annotations

import csv
import gzip
import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

CSV = Path(__file__).with_name("open_bandit_random_all.csv.gz")
Row = dict[str, Any]


def impressions() -> Iterator[Row]:
    """10,000 impressions: impression_id, user_id, item_id, campaign_id, position, ts, clicked."""
    with gzip.open(CSV, "rt", newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            features = "|".join(row[f"user_feature_{i}"] for i in range(4))
            item = int(row["item_id"])
            yield {
                "impression_id": number,
                "user_id": hashlib.sha1(features.encode()).hexdigest()[:12],
                "item_id": item,
                "campaign_id": item % 8,
                "position": int(row["position"]),
                "ts": datetime.fromisoformat(row["timestamp"]),
                "clicked": row["click"] == "1",
            }


def clicks() -> Iterator[Row]:
    """38 clicks: impression_id, user_id, item_id, campaign_id, ts."""
    for row in impressions():
        if row["clicked"]:
            after = timedelta(seconds=1 + row["impression_id"] % 10)
            kept = {k: row[k] for k in ("impression_id", "user_id", "item_id", "campaign_id")}
            yield {**kept, "ts": row["ts"] + after}


def events() -> list[Row]:
    """Both in one stream, by time: user_id, item_id, campaign_id, action, ts."""
    both = [("impression", r) for r in impressions()] + [("click", r) for r in clicks()]
    both.sort(key=lambda pair: pair[1]["ts"])
    return [
        {**{k: r[k] for k in ("user_id", "item_id", "campaign_id")}, "action": a, "ts": r["ts"]}
        for a, r in both
    ]
