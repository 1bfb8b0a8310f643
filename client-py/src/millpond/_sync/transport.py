# Generated from ../_async by scripts/unasync.py. Edit there.
"""Requests to the server: one place that sends, tries again and turns refusals into exceptions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import TracebackType
from typing import IO, Any, NamedTuple

import httpx

from .. import _errors, _retry
from .._time import sleep

ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
Params = Mapping[str, Any]
REPEATED = "millpond.repeated"


class Reply(NamedTuple):
    """A reply of JSON.

    Attributes:
        status: of HTTP.
        body: the JSON; None for an empty reply.
        repeated: an earlier try may have reached the server, and done what was asked.
    """

    status: int
    body: Any
    repeated: bool


class Transport:
    """An HTTP connection pool to one server."""

    def __init__(
        self,
        url: str,
        api_key: str | None,
        timeout: float,
        retries: int,
        transport: httpx.BaseTransport | None,
    ) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.url = url
        self._retries = retries
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout, transport=transport)

    def close(self) -> None:
        """Close the pool."""
        self._http.close()

    def json(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Params | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Send JSON, return the reply's JSON (None for an empty reply)."""
        return (self.json_reply(method, path, body, params=params, timeout=timeout)).body

    def json_reply(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Params | None = None,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
    ) -> Reply:
        """Like `json`, with what else is known of the reply."""
        content = None if body is None else json.dumps(body, allow_nan=False).encode()
        all_headers = {"Accept": "application/json", **(headers or {})}
        if content is not None:
            all_headers.setdefault("Content-Type", "application/json")
        reply = self.send(
            method, path, content=content, headers=all_headers, params=params, timeout=timeout
        )
        repeated = bool(reply.extensions.get(REPEATED))
        if not reply.content:
            return Reply(reply.status_code, None, repeated)
        try:
            return Reply(reply.status_code, reply.json(), repeated)
        except ValueError:
            # 200 and not JSON: a proxy's or another server's page.
            raise _errors.from_reply(reply.status_code, None, reply.text) from None

    def send(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        params: Params | None = None,
        timeout: float | None = None,
        repeatable: bool = True,
    ) -> httpx.Response:
        """Send, try again where that is safe and useful, return a 2xx reply.

        Almost every request of this client may be repeated: reads, get-or-create, deletes, and
        appends, which carry a producer id and a sequence. What is not `repeatable` is sent again
        only if it was refused, or did not reach the server.

        Raises:
            MillpondError: the server's refusal, or `UnreachableError` where no reply came.
        """
        arguments: dict[str, Any] = {"content": content, "headers": headers, "params": _given(params)}
        if timeout is not None:
            arguments["timeout"] = timeout
        attempt, repeated = 0, False
        while True:
            try:
                reply = self._http.request(method, path, **arguments)
            except httpx.TransportError as error:
                sent = not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout))
                if attempt >= self._retries or (sent and not repeatable):
                    raise self._unreachable(error) from error
                repeated = repeated or sent
                sleep(_retry.pause(attempt))
            else:
                if reply.is_success:
                    reply.extensions[REPEATED] = repeated
                    return reply
                if reply.status_code not in _retry.RETRIED or attempt >= self._retries:
                    raise _refusal(reply)
                repeated = repeated or reply.status_code == 502  # a proxy may have lost the reply
                sleep(_retry.pause(attempt, reply.headers.get("Retry-After")))
            attempt += 1

    def download(
        self,
        method: str,
        path: str,
        sink: IO[bytes],
        *,
        accept: str,
        content: bytes | None = None,
        content_type: str = ARROW,
        params: Params | None = None,
    ) -> None:
        """Send and write the reply's body to `sink` as it comes: memory does not grow with it."""
        headers = {"Accept": accept}
        if content is not None:
            headers["Content-Type"] = content_type
        try:
            with self._http.stream(
                method, path, content=content, headers=headers, params=_given(params), timeout=None
            ) as reply:
                if not reply.is_success:
                    reply.read()
                    raise _refusal(reply)
                for part in reply.iter_bytes():
                    sink.write(part)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def __enter__(self) -> Transport:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _unreachable(self, error: httpx.TransportError) -> _errors.UnreachableError:
        return _errors.UnreachableError(
            f"no reply from {self.url}: {error or type(error).__name__}",
            hint="Is `millpond serve` running there? Give another address as url= or in MILLPOND_URL.",
        )


def _given(params: Params | None) -> dict[str, Any] | None:
    if params is None:
        return None
    texts = {k: str(v).lower() if isinstance(v, bool) else v for k, v in params.items()}
    return {k: v for k, v in texts.items() if v is not None}


def _refusal(reply: httpx.Response) -> _errors.MillpondError:
    try:
        body = reply.json()
    except ValueError:
        body = None
    return _errors.from_reply(reply.status_code, body, reply.text)
