//! `/api/v1/feature-groups`: definitions, and the pipelines that keep them up to date.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::error::ErrorBody;
use super::extract::{Json, Path, Query};
use super::sinks::{self, SinkBody};
use super::{Error, instant};
use crate::app::App;
use crate::catalog::{Column, Emit, GroupEntry, GroupSpec, Seconds, Start, TimeMode};
use crate::log::position::{BadToken, Position};

/// The longest that `wait` waits.
const LONGEST_WAIT: f64 = 600.0;

/// A feature group with how its pipeline stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupBody {
    /// Identity, never reused
    id: u32,
    /// Identity across stores
    #[schema(value_type = String)]
    uuid: Uuid,
    /// Name
    #[schema(example = "docs_ctr")]
    name: String,
    /// Version
    version: u32,
    /// For people
    description: String,
    /// The SQL of a derived group
    sql: Option<String>,
    /// The streams it reads
    sources: Vec<Source>,
    /// Primary key, in order
    primary_key: Vec<String>,
    /// Event-time column
    event_time: String,
    /// The features with the primary key
    #[schema(value_type = Vec<Object>)]
    columns: Vec<Column>,
    /// Whether it has online rows
    online_enabled: bool,
    /// When rows come out
    #[schema(value_type = String)]
    emit: Emit,
    /// Seconds
    allowed_lateness: Seconds,
    /// Seconds
    ttl: Option<Seconds>,
    /// `earliest`, `latest` or an instant
    start: String,
    /// `live` or `historical`
    #[schema(value_type = String)]
    time: TimeMode,
    /// SHA-256 over the definition
    definition_hash: String,
    /// When it was created
    created_at: String,
    /// How its pipeline stands
    status: Status,
    /// Its Delta table
    location: String,
    /// Where else its rows go
    sinks: Vec<SinkBody>,
}

/// A stream that a group reads, once for each mention.
#[derive(Debug, Serialize, ToSchema)]
pub struct Source {
    stream: String,
    /// First offset per partition
    start: Vec<i64>,
    /// Where the group stands: the next offset per partition
    positions: Vec<i64>,
    /// Event time up to which the stream is complete for the group
    watermark: Option<String>,
    /// Records not committed yet
    lag: u64,
}

/// How a pipeline stands.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Status {
    /// `restoring`, `running`, `backfilling`, `waiting`, `paused` or `halted`
    #[schema(example = "running")]
    pub state: &'static str,
    /// What happened, where it is not just running
    pub reason: Option<String>,
    /// What to do about it
    pub mend: Option<String>,
    /// Something odd that stops nothing
    pub warning: Option<String>,
    /// Event time up to which everything has been read
    pub watermark: Option<String>,
    /// Records not committed yet
    pub lag: u64,
    /// The last epoch committed; 0: none
    pub epoch: u64,
    /// Rows committed and not yet in Delta
    pub outbox_rows: u64,
    /// The newest version of the Delta table
    pub delta_version: Option<u64>,
    /// What its state takes of the memory, about
    pub state_memory_bytes: u64,
    /// What its state takes on disk, about and compressed; what was written last is not among it
    pub state_disk_bytes: u64,
}

/// All feature groups.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupList {
    feature_groups: Vec<GroupBody>,
}

/// What was waited for.
#[derive(Debug, Serialize, ToSchema)]
pub struct Waited {
    reached: bool,
    watermark: Option<String>,
    epoch: u64,
    lag: u64,
}

impl Status {
    /// How a group's pipeline stands now.
    pub fn of(app: &App, group: &GroupEntry) -> Self {
        let status = app.pipelines.status(group.def.id);
        let outbox_rows = app.store.outbox_stats(group.def.id).map_or(0, |s| s.rows);
        let offline = app.offline.status(group.def.id);
        let delta_version = offline.as_ref().and_then(|o| o.delta_version);
        let drain = offline.and_then(|o| {
            let how = if o.halted { "stands still" } else { "failed and is tried again" };
            o.trouble.map(|trouble| format!("the drain to Delta {how}: {trouble}"))
        });
        let unbounded = || group.query.as_ref().and_then(|query| query.unbounded());
        let drain = drain.or_else(|| sinks::trouble(app, group.def.id));
        let state_disk_bytes = app.store.state_bytes(group.def.id).unwrap_or(0);
        let Some(status) = status else {
            return Self {
                state: if group.def.paused { "paused" } else { "waiting" },
                reason: None,
                mend: None,
                warning: drain.or_else(unbounded),
                watermark: None,
                lag: 0,
                epoch: 0,
                outbox_rows,
                delta_version,
                state_memory_bytes: 0,
                state_disk_bytes,
            };
        };
        Self {
            state: status.state.name(),
            reason: status.state.reason().map(str::to_owned),
            mend: status.state.mend().map(str::to_owned),
            warning: drain.or_else(|| status.warning.clone()).or_else(unbounded),
            watermark: instant::watermark(status.watermark),
            lag: status.lag(),
            epoch: status.epoch,
            outbox_rows,
            delta_version,
            state_memory_bytes: status.memory as u64,
            state_disk_bytes,
        }
    }
}

impl GroupBody {
    /// What a group looks like from outside.
    pub fn new(app: &App, entry: &GroupEntry) -> Self {
        let def = &entry.def;
        let pipeline = app.pipelines.status(def.id);
        let sources = def.sources.iter().enumerate().map(|(index, source)| {
            // By place: a stream may be mentioned more than once, and each mention stands where it stands.
            let at = pipeline.as_ref().and_then(|p| p.sources.get(index));
            Source {
                stream: source.name.to_string(),
                start: source.start.clone(),
                positions: at.map_or_else(|| source.start.clone(), |s| s.positions.clone()),
                watermark: at.and_then(|s| instant::watermark(s.watermark)),
                lag: at.map_or(0, |s| s.lag),
            }
        });
        Self {
            id: def.id.0,
            uuid: def.uuid,
            name: def.name.to_string(),
            version: def.version,
            description: def.description.clone(),
            sql: def.sql.clone(),
            sources: sources.collect(),
            primary_key: def.primary_key.clone(),
            event_time: def.event_time.clone(),
            columns: def.columns.clone(),
            online_enabled: def.online_enabled,
            emit: def.emit,
            allowed_lateness: def.allowed_lateness.into(),
            ttl: def.ttl.map(Seconds::from),
            start: match def.start {
                Start::Earliest => "earliest".to_owned(),
                Start::Latest => "latest".to_owned(),
                Start::At(at) => at.to_string(),
            },
            time: def.time,
            definition_hash: def.definition_hash.clone(),
            created_at: def.created_at.to_string(),
            status: Status::of(app, entry),
            location: app.offline.location(def.id).unwrap_or_default(),
            sinks: SinkBody::of(app, def.id),
        }
    }
}

/// List feature groups
#[utoipa::path(get, path = "/api/v1/feature-groups", tag = "feature groups", operation_id = "list_feature_groups",
    responses((status = 200, description = "All feature groups", body = GroupList)))]
pub async fn list(State(app): State<Arc<App>>) -> Json<GroupList> {
    let feature_groups = app.catalog.snapshot().groups().map(|g| GroupBody::new(&app, g)).collect();
    Json(GroupList { feature_groups })
}

/// Create a feature group
///
/// With the definition of the group that exists, it is returned. Its pipeline starts at once.
#[utoipa::path(post, path = "/api/v1/feature-groups", tag = "feature groups", operation_id = "create_feature_group",
    request_body(content = GroupSpec, example = json!({
        "name": "docs_ctr",
        "sql": "SELECT user_id, SUM(clicks) / NULLIF(SUM(impressions), 0) as ctr FROM TUMBLE(docs_events, DESCRIPTOR(timestamp), INTERVAL '5' MINUTES) GROUP BY user_id, window_end",
        "sinks": [{"kind": "files", "format": "csv", "path": "docs_ctr"}]
    })),
    responses(
        (status = 201, description = "Created", body = GroupBody),
        (status = 200, description = "It exists with this definition", body = GroupBody),
        (status = 404, description = "`not_found`: a stream of the SQL", body = ErrorBody),
        (status = 409, description = "It exists with another definition: `conflict`", body = ErrorBody),
        (status = 422, description = "`invalid_sql` or `invalid_schema`; `details` names the construct", body = ErrorBody)
    ))]
pub async fn create(
    State(app): State<Arc<App>>,
    Json(spec): Json<GroupSpec>,
) -> Result<impl IntoResponse, Error> {
    let (entry, created) = app.get_or_create_group(spec).await?;
    Ok((if created { StatusCode::CREATED } else { StatusCode::OK }, Json(GroupBody::new(&app, &entry))))
}

/// Show a feature group
#[utoipa::path(get, path = "/api/v1/feature-groups/{group}/{version}", tag = "feature groups", operation_id = "get_feature_group",
    params(("group" = String, Path, example = "docs_ctr"), ("version" = u32, Path, example = 1)),
    responses((status = 200, description = "The group and its status", body = GroupBody)))]
pub async fn show(
    State(app): State<Arc<App>>,
    Path((name, version)): Path<(String, u32)>,
) -> Result<Json<GroupBody>, Error> {
    Ok(Json(GroupBody::new(&app, &*app.catalog.group(&name, version)?)))
}

/// How a group is dropped.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Drop {
    /// Remove the Delta table too
    #[serde(default)]
    purge: bool,
    /// Drop the feature views that select it too
    #[serde(default)]
    force: bool,
}

/// Drop a feature group
///
/// Its pipeline stops, what is committed is written to Delta and to its sinks, its online rows go. The
/// table stays, unless it is purged: then nothing more is written. What sinks wrote stays.
#[utoipa::path(delete, path = "/api/v1/feature-groups/{group}/{version}", tag = "feature groups", operation_id = "drop_feature_group",
    params(("group" = String, Path, example = "docs_ctr"), ("version" = u32, Path, example = 1), Drop),
    responses(
        (status = 204, description = "Dropped"),
        (status = 409, description = "Feature views select it: `conflict`", body = ErrorBody),
        (status = 503, description = "Delta or a sink does not take the last rows: `unavailable`", body = ErrorBody)
    ))]
pub async fn remove(
    State(app): State<Arc<App>>,
    Path((name, version)): Path<(String, u32)>,
    Query(query): Query<Drop>,
) -> Result<StatusCode, Error> {
    app.drop_group(&name, version, query.purge, query.force).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Pause a feature group's pipeline, across restarts too
#[utoipa::path(post, path = "/api/v1/feature-groups/{group}/{version}/pause", tag = "feature groups", operation_id = "pause_feature_group",
    params(("group" = String, Path, example = "docs_ctr"), ("version" = u32, Path, example = 1)),
    responses((status = 200, description = "The group", body = GroupBody)))]
pub async fn pause(
    State(app): State<Arc<App>>,
    Path((name, version)): Path<(String, u32)>,
) -> Result<Json<GroupBody>, Error> {
    let entry = app.pause_group(&name, version, true).await?;
    Ok(Json(GroupBody::new(&app, &entry)))
}

/// Resume a feature group's pipeline: paused, or halted and mended
#[utoipa::path(post, path = "/api/v1/feature-groups/{group}/{version}/resume", tag = "feature groups", operation_id = "resume_feature_group",
    params(("group" = String, Path, example = "docs_ctr"), ("version" = u32, Path, example = 1)),
    responses((status = 200, description = "The group", body = GroupBody)))]
pub async fn resume(
    State(app): State<Arc<App>>,
    Path((name, version)): Path<(String, u32)>,
) -> Result<Json<GroupBody>, Error> {
    let entry = app.pause_group(&name, version, false).await?;
    Ok(Json(GroupBody::new(&app, &entry)))
}

/// What to wait for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wait {
    /// The token that an append, a heartbeat or `finish` returned; without it, where its streams end now
    position: Option<String>,
    /// Seconds, up to 600
    #[param(example = 30)]
    timeout: Option<f64>,
}

/// Wait until a feature group has committed everything up to a position
#[utoipa::path(post, path = "/api/v1/feature-groups/{group}/{version}/wait", tag = "feature groups", operation_id = "wait_feature_group",
    params(("group" = String, Path, example = "docs_ctr"), ("version" = u32, Path, example = 1), Wait),
    responses(
        (status = 200, description = "Reached", body = Waited),
        (status = 504, description = "`timeout`: not reached in time; the message says how the pipeline stands", body = ErrorBody)
    ))]
pub async fn wait(
    State(app): State<Arc<App>>,
    Path((name, version)): Path<(String, u32)>,
    Query(query): Query<Wait>,
) -> Result<Json<Waited>, Error> {
    let entry = app.catalog.group(&name, version)?;
    let seconds = query.timeout.unwrap_or(30.0);
    let timeout =
        Duration::try_from_secs_f64(seconds).ok().filter(|_| seconds <= LONGEST_WAIT).ok_or_else(|| {
            Error::invalid(format!("timeout: {seconds} is not a timeout"), "give 0 to 600 seconds")
        })?;
    let deadline = tokio::time::Instant::now() + timeout;
    let positions = match &query.position {
        Some(token) => vec![token.parse().map_err(|e| bad_token(&e))?],
        None => ends(&app, &entry).await?,
    };
    for position in &positions {
        reach(&app, &entry, position, deadline.saturating_duration_since(tokio::time::Instant::now()))
            .await?;
    }
    let status = Status::of(&app, &entry);
    Ok(Json(Waited { reached: true, watermark: status.watermark, epoch: status.epoch, lag: status.lag }))
}

/// A token that cannot be read.
pub fn bad_token(error: &BadToken) -> Error {
    Error::invalid(error.to_string(), "tokens are not made by hand")
}

async fn ends(app: &App, entry: &GroupEntry) -> Result<Vec<Position>, Error> {
    let mut positions: Vec<Position> = Vec::with_capacity(entry.def.sources.len());
    for stream in app.catalog.snapshot().sources(&entry.def)? {
        if positions.iter().any(|p| p.stream == stream.def.uuid) {
            continue;
        }
        positions.push(Position { stream: stream.def.uuid, offsets: app.log_ends(&stream).await? });
    }
    Ok(positions)
}

/// Waits until a group has committed all that lies before a position.
pub async fn reach(
    app: &App,
    entry: &GroupEntry,
    position: &Position,
    timeout: Duration,
) -> Result<(), Error> {
    app.pipelines.wait(entry.def.id, position, timeout).await?;
    Ok(())
}
