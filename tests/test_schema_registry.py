"""The embedded registry under Confluent's own client, serializer and deserializer, unmodified."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import httpx
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext

ONE = {
    "type": "record",
    "name": "Order",
    "namespace": "shop",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    ],
}
NOTE = {"name": "note", "type": ["null", "string"], "default": None}
GROWN = {**ONE, "fields": [*ONE["fields"], NOTE]}
# A new field without a default: old records cannot be read with it.
BROKEN = {**ONE, "fields": [*ONE["fields"], {"name": "must", "type": "string"}]}


def avro(schema: dict[str, Any]) -> Schema:
    return Schema(json.dumps(schema), "AVRO")


def failing(call: Callable[[], object]) -> tuple[int, int]:
    """HTTP status and error code of a call that the registry refuses."""
    with pytest.raises(SchemaRegistryError) as error:
        call()
    assert error.value.error_message
    return error.value.http_status_code, error.value.error_code


@pytest.fixture(params=["embedded", "apicurio"])
def url(request: pytest.FixtureRequest) -> str:
    """What holds for ours holds for a registry of others: the tests are of the protocol."""
    if request.param == "embedded":
        return f"{request.getfixturevalue('shared').url}/schema-registry"
    return str(request.getfixturevalue("apicurio").url)


@pytest.fixture
def client(url: str) -> SchemaRegistryClient:
    return SchemaRegistryClient({"url": url})


@pytest.fixture
def ours(shared) -> SchemaRegistryClient:
    return SchemaRegistryClient({"url": f"{shared.url}/schema-registry"})


def test_subjects_versions_and_ids(client, name):
    subject = f"{name}/a b-value"  # needs percent-encoding
    first = client.register_schema(subject, avro(ONE))
    assert client.register_schema(subject, avro(ONE)) == first
    second = client.register_schema(subject, avro(GROWN))
    assert second != first
    assert subject in client.get_subjects()
    assert client.get_versions(subject) == [1, 2]
    assert json.loads(client.get_schema(first).schema_str) == ONE
    latest = client.get_latest_version(subject)
    assert (latest.version, latest.schema_id) == (2, second)
    assert json.loads(latest.schema.schema_str) == GROWN
    assert client.get_version(subject, 1).schema_id == first
    found = client.lookup_schema(subject, avro(ONE))
    assert (found.subject, found.version, found.schema_id) == (subject, 1, first)
    other = f"{name}_other-value"
    assert client.register_schema(other, avro(ONE)) == first  # one schema, one id


def test_what_is_not_there_has_confluents_error_codes(client, name):
    missing = f"{name}-missing"
    assert failing(lambda: client.get_versions(missing)) == (404, 40401)
    assert failing(lambda: client.get_latest_version(missing))[0] == 404
    assert failing(lambda: client.get_schema(2_000_000_000)) == (404, 40403)
    client.register_schema(f"{name}-value", avro(ONE))
    assert failing(lambda: client.get_version(f"{name}-value", 99)) == (404, 40402)
    assert failing(lambda: client.lookup_schema(f"{name}-value", avro(BROKEN))) == (404, 40403)
    bad = Schema('{"type": "record", "name": "X"}', "AVRO")
    assert failing(lambda: client.register_schema(f"{name}-bad", bad)) == (422, 42201)


def test_incompatible_schemas_are_refused(client, name):
    subject = f"{name}-value"
    client.register_schema(subject, avro(ONE))
    assert failing(lambda: client.register_schema(subject, avro(BROKEN)))[0] == 409
    assert client.get_versions(subject) == [1]
    assert client.test_compatibility(subject, avro(GROWN))
    assert not client.test_compatibility(subject, avro(BROKEN))


def test_levels(ours, name):
    subject = f"{name}-value"
    assert ours.get_compatibility() == "BACKWARD"
    assert failing(lambda: ours.get_compatibility(subject)) == (404, 40408)
    ours.register_schema(subject, avro(ONE))
    ours.set_compatibility(subject, "FORWARD")
    assert ours.get_compatibility(subject) == "FORWARD"
    assert ours.test_compatibility(subject, avro(BROKEN))
    ours.set_compatibility(subject, "FULL")
    assert not ours.test_compatibility(subject, avro(BROKEN))
    ours.set_compatibility(subject, "NONE")
    ours.register_schema(subject, avro(BROKEN))
    assert ours.get_versions(subject) == [1, 2]
    assert failing(lambda: ours.set_compatibility(subject, "SIDEWAYS")) == (422, 42203)


def test_deleting_is_soft_first(ours, name):
    subject = f"{name}-value"
    first = ours.register_schema(subject, avro(ONE))
    ours.register_schema(subject, avro(GROWN))
    assert failing(lambda: ours.delete_version(subject, 1, permanent=True)) == (404, 40407)
    assert ours.delete_version(subject, 1) == 1
    assert ours.get_versions(subject) == [2]
    assert failing(lambda: ours.delete_version(subject, 1)) == (404, 40406)
    assert ours.delete_subject(subject) == [2]
    assert subject not in ours.get_subjects()
    assert failing(lambda: ours.delete_subject(subject)) == (404, 40404)
    assert ours.delete_subject(subject, permanent=True) == [1, 2]
    # A fresh client, for this one remembers.
    fresh = SchemaRegistryClient({"url": ours._rest_client.base_urls[0]})
    assert json.loads(fresh.get_schema(first).schema_str) == ONE


@pytest.mark.parametrize("normalize", [False, True])
def test_the_serializer_and_the_deserializer(client, name, normalize):
    topic = f"{name}_{normalize}".lower()
    options = {"auto.register.schemas": True, "normalize.schemas": normalize}
    serialize = AvroSerializer(client, json.dumps(GROWN), conf=options)
    context = SerializationContext(topic, MessageField.VALUE)
    row = {
        "id": "a",
        "amount": Decimal("12.50"),
        "ts": datetime(2024, 1, 1, 0, 0, 0, 123000, tzinfo=timezone.utc),
        "note": None,
    }
    frame = serialize(row, context)
    assert frame[0] == 0
    assert client.get_latest_version(f"{topic}-value").schema_id == int.from_bytes(frame[1:5], "big")
    assert AvroDeserializer(client)(frame, context) == row
    # A reader of its own, with another idea of the record.
    reader = {**ONE, "fields": [ONE["fields"][0], {"name": "more", "type": "int", "default": 7}]}
    assert AvroDeserializer(client, json.dumps(reader))(frame, context) == {"id": "a", "more": 7}


def test_frames_of_the_serializer_become_rows(shared, ours, name):
    """A stream reads what Confluent's serializer writes, under an older schema and a newer one."""
    subject = f"{name}-value"
    context = SerializationContext(name, MessageField.VALUE)
    old = AvroSerializer(ours, json.dumps(ONE))
    frames = [old({"id": "a", "amount": Decimal("-1"), "ts": 1_704_067_200_123}, context)]
    fs = shared.store()
    stream = fs.get_or_create_stream(name, GROWN, event_time="ts", time="historical")
    new = AvroSerializer(ours, conf={"auto.register.schemas": False, "use.latest.version": True})
    frames.append(new({"id": "b", "amount": Decimal(9_999_999), "ts": 0, "note": "żółw"}, context))
    assert ours.get_versions(subject) == [1, 2]
    stream.append_encoded(frames)
    records = shared.get(f"/api/v1/streams/{name}/records", partition=0, offset=0)["records"]
    assert [record["row"] for record in records] == [
        {"id": "a", "amount": "-1.00", "ts": "2024-01-01T00:00:00.123Z", "note": None},
        {"id": "b", "amount": "9999999.00", "ts": "1970-01-01T00:00:00Z", "note": "żółw"},
    ]


def test_a_registry_elsewhere(make_server, apicurio, name):
    """Schemas are registered, found and looked up by id there; our own routes say where they are."""
    server = make_server(env={"MILLPOND_SCHEMA_REGISTRY__URL": apicurio.url})
    client = SchemaRegistryClient({"url": apicurio.url})
    fs = server.store()
    fs.get_or_create_stream(name, ONE, event_time="ts", time="historical")
    assert client.get_versions(f"{name}-value") == [1]
    found = client.register_schema(f"{name}_found-value", avro(GROWN))
    stream = fs.get_or_create_stream(f"{name}_found", event_time="ts", time="historical")
    serialize = AvroSerializer(client, conf={"auto.register.schemas": False, "use.latest.version": True})
    context = SerializationContext(f"{name}_found", MessageField.VALUE)
    frame = serialize({"id": "a", "amount": Decimal("1.5"), "ts": 0, "note": "x"}, context)
    assert int.from_bytes(frame[1:5], "big") == found
    stream.append_encoded([frame])
    (record,) = server.get(f"/api/v1/streams/{name}_found/records", partition=0, offset=0)["records"]
    assert record["row"] == {"id": "a", "amount": "1.50", "ts": "1970-01-01T00:00:00Z", "note": "x"}
    reply = httpx.get(f"{server.url}/schema-registry/subjects")
    assert reply.status_code == 404
    assert apicurio.url in reply.json()["message"]


def test_the_registrys_own_content_type(shared):
    reply = httpx.get(f"{shared.url}/schema-registry/subjects")
    assert reply.headers["content-type"] == "application/vnd.schemaregistry.v1+json"
