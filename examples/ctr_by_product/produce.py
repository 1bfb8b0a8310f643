"""Impressions of products and clicks on them, some of them late: `python -m examples.ctr_by_product.produce`."""

from __future__ import annotations

import random

from examples.producer import Event, Settings, parser, produce

PRODUCTS, USERS = 20, 200
CLICKED = 0.2


def events(settings: Settings) -> list[Event]:
    """An impression is clicked within four seconds, if it is. Most events arrive at once or within the three seconds
    of the watermark delay; one in thirty comes up to eight seconds late, one in two hundred up to thirty."""
    rng = random.Random(settings.seed)
    made = []

    def add(stream: str, happened: float, product: str, user: str) -> None:
        row = {"product_id": product, "user_id": user, "ts": settings.at(happened)}
        made.append(Event(happened + _delay(rng), stream, row))

    for n in range(int(settings.rate * settings.duration)):
        happened = n / settings.rate
        product = f"product_{min(rng.randrange(PRODUCTS), rng.randrange(PRODUCTS))}"
        user = f"user_{rng.randrange(USERS)}"
        add("impressions", happened, product, user)
        if rng.random() < CLICKED:
            add("clicks", happened + rng.uniform(0.5, 4), product, user)
    return sorted(made, key=lambda event: event.arrival)


def _delay(rng: random.Random) -> float:
    chance = rng.random()
    if chance < 1 / 200:
        return rng.uniform(8, 30)
    if chance < 1 / 25:
        return rng.uniform(3, 8)
    return rng.uniform(0, 3) if chance < 0.4 else 0.0


if __name__ == "__main__":
    produce(parser(__doc__, rate=40, duration=120).parse_args(), ["impressions", "clicks"], events)
