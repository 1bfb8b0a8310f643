"""What a card did in the last five minutes, for fraud detection: `python -m examples.card_fraud.define`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import millpond

from examples.definition import Setting, main

SQL = (Path(__file__).resolve().parent / "definition.sql").read_text()
SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Transaction",
    "namespace": "bank",
    "fields": [
        {"name": "transaction_id", "type": "long"},
        {"name": "card_id", "type": "string"},
        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}},
        {"name": "country", "type": "string"},
        {
            "name": "merchant_risk",
            "type": {"type": "enum", "name": "Risk", "symbols": ["low", "medium", "high"]},
        },
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    ],
}


def define(fs: millpond.FeatureStore, setting: Setting) -> list[millpond.FeatureGroup]:
    """One stream; a group that tells a card's features at each of its transactions, as soon as it has come in."""
    fs.get_or_create_stream(
        "transactions", SCHEMA, event_time="ts", watermark_delay=5, **setting.options("transactions")
    )
    group = fs.get_or_create_feature_group("card_fraud_5m", sql=SQL, emit="on_update")
    fs.get_or_create_feature_view("card_fraud", group.select_except(["card_id", "ts"]))
    return [group]


if __name__ == "__main__":
    main(define)
