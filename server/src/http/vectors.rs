//! `/api/v1/feature-views/{view}/{version}/vector(s)`: what a model is served.
//!
//! The path of a request: body → keys of every entry and group ([`plan`]) → one `multi_get` on one
//! snapshot → JSON written straight into a buffer ([`reply`]). It takes no lock and allocates little.

mod plan;
mod reply;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use millpond_engine::time::Span;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

pub use plan::Plans;

use self::reply::{Options, Shape};
use super::error::ErrorBody;
use super::extract::{Json, Path, Query};
use super::feature_groups::{bad_token, reach};
use super::rows::Which;
use super::{Error, download};
use crate::app::App;
use crate::catalog::{Seconds, ViewEntry};
use crate::log::position::Position;

/// Entries in one request.
const MOST: usize = 1_000;
/// How long a read waits for `min_position`.
const POSITION_WAIT: Duration = Duration::from_secs(30);

/// Whose vectors, and how.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VectorsRequest {
    /// Serving keys, one object an entity; up to 1,000
    #[schema(value_type = Vec<Object>)]
    entries: Vec<Map<String, Value>>,
    /// Put the serving keys before the features
    #[serde(default)]
    include_keys: bool,
    /// `latest` (default) or `previous`
    #[serde(default)]
    which: Which,
    /// Rows older than this count as missing, seconds
    #[serde(default)]
    max_age: Option<Seconds>,
    /// Wait until what stands before this position is committed
    #[serde(default)]
    min_position: Option<String>,
    /// Say of each group what it gave
    #[serde(default)]
    metadata: bool,
}

/// Vectors, in the order of the entries.
#[derive(Debug, Serialize, ToSchema)]
pub struct VectorsReply {
    /// Names of the values
    #[schema(example = json!(["ctr"]))]
    features: Vec<String>,
    vectors: Vec<Vector>,
    /// The instant at which training data have the same values; over historical groups one by group
    #[schema(value_type = Object)]
    as_of: Value,
}

/// One entity's values.
#[derive(Debug, Serialize, ToSchema)]
pub struct Vector {
    /// Values in the order of `features`
    #[schema(value_type = Vec<Object>)]
    values: Vec<Value>,
    /// `complete`, `partial` or `missing`
    #[schema(example = "complete")]
    status: String,
    /// Event time of the oldest group's row
    event_time: Option<String>,
    /// With `metadata`: what each group gave
    groups: Option<Vec<GroupPart>>,
}

/// What one group gave to a vector.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupPart {
    feature_group: String,
    version: u32,
    /// `found`, `missing`, `expired` or `deleted`
    status: String,
    event_time: Option<String>,
    available_at: Option<String>,
    commit: Option<u64>,
}

/// One entity's vector, for people.
#[derive(Debug, Serialize, ToSchema)]
pub struct NamedVector {
    /// Values by name
    #[schema(value_type = Object)]
    values: Value,
    status: String,
    event_time: Option<String>,
    groups: Vec<GroupPart>,
    #[schema(value_type = Object)]
    as_of: Value,
}

/// Feature vectors
#[utoipa::path(post, path = "/api/v1/feature-views/{view}/{version}/vectors", tag = "feature views", operation_id = "vectors",
    params(("view" = String, Path, example = "docs_fv"), ("version" = u32, Path, example = 1)),
    request_body(content = VectorsRequest, example = json!({"entries": [{"user_id": "u1"}], "metadata": true})),
    responses(
        (status = 200, description = "A vector for each entry", body = VectorsReply),
        (status = 504, description = "`timeout`: `min_position` was not reached", body = ErrorBody)
    ))]
pub async fn many(
    State(app): State<Arc<App>>,
    Extension(plans): Extension<Arc<Plans>>,
    Path((name, version)): Path<(String, u32)>,
    Json(request): Json<VectorsRequest>,
) -> Result<Response, Error> {
    let started = Instant::now();
    let entry = app.catalog.view(&name, version)?;
    let plan = plans.of(&app, &entry);
    if request.entries.len() > MOST {
        return Err(Error::invalid(
            format!("{} entries are too many for one request", request.entries.len()),
            format!("send at most {MOST}"),
        ));
    }
    if let Some(token) = &request.min_position {
        wait(&app, &entry, token).await?;
    }
    let options = Options {
        shape: if request.include_keys { Shape::Keys } else { Shape::Features },
        which: request.which,
        max_age: request.max_age.map(age).transpose()?,
        metadata: request.metadata,
    };
    let body = reply::many(&plan, &app.store.view(), &request.entries, &options)?;
    plan.seconds.observe(started.elapsed().as_secs_f64());
    Ok(as_json(body))
}

/// One feature vector, for people and curl
///
/// The serving keys are query parameters.
#[utoipa::path(get, path = "/api/v1/feature-views/{view}/{version}/vector", tag = "feature views", operation_id = "vector",
    params(
        ("view" = String, Path, example = "docs_fv"),
        ("version" = u32, Path, example = 1),
        ("user_id" = Option<String>, Query, description = "A serving key, by its name in the view", example = "u1"),
        ("include_keys" = Option<bool>, Query, description = "Put the serving keys before the features"),
        ("which" = Option<String>, Query, description = "`latest` (default) or `previous`"),
        ("max_age" = Option<f64>, Query, description = "Rows older than this count as missing, seconds")
    ),
    responses((status = 200, description = "The vector, values by name", body = NamedVector)))]
pub async fn one(
    State(app): State<Arc<App>>,
    Extension(plans): Extension<Arc<Plans>>,
    Path((name, version)): Path<(String, u32)>,
    Query(mut query): Query<std::collections::BTreeMap<String, String>>,
) -> Result<Response, Error> {
    let started = Instant::now();
    let entry = app.catalog.view(&name, version)?;
    let plan = plans.of(&app, &entry);
    let mut option = |name: &str| query.remove(name);
    let wrong = |field: &str, text: &str| {
        Error::invalid(format!("{field}: '{text}' cannot be used"), "the parameters are shown at /docs")
    };
    let shape = match option("include_keys").as_deref() {
        None | Some("false") => Shape::Features,
        Some("true") => Shape::Keys,
        Some(other) => return Err(wrong("include_keys", other)),
    };
    let which = match option("which").as_deref() {
        None | Some("latest") => Which::Latest,
        Some("previous") => Which::Previous,
        Some(other) => return Err(wrong("which", other)),
    };
    let max_age = match option("max_age") {
        Some(text) => Some(age(Seconds(text.parse().map_err(|_| wrong("max_age", &text))?))?),
        None => None,
    };
    if let Some(unknown) = query.keys().find(|name| !plan.keys.iter().any(|(key, _)| key == *name)) {
        return Err(Error::invalid(
            format!("unknown parameter {unknown}"),
            format!("the view's serving keys are {}", plan.key_names()),
        ));
    }
    let options = Options { shape, which, max_age, metadata: true };
    let body = reply::one(&plan, &app.store.view(), &plan.typed(query), &options)?;
    plan.seconds.observe(started.elapsed().as_secs_f64());
    Ok(as_json(body))
}

fn age(seconds: Seconds) -> Result<Span, Error> {
    if seconds.0.is_finite() && seconds.0 >= 0.0 {
        return Ok(seconds.into());
    }
    Err(Error::invalid(format!("max_age: {} is not an age", seconds.0), "give seconds, zero or more"))
}

fn as_json(body: Vec<u8>) -> Response {
    const JSON: HeaderValue = HeaderValue::from_static(download::JSON);
    ([(header::CONTENT_TYPE, JSON)], Bytes::from(body)).into_response()
}

/// Waits until every group of the view that reads the position's stream has come as far.
async fn wait(app: &App, view: &ViewEntry, token: &str) -> Result<(), Error> {
    let position: Position = token.parse().map_err(|e| bad_token(&e))?;
    let snapshot = app.catalog.snapshot();
    let deadline = tokio::time::Instant::now() + POSITION_WAIT;
    let mut read = false;
    for group in &view.groups {
        let sources = snapshot.sources(&group.def)?;
        if sources.iter().any(|s| s.def.uuid == position.stream) {
            read = true;
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            reach(app, group, &position, left).await?;
        }
    }
    if read {
        return Ok(());
    }
    Err(Error::invalid(
        "min_position: no group of the view reads that stream",
        "use the position of an append to a stream that one of the view's groups reads",
    ))
}
