"""Click-through rate of each product in windows of ten seconds: `python -m examples.ctr_by_product.define`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import millpond

from examples.definition import Setting, main

SQL = (Path(__file__).resolve().parent / "definition.sql").read_text()
STREAMS = ("impressions", "clicks")


def schema(name: str) -> dict[str, Any]:
    """Both streams have the same columns."""
    return {
        "type": "record",
        "name": name.capitalize().removesuffix("s"),
        "namespace": "shop",
        "fields": [
            {"name": "product_id", "type": "string"},
            {"name": "user_id", "type": "string"},
            {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        ],
    }


def define(fs: millpond.FeatureStore, setting: Setting) -> list[millpond.FeatureGroup]:
    """Two streams; a group that waits 3 s for events out of order and takes late ones for 5 s more; a feature view."""
    for name in STREAMS:
        fs.get_or_create_stream(
            name, schema(name), event_time="ts", watermark_delay=3, **setting.options(name)
        )
    group = fs.get_or_create_feature_group("ctr_by_product", sql=SQL, allowed_lateness=5)
    fs.get_or_create_feature_view("ctr_by_product", group.select(["impressions", "clicks", "ctr"]))
    return [group]


if __name__ == "__main__":
    main(define)
