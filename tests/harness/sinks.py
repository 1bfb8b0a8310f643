"""What a sink gave, and what it should have given: topics through Confluent's own clients, histories from the server."""

import time
from datetime import datetime, timezone

import confluent_kafka
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from . import feeding
from .events import encode, generate, schema

UTC = timezone.utc
EVENT = schema("event")


def consume(bootstrap, topic):
    """All records that are committed, in the order of each partition: (partition, key bytes, value bytes, headers)."""
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": bootstrap,
        "group.id": "test",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
    })  # fmt: skip
    partitions = consumer.list_topics(topic, 10).topics[topic].partitions
    consumer.assign([confluent_kafka.TopicPartition(topic, p, 0) for p in partitions])
    records, left = [], set(partitions)
    deadline = time.monotonic() + 60
    while left:
        assert time.monotonic() < deadline, f"partitions {left} do not end"
        message = consumer.poll(1)
        if message is None:
            continue
        if message.error():
            assert message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF, message.error()
            left.discard(message.partition())
            continue
        records.append((message.partition(), message.key(), message.value(), dict(message.headers())))
    consumer.close()
    return records


class Changelog:
    """A topic through Confluent's deserializer: rows as (key, row), None for a delete, by partition and in order."""

    def __init__(self, registry_url, bootstrap, topic):
        registry = SchemaRegistryClient({"url": registry_url})
        read = AvroDeserializer(registry)
        key, value = (SerializationContext(topic, field) for field in (MessageField.KEY, MessageField.VALUE))
        self.records = consume(bootstrap, topic)
        self.rows = [
            (read(k, key), None if v is None else read(v, value), headers)
            for _, k, v, headers in self.records
        ]


def normal(row):
    """What Avro and Arrow say differently: instants have many zones, a map is a dict or a list of pairs."""

    def value(v):
        if isinstance(v, datetime) and v.tzinfo:
            return v.astimezone(UTC)
        return (
            dict(v) if isinstance(v, list) and v and all(isinstance(x, tuple) for x in v) else v or plain(v)
        )

    def plain(v):
        return None if v in ([], {}) else v

    return {k: value(v) for k, v in row.items()}


def history(group):
    """The group's history in the order of commits; rows of a commit by key."""
    rows = group.read(dataframe_type="python")
    return [normal(r) for r in rows]


def ordered(rows, keys):
    """In an order that both sides can have."""
    return sorted(rows, key=lambda r: (r["_commit"], *(str(r[k]) for k in keys), str(r["_event_time"])))


def assert_changelog_is_history(changelog, group):
    """Record by record; a delete has lost its row, so it is compared by its key and its place."""
    keys = group.primary_key
    expected = history(group)
    upserts = [normal(row) for _, row, _ in changelog.rows if row is not None]
    assert ordered(upserts, keys) == ordered([r for r in expected if r["_op"] == "upsert"], keys)
    # Each key: the same rows in the same order, deletes among them.
    by_key, wanted = {}, {}
    for key, row, _ in changelog.rows:
        by_key.setdefault(tuple(key.values()), []).append(None if row is None else row["_commit"])
    for row in sorted(expected, key=lambda r: r["_commit"]):
        of_key = wanted.setdefault(tuple(row[k] for k in keys), [])
        of_key.append(None if row["_op"] == "delete" else row["_commit"])
    assert by_key == wanted
    for key, row, _ in changelog.rows:
        assert row is None or {k: row[k] for k in keys} == key


def assert_ordered(changelog):
    """Sequences never go back within a partition, and a key has one partition."""
    last, partition_of = {}, {}
    for partition, key, _, headers in changelog.records:
        sequence = int.from_bytes(headers["millpond-sequence"], "big")
        assert sequence >= last.get(partition, 0)
        last[partition] = sequence
        assert partition_of.setdefault(key, partition) == partition


def sink(group, name):
    return next(s for s in group.refresh()["sinks"] if s["name"] == name)


def windows(server, name, sinks, sql):
    """A derived group over a finished stream."""
    fs = server.store()
    stream = fs.get_or_create_stream(
        f"{name}_events", EVENT, event_time="ts", time="historical", watermark_delay=20
    )
    group = fs.get_or_create_feature_group(name, sql=sql.format(stream=stream.name), sinks=sinks)
    rows = generate(20_000, users=40, minutes=60, disorder=20, seed=9).rows
    stream.append_encoded(encode(stream.schema_id, EVENT, rows))
    stream.finish()
    feeding.settle(server, name)
    group.flush()
    return group
