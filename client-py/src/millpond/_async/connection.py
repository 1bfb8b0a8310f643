"""Where a session begins: `login_async`."""

from __future__ import annotations

import os
from types import TracebackType

import httpx

from .feature_store import AsyncFeatureStore
from .transport import AsyncTransport

DEFAULT_URL = "http://127.0.0.1:7878"


class AsyncConnection:
    """A connection to one Millpond server; a context manager that closes it."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    @property
    def url(self) -> str:
        """The server's address."""
        return self._transport.url

    def get_feature_store(self, name: str | None = None) -> AsyncFeatureStore:
        """The server's feature store. There is one: `name` is accepted and not needed."""
        del name
        return AsyncFeatureStore(self._transport)

    async def aclose(self) -> None:
        """Close all sockets."""
        await self._transport.aclose()

    async def __aenter__(self) -> AsyncConnection:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


async def login_async(
    url: str | None = None,
    *,
    project: str | None = None,
    api_key: str | None = None,
    timeout: float = 30.0,
    retries: int = 5,
    transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncConnection:
    """Connect to a Millpond server and check that it is there.

    Args:
        url: its address; default: environment variable `MILLPOND_URL`, else http://127.0.0.1:7878.
        project: accepted for users of Hopsworks; a server is one project.
        api_key: default: environment variable `MILLPOND_API_KEY`.
        timeout: seconds to wait for a reply.
        retries: how often a request is repeated after 429, 503 or no reply.
        transport: an httpx transport to use in place of sockets.

    Raises:
        UnreachableError: nobody answers at that address.
    """
    del project
    url = (url or os.environ.get("MILLPOND_URL") or DEFAULT_URL).rstrip("/")
    api_key = api_key or os.environ.get("MILLPOND_API_KEY")
    connection = AsyncConnection(AsyncTransport(url, api_key, timeout, retries, transport))
    try:
        await connection._transport.json("GET", "/health")
    except BaseException:
        await connection.aclose()
        raise
    return connection
