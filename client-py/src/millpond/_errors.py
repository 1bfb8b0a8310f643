"""One exception tree: what the server refuses, what the network does, what is missing.

Each error has a `code` from a closed set (the server's, plus `unreachable` and
`missing_features`, which arise here), a `message` that says what is wrong and a `hint` that says
what to change.
"""

from __future__ import annotations

from typing import Any


class MillpondError(Exception):
    """Anything that Millpond or the way to it refuses.

    Attributes:
        code: stable name of the kind of error.
        message: what is wrong.
        hint: what to change, or None.
        details: what the server adds (row indices, a diff, the last sequence …), or None.
        status: the HTTP status, or None where no reply came.
    """

    code: str = "internal"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        details: Any = None,
        code: str | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details
        self.status = status
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        text = f"{self.message} [{self.code}]"
        return f"{text}\nhint: {self.hint}" if self.hint else text


class InvalidRequestError(MillpondError):
    """The request is malformed: an unknown field, a wrong type, a bad name."""

    code = "invalid_request"


class UnauthorizedError(MillpondError):
    """The server wants an API key, or another one."""

    code = "unauthorized"


class ForbiddenError(MillpondError):
    """The server does not take requests for this Host or from this Origin."""

    code = "forbidden"


class NotFoundError(MillpondError):
    """There is no such stream, feature group, feature view or row."""

    code = "not_found"


class ConflictError(MillpondError):
    """Something of that name exists with another definition, or is in use."""

    code = "conflict"


class SequenceConflictError(ConflictError):
    """A producer's batch is out of sequence.

    Attributes:
        last_sequence: the last sequence that the server has of this producer, or None.
    """

    code = "sequence_conflict"

    @property
    def last_sequence(self) -> int | None:
        """The last sequence that the server has of this producer."""
        value = self.details.get("last_sequence") if isinstance(self.details, dict) else None
        return value if isinstance(value, int) else None


class GoneError(MillpondError):
    """What is asked for existed and does not any more."""

    code = "gone"


class PayloadTooLargeError(MillpondError):
    """The body is larger than the server takes."""

    code = "payload_too_large"


class InvalidRowsError(MillpondError):
    """Rows do not fit the stream's schema; nothing of their batch was stored.

    Attributes:
        rows: `[{"row", "field", "message"}]`; `row` counts from 0 in what was passed to `append`.
        appended: rows of the same call that were stored before, in earlier batches.
    """

    code = "invalid_rows"
    appended: int = 0

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What is wrong, by row."""
        return list(self.details) if isinstance(self.details, list) else []


class InvalidSchemaError(MillpondError):
    """The Avro schema cannot be used; the message names the field."""

    code = "invalid_schema"


class InvalidSqlError(MillpondError):
    """The SQL cannot be used; `details` has the construct and the nearest supported one."""

    code = "invalid_sql"


class UnsupportedError(MillpondError):
    """Understood, and not supported (yet)."""

    code = "unsupported"


class TooManyRequestsError(MillpondError):
    """Too much is in flight; the client has already waited and tried again."""

    code = "too_many_requests"


class InternalServerError(MillpondError):
    """The server failed; its log says more."""

    code = "internal"


class UnavailableError(MillpondError):
    """The server, or something it needs, is not ready; the client has already tried again."""

    code = "unavailable"


class DeadlineError(MillpondError):
    """What was waited for did not happen in time."""

    code = "timeout"


class UnreachableError(MillpondError):
    """No reply: wrong address, server down, connection lost, or too slow."""

    code = "unreachable"


class MissingFeaturesError(MillpondError):
    """A feature vector is incomplete; `allow_missing=True` gives None instead."""

    code = "missing_features"


_BY_CODE: dict[str, type[MillpondError]] = {
    c.code: c
    for c in (
        InvalidRequestError,
        UnauthorizedError,
        ForbiddenError,
        NotFoundError,
        ConflictError,
        SequenceConflictError,
        GoneError,
        PayloadTooLargeError,
        InvalidRowsError,
        InvalidSchemaError,
        InvalidSqlError,
        UnsupportedError,
        TooManyRequestsError,
        InternalServerError,
        UnavailableError,
        DeadlineError,
    )
}
_BY_STATUS = {
    400: "invalid_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    409: "conflict",
    410: "gone",
    413: "payload_too_large",
    429: "too_many_requests",
    503: "unavailable",
    504: "timeout",
}


def from_reply(status: int, body: Any, text: str) -> MillpondError:
    """The exception for an error reply: by its code, else (a proxy's page, say) by its status."""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        code = _BY_STATUS.get(status, "internal")
        message = f"HTTP {status}: {text[:200].strip() or 'no body'}"
        hint = "This reply does not look like Millpond's: check the URL."
        return _BY_CODE[code](message, hint=hint, status=status)
    code = str(error.get("code", "internal"))
    return _BY_CODE.get(code, MillpondError)(
        str(error.get("message", f"HTTP {status}")),
        hint=error.get("hint"),
        details=error.get("details"),
        code=code,
        status=status,
    )
