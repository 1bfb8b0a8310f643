//! `/health`: the process answers. `/ready`: it can serve.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::Json;
use super::feature_groups::Status;
use crate::app::App;

/// The process answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok`
    status: &'static str,
}

/// Whether the server can serve.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ready {
    ready: bool,
    /// `ok`, or what is wrong, by part
    checks: BTreeMap<String, String>,
}

/// Is the process there
#[utoipa::path(get, path = "/health", tag = "server", operation_id = "health", security(()),
    responses((status = 200, description = "It is", body = Health)))]
pub async fn health() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Can the server serve
///
/// Pipelines that stand still are counted and do not make it unready: vectors are still served.
#[utoipa::path(get, path = "/ready", tag = "server", operation_id = "ready", security(()),
    responses(
        (status = 200, description = "It can", body = Ready),
        (status = 503, description = "It cannot, for the reasons in `checks`", body = Ready)
    ))]
pub async fn ready(State(app): State<Arc<App>>) -> impl IntoResponse {
    let mut checks = BTreeMap::new();
    let store = app.store.view().multi_get(&[]).map(drop);
    let ready = store.is_ok();
    checks.insert("store".to_owned(), store.map_or_else(|e| e.to_string(), |()| "ok".to_owned()));
    // Anyone may ask: how many pipelines are in which state, but no names.
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for group in app.catalog.snapshot().groups() {
        *states.entry(Status::of(&app, group).state).or_default() += 1;
    }
    let by_state: Vec<String> = states.iter().map(|(state, n)| format!("{n} {state}")).collect();
    checks.insert(
        "pipelines".to_owned(),
        if by_state.is_empty() { "none".to_owned() } else { by_state.join(", ") },
    );
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Ready { ready, checks }))
}
