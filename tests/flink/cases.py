"""What is compared: an example's replay, the definition on each side, and the differences that are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import millpond

from examples.card_fraud import define as card_fraud
from examples.card_fraud import produce as cards
from examples.ctr_by_campaign import define as ctr_by_campaign
from examples.ctr_by_campaign import produce as campaigns
from examples.ctr_by_product import define as ctr_by_product
from examples.ctr_by_product import produce as products
from examples.ctr_by_user import define as ctr_by_user
from examples.ctr_by_user import produce as users
from examples.definition import Define, Setting
from examples.producer import Event, Events, Settings
from examples.sessions import define as sessions
from examples.sessions import produce as visits

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent.parent / "examples"


@dataclass(frozen=True)
class Case:
    """One feature group on both sides."""

    example: str
    group: str
    flink: Path  # the query that Flink runs
    event_time: str  # the column of its result that is the event time here
    same_text: bool = False  # whether the feature group was made of that very file
    integer_ratio: str | None = None  # a column that Flink divides to an integer
    sums: tuple[str, ...] = ()  # floating-point arithmetic in another order: 1e-9
    carried: bool = False  # Flink repeats what did not change
    at_end: bool = False  # on_update: only the last row of a window has its end as event time


@dataclass(frozen=True)
class Replay:
    """One example's streams and events, and the groups that read them."""

    define: Define
    events: Events
    rate: float
    duration: float
    cases: Sequence[Case]
    streams: Sequence[str]


def _users(fs: millpond.FeatureStore, setting: Setting) -> list[millpond.FeatureGroup]:
    """The example, and a sliding window besides."""
    groups = ctr_by_user.define(fs, setting)
    return [*groups, fs.get_or_create_feature_group("hop", sql=(HERE / "hop.sql").read_text())]


def _on_time(events: Events) -> Callable[[Settings], list[Event]]:
    """Without the events that come after the three seconds of the watermark delay: Flink's windows take none of them."""

    def kept(settings: Settings) -> list[Event]:
        made = events(settings)
        return [e for e in made if settings.at(e.arrival - 3) <= e.row["ts"]]

    return kept


REPLAYS = [
    Replay(
        _users,
        users.events,
        5,
        7200,
        [
            Case(
                "ctr_by_user", "ctr_5min_flink", EXAMPLES / "ctr_by_user/flink.sql", "window_end", True, "ctr"
            ),
            Case("ctr_by_user", "ctr_5min", EXAMPLES / "ctr_by_user/flink.sql", "window_end", False, "ctr"),
            Case("(a sliding window)", "hop", HERE / "hop.sql", "window_end", True, carried=True),
        ],
        ["events"],
    ),
    Replay(
        ctr_by_product.define,
        _on_time(products.events),
        40,
        120,
        [
            Case(
                "ctr_by_product",
                "ctr_by_product",
                EXAMPLES / "ctr_by_product/definition.sql",
                "window_end",
                True,
                "ctr",
            )
        ],
        ["impressions", "clicks"],
    ),
    Replay(
        ctr_by_campaign.define,
        campaigns.events,
        20,
        600,
        [
            Case(
                "ctr_by_campaign",
                f"ctr_by_campaign_{kind}",
                EXAMPLES / f"ctr_by_campaign/{kind}.sql",
                "window_end",
                True,
            )
            for kind in ("inner", "left")
        ],
        ["ad_impressions", "ad_clicks"],
    ),
    Replay(
        card_fraud.define,
        cards.events,
        5,
        1200,
        [Case("card_fraud", "card_fraud_5m", HERE / "card_fraud.sql", "ts")],
        ["transactions"],
    ),
    Replay(
        sessions.define,
        visits.events,
        2,
        14400,
        [
            Case(
                "sessions",
                "user_sessions",
                HERE / "sessions.sql",
                "window_end",
                integer_ratio="conversion_rate_session",
                sums=("session_duration_min", "engagement_score"),
                at_end=True,
            )
        ],
        ["clickstream"],
    ),
]
