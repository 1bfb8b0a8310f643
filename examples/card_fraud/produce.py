"""Transactions of cards, some of which are used in bursts: `python -m examples.card_fraud.produce`."""

from __future__ import annotations

import random
from decimal import Decimal

from examples.producer import Event, Row, Settings, parser, produce

CARDS = 60
COUNTRIES = ("DE", "FR", "GB", "NL", "PL", "US", "BR", "IN")
DISORDER = 5.0  # seconds, as the stream's watermark delay


def events(settings: Settings) -> list[Event]:
    """Most cards pay now and then at home. One transaction in forty begins a burst of up to 15 within four minutes,
    in many countries and at riskier merchants, at whole seconds. Some arrive up to five seconds late."""
    rng = random.Random(settings.seed)
    made: list[Event] = []

    def add(happened: float, card: int, home: bool) -> None:
        row: Row = {
            "transaction_id": len(made),
            "card_id": f"card_{card}",
            "amount": Decimal(int(rng.lognormvariate(8, 1.2)) + 1).scaleb(-2),
            "country": COUNTRIES[card % len(COUNTRIES)] if home else rng.choice(COUNTRIES),
            "merchant_risk": rng.choices(("low", "medium", "high"), (80, 15, 5) if home else (30, 30, 40))[0],
            "ts": settings.at(happened),
        }
        made.append(
            Event(happened + (rng.uniform(0, DISORDER) if rng.random() < 0.2 else 0), "transactions", row)
        )

    for n in range(int(settings.rate * settings.duration)):
        happened, card = n / settings.rate, rng.randrange(CARDS)
        add(happened, card, home=True)
        if rng.random() < 1 / 40:
            for _ in range(rng.randint(5, 15)):
                add(float(int(happened) + rng.randrange(240)), card, home=False)
    return sorted(made, key=lambda event: event.arrival)


if __name__ == "__main__":
    produce(parser(__doc__, rate=5, duration=600).parse_args(), ["transactions"], events)
