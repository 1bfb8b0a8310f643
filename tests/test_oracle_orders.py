"""A second schema that no example uses: compound key, strings of all kinds, decimals, nested fields, nulls."""

import pytest

from tests.definitions import ORDERS, ORDERS_QUERY, ORDERS_SQL
from tests.harness import feeding
from tests.harness.events import encode
from tests.harness.orders import orders
from tests.oracle import verify
from tests.oracle.records import from_kafka

ROWS = orders(30_000, seed=11)
OPTIONS = {
    "event_time": "at",
    "event_time_unit": "ms",
    "watermark_delay": 20,
    "time": "historical",
}


def confirm(verified):
    reasons = set(verified.expected.quarantine.values())
    assert reasons == {"no_event_time", "null_key"}
    assert verified.expected.counts["filtered"] > 0
    assert any(row["weight"] is None or row["weighed"] == 0 or row["age"] for row in verified.expected.rows)
    assert len({row["shop"] for row in verified.expected.rows}) == 5


@pytest.mark.parametrize("as_rows", [True, False])
def test_from_the_embedded_log(shared, name, as_rows):
    fs = shared.store()
    stream = fs.get_or_create_stream(name, ORDERS, **OPTIONS)
    fs.get_or_create_feature_group(name, sql=ORDERS_SQL.format(stream=name))
    if as_rows:
        stream.append(ROWS)
    else:
        stream.append_encoded(encode(stream.schema_id, ORDERS, ROWS))
    stream.finish()
    feeding.settle(shared, name)
    confirm(verify(shared, name, name, ORDERS_QUERY))


def test_from_four_partitions_of_kafka(kafka, make_server, name):
    topic = kafka.topic(name, 4)
    server = make_server({"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap})
    fs = server.store()
    stream = fs.get_or_create_stream(name, ORDERS, topic=topic, **OPTIONS)
    fs.get_or_create_feature_group(name, sql=ORDERS_SQL.format(stream=name))
    frames = encode(stream.schema_id, ORDERS, ROWS)
    feeding.over_kafka(kafka, topic, frames, [r["shop"] for r in ROWS], 4)
    stream.finish()
    feeding.settle(server, name)
    confirm(
        verify(
            server,
            name,
            name,
            ORDERS_QUERY,
            records=list(from_kafka(kafka.bootstrap, topic)),
        )
    )
