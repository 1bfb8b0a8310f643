"""Client of the Millpond feature store: streams in, feature vectors and training data out.

>>> import millpond
>>> fs = millpond.login("http://127.0.0.1:7878").get_feature_store()  # doctest: +SKIP
"""

from ._async import (
    AsyncConnection,
    AsyncFeatureGroup,
    AsyncFeatureStore,
    AsyncFeatureView,
    AsyncStream,
    login_async,
)
from ._errors import (
    ConflictError,
    DeadlineError,
    ForbiddenError,
    GoneError,
    InternalServerError,
    InvalidRequestError,
    InvalidRowsError,
    InvalidSchemaError,
    InvalidSqlError,
    MillpondError,
    MissingFeaturesError,
    NotFoundError,
    PayloadTooLargeError,
    SequenceConflictError,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
    UnreachableError,
    UnsupportedError,
)
from ._filter import Filter
from ._models import Accounting, Column, Feature, Status, Vector
from ._query import Query
from ._sinks import FileSink, KafkaSink
from ._sync import Connection, FeatureGroup, FeatureStore, FeatureView, Stream, login

__version__ = "0.1.0"

__all__ = [
    "Accounting",
    "AsyncConnection",
    "AsyncFeatureGroup",
    "AsyncFeatureStore",
    "AsyncFeatureView",
    "AsyncStream",
    "Column",
    "ConflictError",
    "Connection",
    "DeadlineError",
    "Feature",
    "FeatureGroup",
    "FeatureStore",
    "FeatureView",
    "FileSink",
    "Filter",
    "ForbiddenError",
    "GoneError",
    "InternalServerError",
    "InvalidRequestError",
    "InvalidRowsError",
    "InvalidSchemaError",
    "InvalidSqlError",
    "KafkaSink",
    "MillpondError",
    "MissingFeaturesError",
    "NotFoundError",
    "PayloadTooLargeError",
    "Query",
    "SequenceConflictError",
    "Status",
    "Stream",
    "TooManyRequestsError",
    "UnauthorizedError",
    "UnavailableError",
    "UnreachableError",
    "UnsupportedError",
    "Vector",
    "login",
    "login_async",
]
