"""Windows, sessions and rolling features over several threads: their number changes nothing."""

from __future__ import annotations

import polars as pl
from polars.testing import assert_frame_equal

from tests.definitions import CTR, CTR_SQL
from tests.harness import feeding
from tests.harness.events import encode, generate, schema
from tests.oracle import verify

EVENT = schema("event")
WORTHWHILE = 4096
FEATURES = "user_id, COUNT(*) AS n, AVG(item_id / 7) AS mean, COUNT(DISTINCT campaign_id) AS campaigns"
GROUPS = {
    "tumble": CTR_SQL,
    "hop": f"""
        SELECT {FEATURES}, window_end
        FROM HOP({{stream}}, DESCRIPTOR(ts), INTERVAL '2' MINUTES, INTERVAL '6' MINUTES)
        GROUP BY user_id, window_end""",
    "session": f"""
        SELECT {FEATURES}, window_start, window_end
        FROM SESSION({{stream}} PARTITION BY user_id, DESCRIPTOR(ts), INTERVAL '90' SECONDS)
        GROUP BY user_id, window_start, window_end""",
    "rolling": """
        SELECT user_id, ts, COUNT(*) OVER w AS n, AVG(item_id / 7) OVER w AS mean
        FROM {stream}
        WINDOW w AS (PARTITION BY user_id ORDER BY ts RANGE BETWEEN INTERVAL '5' MINUTES PRECEDING AND CURRENT ROW)""",
}


def threads(number: int) -> dict[str, str]:
    return {"MILLPOND_PIPELINE__THREADS": str(number), "MILLPOND_PIPELINE__MAX_CLOSE_ROWS": "1500"}


def history(group) -> pl.DataFrame:
    rows = group.read(dataframe_type="polars")
    return rows.drop("_available_at", "_modelled", "_commit", strict=False).sort("user_id", "_event_time")


def test_the_number_of_threads_changes_nothing(make_server):
    """Groups that begin with one thread and with three, and go on with two after a kill."""
    server = make_server(threads(1))
    fs = server.store(retries=60, timeout=20)
    stream = fs.get_or_create_stream("events", EVENT, event_time="ts", watermark_delay=300, time="historical")
    rows = generate(60_000, users=2_500, minutes=30, disorder=300, seed=41).rows
    frames = encode(stream.schema_id, EVENT, rows)

    def append(part: list[bytes]):
        for start in range(0, len(part), 5_000):
            position = stream.append_encoded(part[start : start + 5_000])
        return position

    position = append(frames[:30_000])
    groups = {}
    for number in (1, 3):
        server.stop()
        server.env = threads(number)
        server.start()
        for kind, sql in GROUPS.items():
            groups[kind, number] = fs.get_or_create_feature_group(
                f"{kind}_{number}", sql=sql.format(stream="events")
            )
        for group in groups.values():
            group.wait(position, timeout=120)
    server.kill()
    server.env = threads(2)
    server.start()
    append(frames[30_000:])
    stream.finish()
    for kind, number in groups:
        feeding.settle(server, f"{kind}_{number}")

    for number in (1, 3):
        epochs = server.get(f"/api/v1/feature-groups/tumble_{number}/1/epochs", limit=1000)["epochs"]
        read = [sum(source["read"] for source in epoch["counts"]) for epoch in epochs]
        assert max(read) >= WORTHWHILE, f"no epoch was worth dividing: {max(read)} records"
        assert any(epoch["close_cursor"] for epoch in epochs), "no close went over several epochs"
        verified = verify(server, "events", f"tumble_{number}", CTR)
        assert verified.expected.counts["late"] == 0
    for kind in GROUPS:
        one, three = history(groups[kind, 1]), history(groups[kind, 3])
        assert len(one) > 10_000
        assert_frame_equal(one, three, check_exact=True)
