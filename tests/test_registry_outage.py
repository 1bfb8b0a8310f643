"""An external registry that goes away: what is cached goes on, what is not waits, nothing is lost."""

import time

from tests.definitions import CTR, CTR_SQL
from tests.harness import feeding
from tests.harness.apicurio import Apicurio
from tests.harness.events import encode, generate, schema
from tests.oracle import verify
from tests.oracle.records import from_kafka

EVENT = schema("event")
# The same fields and one more, with another id.
WIDER = {**EVENT, "fields": [*EVENT["fields"], {"name": "note", "type": "string", "default": ""}]}


def test_pipelines_wait_for_the_registry(kafka, make_server, tmp_path, name):
    registry = Apicurio(tmp_path).start()
    try:
        topic = kafka.topic(name, 1)
        env = {
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "MILLPOND_SCHEMA_REGISTRY__URL": registry.url,
            # The registry keeps its schemas in memory and comes back empty: until they are registered again
            # their ids are unknown, and records quarantined only after this long.
            "MILLPOND_SCHEMA_REGISTRY__UNKNOWN_GRACE": "30",
            "MILLPOND_SCHEMA_REGISTRY__TIMEOUT": "1",
        }
        server = make_server(env)
        first = feeding.register(registry.url, f"{topic}-value", EVENT)
        second = feeding.register(registry.url, f"{topic}-value", WIDER)
        rows = generate(9000, users=5, minutes=60, disorder=5, seed=8).rows
        fs = server.store()
        stream = fs.get_or_create_stream(
            "events", EVENT, event_time="ts", watermark_delay=5, time="historical", topic=topic
        )
        group = fs.get_or_create_feature_group("ctr", sql=CTR_SQL.format(stream="events"))
        feeding.over_kafka(kafka, topic, encode(first, EVENT, rows[:3000]), ["k"] * 3000, 1)
        feeding.settle(server, "ctr")

        registry.kill()
        # a schema that is cached: goes on
        feeding.over_kafka(kafka, topic, encode(first, EVENT, rows[3000:6000]), ["k"] * 3000, 1)
        feeding.settle(server, "ctr")
        # one that is not: waits, says why, quarantines nothing
        wider = [{**r, "note": "x"} for r in rows[6000:]]
        feeding.over_kafka(kafka, topic, encode(second, WIDER, wider), ["k"] * 3000, 1)
        deadline = time.monotonic() + 30
        while group.status().state != "waiting" and time.monotonic() < deadline:
            time.sleep(0.1)
        status = group.status()
        assert status.state == "waiting"
        assert status.reason
        assert stream.quarantine_counts() == {}

        registry.start()  # in memory: register again, in the same order
        assert feeding.register(registry.url, f"{topic}-value", EVENT) == first
        assert feeding.register(registry.url, f"{topic}-value", WIDER) == second
        deadline = time.monotonic() + 60
        while group.status().state == "waiting" and time.monotonic() < deadline:
            time.sleep(0.2)
        stream.finish()
        feeding.settle(server, "ctr")
        verified = verify(
            server,
            "events",
            "ctr",
            CTR,
            records=list(from_kafka(kafka.bootstrap, topic)),
            registry_url=registry.url,
        )
        assert verified.expected.counts["applied"] == 9000
    finally:
        registry.stop()
