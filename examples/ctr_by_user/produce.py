"""Counts of what users saw and clicked, up to ten seconds out of order: `python -m examples.ctr_by_user.produce`."""

from __future__ import annotations

import random

from examples.producer import Event, Settings, parser, produce

USERS = 50
DISORDER = 10.0  # seconds, as the stream's watermark delay


def events(settings: Settings) -> list[Event]:
    """Each event tells one or more impressions, and how many of them were clicked."""
    rng = random.Random(settings.seed)
    made = []
    for n in range(int(settings.rate * settings.duration)):
        happened = n / settings.rate
        impressions = rng.randint(0, 5)
        row = {
            "user_id": f"user_{min(rng.randrange(USERS), rng.randrange(USERS))}",
            "clicks": sum(rng.random() < 0.1 for _ in range(impressions)),
            "impressions": impressions,
            "timestamp": settings.at(happened),
        }
        arrival = happened + (rng.uniform(0, DISORDER) if rng.random() < 0.3 else 0)
        made.append(Event(arrival, "events", row))
    return sorted(made, key=lambda event: event.arrival)


if __name__ == "__main__":
    produce(parser(__doc__, rate=5, duration=7200).parse_args(), ["events"], events)
