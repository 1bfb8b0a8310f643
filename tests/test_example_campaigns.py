"""Example ctr_by_campaign: INNER and LEFT, over HTTP and from topics that its Go and Python producers write."""

from __future__ import annotations

import subprocess
import threading

import pytest

from examples.ctr_by_campaign.results import read
from tests.harness import feeding
from tests.harness.examples import ROOT, command, replayed, requests
from tests.oracle.arrivals import arrivals
from tests.oracle.history import check_history

SIZE, BOUND = 30_000, 15_000  # milliseconds
FOLDER = ROOT / "examples" / "ctr_by_campaign"


def check(server):
    """Every row of both groups; each comes once, for nothing is late. Returns impressions and clicks."""
    for kind in ("inner", "left"):
        group = f"ctr_by_campaign_{kind}"
        feeding.settle(server, group)
        db = arrivals(server, group)
        # A window closes when no click can come any more: 15 s after its end.
        expected = db.sql(f"""
            WITH joined AS (
                SELECT campaign_id, i.impr_id, click_id, i.ts - i.ts % {SIZE} + {SIZE} AS ends
                FROM ad_impressions AS i {kind} JOIN ad_clicks AS c
                ON c.impr_id = i.impr_id AND c.ts >= i.ts AND c.ts <= i.ts + {BOUND}),
            counted AS (
                SELECT campaign_id, ends, count(DISTINCT impr_id) AS impressions, count(DISTINCT click_id) AS clicks
                FROM joined GROUP BY ALL)
            SELECT campaign_id, impressions, clicks, clicks::DOUBLE / impressions AS ctr, 1000 * ends AS _event_time,
                   1000 * (ends - {SIZE}) AS window_start, 1000 * ends AS window_end,
                   (SELECT min(epoch) FROM epochs WHERE watermark >= 1000 * (ends + {BOUND})) AS _commit
            FROM counted""").to_arrow_table()
        check_history(server.http, group, expected.to_pylist())
    counts = []
    for name in ("ad_impressions", "ad_clicks"):
        for account in server.store().get_stream(name).accounting():
            assert account.balanced
            assert account.applied == account.read, f"{name}: {account}"
        counts.append(account.read)
    return counts


def test_replay(make_server, tmp_path):
    server = make_server()
    replayed(server, "ctr_by_campaign", "--rate", "10", "--duration", "300")
    impressions, clicks = check(server)
    assert impressions == 3_000
    assert 650 < clicks < 850
    for _ in range(2):  # a second time changes nothing
        command("ctr_by_campaign", "results", "--url", server.url, "--folder", str(tmp_path))
        frame = read(tmp_path)
        online = server.store().get_feature_group("ctr_by_campaign_left").rows()
        assert len(frame) == len(frame.drop_duplicates(["campaign_id", "window_end"])) == 3 * 10
        for row in online:
            own = frame[(frame.campaign_id == row["campaign_id"]) & (frame.window_end == row["window_end"])]
            assert own[["impressions", "clicks", "ctr"]].values.tolist() == [
                [row["impressions"], row["clicks"], row["ctr"]]
            ]
    assert frame.impressions.sum() == impressions
    for path in requests("ctr_by_campaign"):
        assert server.http.get(path).status_code == 200, path


@pytest.fixture(scope="session")
def go_producer(tmp_path_factory):
    """The Go producer, tested and built."""
    folder, built = FOLDER / "producer", tmp_path_factory.mktemp("go") / "producer"
    for step in (["go", "vet", "./..."], ["go", "test", "./..."], ["go", "build", "-o", str(built), "."]):
        done = subprocess.run(step, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(step)}\n{done.stdout}{done.stderr}"
    return built


def test_the_producers_of_both_languages(make_server, kafka, go_producer):
    for name in ("ad_impressions", "ad_clicks"):
        kafka.topic(name, 3)
    server = make_server(env={"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap})
    # Historical, for the windows of now to close at the finish and not with the clock.
    command("ctr_by_campaign", "define", "--url", server.url, "--historical", "--kafka")
    go = [
        go_producer,
        "-kafka",
        kafka.bootstrap,
        "-rate",
        "50",
        "-duration",
        "4s",
        "-max-delay",
        "2s",
        "-seed",
        "5",
    ]
    said = []
    beside = threading.Thread(target=lambda: said.append(subprocess.run(go, capture_output=True, text=True)))
    beside.start()
    options = ("--rate", "50", "--duration", "4", "--max-delay", "2", "--seed", "6")
    said.append(command("ctr_by_campaign", "produce", "--kafka", kafka.bootstrap, *options))
    beside.join()
    for stream in ("ad_impressions", "ad_clicks"):
        server.store().get_stream(stream).finish()
    impressions, clicks = check(server)
    assert impressions == 2 * 200, said
    assert 60 < clicks < 140, said


def test_the_go_producer_writes_over_http_too(make_server, go_producer):
    server = make_server()
    command("ctr_by_campaign", "define", "--url", server.url, "--historical")
    go = [go_producer, "-url", server.url, "-rate", "100", "-duration", "2s", "-max-delay", "1s"]
    done = subprocess.run(go, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for stream in ("ad_impressions", "ad_clicks"):
        server.store().get_stream(stream).finish()
    assert check(server)[0] == 200
