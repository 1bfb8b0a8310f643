"""Click-through rate of campaigns, clicks joined to impressions: `python -m examples.ctr_by_campaign.define`."""

from __future__ import annotations

from pathlib import Path

import millpond

from examples.definition import Setting, main

HERE = Path(__file__).resolve().parent
COLUMNS = {
    "ad_impressions": {
        "impr_id": "string not null",
        "user_id": "string",
        "campaign_id": "string not null",
        "ts": "timestamp not null",
    },
    "ad_clicks": {
        "click_id": "string not null",
        "impr_id": "string not null",
        "user_id": "string",
        "ts": "timestamp not null",
    },
}


def define(fs: millpond.FeatureStore, setting: Setting) -> list[millpond.FeatureGroup]:
    """Two streams of JSON with times in milliseconds; one feature group of each kind of join."""
    for name, columns in COLUMNS.items():
        fs.get_or_create_stream(
            name,
            columns,
            format="json",
            event_time="ts",
            event_time_unit="ms",
            watermark_delay=5,
            **setting.options(name),
        )
    return [
        fs.get_or_create_feature_group(f"ctr_by_campaign_{kind}", sql=(HERE / f"{kind}.sql").read_text())
        for kind in ("inner", "left")
    ]


if __name__ == "__main__":
    main(define)
