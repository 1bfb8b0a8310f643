"""Interval joins of two streams over HTTP, through a kill, against a recomputation in plain Python."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

from tests.harness import feeding
from tests.harness.events import MINUTE, T0, schema

SECOND = 1_000_000
DELAY = 10
Row = dict[str, Any]

# Impressions and the clicks on them within 15 seconds, per campaign and 30 seconds.
JOINED = """
  WITH shown AS (
    SELECT i.campaign_id, i.impression_id, i.ts, c.impression_id AS clicked, c.item_id
    FROM impressions i
    {kind} JOIN clicks c ON i.impression_id = c.impression_id AND c.ts BETWEEN i.ts AND i.ts + INTERVAL '15' SECOND
  )
  SELECT campaign_id, COUNT(*) AS n, COUNT(DISTINCT impression_id) AS impressions,
         COUNT(DISTINCT clicked) AS clicks, SUM(item_id) AS items
  FROM TUMBLE(shown, DESCRIPTOR(ts), INTERVAL '30' SECONDS)
  GROUP BY campaign_id, window_end
"""


def traffic(count: int, minutes: int, seed: int) -> tuple[list[Row], list[Row]]:
    """Impressions, and clicks on some of them up to 20 seconds later, on a few of them twice; each in the
    order of arrival, up to ten seconds after it happened."""
    rng = random.Random(seed)
    impressions, clicks = [], []
    for number in range(count):
        item = rng.randrange(50)
        row = {
            "impression_id": number,
            "user_id": f"user_{rng.randrange(20)}",
            "item_id": item,
            "campaign_id": item % 8,
            "ts": T0 + rng.randrange(minutes * MINUTE),
        }
        impressions.append({**row, "position": 1})
        times = rng.choice([0, 0, 0, 1, 1, 2])
        apart = [rng.choice([0, 15, rng.randrange(20)]) * SECOND for _ in range(times)]
        clicks.extend({**row, "ts": row["ts"] + later} for later in apart)
    return tuple(
        sorted(rows, key=lambda row: row["ts"] + rng.randrange(DELAY * SECOND))
        for rows in (impressions, clicks)
    )


def expected(impressions: list[Row], clicks: list[Row], *, left: bool) -> dict[tuple[int, int], tuple]:
    """Every impression with every click, by the definition of the join."""
    of_impression = defaultdict(list)
    for click in clicks:
        of_impression[click["impression_id"]].append(click)
    windows: dict[tuple[int, int], list[tuple[Row, Row | None]]] = defaultdict(list)
    for row in impressions:
        end = row["ts"] // (30 * SECOND) * 30 * SECOND + 30 * SECOND
        near = [c for c in of_impression[row["impression_id"]] if 0 <= c["ts"] - row["ts"] <= 15 * SECOND]
        pairs: list[tuple[Row, Row | None]] = [(row, click) for click in near]
        if left and not near:
            pairs = [(row, None)]
        windows[row["campaign_id"], end].extend(pairs)
    found = {}
    for identity, pairs in windows.items():
        clicked = [click for _, click in pairs if click]
        if pairs:
            found[identity] = (
                len(pairs),
                len({row["impression_id"] for row, _ in pairs}),
                len({click["impression_id"] for click in clicked}),
                sum(click["item_id"] for click in clicked) if clicked else None,
            )
    return found


def history(server, group: str) -> dict[tuple[int, int], tuple]:
    frame = server.store().get_feature_group(group).read(dataframe_type="polars")
    found = {}
    for row in frame.iter_rows(named=True):
        identity = row["campaign_id"], int(row["_event_time"].timestamp() * 1e6)
        assert identity not in found, "nothing was late, so nothing is revised"
        found[identity] = (row["n"], row["impressions"], row["clicks"], row["items"])
        # Availability is modelled: a window closes when its last impression cannot be clicked any more.
        waited = row["_available_at"] - row["_event_time"]
        assert waited.total_seconds() >= 15 + DELAY
    return found


def test_inner_and_left_joins_through_a_kill(make_server):
    impressions, clicks = traffic(6_000, minutes=20, seed=11)
    server = make_server(env={"MILLPOND_PIPELINE__CHECKPOINT_INTERVAL": "0.2"})
    fs = server.store()
    options = {"event_time": "ts", "watermark_delay": DELAY, "time": "historical"}
    for name, avro in (("impressions", "impression"), ("clicks", "click")):
        fs.get_or_create_stream(name, schema(avro), **options)
    for kind in ("LEFT", "INNER"):
        fs.get_or_create_feature_group(f"ctr_{kind.lower()}", sql=JOINED.format(kind=kind))
    for part in range(20):
        if part == 11:
            server.kill()
            server.start()
            fs = server.store()
        for name, rows in (("impressions", impressions), ("clicks", clicks)):
            size = -(-len(rows) // 20)
            fs.get_stream(name).append(rows[part * size : (part + 1) * size])
    for name in ("impressions", "clicks"):
        fs.get_stream(name).finish()
    for kind in ("left", "inner"):
        feeding.settle(server, f"ctr_{kind}")
        assert history(server, f"ctr_{kind}") == expected(impressions, clicks, left=kind == "left")


def test_explain_says_how_long_rows_wait(make_server):
    server = make_server()
    fs = server.store()
    for name, avro in (("impressions", "impression"), ("clicks", "click")):
        fs.get_or_create_stream(name, schema(avro), event_time="ts", watermark_delay=DELAY)
    fs.get_or_create_feature_group("ctr", sql=JOINED.format(kind="LEFT"))
    explained = server.get("/api/v1/feature-groups/ctr/1/explain")
    kept = {state["of"]: state["kept"] for state in explained["state"]}
    assert "15 seconds past its time; one without a partner comes out then" in kept["left rows of the join"]
    assert "15 seconds past its time" in kept["right rows of the join"]
    assert "the join adds 15 seconds" in explained["watermark_delay"]
