//! `/api/v1/streams` and what is asked of one stream.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::error::ErrorBody;
use super::extract::{Json, Optional, Path};
use super::feature_groups::Status;
use super::{Error, instant};
use crate::app::{App, written_by_others};
use crate::catalog::{
    Column, Format, OnBadRecord, Seconds, StreamEntry, StreamSpec, TimeMode, TimeUnit, types,
};
use crate::log::position::Position;
use crate::log::writer::{NewRecord, Writer};
use crate::log::{self, At, Kind};

/// A stream.
#[derive(Debug, Serialize, ToSchema)]
pub struct StreamBody {
    /// Identity, never reused
    id: u32,
    /// Identity across stores
    #[schema(value_type = String)]
    uuid: Uuid,
    /// Name
    #[schema(example = "events")]
    name: String,
    /// Kafka topic; null: the embedded log
    topic: Option<String>,
    /// Partitions
    partitions: u32,
    /// Subject in the schema registry
    #[schema(example = "events-value")]
    subject: String,
    /// Its Avro schema; of a stream of JSON, the record that stands for its columns
    #[schema(value_type = Object)]
    schema: Value,
    /// The schema's id: JSON rows are stored under it; 0 for a stream of JSON
    schema_id: u32,
    /// What records are: `avro` or `json`
    #[schema(value_type = String)]
    format: Format,
    /// The event-time column
    event_time: String,
    /// Its unit, where it is a plain long
    #[schema(value_type = Option<String>)]
    event_time_unit: Option<TimeUnit>,
    /// Seconds
    watermark_delay: Seconds,
    /// Seconds
    idle_timeout: Option<Seconds>,
    /// Whether time goes on without events
    idle_advance: bool,
    /// Seconds
    max_future_skew: Seconds,
    /// `live` or `historical`
    #[schema(value_type = String)]
    time: TimeMode,
    /// `quarantine` or `halt`
    #[schema(value_type = String)]
    on_bad_record: OnBadRecord,
    /// When it was created
    created_at: String,
    /// Offsets per partition at which a bounded replay ended
    finish: Option<Vec<i64>>,
    /// Columns as SQL sees them
    #[schema(value_type = Vec<Object>)]
    columns: Vec<Column>,
}

/// A stream with how it stands now.
#[derive(Debug, Serialize, ToSchema)]
pub struct StreamDetail {
    #[serde(flatten)]
    stream: StreamBody,
    /// Where the log ends now: a position to wait for
    positions: String,
    /// Offsets of each partition
    partitions_detail: Vec<Offsets>,
    /// The groups that read it
    groups: Vec<Reader>,
}

/// Offsets of one partition.
#[derive(Debug, Serialize, ToSchema)]
pub struct Offsets {
    partition: u32,
    /// First offset
    start: i64,
    /// Offset after the last
    end: i64,
}

/// A group that reads a stream.
#[derive(Debug, Serialize, ToSchema)]
pub struct Reader {
    name: String,
    version: u32,
    /// Event time up to which the stream is complete for it
    watermark: Option<String>,
    /// Records that it has not committed yet
    lag: u64,
    /// How its pipeline is
    status: Status,
}

/// All streams.
#[derive(Debug, Serialize, ToSchema)]
pub struct StreamList {
    streams: Vec<StreamBody>,
}

/// A position in a stream.
#[derive(Debug, Serialize, ToSchema)]
pub struct PositionBody {
    /// An opaque token: give it to `wait` or `min_position`
    pub position: String,
}

/// A time without a row.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// Moves the watermark as an event at that time would
    #[schema(example = "2026-01-31T12:00:00Z")]
    time: String,
    /// For this partition only; for all where it is missing
    #[serde(default)]
    partition: Option<u32>,
}

/// The end of a bounded replay.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Finish {
    /// Where it ends; where the log ends now if it is missing
    #[serde(default)]
    position: Option<String>,
}

impl StreamBody {
    /// What a stream looks like from outside.
    pub fn new(entry: &StreamEntry) -> Self {
        let def = &entry.def;
        let columns = entry.reader.arrow().fields().iter().map(|field| Column {
            name: field.name().clone(),
            data_type: types::name(field.data_type()).unwrap_or_else(|_| field.data_type().to_string()),
            nullable: field.is_nullable(),
        });
        Self {
            id: def.id.0,
            uuid: def.uuid,
            name: def.name.to_string(),
            topic: def.topic.clone(),
            partitions: def.partitions,
            subject: def.subject.clone(),
            schema: serde_json::from_str(&def.schema).unwrap_or_else(|_| json!(def.schema)),
            schema_id: def.schema_id,
            format: def.format,
            event_time: def.event_time.clone(),
            event_time_unit: def.event_time_unit,
            watermark_delay: def.watermark_delay.into(),
            idle_timeout: def.idle_timeout.map(Seconds::from),
            idle_advance: def.idle_advance,
            max_future_skew: def.max_future_skew.into(),
            time: def.time,
            on_bad_record: def.on_bad_record,
            created_at: def.created_at.to_string(),
            finish: def.finish.clone(),
            columns: columns.collect(),
        }
    }
}

/// List streams
#[utoipa::path(get, path = "/api/v1/streams", tag = "streams", operation_id = "list_streams",
    responses((status = 200, description = "All streams", body = StreamList)))]
pub async fn list(State(app): State<Arc<App>>) -> Json<StreamList> {
    Json(StreamList { streams: app.catalog.snapshot().streams().map(|s| StreamBody::new(s)).collect() })
}

/// Create a stream
///
/// With the definition of the stream that exists, it is returned. Another schema moves the stream to
/// it, if the schema registry finds it compatible.
#[utoipa::path(post, path = "/api/v1/streams", tag = "streams", operation_id = "create_stream",
    request_body(content = StreamSpec, example = json!({
        "name": "docs_events",
        "schema": {"type": "record", "name": "Event", "fields": [
            {"name": "user_id", "type": "string"},
            {"name": "clicks", "type": "long"},
            {"name": "impressions", "type": "long"},
            {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}}
        ]},
        "event_time": "timestamp",
        "time": "historical"
    })),
    responses(
        (status = 201, description = "Created", body = StreamBody),
        (status = 200, description = "It exists with this definition", body = StreamBody),
        (status = 409, description = "It exists with another definition: `conflict`", body = ErrorBody),
        (status = 422, description = "The schema is refused: `invalid_schema`", body = ErrorBody)
    ))]
pub async fn create(
    State(app): State<Arc<App>>,
    Json(spec): Json<StreamSpec>,
) -> Result<impl IntoResponse, Error> {
    let (entry, created) = app.get_or_create_stream(spec).await?;
    Ok((if created { StatusCode::CREATED } else { StatusCode::OK }, Json(StreamBody::new(&entry))))
}

/// Show a stream
#[utoipa::path(get, path = "/api/v1/streams/{stream}", tag = "streams", operation_id = "get_stream",
    params(("stream" = String, Path, example = "docs_events")),
    responses((status = 200, description = "The stream, its offsets and who reads it", body = StreamDetail)))]
pub async fn show(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<StreamDetail>, Error> {
    let entry = app.catalog.stream(&name)?;
    let starts = starts(&app, &entry).await?;
    let ends = app.log_ends(&entry).await?;
    let partitions_detail = starts.iter().zip(&ends).zip(0..).map(|((start, end), partition)| Offsets {
        partition,
        start: *start,
        end: *end,
    });
    let snapshot = app.catalog.snapshot();
    let readers = snapshot.groups_of(entry.def.id).map(|group| {
        let status = Status::of(&app, group);
        Reader {
            name: group.def.name.to_string(),
            version: group.def.version,
            watermark: status.watermark.clone(),
            lag: status.lag,
            status,
        }
    });
    Ok(Json(StreamDetail {
        stream: StreamBody::new(&entry),
        partitions_detail: partitions_detail.collect(),
        groups: readers.collect(),
        positions: Position { stream: entry.def.uuid, offsets: ends }.to_string(),
    }))
}

/// Where each partition begins.
async fn starts(app: &App, entry: &Arc<StreamEntry>) -> Result<Vec<i64>, Error> {
    let (entry, store, kafka) = (Arc::clone(entry), Arc::clone(&app.store), app.config.kafka.clone());
    let starts = tokio::task::spawn_blocking(move || log::offsets(&entry.def, At::Start, &store, &kafka));
    Ok(starts.await.map_err(|e| Error::Internal(e.to_string()))??)
}

/// Drop a stream that no feature group reads
///
/// The embedded log goes with it; a Kafka topic is left alone.
#[utoipa::path(delete, path = "/api/v1/streams/{stream}", tag = "streams", operation_id = "drop_stream",
    params(("stream" = String, Path, example = "docs_events")),
    responses(
        (status = 204, description = "Dropped"),
        (status = 409, description = "Feature groups read it: `conflict`", body = ErrorBody)
    ))]
pub async fn remove(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<StatusCode, Error> {
    app.drop_stream(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Move time without a row
#[utoipa::path(post, path = "/api/v1/streams/{stream}/heartbeat", tag = "streams", operation_id = "heartbeat",
    params(("stream" = String, Path, example = "docs_events")),
    request_body(content = Heartbeat, example = json!({"time": "2026-01-31T12:30:00Z"})),
    responses((status = 200, description = "Where the heartbeat stands", body = PositionBody)))]
pub async fn heartbeat(
    State(app): State<Arc<App>>,
    Extension(writer): Extension<Arc<Writer>>,
    Path(name): Path<String>,
    Json(body): Json<Heartbeat>,
) -> Result<Json<PositionBody>, Error> {
    let entry = app.catalog.stream(&name)?;
    written_by_others(&entry)?;
    let time = instant::parse("time", &body.time)?;
    let partitions = match body.partition {
        Some(partition) => vec![super::records::existing(&entry, partition)?],
        None => (0..entry.def.partitions).collect(),
    };
    let record = NewRecord { kind: Kind::Heartbeat(Some(time)), key: None, value: Vec::new() };
    let parts = partitions.into_iter().map(|p| (p, vec![record.clone()])).collect();
    let offsets = writer.append(&entry.def, parts, None).await?;
    Ok(Json(PositionBody { position: Position { stream: entry.def.uuid, offsets }.to_string() }))
}

/// Mark the end of a bounded replay
///
/// Each pipeline, once past it, closes the windows that are open. The stream stays open.
#[utoipa::path(post, path = "/api/v1/streams/{stream}/finish", tag = "streams", operation_id = "finish_stream",
    params(("stream" = String, Path, example = "docs_events")),
    request_body(content = Finish, example = json!({})),
    responses((status = 200, description = "Where the replay ends", body = PositionBody)))]
pub async fn finish(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Optional(body): Optional<Finish>,
) -> Result<Json<PositionBody>, Error> {
    let entry = app.catalog.stream(&name)?;
    let offsets = body.position.map(|token| super::records::position(&entry, &token)).transpose()?;
    let offsets = app.finish_stream(&name, offsets).await?;
    Ok(Json(PositionBody { position: Position { stream: entry.def.uuid, offsets }.to_string() }))
}
