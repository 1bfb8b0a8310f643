"""The embedded registry under Confluent's own client, serializer and deserializer, unmodified."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import httpx
import millpond
import pytest
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from tests.harness import feeding

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


COUNTRY = {"type": "enum", "name": "Country", "namespace": "geo", "symbols": ["PL", "DE"]}
ADDRESS = {
    "type": "record",
    "name": "Address",
    "namespace": "geo",
    "fields": [{"name": "city", "type": "string"}, {"name": "country", "type": "geo.Country"}],
}


def shipped(client: SchemaRegistryClient, name: str) -> Schema:
    """An order whose types are defined in two other subjects, one of which refers to the other."""
    country, address = f"{name}.country", f"{name}.address"
    client.register_schema(country, avro(COUNTRY))
    of_country = SchemaReference("geo.Country", country, 1)
    client.register_schema(address, Schema(json.dumps(ADDRESS), "AVRO", [of_country]))
    order = {**ONE, "fields": [*ONE["fields"], {"name": "to", "type": "geo.Address"}]}
    order["fields"].append({"name": "origin", "type": ["null", "geo.Country"], "default": None})
    return Schema(json.dumps(order), "AVRO", [SchemaReference("geo.Address", address, 1), of_country])


ROW = {
    "id": "a",
    "amount": Decimal("12.50"),
    "ts": datetime(2024, 1, 1, tzinfo=timezone.utc),
    "to": {"city": "Kraków", "country": "PL"},
    "origin": "DE",
}


def test_schemas_that_refer_to_others(client, name):
    schema = shipped(client, name)
    context = SerializationContext(name, MessageField.VALUE)
    frame = AvroSerializer(client, schema)(ROW, context)
    found = client.get_latest_version(f"{name}-value")
    assert found.schema_id == int.from_bytes(frame[1:5], "big")
    assert [(r.name, r.subject, r.version) for r in found.schema.references] == [
        ("geo.Address", f"{name}.address", 1),
        ("geo.Country", f"{name}.country", 1),
    ]
    assert client.register_schema(f"{name}-value", schema) == found.schema_id
    assert AvroDeserializer(client)(frame, context) == ROW


def test_a_reference_that_is_not_there_and_one_that_is_in_use(ours, name):
    schema = shipped(ours, name)
    ours.register_schema(f"{name}-value", schema)
    missing = Schema(schema.schema_str, "AVRO", [SchemaReference("geo.Address", f"{name}.nowhere", 1)])
    assert failing(lambda: ours.register_schema(f"{name}-other", missing)) == (422, 42201)
    bare = Schema(schema.schema_str, "AVRO")
    assert failing(lambda: ours.register_schema(f"{name}-other", bare)) == (422, 42201)
    assert failing(lambda: ours.delete_subject(f"{name}.country")) == (422, 42206)
    ours.delete_subject(f"{name}-value")
    ours.delete_subject(f"{name}.address")
    ours.delete_subject(f"{name}.country")


def rows_under_references(server, client, name) -> None:
    schema = shipped(client, name)
    client.register_schema(f"{name}-value", schema)
    fs = server.store()
    stream = fs.get_or_create_stream(name, event_time="ts", time="historical")
    sql = f"""SELECT CAST("to"['country'] AS VARCHAR) AS country, COUNT(*) AS n, COUNT(origin) AS known,
                     SUM(amount) AS amount
              FROM TUMBLE({name}, DESCRIPTOR(ts), INTERVAL '1' MINUTE)
              GROUP BY CAST("to"['country'] AS VARCHAR), window_end"""
    group = fs.get_or_create_feature_group(name, sql=sql)
    context = SerializationContext(name, MessageField.VALUE)
    frames = [AvroSerializer(client, schema)(ROW, context) for _ in range(3)]
    stream.append_encoded(frames)
    stream.append([{**ROW, "origin": None}])
    stream.finish()
    feeding.settle(server, name)
    assert stream.quarantine_counts() == {}
    found = [(r["country"], r["n"], r["known"], str(r["amount"])) for r in group.rows()]
    assert found == [("PL", 4, 3, "50.00")]


def test_records_under_a_schema_with_references(make_server, name):
    server = make_server()
    client = SchemaRegistryClient({"url": f"{server.url}/schema-registry"})
    rows_under_references(server, client, name)
    server.stop()
    server.start()
    assert server.store().get_stream(name).records()[0]["row"]["to"] == {"city": "Kraków", "country": "PL"}


def test_records_under_a_schema_with_references_elsewhere(make_server, apicurio, name):
    server = make_server(env={"MILLPOND_SCHEMA_REGISTRY__URL": apicurio.url})
    rows_under_references(server, SchemaRegistryClient({"url": apicurio.url}), name)


PURCHASE = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "title": "Purchase",
    "additionalProperties": False,
    "required": ["user_id", "n", "at"],
    "properties": {
        "user_id": {"type": "string"},
        "n": {"type": "integer"},
        "price": {"oneOf": [{"type": "null"}, {"$ref": "#/definitions/price"}]},
        "at": {"type": "string", "format": "date-time"},
    },
    "definitions": {"price": {"type": "number", "minimum": 0}},
}


def wider() -> dict[str, Any]:
    return {**PURCHASE, "properties": {**PURCHASE["properties"], "note": {"type": "string"}}}


def json_schema(schema: dict[str, Any]) -> Schema:
    return Schema(json.dumps(schema), "JSON")


def test_json_schemas_have_subjects(client, name):
    subject = f"{name}-value"
    first = client.register_schema(subject, json_schema(PURCHASE))
    assert client.register_schema(subject, json_schema(PURCHASE)) == first
    found = client.get_latest_version(subject)
    assert (found.schema.schema_type, json.loads(found.schema.schema_str)) == ("JSON", PURCHASE)
    assert client.get_schema(first).schema_type == "JSON"
    assert client.lookup_schema(subject, json_schema(PURCHASE)).version == 1
    changed = {**PURCHASE, "properties": {**PURCHASE["properties"], "n": {"type": "string"}}}
    assert not client.test_compatibility(subject, json_schema(changed))
    assert failing(lambda: client.register_schema(subject, json_schema(changed)))[0] == 409
    assert client.register_schema(subject, json_schema(wider())) != first
    assert client.get_versions(subject) == [1, 2]


def test_what_confluents_json_serializer_writes(ours, shared, name):
    """A stream of the subject's JSON Schema: framed records in, columns by the schema, framed records out."""
    serialize = JSONSerializer(json.dumps(PURCHASE), ours)
    context = SerializationContext(name, MessageField.VALUE)
    rows = [
        {"user_id": "a", "n": 2, "price": 1.5, "at": "2024-05-01T12:00:00Z"},
        {"user_id": "a", "n": 3, "price": None, "at": "2024-05-01T12:00:10Z"},
    ]
    frames = [serialize(row, context) for row in rows]
    fs = shared.store()
    stream = fs.get_or_create_stream(name, event_time="at", time="historical", format="json")
    assert {c.name: (c.type, c.nullable) for c in stream.columns} == {
        "user_id": ("string", False), "n": ("bigint", False), "price": ("double", True), "at": ("timestamp", False),
    }  # fmt: skip
    sql = f"""SELECT user_id, SUM(n) AS n, SUM(price) AS price
              FROM TUMBLE({name}, DESCRIPTOR(at), INTERVAL '1' MINUTE) GROUP BY user_id, window_end"""
    group = fs.get_or_create_feature_group(name, sql=sql)
    stream.append_encoded(frames)
    stream.append([{"user_id": "b", "n": 5, "at": "2024-05-01T12:00:20Z"}])
    stream.finish()
    feeding.settle(shared, name)
    assert {(r["user_id"], r["n"], r["price"]) for r in group.rows()} == {("a", 5, 1.5), ("b", 5, None)}
    # What came in as a row goes out as the serializer would have written it.
    deserialize = JSONDeserializer(None, schema_registry_client=ours)
    values = [deserialize(record["value"], context) for record in stream.records()]
    assert [value["n"] for value in values] == [2, 3, 5]
    # The stream moves with its schema, and one that comes with it is registered.
    again = fs.get_or_create_stream(name, wider(), event_time="at", time="historical", format="json")
    assert [c.name for c in again.columns if c.name == "note"] == ["note"]
    assert ours.get_versions(f"{name}-value") == [1, 2]
    with pytest.raises(millpond.MillpondError):
        fs.get_or_create_stream(f"{name}_avro", subject=f"{name}-value", event_time="at")
    anything = {"type": "object", "properties": {"at": {"type": "string"}, "x": {}}}
    with pytest.raises(millpond.MillpondError, match="x: "):
        fs.get_or_create_stream(f"{name}_any", anything, event_time="at", format="json")
