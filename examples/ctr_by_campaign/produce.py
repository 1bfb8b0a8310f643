"""Impressions of campaigns and clicks on them, into a server or into Kafka: `python -m examples.ctr_by_campaign.produce`."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Sequence
from datetime import datetime, timezone

from examples.producer import Event, Row, Settings, Write, live, parser, produce

CAMPAIGNS = ("campaign-1", "campaign-2", "campaign-3")
CLICKED = 0.25
MAX_DELAY = 10  # seconds from an impression to its click, at most
STREAMS = ("ad_impressions", "ad_clicks")
IDS = {"ad_impressions": "impr_id", "ad_clicks": "click_id"}


def events(settings: Settings, max_delay: float = MAX_DELAY) -> list[Event]:
    """One impression in four is clicked, up to `max_delay` seconds later. Times are milliseconds since 1970."""
    rng = random.Random(settings.seed)
    made = []
    for n in range(int(settings.rate * settings.duration)):
        shown = n / settings.rate
        seen: Row = {
            "impr_id": _id(rng, "impr", 8),
            "user_id": _id(rng, "user", 6),
            "campaign_id": rng.choice(CAMPAIGNS),
            "ts": _millis(settings, shown),
        }
        made.append(Event(shown, "ad_impressions", seen))
        if rng.random() < CLICKED:
            clicked = shown + rng.uniform(0, max_delay)
            click: Row = {
                "click_id": _id(rng, "click", 8),
                "impr_id": seen["impr_id"],
                "user_id": seen["user_id"],
                "ts": _millis(settings, clicked),
            }
            made.append(Event(clicked, "ad_clicks", click))
    return sorted(made, key=lambda event: event.arrival)


def _id(rng: random.Random, prefix: str, length: int) -> str:
    return f"{prefix}-{''.join(rng.choices(string.ascii_letters + string.digits, k=length))}"


def _millis(settings: Settings, seconds: float) -> int:
    return round(settings.at(seconds).timestamp() * 1000)


def into_kafka(bootstrap: str) -> Write:
    """Writes plain JSON, keyed by the event's id, to topics called as the streams."""
    from confluent_kafka import Producer  # only who writes to Kafka needs it: pip install confluent-kafka

    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})

    def write(topic: str, rows: Sequence[Row]) -> None:
        for row in rows:
            producer.produce(topic, json.dumps(row), key=row[IDS[topic]])
        if waiting := producer.flush(30):
            raise SystemExit(f"{bootstrap} did not take {waiting} events within 30 s")

    return write


def main() -> None:
    """Write to the server, or with --kafka to the topics that its streams read."""
    options = parser(__doc__, rate=5, duration=120)
    options.add_argument("--kafka", metavar="HOST:PORT", help="write to this broker's topics")
    options.add_argument(
        "--max-delay", type=float, default=MAX_DELAY, help="seconds until a click, at most (default 10)"
    )
    given = options.parse_args()
    if given.kafka is None:
        produce(given, STREAMS, lambda settings: events(settings, given.max_delay))
        return
    settings = Settings(datetime.now(timezone.utc), given.rate, given.duration, given.seed)
    made = events(settings, given.max_delay)
    live(made, into_kafka(given.kafka))
    print(f"{len(made):,} events written to {given.kafka}")


if __name__ == "__main__":
    main()
