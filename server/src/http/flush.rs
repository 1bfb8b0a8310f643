//! `/api/v1/feature-groups/{group}/{version}/flush`: what is committed, brought where it belongs.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Error;
use super::extract::{Json, Path};
use crate::app::App;

/// The longest that sinks are waited for.
const SINKS: Duration = Duration::from_mins(1);

/// What a flush did.
#[derive(Debug, Serialize, ToSchema)]
pub struct Flushed {
    /// The newest version of the Delta table; null: nothing was ever written
    delta_version: Option<u64>,
    /// Rows that the flush wrote to Delta
    rows: u64,
    /// Whether all sinks have what was committed; where not, the group's `sinks` say why
    sinks_complete: bool,
}

/// Write what is committed to Delta and to the group's sinks now
#[utoipa::path(post, path = "/api/v1/feature-groups/{group}/{version}/flush", tag = "feature groups", operation_id = "flush_feature_group",
    params(("group" = String, Path, example = "docs_ctr"), ("version" = u32, Path, example = 1)),
    responses((status = 200, description = "What was written", body = Flushed)))]
pub async fn flush(
    State(app): State<Arc<App>>,
    Path((name, version)): Path<(String, u32)>,
) -> Result<Json<Flushed>, Error> {
    let entry = app.catalog.group(&name, version)?;
    let flushed = app.offline.flush(entry.def.id).await?;
    let sinks_complete = app.sinks.flush(entry.def.id, SINKS).await?;
    Ok(Json(Flushed { delta_version: flushed.delta_version, rows: flushed.rows, sinks_complete }))
}
