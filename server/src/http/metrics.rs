//! `/metrics` in Prometheus' text format.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::Error;
use crate::app::App;

/// Metrics for Prometheus
#[utoipa::path(get, path = "/metrics", tag = "server", operation_id = "metrics",
    responses((status = 200, description = "Prometheus text format", body = String, content_type = "text/plain")))]
pub async fn show(State(app): State<Arc<App>>) -> Result<impl IntoResponse, Error> {
    // The drain counts what it takes away; what epochs have added since then is asked here.
    for group in app.catalog.snapshot().groups() {
        let rows = app.store.outbox_stats(group.def.id).map_or(0, |s| s.rows);
        app.metrics.group(&group.label()).outbox_rows.set(i64::try_from(rows).unwrap_or(i64::MAX));
    }
    let text =
        app.metrics.encode().map_err(|e| Error::Internal(format!("metrics cannot be written: {e}")))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
}
