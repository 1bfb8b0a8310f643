# Generated from ../_async by scripts/unasync.py. Edit there.
"""The synchronous client: the source of the synchronous one."""

from .connection import Connection, login
from .feature_group import FeatureGroup
from .feature_store import FeatureStore
from .feature_view import FeatureView
from .stream import Stream

__all__ = [
    "Connection",
    "FeatureGroup",
    "FeatureStore",
    "FeatureView",
    "Stream",
    "login",
]
