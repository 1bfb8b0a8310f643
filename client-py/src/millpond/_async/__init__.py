"""The asynchronous client: the source of the synchronous one."""

from .connection import AsyncConnection, login_async
from .feature_group import AsyncFeatureGroup
from .feature_store import AsyncFeatureStore
from .feature_view import AsyncFeatureView
from .stream import AsyncStream

__all__ = [
    "AsyncConnection",
    "AsyncFeatureGroup",
    "AsyncFeatureStore",
    "AsyncFeatureView",
    "AsyncStream",
    "login_async",
]
