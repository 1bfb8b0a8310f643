"""The OpenAPI document: committed as it is served, and what the Python client sends is in it."""

import json
import re
import subprocess
from datetime import datetime, timezone

import httpx
import millpond
import pytest

from tests.harness.events import schema
from tests.harness.server import binary

EVENT = schema("event")
SQL = """SELECT user_id, COUNT(*) AS n FROM TUMBLE(openapi, DESCRIPTOR(ts), INTERVAL '1' MINUTE)
GROUP BY user_id, window_end"""
ROW = {"user_id": "a", "item_id": 1, "campaign_id": 1, "action": "click", "ts": "2024-05-01T12:00:00Z"}


class Recording(httpx.BaseTransport):
    """Passes requests on and keeps them."""

    def __init__(self):
        self.inner = httpx.HTTPTransport()
        self.requests = []

    def handle_request(self, request):
        self.requests.append(request)
        return self.inner.handle_request(request)


@pytest.fixture(scope="module")
def document(shared):
    return shared.get("/openapi.json")


def test_it_is_committed_as_it_is_served(document, root):
    printed = subprocess.run([binary(), "openapi"], capture_output=True, text=True, check=True).stdout
    assert json.loads(printed) == document
    committed = json.loads((root / "server" / "openapi.json").read_text())
    assert committed == document, "run: millpond openapi > server/openapi.json"


@pytest.fixture(scope="module")
def requests(shared):
    """Every kind of request that the client makes."""
    recording = Recording()
    fs = millpond.login(shared.url, transport=recording).get_feature_store()
    stream = fs.get_or_create_stream("openapi", EVENT, event_time="ts", time="historical", idle_timeout=60)
    group = fs.get_or_create_feature_group("openapi", sql=SQL, ttl=10**9, description="d")
    view = fs.get_or_create_feature_view("openapi", group.select_all().join(group.select(["n"]), prefix="p_"))
    group.wait(stream.append([ROW], partition=0))
    stream.append_encoded([b"junk"])
    position = stream.heartbeat("2024-05-01T12:01:00Z", partition=0)
    group.wait(stream.finish(stream.finish()))
    for call in (fs.get_streams, fs.get_feature_groups, fs.get_feature_views):
        assert call()
    fs.get_stream("openapi")
    fs.get_feature_group("openapi")
    fs.get_feature_view("openapi")
    for call in (
        stream.quarantine,
        stream.accounting,
        stream.records,
        group.explain,
        group.epochs,
        group.late,
    ):
        call()
    group.pause()
    group.resume()
    group.flush()
    group.rows("previous", limit=1)
    group.row("a")
    group.history("2024-05-01", "2024-05-02", limit=1, dataframe_type="python")
    view.get_feature_vector(
        {"user_id": "a"}, allow_missing=True, max_age=1, min_position=position, include_keys=True
    )
    labels = [{"user_id": "a", "at": datetime(2024, 5, 1, 12, 5, tzinfo=timezone.utc)}]
    view.training_data(
        spine_df=labels, primary_key=True, event_time=True, as_of="2030-01-01", dataframe_type="python"
    )
    view.get_batch_data(
        "2024-05-01", "2024-05-02", primary_key=True, event_time=True, dataframe_type="python"
    )
    view.delete()
    group.delete(force=True, purge=True)
    stream.delete()
    return recording.requests


def _operation(document, request):
    for path, operations in document["paths"].items():
        pattern = re.sub(r"\\\{[^/]+\\\}", "[^/]+", re.escape(path))
        if re.fullmatch(pattern, request.url.path) and request.method.lower() in operations:
            return operations[request.method.lower()]
    return None


def _resolved(document, schema):
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


def test_every_request_of_the_client_is_documented(document, requests):
    seen = set()
    for request in requests:
        operation = _operation(document, request)
        what = f"{request.method} {request.url.path}"
        assert operation is not None, f"{what} is not in the document"
        seen.add(operation.get("operationId"))
        parameters = {p["name"].lower() for p in operation.get("parameters", [])}
        assert {k.lower() for k in request.url.params} <= parameters, what
        assert {h for h in request.headers if h.startswith("millpond-")} <= parameters, what
        if not request.content:
            continue
        media = request.headers["content-type"]
        content = operation["requestBody"]["content"]
        assert media in content, f"{what} sends {media}"
        if media == "application/json":
            body = json.loads(request.content)
            properties = _resolved(document, content[media]["schema"]).get("properties", {})
            assert body.keys() <= properties.keys(), what
    assert len(seen) > 25
