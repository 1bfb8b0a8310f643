"""Example card_fraud: every revision of every (card, transaction time), `on_update`."""

from __future__ import annotations

from examples.card_fraud.define import define
from examples.card_fraud.produce import events
from examples.definition import Setting
from examples.producer import REPLAYED_FROM, Settings
from tests.harness import feeding
from tests.harness.examples import requests, stepped
from tests.oracle.arrivals import arrivals
from tests.oracle.history import check_history

FIVE_MINUTES = 300_000  # milliseconds
# A row for each card and time at once, and again in each epoch that brings an earlier transaction of its five minutes.
EXPECTED = f"""
    WITH points AS (SELECT card_id, ts, min(_epoch) AS first FROM transactions GROUP BY ALL),
    framed AS (
        SELECT p.card_id, p.ts, p.first, t._epoch, t.amount, t.country, t.merchant_risk
        FROM points AS p JOIN transactions AS t
        ON t.card_id = p.card_id AND t.ts >= p.ts - {FIVE_MINUTES} AND t.ts <= p.ts),
    emissions AS (SELECT DISTINCT card_id, ts, greatest(first, _epoch) AS _commit FROM framed)
    SELECT card_id, 1000 * ts AS ts, 1000 * ts AS _event_time, _commit,
           count(*) AS txn_count_5m, sum(amount) AS amount_sum_5m, count(DISTINCT country) AS unique_countries_5m,
           least(1::DOUBLE, count(*)::DOUBLE / 14) AS velocity_score,
           sum(CASE merchant_risk WHEN 'high' THEN 1 ELSE 0 END)::DOUBLE / count(*) AS high_risk_txn_ratio,
           count(*) >= 10 AS is_high_velocity
    FROM emissions JOIN framed USING (card_id, ts)
    WHERE _epoch <= _commit GROUP BY card_id, ts, _commit"""


def test_cards(make_server):
    server = make_server()
    fs = server.store()
    (group,) = define(fs, Setting(historical=True))
    stepped(fs, group, events(Settings(REPLAYED_FROM, rate=5, duration=600, seed=1)), 30)
    feeding.settle(server, "card_fraud_5m")
    db = arrivals(server, "card_fraud_5m")
    expected = db.sql(EXPECTED).to_arrow_table().to_pylist()
    check_history(server.http, "card_fraud_5m", expected)
    assert any(row["is_high_velocity"] for row in expected)
    (account,) = fs.get_stream("transactions").accounting()
    assert account.applied == account.read > 3_000
    assert len({(row["card_id"], row["ts"]) for row in expected}) < len(expected), "some rows were revised"
    card = max(expected, key=lambda row: row["txn_count_5m"])["card_id"]
    vector = fs.get_feature_view("card_fraud").get_feature_vector({"card_id": card})
    latest = max((r for r in expected if r["card_id"] == card), key=lambda r: (r["ts"], r["_commit"]))
    assert vector == {name: latest[name] for name in vector}
    assert len(vector) == 6
    for path in requests("card_fraud"):
        assert server.http.get(path).status_code == 200, path
