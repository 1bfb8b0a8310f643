"""How an example's `define` is run: where the server is, and what its streams read from."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import millpond


@dataclass(frozen=True)
class Setting:
    """How the streams of an example are set up."""

    historical: bool = False  # a replay of old events, in place of live ones
    kafka: bool = False  # topics called as the streams, in place of the embedded log

    def options(self, stream: str) -> dict[str, Any]:
        """What `get_or_create_stream` gets besides the example's own definition."""
        topic = {"topic": stream} if self.kafka else {}
        if self.historical:
            return {**topic, "time": "historical"}
        # The last windows close though the producer has stopped: time goes on with the clock.
        return {**topic, "idle_timeout": 5, "idle_advance": True}


Define = Callable[[millpond.FeatureStore, Setting], Sequence[millpond.FeatureGroup]]


def main(define: Define) -> None:
    """Define the example on a running server; doing it again changes nothing."""
    parser = argparse.ArgumentParser(description=define.__doc__)
    parser.add_argument("--url", help="the server; default: $MILLPOND_URL, else http://127.0.0.1:7878")
    parser.add_argument("--historical", action="store_true", help="streams for a replay of old events")
    parser.add_argument("--kafka", action="store_true", help="streams read Kafka topics of their names")
    given = parser.parse_args()
    store = millpond.login(given.url).get_feature_store()
    for group in define(store, Setting(given.historical, given.kafka)):
        print(
            f"feature group {group.name}, key {', '.join(group.primary_key)}, event time {group.event_time}"
        )
