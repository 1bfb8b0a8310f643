"""Click-through rate of each user in windows of five minutes, in two dialects: `python -m examples.ctr_by_user.define`."""

from __future__ import annotations

from pathlib import Path

import millpond

from examples.definition import Setting, main

HERE = Path(__file__).resolve().parent
SCHEMA = HERE.parent.parent / "schemas" / "clickstream.avsc"


def define(fs: millpond.FeatureStore, setting: Setting) -> list[millpond.FeatureGroup]:
    """One stream; the same feature group in the SQL of Feldera and in that of Flink; a feature view of the first."""
    fs.get_or_create_stream(
        "events",
        SCHEMA.read_text(),
        event_time="timestamp",
        watermark_delay=10,
        **setting.options("events"),
    )
    groups = [
        fs.get_or_create_feature_group(name, sql=(HERE / file).read_text(), online_enabled=True)
        for name, file in (("ctr_5min", "feldera.sql"), ("ctr_5min_flink", "flink.sql"))
    ]
    fs.get_or_create_feature_view("ctr_fv", groups[0].select_all())
    return groups


if __name__ == "__main__":
    main(define)
