"""A data directory that an earlier release wrote is opened and goes on: definitions, log, online rows, history, outbox.

`tests/fixtures/format_<n>.tar.gz` was written by the release that came with format n, by
`python -m tests.test_formats <file>`. It is never written again: a change that cannot read it needs a migration.
"""

import json
import sys
import tarfile
import tempfile
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import millpond
import pytest

from tests.harness import feeding
from tests.harness.server import Server

FIXTURES = Path(__file__).parent / "fixtures"
NOON = datetime(2024, 5, 1, 12, tzinfo=timezone.utc)
CLICKS = {
    "type": "record",
    "name": "Clicks",
    "fields": [
        {"name": "user_id", "type": "string"},
        {"name": "clicks", "type": "long"},
        {"name": "spent", "type": {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}},
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    ],
}
SQL = """SELECT user_id, SUM(clicks) AS clicks, SUM(spent) AS spent, AVG(clicks) AS mean
FROM TUMBLE(clicks, DESCRIPTOR(ts), INTERVAL '1' MINUTE) GROUP BY user_id, window_end"""
# From format 2 on: one of each operator with state, and files beside Delta.
SHAPES = {
    "hops": """SELECT user_id, COUNT(*) AS n
        FROM HOP(taps, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '2' MINUTES) GROUP BY user_id, window_end""",
    "sessions": """SELECT user_id, SUM(clicks) AS n
        FROM SESSION(taps, DESCRIPTOR(ts), INTERVAL '1' MINUTE) GROUP BY user_id, window_end""",
    "rolling": """SELECT user_id, ts, SUM(clicks) OVER (PARTITION BY user_id ORDER BY ts
        RANGE BETWEEN INTERVAL '2' MINUTES PRECEDING AND CURRENT ROW) AS n FROM taps""",
    "pairs": """SELECT user_id, SUM(other) AS n FROM TUMBLE((
          SELECT a.user_id, a.ts, b.clicks AS other FROM taps a JOIN taps b ON b.user_id = a.user_id
          AND b.ts BETWEEN a.ts + INTERVAL '1' SECOND AND a.ts + INTERVAL '2' MINUTES
        ), DESCRIPTOR(ts), INTERVAL '1' HOUR) GROUP BY user_id, window_end""",
}
# (second after noon, user, n) in the order of commits and keys.
COMPUTED = {
    "hops": [
        (60, "a", 1),
        (60, "b", 1),
        (120, "a", 3),
        (180, "a", 1),
        (180, "b", 2),
        (240, "a", 0),
    ],
    "sessions": [(60, "a", 1), (70, "b", 2), (121, "a", 4), (191, "b", 24)],
    "rolling": [
        (0, "a", 1),
        (10, "b", 2),
        (61, "a", 5),
        (130, "b", 10),
        (131, "b", 24),
    ],
    "pairs": [(3600, "a", 108), (3600, "b", 24)],
}
PROFILE = [
    {"name": "user_id", "type": "string"},
    {"name": "score", "type": "double"},
    {"name": "at", "type": "timestamp"},
]
JSON_COLUMNS = {"user_id": "string not null", "n": "bigint", "at": "timestamp"}


def click(user, second, clicks, spent="1.50"):
    at = NOON + timedelta(seconds=second)
    return {"user_id": user, "clicks": clicks, "spent": Decimal(spent), "ts": at}


TAPS = (
    [click("a", 0, 1), click("b", 10, 2), click("a", 61, 4)],
    [click("b", 130, 8), click("a", 1, 100)],
    [click("b", 131, 16)],
)


def write(server: Server) -> None:
    """What the fixture holds: some of each kind, drained and owed, closed and open, good and bad."""
    fs = server.store()
    options = {"time": "historical", "watermark_delay": 0}
    clicks = fs.get_or_create_stream("clicks", CLICKS, event_time="ts", **options)
    per_minute = fs.get_or_create_feature_group("per_minute", sql=SQL, ttl=3600)
    profile = fs.get_or_create_feature_group(
        "profile", primary_key=["user_id"], event_time="at", features=PROFILE, time="historical"
    )
    joined = per_minute.select(["clicks", "spent"]).join(profile.select(["score"]))
    fs.get_or_create_feature_view("view", joined, labels=["bought"])
    taps = fs.get_or_create_stream("taps", CLICKS, event_time="ts", **options)
    for name, sql in SHAPES.items():
        sinks = [millpond.FileSink("csv", path="hops")] if name == "hops" else None
        fs.get_or_create_feature_group(name, sql=sql, sinks=sinks)
    fs.get_or_create_stream(
        "plain", JSON_COLUMNS, event_time="at", time="historical", format="json", partitions=2
    )
    clicks.append([click("a", 0, 1), click("b", 10, 2), click("a", 61, 4)], producer_id="p", sequence=1)
    clicks.append_encoded([b"junk"])
    taps.append(TAPS[0])
    profile.insert([{"user_id": u, "score": s, "at": NOON} for u, s in (("a", 0.5), ("b", 0.25))], wait=True)
    for name in ("per_minute", *SHAPES):
        feeding.settle(server, name)
    per_minute.flush()


def owe(server: Server) -> None:
    """Rows owed to Delta, a late record, and a window that stays open: the server is killed over them."""
    fs = server.store()
    clicks, plain = fs.get_stream("clicks"), fs.get_stream("plain")
    per_minute, profile = fs.get_feature_group("per_minute"), fs.get_feature_group("profile")
    profile.commit_delete_record([{"user_id": "b"}], wait=True)
    per_minute.wait(clicks.append([click("b", 130, 8), click("a", 1, 100)], producer_id="p", sequence=2))
    plain.append([{"user_id": "a", "n": 1, "at": NOON}], partition=1)
    position = fs.get_stream("taps").append(TAPS[1])
    for name in SHAPES:
        fs.get_feature_group(name).wait(position)


@pytest.mark.parametrize("fixture", sorted(FIXTURES.glob("format_*.tar.gz")), ids=lambda p: p.name)
def test_an_earlier_releases_directory_is_served_and_goes_on(fixture, tmp_path):
    with tarfile.open(fixture) as archive:
        archive.extractall(tmp_path, filter="data")
    server = Server(tmp_path)
    try:
        check(server.start())
        if fixture.name != "format_1.tar.gz":
            check_shapes(server)
    finally:
        server.stop()


def check(server: Server) -> None:
    """Everything that `write` wrote is there, and what comes now joins it."""
    fs = server.store()
    clicks, per_minute = fs.get_stream("clicks"), fs.get_feature_group("per_minute")
    assert [r["row"] and r["row"]["clicks"] for r in clicks.records()] == [1, 2, 4, None, 8, 100]
    assert clicks.quarantine_counts() == {"bad_frame": 1}
    assert len(per_minute.late()) == 1
    view = fs.get_feature_view("view")
    vectors = view.get_feature_vectors([{"user_id": "a"}, {"user_id": "b"}], allow_missing=True)
    assert vectors == [
        {"clicks": 4, "spent": Decimal("1.50"), "score": 0.5},
        {"clicks": 2, "spent": Decimal("1.50"), "score": None},
    ]
    profile = fs.get_feature_group("profile").read(dataframe_type="python")
    assert sorted((r["user_id"], r["_op"]) for r in profile) == [
        ("a", "upsert"),
        ("b", "delete"),
        ("b", "upsert"),
    ]
    assert [r["row"]["n"] for r in fs.get_stream("plain").records(partition=1)] == [1]
    # The same definitions are the same objects, the same batch is answered, the open window closes.
    assert fs.get_or_create_feature_group("per_minute", sql=SQL, ttl=3600).definition["id"]
    again = [click("b", 130, 8), click("a", 1, 100)]
    clicks.append(again, producer_id="p", sequence=2)
    assert len(clicks.records()) == 6
    clicks.append([click("b", 131, 16)], producer_id="p", sequence=3)
    clicks.finish()
    feeding.settle(server, "per_minute")
    per_minute.flush()
    history = per_minute.read(dataframe_type="python")
    assert sorted((r["user_id"], r["clicks"]) for r in history) == [("a", 1), ("a", 4), ("b", 2), ("b", 24)]
    (account,) = clicks.accounting()
    assert (account.read, account.late, account.balanced) == (7, 1, True)


def check_shapes(server: Server) -> None:
    """What was open when the server was killed goes on: windows, sessions, frames, rows that wait, files."""
    fs = server.store()
    taps = fs.get_stream("taps")
    taps.append(TAPS[2])
    taps.finish()
    for name, expected in COMPUTED.items():
        feeding.settle(server, name)
        rows = fs.get_feature_group(name).read(dataframe_type="python")
        found = [(int((r["_event_time"] - NOON).total_seconds()), r["user_id"], r["n"]) for r in rows]
        assert sorted(found) == sorted(expected), name
    group = fs.get_feature_group("hops")
    group.flush()
    files = sorted((server.data / "sinks" / "hops").rglob("*.csv"))
    lines = [line for file in files for line in file.read_text().splitlines()[1:]]
    assert len(lines) == len(COMPUTED["hops"])


def main(target: Path) -> None:
    """Write a fixture with the server that is built."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        try:
            write(server.start())
            server.stop()  # the next start writes what was in the write-ahead log into tables
            owe(server.start())
            server.kill()
        finally:
            server.stop()
        with tarfile.open(target, "w:gz") as archive:
            archive.add(Path(folder) / "data", "data", filter=_kept)
    print(json.dumps({"written": str(target), "bytes": target.stat().st_size}))


def _kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Without locks and RocksDB's diary; the owner is nobody in particular."""
    if Path(member.name).name in ("lock", "LOCK") or Path(member.name).name.startswith("LOG"):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    main(Path(sys.argv[1]))
