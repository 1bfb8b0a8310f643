"""Train/serve equality: what was served, live, is what training data have at the same instant, bit for bit."""

import struct
import threading
import time

import pyarrow as pa

from tests.harness.events import schema

CLICKSTREAM = schema("clickstream")
# The SQL of the first seed, as it stands there.
SEED_SQL = """SELECT user_id,
       SUM(clicks) / NULLIF(SUM(impressions), 0) as ctr
FROM TUMBLE(events, DESCRIPTOR(timestamp), INTERVAL '5' MINUTES)
GROUP BY user_id, window_end"""
FAST_SQL = """
SELECT user_id, SUM(clicks) AS clicks, SUM(impressions) AS impressions, AVG(clicks) AS mean,
       SUM(clicks) / NULLIF(SUM(impressions), 0) AS ctr
FROM TUMBLE({stream}, DESCRIPTOR(timestamp), INTERVAL '{seconds}' SECONDS) GROUP BY user_id, window_end
"""
USERS = [f"user_{i}" for i in range(20)]
SECONDS = 20


def bits(value):
    return struct.pack(">d", value) if isinstance(value, float) else value


def produce(stream, until):
    n = 0
    while time.time() < until:
        n += 1
        now = int(time.time() * 1e6)
        rows = [
            {
                "user_id": u,
                "clicks": (n + i) % 3 == 0,
                "impressions": 1 + (n * i) % 2,
                "timestamp": now - 20_000 * i,
            }
            for i, u in enumerate(USERS[: 5 + n % 15])
        ]
        stream.append([{**r, "clicks": int(r["clicks"])} for r in rows])
        time.sleep(0.02)


def test_logged_vectors_equal_training_data(make_server):
    server = make_server({"MILLPOND_OFFLINE__DRAIN_INTERVAL": "2"})
    fs = server.store()
    stream = fs.get_or_create_stream("events", CLICKSTREAM, event_time="timestamp", watermark_delay=0.5)
    one = fs.get_or_create_feature_group("ctr_1s", sql=FAST_SQL.format(stream="events", seconds=1))
    three = fs.get_or_create_feature_group("ctr_3s", sql=FAST_SQL.format(stream="events", seconds=3), ttl=6)
    query = one.select_all().join(three.select_all(), prefix="slow_")
    view = fs.get_or_create_feature_view("ctr", query)
    producer = threading.Thread(target=produce, args=(stream, time.time() + SECONDS))
    producer.start()
    logged = []
    while producer.is_alive():
        vectors = view.read_vectors([{"user_id": u} for u in USERS])
        logged += [(u, v) for u, v in zip(USERS, vectors, strict=True)]
        time.sleep(0.1)
    producer.join()
    # in a quiet store time goes on: the TTL takes values away
    time.sleep(7)
    after = view.read_vectors([{"user_id": u} for u in USERS])
    logged += list(zip(USERS, after, strict=True))

    complete = sum(v.status == "complete" for _, v in logged)
    assert complete > len(logged) / 2
    assert len({v.as_of for _, v in logged}) > 50
    kept = [v for v in after if v.values["slow_ctr"] is not None]
    assert not kept, f"the TTL has not run: {kept[0]}"
    assert [v.status for v in after] == ["partial"] * 19 + ["missing"]  # the last user never came
    spine = pa.table(
        {
            "user_id": [u for u, _ in logged],
            "at": pa.array([v.as_of for _, v in logged], pa.timestamp("us", "UTC")),
        }
    )
    x, y = view.training_data(spine_df=spine, dataframe_type="python")
    assert y is None
    assert list(x[0]) == [f.name for f in view.features]
    for (user, vector), row in zip(logged, x, strict=True):
        served = {k: bits(v) for k, v in vector.values.items()}
        trained = {k: bits(v) for k, v in row.items()}
        assert served == trained, (user, vector.as_of)


def test_the_first_seed_runs_as_it_stands(make_server):
    server = make_server()
    fs = server.store()
    stream = fs.get_or_create_stream("events", CLICKSTREAM, event_time="timestamp", time="historical")
    sql = SEED_SQL.replace("as ctr", "as ctr, SUM(clicks) AS clicks, SUM(impressions) AS impressions")
    fs.get_or_create_feature_group("ctr_5min", sql=sql)
    fs.get_or_create_feature_group("ctr_as_it_stands", sql=SEED_SQL)
    rows = [
        {
            "user_id": "user_123",
            "clicks": i % 20 == 0,
            "impressions": 1,
            "timestamp": f"2024-05-01T12:0{i % 5}:00Z",
        }
        for i in range(100)
    ]
    position = stream.append([{**r, "clicks": int(r["clicks"])} for r in rows])
    fg = fs.get_feature_group("ctr_5min")
    fg.wait(position)
    stream.finish()
    assert fs.get_feature_group("ctr_as_it_stands").primary_key == ["user_id"]

    # 1. Feature Group (stores computed features)
    fg = fs.get_or_create_feature_group(
        name="ctr_5min",
        stream=True,
        online_enabled=True,
    )
    # 2. Feature View (serves features)
    fv = fs.get_or_create_feature_view(
        name="ctr_fv",
        query=fg.select_all(),
    )
    deadline = time.time() + 20
    while (
        fv.get_feature_vector({"user_id": "user_123"}, allow_missing=True)["ctr"] is None
        and time.time() < deadline
    ):
        time.sleep(0.1)
    # 3. Real-time lookup
    features = fv.get_feature_vector({"user_id": "user_123"})
    assert features == {"impressions": 100, "clicks": 5, "ctr": 0.05}
