//! Extractors that fail with our own errors, naming the field.

use axum::body::Bytes;
use axum::extract::rejection::{
    BytesRejection, FailedToBufferBody, JsonRejection, PathRejection, QueryRejection,
};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;

use super::Error;

/// A JSON body; unknown fields are errors where the type says so.
#[derive(Debug)]
pub struct Json<T>(pub T);

/// A whole body in memory, up to the limit for JSON.
#[derive(Debug)]
pub struct Body(pub Bytes);

/// A JSON body that may be left out.
#[derive(Debug)]
pub struct Optional<T>(pub T);

/// The parts of the path.
#[derive(Debug, FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Error))]
pub struct Path<T>(pub T);

/// The query string.
#[derive(Debug, FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Error))]
pub struct Query<T>(pub T);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        Ok(Self(Bytes::from_request(request, state).await?))
    }
}

impl<S: Send + Sync, T: serde::de::DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        if !request.headers().get(header::CONTENT_TYPE).is_some_and(is_json) {
            return Err(Error::invalid(
                "the body is not labelled as JSON",
                "send 'Content-Type: application/json'",
            ));
        }
        parse(&Bytes::from_request(request, state).await?).map(Self)
    }
}

/// Parsed in one go; only a body that is refused is read again, to say where it is wrong.
fn parse<T: serde::de::DeserializeOwned>(body: &Bytes) -> Result<T, Error> {
    match serde_json::from_slice(body) {
        Ok(value) => Ok(value),
        Err(_) => Ok(axum::Json::from_bytes(body)?.0),
    }
}

fn is_json(content_type: &HeaderValue) -> bool {
    let media = content_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    media.eq_ignore_ascii_case("application/json") || media.ends_with("+json")
}

impl<S: Send + Sync, T: Default + serde::de::DeserializeOwned> FromRequest<S> for Optional<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        let body = Bytes::from_request(request, state).await?;
        if body.is_empty() {
            return Ok(Self(T::default()));
        }
        parse(&body).map(Self)
    }
}

impl<T: serde::Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> axum::response::Response {
        axum::Json(self.0).into_response()
    }
}

impl From<JsonRejection> for Error {
    fn from(rejection: JsonRejection) -> Self {
        match rejection {
            JsonRejection::BytesRejection(rejection) => rejection.into(),
            other => Self::invalid(other.body_text(), "the fields of each request are shown at /docs"),
        }
    }
}

impl From<BytesRejection> for Error {
    fn from(rejection: BytesRejection) -> Self {
        match rejection {
            BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => too_large(),
            other if other.status() == StatusCode::PAYLOAD_TOO_LARGE => too_large(),
            other => Self::invalid(other.body_text(), "the body ended early: send it again"),
        }
    }
}

impl From<PathRejection> for Error {
    fn from(rejection: PathRejection) -> Self {
        Self::invalid(
            rejection.body_text(),
            "versions are whole numbers from 1, text is percent-encoded UTF-8",
        )
    }
}

impl From<QueryRejection> for Error {
    fn from(rejection: QueryRejection) -> Self {
        Self::invalid(rejection.body_text(), "the parameters of each request are shown at /docs")
    }
}

fn too_large() -> Error {
    Error::TooLarge {
        message: "the body is larger than this server takes in one request".to_owned(),
        hint: "split it over several requests, or raise http.max_body_bytes",
    }
}

/// A header as text.
pub fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Error> {
    headers
        .get(name)
        .map(|value| {
            value.to_str().map_err(|_| Error::invalid(format!("the header {name} is not text"), "use ASCII"))
        })
        .transpose()
}

/// A header as a number.
pub fn number<T: std::str::FromStr>(headers: &HeaderMap, name: &'static str) -> Result<Option<T>, Error> {
    let Some(text) = text(headers, name)? else { return Ok(None) };
    let number = text.trim().parse();
    number.map(Some).map_err(|_| {
        Error::invalid(format!("the header {name} is not a number: {text}"), "send a whole number")
    })
}
