"""Sessions of users, for personalisation: `python -m examples.sessions.define`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import millpond

from examples.definition import Setting, main

SQL = (Path(__file__).resolve().parent / "definition.sql").read_text()
SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "ClickEvent",
    "namespace": "shop",
    "fields": [
        {"name": "user_id", "type": "string"},
        {
            "name": "event_type",
            "type": {"type": "enum", "name": "EventType", "symbols": ["page_view", "cart_add", "purchase"]},
        },
        {"name": "page", "type": ["null", "string"], "default": None},
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    ],
}


def define(fs: millpond.FeatureStore, setting: Setting) -> list[millpond.FeatureGroup]:
    """One stream; a group that tells a user's session as it stands after each event, and once more when it is over."""
    fs.get_or_create_stream(
        "clickstream", SCHEMA, event_time="ts", watermark_delay=10, **setting.options("clickstream")
    )
    group = fs.get_or_create_feature_group("user_sessions", sql=SQL, emit="on_update")
    features = [
        "session_duration_min",
        "engagement_score",
        "conversion_rate_session",
        "cart_adds_session",
        "is_likely_purchaser",
    ]
    fs.get_or_create_feature_view("personalisation", group.select(features))
    return [group]


if __name__ == "__main__":
    main(define)
