//! What every request passes: an id, a place among those in flight, a deadline, a net for panics.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt as _;
use tokio::sync::Semaphore;
use tracing::Instrument as _;
use uuid::Uuid;

use super::Error;
use crate::config::Config;

/// Identifies a request in replies and logs; one that the client sends is kept.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Probes and metrics are answered however busy the server is.
const ALWAYS: [&str; 3] = ["/health", "/ready", "/metrics"];

/// How many requests, and how many bytes of their bodies, are in flight at once.
#[derive(Debug)]
pub struct Admission {
    requests: Semaphore,
    body_bytes: Semaphore,
    max_body: usize,
}

impl Admission {
    /// The limits of a configuration: bodies of 32 full-size requests are held in memory at once.
    pub fn new(config: &Config) -> Self {
        let max_body = config.http.max_body_bytes.clamp(1, u32::MAX as usize / 32);
        Self {
            requests: Semaphore::new(config.http.max_in_flight),
            body_bytes: Semaphore::new(max_body * 32),
            max_body,
        }
    }
}

/// The layer: refuses with 429 rather than queueing, for a queue hides that producers are too fast.
pub async fn layer(State(admission): State<Arc<Admission>>, request: Request, next: Next) -> Response {
    if ALWAYS.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let Ok(_place) = admission.requests.try_acquire() else {
        return Error::Busy("too many requests are in flight").into_response();
    };
    let Ok(_bytes) = admission.body_bytes.try_acquire_many(held(&request, admission.max_body)) else {
        return Error::Busy("too many bytes are in flight").into_response();
    };
    next.run(request).await
}

/// Bytes that a body may take in memory; uploads go to disk and take none to speak of.
fn held(request: &Request, max_body: usize) -> u32 {
    let headers = request.headers();
    let upload = headers.get(header::CONTENT_TYPE).is_some_and(super::upload::is_upload);
    if upload
        || !headers.contains_key(header::CONTENT_LENGTH) && !headers.contains_key(header::TRANSFER_ENCODING)
    {
        return 0;
    }
    let declared =
        headers.get(header::CONTENT_LENGTH).and_then(|l| l.to_str().ok()).and_then(|l| l.parse().ok());
    u32::try_from(declared.unwrap_or(max_body).min(max_body)).unwrap_or(u32::MAX)
}

/// The outermost layer: the id, a span around everything that is logged, a line when it is done.
pub async fn trace(mut request: Request, next: Next) -> Response {
    let id = match request.headers().get(REQUEST_ID) {
        Some(id) if id.len() <= 128 => id.clone(),
        _ => HeaderValue::from_str(&Uuid::new_v4().to_string()).unwrap_or(HeaderValue::from_static("-")),
    };
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or("-"), %method, path);
    let started = Instant::now();
    let run = AssertUnwindSafe(next.run(request)).catch_unwind();
    let mut response = async {
        let response = run.await.unwrap_or_else(|panic| panicked(panic.as_ref()).into_response());
        let (status, ms) = (response.status().as_u16(), started.elapsed().as_secs_f64() * 1e3);
        if status >= 500 {
            tracing::warn!(status, ms, "answered");
        } else {
            tracing::debug!(status, ms, "answered");
        }
        response
    }
    .instrument(span)
    .await;
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// One broken request must not look like a broken connection, nor show others what broke.
fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    tracing::error!(panic = text, "a handler panicked");
    Error::Internal("the server failed on this request".to_owned())
}

/// Answers 504 when a handler takes longer than `limit`; what it began in the background goes on.
pub async fn deadline(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Error::Timeout {
            message: format!("not done within {} s", limit.as_secs()),
            hint: "what was begun may still finish: look before you repeat it, or append under a producer id",
        }
        .into_response(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::middleware::{from_fn, from_fn_with_state};
    use axum::routing::{get, post};
    use serde_json::Value;
    use tower::ServiceExt as _;

    use super::*;

    fn request(path: &str) -> axum::http::request::Builder {
        Request::builder().uri(path)
    }

    async fn answer(router: &Router, request: Request) -> (u16, HeaderValue, Value) {
        let response = router.clone().oneshot(request).await.unwrap();
        let (status, id) = (response.status().as_u16(), response.headers()[&REQUEST_ID].clone());
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, id, serde_json::from_slice(&body).unwrap_or_default())
    }

    #[tokio::test]
    async fn a_panic_is_an_error_reply_and_says_nothing_of_itself() {
        let router = Router::new()
            .route("/boom", get(async || -> &'static str { panic!("secret") }))
            .layer(from_fn(trace));
        let (status, id, body) = answer(&router, request("/boom").body(Body::empty()).unwrap()).await;
        assert_eq!((status, &body["error"]["code"]), (500, &Value::from("internal")));
        assert!(!body.to_string().contains("secret"));
        assert_eq!(id.len(), 36, "an id of our own");
    }

    #[tokio::test]
    async fn an_id_that_the_client_sends_is_kept() {
        let router = Router::new().route("/", get(async || "")).layer(from_fn(trace));
        let named = |id: &str| request("/").header(REQUEST_ID, id).body(Body::empty()).unwrap();
        assert_eq!(answer(&router, named("mine")).await.1, "mine");
        assert_eq!(answer(&router, named(&"x".repeat(129))).await.1.len(), 36);
    }

    #[tokio::test]
    async fn a_handler_that_takes_too_long_is_answered_for() {
        let router = Router::new()
            .route("/slow", get(std::future::pending::<&'static str>))
            .layer(from_fn_with_state(Duration::from_millis(10), deadline))
            .layer(from_fn(trace));
        let (status, _, body) = answer(&router, request("/slow").body(Body::empty()).unwrap()).await;
        assert_eq!((status, &body["error"]["code"]), (504, &Value::from("timeout")));
    }

    #[tokio::test]
    async fn more_than_the_limits_is_refused_at_once_but_probes_are_not() {
        let mut config = Config::default();
        config.http.max_body_bytes = 100;
        config.http.max_in_flight = 2;
        let admission = Arc::new(Admission::new(&config));
        let router = Router::new()
            .route("/x", post(async || ""))
            .route("/health", get(async || ""))
            .layer(from_fn_with_state(Arc::clone(&admission), layer))
            .layer(from_fn(trace));
        let post = |length: u64| {
            let sent = Request::builder().method("POST").uri("/x").header(header::CONTENT_LENGTH, length);
            sent.body(Body::empty()).unwrap()
        };
        assert_eq!(answer(&router, post(100)).await.0, 200);
        let bytes = admission.body_bytes.try_acquire_many(3_150).unwrap();
        assert_eq!(answer(&router, post(50)).await.0, 200, "fifty bytes are left");
        let (status, _, body) = answer(&router, post(51)).await;
        assert_eq!((status, &body["error"]["code"]), (429, &Value::from("too_many_requests")));
        drop(bytes);
        let places = admission.requests.try_acquire_many(2).unwrap();
        assert_eq!(answer(&router, post(1)).await.0, 429);
        assert_eq!(answer(&router, request("/health").body(Body::empty()).unwrap()).await.0, 200);
        drop(places);
        assert_eq!(answer(&router, post(1)).await.0, 200, "places are given back");
    }
}
