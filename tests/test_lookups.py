"""Lookup joins over HTTP, through kills, against DuckDB's own recomputation from the history of what is looked up, and
against the training data of a feature view."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from datetime import datetime, timedelta, timezone
from typing import Any

import duckdb
import millpond
import polars as pl
import pytest

from tests.harness import feeding
from tests.harness.events import MINUTE, T0, schema

SECOND = 1_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
PROFILE = [
    {"name": "user_id", "type": "string"},
    {"name": "country", "type": "string"},
    {"name": "score", "type": "bigint"},
    {"name": "at", "type": "timestamp"},
]
# Per minute: how many clicks, by the country that the user had, with the sum of scores and of what was clicked before.
LOOKED_UP = """
  WITH known AS (
    SELECT COALESCE(u.country, 'none') AS country, u.score, s.n AS before, c.ts
    FROM clicks AS c
    {kind} JOIN users FOR SYSTEM_TIME AS OF c.ts AS u ON u.user_id = c.user_id
    LEFT JOIN spells FOR SYSTEM_TIME AS OF c.ts AS s ON c.user_id = s.user_id
  )
  SELECT country, COUNT(*) AS n, SUM(score) AS score, SUM(before) AS before
  FROM TUMBLE(known, DESCRIPTOR(ts), INTERVAL '1' MINUTE) GROUP BY country, window_end
"""
SPELLS = """SELECT user_id, COUNT(*) AS n FROM SESSION(clicks, DESCRIPTOR(ts), INTERVAL '20' SECONDS)
  GROUP BY user_id, window_end"""
# What the lookup is by definition: among the rows that were there at the time, the latest.
PICKED = """
  SELECT c.number, arg_max({columns}, (h._event_time, h._commit)) AS row
  FROM clicks c JOIN history h
    ON h.user_id = c.user_id AND h._available_at <= c.at AND h._event_time <= c.at
  GROUP BY c.number
"""


def instant(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)


def click(rng: random.Random, ts: int) -> dict[str, Any]:
    return {
        "impression_id": rng.randrange(1000),
        "user_id": f"user_{rng.randrange(12)}",
        "item_id": rng.randrange(50),
        "campaign_id": 1,
        "ts": ts,
    }


def profile(rng: random.Random, at: datetime) -> dict[str, Any]:
    country = rng.choice(["pl", "se", "it", None])
    return {"user_id": f"user_{rng.randrange(9)}", "country": country, "score": rng.randrange(100), "at": at}


def picked(clicks: pl.DataFrame, group: millpond.FeatureGroup, column: str) -> dict[int, Any]:
    """By the number of the click, the column of the row that it finds; none where it finds none."""
    history = group.read(dataframe_type="polars").to_arrow()  # noqa: F841 (DuckDB looks at it)
    clicks = clicks.to_arrow()
    columns = f"{{'value': h.{column}, 'op': h._op}}"
    found = duckdb.sql(PICKED.format(columns=columns)).fetchall()
    return {number: row["value"] for number, row in found if row["op"] == "upsert"}


def expected(clicks: list[dict[str, Any]], fs: Any, *, left: bool) -> dict[tuple[str, int], tuple]:
    frame = pl.DataFrame(
        {
            "number": range(len(clicks)),
            "user_id": [c["user_id"] for c in clicks],
            "at": [instant(c["ts"]) for c in clicks],
        }
    )
    users, spells = fs.get_feature_group("users"), fs.get_feature_group("spells")
    countries, scores = (picked(frame, users, column) for column in ("country", "score"))
    before = picked(frame, spells, "n")
    windows: dict[tuple[str, int], list[int]] = defaultdict(list)
    for number, row in enumerate(clicks):
        if left or number in scores:
            end = row["ts"] // MINUTE * MINUTE + MINUTE
            windows[countries.get(number) or "none", end].append(number)

    def total(values: dict[int, Any], numbers: list[int]) -> int | None:
        found = [values[n] for n in numbers if values.get(n) is not None]
        return sum(found) if found else None

    return {w: (len(ns), total(scores, ns), total(before, ns)) for w, ns in windows.items()}


def came_out(fs: Any, name: str) -> dict[tuple[str, int], tuple]:
    rows = fs.get_feature_group(name).read(dataframe_type="python")
    found = {}
    for row in rows:
        end = (row["_event_time"] - EPOCH) // timedelta(microseconds=1)
        assert (row["country"], end) not in found, "nothing was late, so nothing is revised"
        found[row["country"], end] = (row["n"], row["score"], row["before"])
    return found


def test_inserted_and_derived_groups_are_looked_up_through_a_kill(make_server):
    rng = random.Random(5)
    minutes, parts = 12, 24
    server = make_server(env={"MILLPOND_PIPELINE__CHECKPOINT_INTERVAL": "0.3"})
    fs = server.store()
    clicks_of = fs.get_or_create_stream("clicks", schema("click"), event_time="ts", time="historical")
    users = fs.get_or_create_feature_group(
        "users", primary_key=["user_id"], event_time="at", features=PROFILE, time="historical"
    )
    fs.get_or_create_feature_group("spells", sql=SPELLS)
    # Some of it is there before anybody looks it up.
    users.insert([profile(rng, instant(T0 - MINUTE)) for _ in range(5)], wait=True)
    users.flush()
    for kind in ("LEFT", "INNER"):
        fs.get_or_create_feature_group(f"by_{kind.lower()}", sql=LOOKED_UP.format(kind=kind))
    clicks = [click(rng, t) for t in sorted(T0 + rng.randrange(minutes * MINUTE) for _ in range(3_000))]
    span = minutes * MINUTE // parts
    for part in range(parts):
        start = T0 + part * span
        if part in (7, 15):
            server.kill()
            server.start()
            fs = server.store()
            clicks_of, users = fs.get_stream("clicks"), fs.get_feature_group("users")
        rows = [profile(rng, instant(start + rng.randrange(-5 * SECOND, span))) for _ in range(3)]
        if part % 2:
            clicks_of.append([c for c in clicks if start <= c["ts"] < start + span])
            users.insert(rows, wait=True)
        else:
            users.insert(rows)
            clicks_of.append([c for c in clicks if start <= c["ts"] < start + span])
        if part % 8 == 3:
            users.commit_delete_record([{"user_id": rows[0]["user_id"]}], wait=True)
    # Whoever finishes the clicks first waits until there is nothing more to be looked up.
    clicks_of.finish()
    time.sleep(0.5)
    fs.get_stream("users_1").finish()
    for name in ("users", "spells", "by_left", "by_inner"):
        feeding.settle(server, name)
    for kind in ("left", "inner"):
        found, wanted = came_out(fs, f"by_{kind}"), expected(clicks, fs, left=kind == "left")
        assert found == wanted
        assert sum(n for n, *_ in found.values()) > 500
    check_training(fs, clicks, users)
    for account in clicks_of.accounting():
        assert account.balanced


def check_training(fs, clicks, users):
    """What a click looks up is what a feature view would have served then."""
    view = fs.get_or_create_feature_view("profile", users.select(["score"]), labels=["number"])
    spine = [
        {"user_id": c["user_id"], "when": instant(c["ts"]), "number": n} for n, c in enumerate(clicks[:500])
    ]
    x, y = view.training_data(spine_df=spine, dataframe_type="python")
    served = {label["number"]: row["score"] for row, label in zip(x, y, strict=True)}
    frame = pl.DataFrame(
        {
            "number": [s["number"] for s in spine],
            "user_id": [s["user_id"] for s in spine],
            "at": [s["when"] for s in spine],
        }
    )
    looked_up = picked(frame, users, "score")
    assert served == {n: looked_up.get(n) for n in served}


def test_live_rows_are_looked_up_as_they_were_served(make_server):
    """On a live stream a profile counts from the instant at which it was committed."""
    server = make_server(env={"MILLPOND_PIPELINE__CHECKPOINT_INTERVAL": "0.3"})
    fs = server.store()
    clicks_of = fs.get_or_create_stream("clicks", schema("click"), event_time="ts", watermark_delay=5)
    users = fs.get_or_create_feature_group(
        "users", primary_key=["user_id"], event_time="at", features=PROFILE
    )
    fs.get_or_create_feature_group(
        "latest",
        sql="""SELECT user_id, ts, impression_id, MAX(score) OVER (PARTITION BY user_id ORDER BY ts
            RANGE BETWEEN INTERVAL '1' MICROSECOND PRECEDING AND CURRENT ROW) AS score
          FROM (SELECT c.user_id, c.ts, c.impression_id, u.score FROM clicks c
                LEFT JOIN users FOR SYSTEM_TIME AS OF c.ts AS u ON u.user_id = c.user_id)
          QUALIFY COUNT(*) OVER (PARTITION BY user_id ORDER BY ts
            RANGE BETWEEN INTERVAL '1' MICROSECOND PRECEDING AND CURRENT ROW) > 0""",
        emit="on_update",
    )
    rng, clicks = random.Random(3), []
    for turn in range(60):
        if turn == 30:
            server.kill()
            server.start()
            fs = server.store()
            clicks_of, users = fs.get_stream("clicks"), fs.get_feature_group("users")
        now = datetime.now(timezone.utc)
        users.insert([profile(rng, now - timedelta(milliseconds=rng.randrange(50))) for _ in range(2)])
        ts = (datetime.now(timezone.utc) - EPOCH) // timedelta(microseconds=1)
        rows = [
            {**click(rng, ts - rng.randrange(300_000)), "impression_id": len(clicks) + n} for n in range(4)
        ]
        clicks.extend(rows)
        position = clicks_of.append(rows)
    fs.get_feature_group("latest").wait(position)
    feeding.settle(server, "users")
    feeding.settle(server, "latest")
    frame = pl.DataFrame(
        {
            "number": [c["impression_id"] for c in clicks],
            "user_id": [c["user_id"] for c in clicks],
            "at": [instant(c["ts"]) for c in clicks],
        }
    )
    wanted = picked(frame, users, "score")
    rows = fs.get_feature_group("latest").read(dataframe_type="python")
    found = {r["impression_id"]: r["score"] for r in rows if r["_op"] == "upsert"}
    assert found == {c["impression_id"]: wanted.get(c["impression_id"]) for c in clicks}
    assert len([v for v in wanted.values() if v is not None]) > 50


def test_what_is_looked_up_is_shown_and_kept(make_server):
    server = make_server()
    fs = server.store()
    clicks = fs.get_or_create_stream("clicks", schema("click"), event_time="ts")
    users = fs.get_or_create_feature_group(
        "users", primary_key=["user_id"], event_time="at", features=PROFILE, ttl=3600
    )
    sql = """SELECT country, COUNT(*) AS n FROM TUMBLE((SELECT u.country, c.ts FROM clicks c
        JOIN users FOR SYSTEM_TIME AS OF c.ts AS u ON c.user_id = u.user_id),
        DESCRIPTOR(ts), INTERVAL '1' MINUTE) GROUP BY country, window_end"""
    group = fs.get_or_create_feature_group("by_country", sql=sql)
    assert fs.get_or_create_feature_group("by_country", sql=sql).definition["id"] == group.definition["id"]
    explained = server.get("/api/v1/feature-groups/by_country/1/explain")
    plan = "\n".join(explained["plan"])
    assert "inner lookup on user_id = user_id, as of ts, not older than 1 hour" in plan
    assert [source["stream"] for source in explained["sources"]] == ["clicks", "users_1_changes"]
    kept = {state["of"]: state["kept"] for state in explained["state"]}
    assert "until the group's rows up to its time are known" in kept["rows that look up"]

    for refused in (
        lambda: users.delete(),
        lambda: fs.get_stream("users_1_changes").append([]),
        lambda: fs.get_stream("users_1_changes").finish(),
        lambda: fs.get_stream("users_1_changes").delete(),
        lambda: fs.get_or_create_feature_group("again", sql=sql.replace("clicks", "users_1_changes")),
        lambda: fs.get_or_create_feature_group("no", sql=sql.replace("FOR SYSTEM_TIME AS OF c.ts", "")),
        lambda: fs.get_or_create_feature_group("no", sql=sql.replace("AS OF c.ts", "AS OF c.user_id")),
        lambda: fs.get_or_create_feature_group("no", sql=sql.replace("u.user_id", "u.country")),
        lambda: fs.get_or_create_feature_group("no", sql=sql.replace("users FOR", "nobody FOR")),
    ):
        with pytest.raises(millpond.MillpondError) as error:
            refused()
        assert error.value.hint
    group.delete()
    assert [s.name for s in fs.get_streams()] == ["clicks", "users_1"]
    users.delete()
    clicks.delete()


def test_a_refused_definition_leaves_no_changes_behind(make_server):
    server = make_server()
    fs = server.store()
    fs.get_or_create_stream("clicks", schema("click"), event_time="ts")
    fs.get_or_create_feature_group("users", primary_key=["user_id"], event_time="at", features=PROFILE)
    sql = """SELECT country FROM TUMBLE((SELECT u.country, c.ts FROM clicks c
        JOIN users FOR SYSTEM_TIME AS OF c.ts AS u ON c.user_id = u.user_id),
        DESCRIPTOR(ts), INTERVAL '1' MINUTE) GROUP BY nothing, window_end"""
    with pytest.raises(millpond.MillpondError):
        fs.get_or_create_feature_group("by_country", sql=sql)
    assert [s.name for s in fs.get_streams()] == ["clicks", "users_1"]
