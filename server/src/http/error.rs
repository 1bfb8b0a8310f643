//! Errors as HTTP: a closed set of codes, and one match that maps every module's errors to it.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::{app, catalog, log, offline, pipeline, registry, store, training};
use millpond_engine::key;

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
    const fn retry_after(self) -> Option<&'static str> {
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

/// Why a request fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request cannot be read, or asks for what makes no sense.
    #[error("{message}")]
    Invalid {
        /// What is wrong.
        message: String,
        /// What to write instead.
        hint: String,
    },
    /// No key, or a wrong one.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// A foreign `Host` or `Origin`.
    #[error("{message}")]
    Forbidden {
        /// Which header, and what it says.
        message: String,
        /// How to allow it.
        hint: &'static str,
    },
    /// No such route.
    #[error("there is no {0} here")]
    NoRoute(String),
    /// The route has other methods.
    #[error("{0} has no such method")]
    NoMethod(String),
    /// No such row, partition or other part of an object that exists.
    #[error("there is no {what}")]
    Absent {
        /// What was asked for.
        what: String,
        /// What there is.
        hint: String,
    },
    /// A body over the limit.
    #[error("{message}")]
    TooLarge {
        /// What the limit is.
        message: String,
        /// How to send less.
        hint: &'static str,
    },
    /// Rows that do not follow the schema of their stream.
    #[error("{wrong} of {rows} rows do not follow the schema of {stream}; none was appended")]
    Rows {
        /// The stream.
        stream: String,
        /// Rows in the request.
        rows: usize,
        /// Rows that are wrong.
        wrong: usize,
        /// The first of them.
        bad: Vec<BadRow>,
    },
    /// The object cannot do this.
    #[error("{message}")]
    Unsupported {
        /// What it cannot do.
        message: String,
        /// What can be done.
        hint: String,
    },
    /// Too much in flight.
    #[error("{0}")]
    Busy(&'static str),
    /// Not done in time.
    #[error("{message}")]
    Timeout {
        /// What was waited for.
        message: String,
        /// What to do.
        hint: &'static str,
    },
    /// A task of our own failed.
    #[error("{0}")]
    Internal(String),
    /// The catalog refuses, or does not have it.
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    /// A key that is not one of its group.
    #[error(transparent)]
    Key(#[from] key::Error),
    /// The schema registry refuses or does not answer.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The log refuses or does not answer.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// A pipeline cannot be reached.
    #[error(transparent)]
    Pipeline(#[from] pipeline::Error),
    /// The offline store failed.
    #[error(transparent)]
    Offline(#[from] offline::Error),
    /// Training data cannot be made.
    #[error(transparent)]
    Training(#[from] training::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl From<app::Error> for Error {
    fn from(error: app::Error) -> Self {
        use app::Error as E;
        match error {
            E::Catalog(e) => Self::Catalog(e),
            E::Registry(e) => Self::Registry(e),
            E::Log(e) => Self::Log(e),
            E::Pipeline(e) => Self::Pipeline(e),
            E::Offline(e) => Self::Offline(e),
            E::Store(e) => Self::Store(e),
            E::Metrics(e) => Self::Internal(e.to_string()),
            E::Task(e) => Self::Internal(e.to_string()),
        }
    }
}

impl Error {
    /// A request that cannot be used, with what to write instead.
    pub fn invalid(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Invalid { message: message.into(), hint: hint.into() }
    }

    /// Something that an object does not have.
    pub fn absent(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Absent { what: what.into(), hint: hint.into() }
    }

    /// What an object cannot do, with what can be done.
    pub fn unsupported(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Unsupported { message: message.into(), hint: hint.into() }
    }
}

/// An error as it is sent.
#[derive(Debug)]
pub struct Reply {
    /// For programs.
    pub code: Code,
    /// What to change.
    pub hint: String,
    /// More for programs.
    pub details: Option<Value>,
}

impl Reply {
    fn new(code: Code, hint: impl Into<String>) -> Self {
        Self { code, hint: hint.into(), details: None }
    }

    fn with(code: Code, hint: impl Into<String>, details: Value) -> Self {
        Self { code, hint: hint.into(), details: Some(details) }
    }
}

impl Error {
    /// The one place where errors become codes and hints; the message is the error's own text.
    pub fn reply(&self) -> Reply {
        match self {
            Self::Invalid { hint, .. } => Reply::new(Code::InvalidRequest, hint),
            Self::Unauthorized(_) => Reply::new(
                Code::Unauthorized,
                "send 'Authorization: Bearer <key>', or Basic with the key as the password",
            ),
            Self::Forbidden { hint, .. } => Reply::new(Code::Forbidden, *hint),
            Self::NoRoute(_) | Self::NoMethod(_) => {
                Reply::new(Code::NotFound, "the routes are listed at /docs")
            }
            Self::Absent { hint, .. } => Reply::new(Code::NotFound, hint),
            Self::TooLarge { hint, .. } => Reply::new(Code::PayloadTooLarge, *hint),
            Self::Rows { bad, .. } => Reply::with(
                Code::InvalidRows,
                "mend the rows listed in details and send all again",
                json!(bad),
            ),
            Self::Unsupported { hint, .. } => Reply::new(Code::Unsupported, hint),
            Self::Busy(_) => {
                Reply::new(Code::TooManyRequests, "wait as long as Retry-After says and send it again")
            }
            Self::Timeout { hint, .. } => Reply::new(Code::Timeout, *hint),
            Self::Internal(_) => Reply::new(Code::Internal, "the server's log has more under the request id"),
            Self::Catalog(error) => of_catalog(error),
            Self::Key(_) => Reply::new(
                Code::InvalidRequest,
                "a compound key is a JSON array in the order of the primary key",
            ),
            Self::Registry(error) => of_registry(error),
            Self::Log(error) => of_log(error),
            Self::Pipeline(error) => of_pipeline(error),
            Self::Offline(error) => of_offline(error),
            Self::Training(error) => of_training(error),
            Self::Store(error) => of_store(error),
        }
    }
}

/// What a client cannot mend.
fn internal() -> Reply {
    Reply::new(Code::Internal, "the server's log has more under the request id")
}

fn of_catalog(error: &catalog::Error) -> Reply {
    use catalog::Error as E;
    match error {
        E::Invalid { field, hint, .. } => Reply::with(Code::InvalidRequest, hint, json!({ "field": field })),
        E::NotFound { hint, .. } => Reply::new(Code::NotFound, hint),
        E::Conflict { diff, hint, .. } => Reply::with(Code::Conflict, hint, json!({ "diff": diff })),
        E::InUse { by, .. } => Reply::with(
            Code::Conflict,
            "drop those first (a feature group's views go with force=true)",
            json!({ "used_by": by }),
        ),
        E::Sql(error) => Reply::with(
            Code::InvalidSql,
            &error.hint,
            json!({ "reason": error.code, "construct": error.construct, "nearest": error.hint }),
        ),
        E::Schema(_) => Reply::new(Code::InvalidSchema, "change the field that the message names"),
        E::Store(error) => of_store(error),
        E::Stored { .. } => internal(),
    }
}

fn of_store(error: &store::Error) -> Reply {
    use store::Error as E;
    match error {
        E::Sequence { last } => Reply::with(
            Code::SequenceConflict,
            "send the batch after the last one, or begin anew under another producer id",
            json!({ "last_sequence": last }),
        ),
        _ => internal(),
    }
}

fn of_log(error: &log::Error) -> Reply {
    use log::Error as E;
    match error {
        E::Gone { first, .. } => {
            Reply::with(Code::Gone, "read from the first offset that is left", json!({ "first": first }))
        }
        E::Replaced { .. } => Reply::new(Code::Gone, "drop the stream and create it anew over the new topic"),
        E::Unavailable { .. } => {
            Reply::new(Code::Unavailable, "wait until the brokers answer; nothing is lost")
        }
        E::Missing { .. } => Reply::new(Code::NotFound, "create the topic, or mend its name in the stream"),
        E::Configuration { .. } => Reply::new(
            Code::Unsupported,
            "set kafka.bootstrap_servers and the properties that the brokers want",
        ),
        E::Store(error) => of_store(error),
    }
}

fn of_registry(error: &registry::Error) -> Reply {
    use registry::Error as E;
    match error {
        E::Unavailable { .. } => Reply::new(Code::Unavailable, "wait until the schema registry answers"),
        E::Unknown { .. } | E::NoSubject(_) | E::NoVersion(_) | E::NoSchema => {
            Reply::new(Code::NotFound, "register the schema first")
        }
        E::InvalidSchema(_) => Reply::new(Code::InvalidSchema, "change the field that the message names"),
        E::Incompatible { reasons, .. } => Reply::with(
            Code::InvalidSchema,
            "keep the schema compatible, lower the subject's compatibility level, or use another subject",
            json!({ "incompatibilities": reasons }),
        ),
        E::Configuration(_) => internal(),
        E::Store(error) => of_store(error),
        // What only the registry's own routes can run into; they answer with its own codes.
        _ => Reply::new(Code::InvalidRequest, "look at the subject under /schema-registry/subjects"),
    }
}

fn of_pipeline(error: &pipeline::Error) -> Reply {
    use pipeline::Error as E;
    match error {
        E::NotFound(_) => Reply::new(Code::NotFound, "the feature group was dropped"),
        E::OtherStream => {
            Reply::new(Code::InvalidRequest, "use the position of an append to a stream that the group reads")
        }
        E::Timeout { status, .. } => Reply::with(
            Code::Timeout,
            "look at the group's status, or wait longer",
            json!({ "state": status.state.name(), "reason": status.state.reason(), "lag": status.lag() }),
        ),
        E::Standing { status } => Reply::with(
            Code::Unsupported,
            status.state.mend().unwrap_or("resume the group first"),
            json!({ "state": status.state.name(), "reason": status.state.reason() }),
        ),
        E::Thread(_) => internal(),
    }
}

fn of_offline(error: &offline::Error) -> Reply {
    use offline::Error as E;
    match error {
        E::UnknownGroup(_) => Reply::new(Code::NotFound, "the feature group was dropped"),
        E::Halted(_) => {
            Reply::new(Code::Unavailable, "the drain to Delta stands still: the message says what to do")
        }
        E::Delta(_) => {
            Reply::new(Code::Unavailable, "the table's storage does not answer; what is committed is kept")
        }
        E::Store(error) => of_store(error),
        _ => internal(),
    }
}

fn of_training(error: &training::Error) -> Reply {
    if error.is_callers() {
        return Reply::new(
            Code::InvalidRequest,
            "change the table of labels, or the event_time that names its column",
        );
    }
    match error {
        training::Error::Offline(error) => of_offline(error),
        _ => internal(),
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let Reply { code, hint, details } = self.reply();
        let message = self.to_string();
        if code == Code::Internal {
            tracing::error!(%message, "a request failed");
        }
        let body = ErrorBody { error: ErrorInfo { code, message, hint, details } };
        let mut response = (code.status(), axum::Json(body)).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = code.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        if code == Code::Unauthorized {
            // A browser that opens /docs asks for the key and sends it on.
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"millpond\""));
        }
        response
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn errors_of_the_parts_become_codes() {
        let gone = log::Error::Gone { log: "events".into(), partition: 0, wanted: 1, first: 5 };
        let down = log::Error::Unavailable { log: "events".into(), detail: "refused".into() };
        let table: [(Error, Code); 6] = [
            (store::Error::Sequence { last: 7 }.into(), Code::SequenceConflict),
            (store::Error::Fatal("disk".into()).into(), Code::Internal),
            (log::Error::Store(store::Error::Sequence { last: 7 }).into(), Code::SequenceConflict),
            (gone.into(), Code::Gone),
            (down.into(), Code::Unavailable),
            (key::Error::Null { column: "id".into() }.into(), Code::InvalidRequest),
        ];
        for (error, code) in table {
            let reply = error.reply();
            assert_eq!(reply.code, code, "{error}");
            assert!(!reply.hint.is_empty(), "{error}");
        }
        let details = Error::from(store::Error::Sequence { last: 7 }).reply().details;
        assert_eq!(details, Some(json!({ "last_sequence": 7 })));
    }
}
