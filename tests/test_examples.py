"""The examples, run as their READMEs say, against a recomputation from the raw records."""

from __future__ import annotations

from collections import Counter

from examples.ctr_by_product import produce as products
from examples.ctr_by_product.define import define as define_products
from examples.definition import Setting
from examples.producer import REPLAYED_FROM, Settings
from tests.harness import feeding
from tests.harness.events import MINUTE
from tests.harness.examples import replayed, requests, stepped
from tests.oracle import Query, verify
from tests.oracle.arrivals import arrivals
from tests.oracle.history import check_history
from tests.oracle.tumbled import tumbled

SECOND = 1_000_000


def user_ctr(*more):
    """The example's definition once more, for DuckDB."""
    select = f"""
        SELECT user_id, sum(impressions)::BIGINT AS impressions, sum(clicks)::BIGINT AS clicks,
               sum(clicks)::DOUBLE / nullif(sum(impressions), 0)::DOUBLE AS ctr, {"".join(more)} _window_end
        FROM applied GROUP BY user_id, _window_end"""
    return Query(select, keys=("user_id",), window=5 * MINUTE, event_time="timestamp")


def answered(server, example):
    """Every curl line of the README has an answer."""
    for path in requests(example):
        reply = server.http.get(path)
        assert reply.status_code == 200, f"{path}: {reply.text}"


def test_ctr_by_user_in_two_dialects(make_server):
    server = make_server()
    replayed(server, "ctr_by_user", "--duration", "3600")
    fs = server.store()
    rows = []
    for group, query in (
        ("ctr_5min", user_ctr()),
        ("ctr_5min_flink", user_ctr("_window_end AS window_end,")),
    ):
        feeding.settle(server, group)
        verified = verify(server, "events", group, query)
        assert verified.expected.counts["late"] == 0
        rows.append(len(verified.expected.rows))
    assert rows[0] == rows[1] > 500
    vector = fs.get_feature_view("ctr_fv").get_feature_vector({"user_id": "user_1"})
    assert list(vector) == ["impressions", "clicks", "ctr"]
    answered(server, "ctr_by_user")


def check_products(server):
    """Every revision of every product and window. Returns how many revisions and late records there were."""
    db = arrivals(server, "ctr_by_product")
    both = """
        SELECT product_id, ts * 1000 AS us, 1 AS impression, 0 AS click, _epoch, _before FROM impressions
        UNION ALL SELECT product_id, ts * 1000, 0, 1, _epoch, _before FROM clicks"""
    select = f"""_event_time - {10 * SECOND} AS window_start, _event_time AS window_end,
        sum(impression)::BIGINT AS impressions, sum(click)::BIGINT AS clicks,
        sum(click)::DOUBLE / nullif(sum(impression), 0)::DOUBLE AS ctr"""
    expected = tumbled(db, both, "product_id", select, size=10 * SECOND, lateness=5 * SECOND)
    check_history(server.http, "ctr_by_product", expected)
    windows = Counter((row["product_id"], row["_event_time"]) for row in expected)
    assert len(windows) > 50
    late = sum(
        account.late
        for name in ("impressions", "clicks")
        for account in server.store().get_stream(name).accounting()
    )
    return windows.total() - len(windows), late


def test_ctr_by_product(make_server):
    server = make_server()
    replayed(server, "ctr_by_product", "--duration", "60")
    feeding.settle(server, "ctr_by_product")
    check_products(server)
    answered(server, "ctr_by_product")


def test_ctr_by_product_from_two_topics(make_server, kafka):
    for name in ("impressions", "clicks"):
        kafka.topic(name, 1)
    server = make_server(env={"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap})
    replayed(server, "ctr_by_product", "--duration", "60", define=("--kafka",))
    feeding.settle(server, "ctr_by_product")
    check_products(server)


def test_late_events_of_products_revise_their_window_or_are_kept_apart(make_server):
    server = make_server()
    fs = server.store()
    (group,) = define_products(fs, Setting(historical=True))
    stepped(fs, group, products.events(Settings(REPLAYED_FROM, rate=30, duration=60, seed=1)), 1)
    feeding.settle(server, "ctr_by_product")
    revised, late = check_products(server)
    assert revised > 5, "late records within the allowed lateness revise their windows"
    assert late > 3, "later ones do not"
