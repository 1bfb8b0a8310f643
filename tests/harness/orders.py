"""Seeded rows of the second schema (tests/definitions.py: ORDERS), nulls in every place that allows them."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

from .events import T0


def orders(count: int, seed: int, disorder_ms: int = 20_000) -> list[dict[str, Any]]:
    """Rows in the order of their arrival; one in a hundred has no country (null key), one in 150 no time."""
    rng = random.Random(seed)
    start = T0 // 1000
    rows = []
    for i in range(count):
        at = start + i * 120 - rng.randrange(disorder_ms)
        rows.append({
            "shop": rng.choice(["nord", "süd", "o'hara", 'a"b', "日本"]),
            "Country": None if rng.random() < 0.01 else rng.choice(["DE", "FR", ""]),
            "amount": Decimal(rng.randrange(-300_000, 10_000_000)).scaleb(-2),
            "weight": None if rng.random() < 0.3 else rng.random() * 1e3,
            "buyer": {"age": None if rng.random() < 0.2 else rng.randrange(18, 99), "vip": rng.random() < 0.1},
            "tags": [rng.choice("abc") for _ in range(rng.randrange(3))],
            "at": None if rng.random() < 1 / 150 else at,
        })  # fmt: skip
    return rows
