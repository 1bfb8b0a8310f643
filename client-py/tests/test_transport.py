"""What the client does when the server refuses, is busy, or is not there."""

import asyncio
import json

import httpx
import pytest

import millpond
from millpond import _retry

STREAM = {
    "name": "events",
    "subject": "events-value",
    "event_time": "ts",
    "schema_id": 1,
    "columns": [
        {"name": "user_id", "type": "string"},
        {"name": "n", "type": "bigint"},
        {"name": "ts", "type": "timestamp"},
    ],
}


class Server:
    """Replies from a list, in turn; remembers what it was asked."""

    def __init__(self, *replies):
        self.replies = list(replies)
        self.requests = []

    def __call__(self, request):
        if request.url.path == "/health":
            return httpx.Response(200, json={"status": "ok"})
        if request.method == "GET" and request.url.path == "/api/v1/streams/events":
            return httpx.Response(200, json=STREAM)
        self.requests.append(request)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def store(self, **options):
        return millpond.login("http://m", transport=httpx.MockTransport(self), **options).get_feature_store()


def refusal(status, code, headers=None, **rest):
    return httpx.Response(
        status, json={"error": {"code": code, "message": "no", "hint": "do so", **rest}}, headers=headers
    )


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    seen = []

    def pause(attempt, retry_after=None):
        seen.append(retry_after)
        return 0.0

    monkeypatch.setattr(_retry, "pause", pause)
    return seen


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_request", millpond.InvalidRequestError),
        (401, "unauthorized", millpond.UnauthorizedError),
        (403, "forbidden", millpond.ForbiddenError),
        (404, "not_found", millpond.NotFoundError),
        (409, "conflict", millpond.ConflictError),
        (410, "gone", millpond.GoneError),
        (413, "payload_too_large", millpond.PayloadTooLargeError),
        (422, "invalid_schema", millpond.InvalidSchemaError),
        (422, "invalid_sql", millpond.InvalidSqlError),
        (422, "unsupported", millpond.UnsupportedError),
        (500, "internal", millpond.InternalServerError),
        (504, "timeout", millpond.DeadlineError),
        (418, "a_code_of_a_later_release", millpond.MillpondError),
    ],
)
def test_each_code_has_its_exception(status, code, kind):
    fs = Server(refusal(status, code)).store()
    with pytest.raises(kind) as caught:
        fs.get_feature_group("g")
    error = caught.value
    assert (error.code, error.message, error.hint, error.status) == (code, "no", "do so", status)
    assert "hint: do so" in str(error)


def test_a_page_that_is_not_ours_is_said_to_be_so():
    fs = Server(httpx.Response(404, text="<html>nginx</html>")).store()
    with pytest.raises(millpond.NotFoundError, match="nginx"):
        fs.get_feature_view("v")
    fs = Server(httpx.Response(200, text="<html>portal</html>")).store()
    with pytest.raises(millpond.InternalServerError, match="portal"):
        fs.get_feature_view("v")


def test_busy_is_waited_for_as_long_as_the_server_says(pauses):
    server = Server(
        refusal(429, "too_many_requests", {"Retry-After": "3"}), httpx.Response(200, json={"streams": []})
    )
    assert server.store().get_streams() == []
    assert pauses == ["3"]


def test_busy_for_too_long_is_an_error():
    server = Server(*[refusal(503, "unavailable")] * 3)
    with pytest.raises(millpond.UnavailableError):
        server.store(retries=2).get_streams()
    assert len(server.requests) == 3


def test_nobody_there():
    def refuse(request):
        raise httpx.ConnectError("Connection refused")

    with pytest.raises(millpond.UnreachableError, match="http://m: Connection refused"):
        millpond.login("http://m", transport=httpx.MockTransport(refuse), retries=1)


def test_a_lost_reply_is_asked_for_again_under_the_same_sequence():
    ok = httpx.Response(200, json={"position": "p", "appended": 1})
    server = Server(httpx.ReadTimeout("slow"), ok, ok)
    stream = server.store().get_stream("events")
    assert stream.append([{"user_id": "a", "ts": 1}]) == "p"
    stream.append([{"user_id": "b", "ts": 2}])
    ids = [r.headers["Millpond-Producer-Id"] for r in server.requests]
    assert [r.headers["Millpond-Sequence"] for r in server.requests] == ["1", "1", "2"]
    assert len(set(ids)) == 1
    assert server.requests[0].content == server.requests[1].content


def test_after_an_unknown_outcome_the_stream_goes_on_as_a_new_producer():
    ok = httpx.Response(200, json={"position": "p", "appended": 1})
    server = Server(httpx.ReadTimeout("slow"), ok)
    stream = server.store(retries=0).get_stream("events")
    with pytest.raises(millpond.UnreachableError):
        stream.append([{"user_id": "a", "ts": 1}])
    stream.append([{"user_id": "a", "ts": 1}])
    first, second = server.requests
    assert first.headers["Millpond-Producer-Id"] != second.headers["Millpond-Producer-Id"]
    assert second.headers["Millpond-Sequence"] == "1"


def test_an_append_to_a_topic_is_not_repeated_once_it_was_sent():
    ok = httpx.Response(200, json={"position": "p", "appended": 1})
    server = Server(httpx.ConnectError("refused"), ok, httpx.ReadTimeout("slow"), ok)
    connection = millpond.login("http://m", transport=httpx.MockTransport(server))
    stream = millpond.Stream(connection._transport, {**STREAM, "topic": "t"})
    assert stream.append([{"user_id": "a", "ts": 1}]) == "p"
    assert "Millpond-Sequence" not in server.requests[1].headers
    with pytest.raises(millpond.UnreachableError):
        stream.append([{"user_id": "a", "ts": 1}])


def test_a_refused_batch_uses_up_no_sequence():
    ok = httpx.Response(200, json={"position": "p", "appended": 1})
    bad = refusal(422, "invalid_rows", details=[{"row": 0, "field": "ts", "message": "missing"}])
    server = Server(bad, ok)
    stream = server.store().get_stream("events")
    with pytest.raises(millpond.InvalidRowsError) as caught:
        stream.append([{"user_id": "a"}])
    assert caught.value.rows == [{"row": 0, "field": "ts", "message": "missing"}]
    stream.append([{"user_id": "a", "ts": 1}])
    assert [r.headers["Millpond-Sequence"] for r in server.requests] == ["1", "1"]


def test_row_numbers_count_over_batches(monkeypatch):
    monkeypatch.setattr("millpond._batches.BATCH_BYTES", 40)
    ok = httpx.Response(200, json={"position": "p", "appended": 1})
    bad = refusal(422, "invalid_rows", details=[{"row": 0, "field": "ts", "message": "missing"}])
    stream = Server(ok, bad).store().get_stream("events")
    with pytest.raises(millpond.InvalidRowsError) as caught:
        stream.append([{"user_id": "a" * 20, "ts": 1}, {"user_id": "b" * 20}])
    assert caught.value.rows[0]["row"] == 1
    assert caught.value.appended == 1


def test_a_sequence_conflict_says_where_the_server_stands():
    server = Server(refusal(409, "sequence_conflict", details={"last_sequence": 7}))
    stream = server.store().get_stream("events")
    with pytest.raises(millpond.SequenceConflictError) as caught:
        stream.append([{"user_id": "a", "ts": 1}], producer_id="p", sequence=12)
    assert caught.value.last_sequence == 7
    assert isinstance(caught.value, millpond.ConflictError)


def test_the_key_is_sent(monkeypatch):
    monkeypatch.setenv("MILLPOND_API_KEY", "secret")
    server = Server(httpx.Response(200, json={"streams": []}))
    server.store().get_streams()
    assert server.requests[0].headers["Authorization"] == "Bearer secret"


def test_the_asynchronous_client_does_the_same():
    server = Server(httpx.ReadTimeout("slow"), httpx.Response(200, json={"position": "p", "appended": 1}))

    async def run():
        async with await millpond.login_async(
            "http://m", transport=httpx.MockTransport(server)
        ) as connection:
            stream = await connection.get_feature_store().get_stream("events")
            return await stream.append({"user_id": "a", "ts": 1})

    assert asyncio.run(run()) == "p"
    assert json.loads(server.requests[1].content) == {"rows": [{"user_id": "a", "ts": 1}]}


GROUP = {"name": "g", "version": 1, "primary_key": ["k"], "event_time": "ts", "columns": []}


@pytest.mark.parametrize("lost", [httpx.ReadTimeout("slow"), httpx.Response(502, text="proxy")])
def test_what_a_lost_try_created_is_created(lost):
    server = Server(lost, httpx.Response(200, json=GROUP))
    assert server.store().create_feature_group("g", sql="SELECT 1").name == "g"
    assert server.requests[0].content == server.requests[1].content
    server = Server(lost, httpx.Response(200, json={"name": "v", "version": 1}))
    assert server.store().create_feature_view("v", millpond.Query(("g", 1))).name == "v"


@pytest.mark.parametrize("lost", [None, httpx.ConnectError("refused"), refusal(429, "too_many_requests")])
def test_what_another_one_created_exists(lost):
    replies = [httpx.Response(200, json=GROUP), httpx.Response(200, json={"name": "v", "version": 1})]
    server = Server(*[lost][: lost is not None], *replies)
    with pytest.raises(millpond.ConflictError, match="exists already"):
        server.store().create_feature_group("g", sql="SELECT 1")
    with pytest.raises(millpond.ConflictError, match="exists already"):
        server.store().create_feature_view("v", millpond.Query(("g", 1)))


def test_another_definition_is_a_conflict_even_after_a_lost_try():
    server = Server(httpx.ReadTimeout("slow"), refusal(409, "conflict"))
    with pytest.raises(millpond.ConflictError):
        server.store().create_feature_group("g", sql="SELECT 1")
