//! `/api/v1/feature-groups/{group}/{version}/sinks`: where else a group's rows go, and how that stands.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Error;
use super::extract::{Json, Path};
use super::feature_groups::GroupBody;
use crate::app::App;
use crate::catalog::{FileFormat, GroupId, SinkTarget};
use crate::sinks::State as Standing;

/// A sink of a group, and how it stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct SinkBody {
    /// Name
    #[schema(example = "files")]
    name: String,
    /// `kafka` or `files`
    #[schema(example = "files")]
    kind: &'static str,
    /// The topic, or the folder on the server's disk
    location: String,
    /// Of files
    format: Option<FileFormat>,
    /// Of files: the column of their folders
    partition_by: Option<String>,
    /// `running`, `failing` (it tries again by itself) or `halted`
    #[schema(example = "running")]
    state: &'static str,
    /// What happened, where it is not just running
    reason: Option<String>,
    /// What to do about it
    mend: Option<&'static str>,
    /// Rows committed that it does not have yet; they stay in the outbox
    lag_rows: u64,
    /// When the oldest of them became available
    oldest: Option<String>,
}

impl SinkBody {
    /// The sinks of a group.
    pub fn of(app: &App, group: GroupId) -> Vec<Self> {
        let body = |status: crate::sinks::Status| {
            let (format, partition_by) = match &status.sink.target {
                SinkTarget::Kafka { .. } => (None, None),
                SinkTarget::Files { format, partition_by, .. } => (Some(*format), partition_by.clone()),
            };
            Self {
                name: status.sink.name.to_string(),
                kind: status.sink.target.kind(),
                location: app.sinks.location(&status.sink.target),
                format,
                partition_by,
                state: status.state.name(),
                reason: status.reason,
                mend: status.mend,
                lag_rows: status.lag_rows,
                oldest: status.oldest.map(|at| at.to_string()),
            }
        };
        app.sinks.status(group).into_iter().map(body).collect()
    }
}

/// What the first sink that does not run says, for the status of its group.
pub fn trouble(app: &App, group: GroupId) -> Option<String> {
    app.sinks.status(group).into_iter().find_map(|status| {
        let how = match status.state {
            Standing::Running => return None,
            Standing::Failing => "failed and is tried again",
            Standing::Halted => "stands still",
        };
        Some(format!("sink {} {how}: {}", status.sink.name, status.reason.unwrap_or_default()))
    })
}

/// Drop a sink of a feature group
///
/// What it wrote stays. What it does not have yet stays in Delta only.
#[utoipa::path(delete, path = "/api/v1/feature-groups/{group}/{version}/sinks/{sink}", tag = "feature groups", operation_id = "drop_sink",
    params(
        ("group" = String, Path, example = "docs_ctr"),
        ("version" = u32, Path, example = 1),
        ("sink" = String, Path, example = "files")
    ),
    responses((status = 200, description = "The group without it", body = GroupBody)))]
pub async fn remove(
    State(app): State<Arc<App>>,
    Path((name, version, sink)): Path<(String, u32, String)>,
) -> Result<Json<GroupBody>, Error> {
    let entry = app.drop_sink(&name, version, &sink).await?;
    Ok(Json(GroupBody::new(&app, &entry)))
}
