//! The closed set of codes, and what an error reply looks like.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// What went wrong, for programs. The set is closed: a new code is a new version of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request cannot be read, or a field of it cannot be used (400)
    InvalidRequest,
    /// The API key is missing or wrong (401)
    Unauthorized,
    /// The `Host` or `Origin` header is not this server's (403)
    Forbidden,
    /// There is no such object or route (404)
    NotFound,
    /// There is one with another definition, or others depend on it (409)
    Conflict,
    /// A producer's batch number is a gap or stale; `details.last_sequence` (409)
    SequenceConflict,
    /// The log no longer has what is asked for (410)
    Gone,
    /// The body exceeds the limit (413)
    PayloadTooLarge,
    /// Rows do not follow the schema; none was appended; `details` lists row and field (422)
    InvalidRows,
    /// A schema is refused (422)
    InvalidSchema,
    /// SQL is refused; `details` names the construct and the nearest supported one (422)
    InvalidSql,
    /// The request is right, and this object cannot do it (422)
    Unsupported,
    /// Too much is in flight; `Retry-After` (429)
    TooManyRequests,
    /// The server failed; the log has more under the request id (500)
    Internal,
    /// Something that the request needs does not answer; `Retry-After` (503)
    Unavailable,
    /// Not done in time; what was begun may still finish (504)
    Timeout,
}

impl Code {
    /// Every code, in the order of the documentation.
    pub const ALL: [Self; 16] = [
        Self::InvalidRequest,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::Conflict,
        Self::SequenceConflict,
        Self::Gone,
        Self::PayloadTooLarge,
        Self::InvalidRows,
        Self::InvalidSchema,
        Self::InvalidSql,
        Self::Unsupported,
        Self::TooManyRequests,
        Self::Internal,
        Self::Unavailable,
        Self::Timeout,
    ];

    /// The status that a code comes with.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Conflict | Self::SequenceConflict => StatusCode::CONFLICT,
            Self::Gone => StatusCode::GONE,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::InvalidRows | Self::InvalidSchema | Self::InvalidSql | Self::Unsupported => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// Seconds after which the same request may work; `None`: repeating it does not help.
    pub(super) const fn retry_after(self) -> Option<&'static str> {
        match self {
            Self::TooManyRequests => Some("1"),
            Self::Unavailable => Some("5"),
            _ => None,
        }
    }
}

/// The body of every error reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// The error
    pub error: ErrorInfo,
}

/// What went wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ErrorInfo {
    /// For programs
    pub code: Code,
    /// For people: what is wrong
    #[schema(example = "there is no stream evnts")]
    pub message: String,
    /// For people: what to change
    #[schema(example = "there is a stream events")]
    pub hint: String,
    /// More for programs, by code
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub details: Option<Value>,
}

/// One field of one row that does not follow the schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BadRow {
    /// Index in the request
    pub row: usize,
    /// Path of the field
    pub field: String,
    /// What is wrong with it
    pub message: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn codes_are_what_programs_compare() {
        let words: Vec<String> =
            Code::ALL.iter().map(|c| json!(c).as_str().unwrap_or_default().to_owned()).collect();
        let documented = [
            "invalid_request",
            "unauthorized",
            "forbidden",
            "not_found",
            "conflict",
            "sequence_conflict",
            "gone",
            "payload_too_large",
            "invalid_rows",
            "invalid_schema",
            "invalid_sql",
            "unsupported",
            "too_many_requests",
            "internal",
            "unavailable",
            "timeout",
        ];
        assert_eq!(words, documented);
    }

    #[test]
    fn waiting_helps_only_where_the_reply_says_how_long() {
        for code in Code::ALL {
            let wait = code.retry_after().is_some();
            assert_eq!(wait, matches!(code.status().as_u16(), 429 | 503), "{code:?}");
        }
    }
}
