//! Errors as HTTP: a closed set of codes, and one match that maps every module's errors to it.

mod code;
mod parts;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::{app, catalog, log, offline, pipeline, registry, sinks, store, training};
use millpond_engine::key;

pub use code::{BadRow, Code, ErrorBody, ErrorInfo};

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
    /// A sink failed.
    #[error(transparent)]
    Sink(#[from] sinks::Error),
    /// A sink does not have all rows of a group that is to be dropped.
    #[error("{0}")]
    Behind(String),
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
            E::Sink(e) => Self::Sink(e),
            E::Behind { .. } => Self::Behind(error.to_string()),
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
            Self::Internal(_) => parts::internal(),
            Self::Catalog(error) => parts::of_catalog(error),
            Self::Key(_) => Reply::new(
                Code::InvalidRequest,
                "a compound key is a JSON array in the order of the primary key",
            ),
            Self::Registry(error) => parts::of_registry(error),
            Self::Log(error) => parts::of_log(error),
            Self::Pipeline(error) => parts::of_pipeline(error),
            Self::Offline(error) => parts::of_offline(error),
            Self::Sink(error) => parts::of_sink(error),
            Self::Behind(_) => {
                Reply::new(Code::Unavailable, "mend the sink and try again, or drop the sink first")
            }
            Self::Training(error) => parts::of_training(error),
            Self::Store(error) => parts::of_store(error),
        }
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
