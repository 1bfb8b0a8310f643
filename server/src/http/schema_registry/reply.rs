//! Requests and replies in Confluent's form.

use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::registry::Error;

const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// A request that failed: `{"error_code", "message"}`.
#[derive(Debug)]
pub enum Failure {
    /// The registry says no.
    Registry(Error),
    /// The body is not what the route wants.
    Body(String),
    /// Something of Confluent's that is not there.
    Unsupported(String),
    /// No such route.
    NoRoute,
    /// The registry in use is elsewhere.
    External(String),
    /// The server failed.
    Task(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Registry(error)
    }
}

/// Confluent's error codes: the HTTP status is their first three digits.
fn code(error: &Error) -> u32 {
    match error {
        Error::NoSubject(_) => 40401,
        Error::NoVersion(_) => 40402,
        Error::NoSchema | Error::Unknown { .. } => 40403,
        Error::SubjectDeleted(_) => 40404,
        Error::SubjectNotDeleted(_) => 40405,
        Error::VersionDeleted(..) => 40406,
        Error::VersionNotDeleted(..) => 40407,
        Error::NoConfig(_) => 40408,
        Error::Incompatible { .. } => 409,
        Error::InvalidSchema(_) => 42201,
        Error::InvalidVersion(_) => 42202,
        Error::InvalidLevel(_) => 42203,
        Error::Referenced(..) => 42206,
        Error::Store(_) => 50001,
        Error::Unavailable { .. } | Error::Configuration(_) => 50003,
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (code, message) = match self {
            Self::Registry(error) => (code(&error), error.to_string()),
            Self::Body(message) => (42201, message),
            Self::Unsupported(message) => (42205, message),
            Self::NoRoute => (404, "HTTP 404 Not Found".to_owned()),
            Self::External(url) => (404, format!("this server uses the schema registry {url}: ask there")),
            Self::Task(message) => (50001, message),
        };
        let status = if code < 1000 { code } else { code / 100 };
        let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
        let body = json(&json!({ "error_code": code, "message": message }));
        (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body).into_response()
    }
}

/// JSON with the registry's content type.
pub fn json<T: Serialize>(body: &T) -> Response {
    match serde_json::to_string(body) {
        Ok(body) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], body).into_response(),
        Err(error) => Failure::Task(error.to_string()).into_response(),
    }
}

/// Whatever the content type says: clients differ in what they send.
pub fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|e| Failure::Body(format!("the request body cannot be read: {e}")))
}
