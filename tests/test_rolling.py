"""Rolling features over HTTP, against a recomputation in plain Python: fraud features of a card, lateness, decay."""

from __future__ import annotations

import random
import time
from bisect import bisect_left, bisect_right
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

from tests.harness import feeding
from tests.harness.events import T0

SECOND = 1_000_000
MINUTE = 60 * SECOND
Row = dict[str, Any]

TRANSACTION = {
    "type": "record",
    "name": "Transaction",
    "fields": [
        {"name": "card_id", "type": "string"},
        {"name": "amount", "type": "double"},
        {"name": "country", "type": "string"},
        {
            "name": "merchant_risk",
            "type": {"type": "enum", "name": "Risk", "symbols": ["low", "medium", "high"]},
        },
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    ],
}

FRAUD = """
SELECT card_id, ts, amount,
  COUNT(*) OVER w AS txn_count_5m,
  SUM(amount) OVER w AS amount_sum_5m,
  COUNT(DISTINCT country) OVER w AS unique_countries_5m,
  LEAST(1.0, txn_count_5m / 14.0) AS velocity_score,
  AVG(CASE WHEN merchant_risk = 'high' THEN 1.0 ELSE 0.0 END) OVER w AS high_risk_txn_ratio,
  txn_count_5m >= 10 AS is_high_velocity
FROM transactions
WINDOW w AS (PARTITION BY card_id ORDER BY ts RANGE BETWEEN INTERVAL '5' MINUTES PRECEDING AND CURRENT ROW)
"""

FRAMES = """
SELECT card_id, country,
  COUNT(*) OVER (PARTITION BY card_id ORDER BY ts RANGE BETWEEN INTERVAL '30' SECONDS PRECEDING AND CURRENT ROW) AS n_30s,
  MAX(amount) OVER (PARTITION BY card_id ORDER BY ts RANGE BETWEEN INTERVAL '10' MINUTES PRECEDING AND CURRENT ROW) AS most_10m
FROM transactions
"""


def transactions(count: int, *, cards: int, minutes: int, disorder: int, seed: int) -> list[Row]:
    """In the order of their arrival, which is up to `disorder` seconds late; some cards pause, some have bursts."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        card = rng.randrange(cards)
        ts = T0 + rng.randrange(minutes * MINUTE)
        if card % 3 == 0:  # bursts, with pauses longer than a frame
            ts -= (ts - T0) % (12 * MINUTE) * 9 // 10
        if number % 5 == 0:
            ts -= ts % SECOND  # some at one instant
        row = {
            "card_id": f"card_{card}",
            "amount": rng.randrange(4_000) / 4,  # sums of these are exact in any order
            "country": rng.choice(["AT", "DE", "FR", "PL"]),
            "merchant_risk": rng.choice(["low", "medium", "high"]),
            "ts": ts,
        }
        rows.append((ts + rng.randrange(disorder * SECOND + 1), row))
    return [row for _, row in sorted(rows, key=lambda pair: pair[0])]


class Card:
    """The transactions of one card, by (time, arrival)."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = sorted(rows, key=lambda row: row["ts"])  # stable
        self.times = [row["ts"] for row in self.rows]

    def frame(self, at: int, preceding: int) -> list[Row]:
        return self.rows[bisect_left(self.times, at - preceding) : bisect_right(self.times, at)]

    def last(self, at: int) -> Row:
        return self.rows[bisect_right(self.times, at) - 1]

    def instants(self, frames: list[int], before: int) -> set[int]:
        """Where there are rows: at each transaction, and where a frame has just become empty."""
        found = set(self.times)
        for preceding in frames:
            for at in {t + preceding + 1 for t in self.times}:
                if at < before and not self.frame(at, preceding):
                    found.add(at)
        return found


def by_card(rows: list[Row]) -> dict[str, Card]:
    cards = defaultdict(list)
    for row in rows:
        cards[row["card_id"]].append(row)
    return {card: Card(own) for card, own in cards.items()}


def fraud(card: Card, at: int) -> tuple:
    own = card.frame(at, 5 * MINUTE)
    high = sum(row["merchant_risk"] == "high" for row in own)
    return (
        card.last(at)["amount"],
        len(own),
        sum(row["amount"] for row in own) if own else None,
        len({row["country"] for row in own}),
        min(1.0, len(own) / 14.0),
        high / len(own) if own else None,
        len(own) >= 10,
    )


def frames(card: Card, at: int) -> tuple:
    long = card.frame(at, 10 * MINUTE)
    most = max((row["amount"] for row in long), default=None)
    return (card.last(at)["country"], len(card.frame(at, 30 * SECOND)), most)


def history(server, group: str, columns: list[str]) -> dict[tuple[str, int], list[tuple]]:
    """Every revision of each (card, event time), in the order of the commits."""
    frame = server.store().get_feature_group(group).read(dataframe_type="polars")
    found = defaultdict(list)
    for row in frame.sort("_commit").iter_rows(named=True):
        at = row["_event_time"]
        instant = int(at.replace(microsecond=0).timestamp()) * SECOND + at.microsecond
        found[row["card_id"], instant].append(tuple(row[column] for column in columns))
    return dict(found)


FRAUD_COLUMNS = [
    "amount",
    "txn_count_5m",
    "amount_sum_5m",
    "unique_countries_5m",
    "velocity_score",
    "high_risk_txn_ratio",
    "is_high_velocity",
]
FRAMES_COLUMNS = ["country", "n_30s", "most_10m"]


def stream(server, **options):
    return server.store().get_or_create_stream("transactions", TRANSACTION, event_time="ts", **options)


def fed(server, rows: list[Row], groups: dict[str, dict], *, delay: int) -> None:
    source = stream(server, watermark_delay=delay, time="historical")
    for name, options in groups.items():
        server.store().get_or_create_feature_group(name, **options)
    for start in range(0, len(rows), 1_000):
        source.append(rows[start : start + 1_000])
    source.finish()
    for name in groups:
        feeding.settle(server, name)


def test_fraud_features_of_every_transaction(make_server):
    rows = transactions(8_000, cards=60, minutes=50, disorder=20, seed=11)
    server = make_server()
    groups = {
        "prompt": {"sql": FRAUD, "emit": "on_update"},
        "complete": {"sql": FRAUD},
        "frames": {"sql": FRAMES},
    }
    fed(server, rows, groups, delay=20)
    cards, end = by_card(rows), max(row["ts"] for row in rows) + 1

    def expected(value, preceding: list[int]) -> dict[tuple[str, int], tuple]:
        return {
            (name, at): value(card, at)
            for name, card in cards.items()
            for at in card.instants(preceding, end)
        }

    features = expected(fraud, [5 * MINUTE])
    assert sum(values[1] == 0 for values in features.values()) > 20, "cards that pause"
    prompt, complete = (history(server, name, FRAUD_COLUMNS) for name in ("prompt", "complete"))
    assert {identity: revisions[-1] for identity, revisions in complete.items()} == features
    assert all(len(revisions) == 1 for revisions in complete.values()), "nothing was late, nothing is revised"
    assert {identity: revisions[-1] for identity, revisions in prompt.items()} == features
    assert max(map(len, prompt.values())) > 1, "what comes out of order revises what is out"
    found = history(server, "frames", FRAMES_COLUMNS)
    assert {identity: revisions[-1] for identity, revisions in found.items()} == expected(
        frames, [30 * SECOND, 10 * MINUTE]
    )


def test_lateness_revises_the_rows_that_an_event_is_in(make_server):
    rows = transactions(6_000, cards=30, minutes=40, disorder=90, seed=12)
    server = make_server()
    groups = {
        "strict": {"sql": FRAMES},
        "patient": {"sql": FRAMES, "allowed_lateness": 100},
    }
    fed(server, rows, groups, delay=0)
    cards = by_card(rows)
    strict, patient = (history(server, name, FRAMES_COLUMNS) for name in groups)
    # Whatever instants have rows (one that was said to be empty stays), their last revisions are right.
    for (name, at), revisions in patient.items():
        assert revisions[-1] == frames(cards[name], at), (name, at)
    assert {(row["card_id"], row["ts"]) for row in rows} <= patient.keys()
    assert max(map(len, patient.values())) > 1, "late events came as revisions"
    assert len(strict) < len(patient), "without lateness some are late"


def test_a_card_that_is_idle_is_served_as_idle(make_server):
    server = make_server()
    source = stream(server)
    server.store().get_or_create_feature_group("fraud", sql=FRAUD, emit="on_update")
    now = int(time.time() * 1e6)
    ago = [6 * MINUTE, 5 * MINUTE + 30 * SECOND]
    position = source.append(
        [
            {"card_id": "quiet", "amount": 2.5, "country": "AT", "merchant_risk": "high", "ts": now - before}
            for before in ago
        ]
    )
    group = server.store().get_feature_group("fraud")
    group.wait(position)

    def served() -> Row:
        [row] = server.get("/api/v1/feature-groups/fraud/1/rows?which=latest")["rows"]
        return row

    row = served()
    assert (row["txn_count_5m"], row["amount_sum_5m"], row["high_risk_txn_ratio"]) == (2, 5.0, 1.0)
    source.heartbeat(datetime.fromtimestamp(now / 1e6, UTC))
    deadline = time.monotonic() + 30
    while served()["txn_count_5m"] != 0:
        assert time.monotonic() < deadline, served()
        time.sleep(0.1)
    row = served()
    assert (row["txn_count_5m"], row["amount_sum_5m"], row["unique_countries_5m"]) == (0, None, 0)
    assert (row["amount"], row["is_high_velocity"]) == (2.5, False), (
        "the plain columns stay those of the last"
    )
