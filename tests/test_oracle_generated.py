"""A million generated events, most windows with a hundred or more, a third and more out of order, bad ones mixed in."""

from collections import Counter

import pytest

from tests.definitions import CTR, CTR_SQL, WIDE, WIDE_SQL
from tests.harness import feeding
from tests.harness.events import encode, generate, malformed, mixed_in, schema
from tests.oracle import verify
from tests.oracle.records import from_kafka, over_http

COUNT = 1_000_000
EVENT = schema("event")
PATIENT, HASTY = 60, 5  # watermark delays in seconds; events come up to 60 s late


@pytest.fixture(scope="module")
def generated():
    events = generate(COUNT, users=60, minutes=5 * 80, disorder=60, seed=3)
    assert events.displaced >= 0.3
    windows = Counter((r["user_id"], r["ts"] // CTR.window) for r in events.rows)
    assert sum(n >= 100 for n in windows.values()) > 0.9 * len(windows)
    return events.rows


def records(schema_id, rows):
    """Frames with the malformed ones mixed in, each kind three times; and how many to expect by reason."""
    frames = encode(schema_id, EVENT, rows)
    bad = malformed(schema_id, frames[0]) * 3
    return mixed_in(frames, [value for _, value in bad], seed=5), Counter(reason for reason, _ in bad)


def confirm(verified, reasons, delay):
    counts = verified.expected.counts
    assert counts["read"] == COUNT + reasons.total()
    assert Counter(verified.observed.quarantine.values()) == reasons
    assert len(reasons) >= 5
    assert (counts["late"] > 0) == (delay == HASTY)


@pytest.mark.parametrize("delay", [PATIENT, HASTY])
def test_from_the_embedded_log(make_server, generated, delay):
    server = make_server({"MILLPOND_SCHEMA_REGISTRY__UNKNOWN_GRACE": "0.2"})
    fs = server.store()
    stream = fs.get_or_create_stream(
        "events", EVENT, event_time="ts", watermark_delay=delay, time="historical"
    )
    fs.get_or_create_feature_group("ctr", sql=CTR_SQL.format(stream="events"))
    fs.get_or_create_feature_group("wide", sql=WIDE_SQL.format(stream="events"))
    frames, reasons = records(stream.schema_id, generated)
    feeding.over_http(stream, frames)
    stream.finish()
    raw = list(over_http(server.http, "events"))
    for group, query in (("ctr", CTR), ("wide", WIDE)):
        feeding.settle(server, group, timeout=600)
        confirm(verify(server, "events", group, query, records=raw), reasons, delay)


@pytest.mark.parametrize("delay", [PATIENT, HASTY])
def test_from_four_partitions_of_kafka(kafka, apicurio, make_server, generated, delay):
    topic = kafka.topic(f"events_{delay}", 4)
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "MILLPOND_SCHEMA_REGISTRY__URL": apicurio.url,
        "MILLPOND_SCHEMA_REGISTRY__UNKNOWN_GRACE": "0.2",
    }
    server = make_server(env)
    fs = server.store()
    schema_id = feeding.register(apicurio.url, f"{topic}-value", EVENT)
    stream = fs.get_or_create_stream(
        "events", event_time="ts", watermark_delay=delay, time="historical", topic=topic
    )
    assert stream.schema_id == schema_id
    fs.get_or_create_feature_group("ctr", sql=CTR_SQL.format(stream="events"))
    frames, reasons = records(schema_id, generated)
    keys = [str(f and f[6:12]) for f in frames]
    feeding.over_kafka(kafka, topic, frames, keys, 4)
    stream.finish()
    feeding.settle(server, "ctr", timeout=600)
    raw = list(from_kafka(kafka.bootstrap, topic))
    assert {r.partition for r in raw} == {0, 1, 2, 3}
    verified = verify(server, "events", "ctr", CTR, records=raw, registry_url=apicurio.url)
    confirm(verified, reasons, delay)
