"""What users do in a shop, visit by visit: `python -m examples.sessions.produce`."""

from __future__ import annotations

import random

from examples.producer import Event, Row, Settings, parser, produce

USERS = 400
DISORDER = 10.0  # seconds, as the stream's watermark delay


def events(settings: Settings) -> list[Event]:
    """A visit is a chain of events, seconds to minutes apart; now and then a user pauses for about as long as the gap
    that ends a session, so that some visits are one session and some are two."""
    rng = random.Random(settings.seed)
    made: list[Event] = []
    count = int(settings.rate * settings.duration)
    while len(made) < count:
        user, happened = rng.randrange(USERS), rng.uniform(0, settings.duration)
        buys = rng.random() < 0.3
        for _ in range(rng.randint(1, 25)):
            if happened >= settings.duration:
                break
            made.append(_event(settings, rng, f"user_{user}", happened, buys))
            happened += rng.uniform(1500, 2100) if rng.random() < 0.05 else rng.expovariate(1 / 40)
    return sorted(made, key=lambda event: event.arrival)


def _event(settings: Settings, rng: random.Random, user: str, happened: float, buys: bool) -> Event:
    kind = rng.choices(("page_view", "cart_add", "purchase"), (80, 15, 5) if buys else (97, 3, 0))[0]
    row: Row = {
        "user_id": user,
        "event_type": kind,
        "page": f"/item/{rng.randrange(100)}" if kind == "page_view" else None,
        "ts": settings.at(happened),
    }
    return Event(happened + (rng.uniform(0, DISORDER) if rng.random() < 0.2 else 0), "clickstream", row)


if __name__ == "__main__":
    produce(parser(__doc__, rate=2, duration=14400).parse_args(), ["clickstream"], events)
