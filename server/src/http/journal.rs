//! How a feature group's rows came about: its plan, its epochs, its late records.

use std::sync::Arc;

use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millpond_engine::time::Span;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Json, Path, Query};
use super::quarantine::Page;
use super::{Error, instant};
use crate::app::App;
use crate::store::commit::JournalEntry;

/// Explain a feature group: its plan, its state for each key, when rows come out
#[utoipa::path(get, path = "/api/v1/feature-groups/{group}/{version}/explain", tag = "feature groups", operation_id = "explain",
    params(("group" = String, Path, example = "docs_ctr"), ("version" = u32, Path, example = 1)),
    responses((status = 200, description = "The plan", body = Object)))]
pub async fn explain(
    State(app): State<Arc<App>>,
    Path((name, version)): Path<(String, u32)>,
) -> Result<Json<Value>, Error> {
    let entry = app.catalog.group(&name, version)?;
    let Some(query) = &entry.query else {
        return Ok(Json(json!({
            "kind": "ingested",
            "emission": "each row inserted is a row of the group, when the epoch that read it commits",
        })));
    };
    let sources = app.catalog.snapshot().sources(&entry.def)?;
    let delay = sources.iter().map(|s| s.def.watermark_delay).max().unwrap_or(Span(0));
    let explained = query.explain(delay, entry.def.allowed_lateness);
    Ok(Json(serde_json::to_value(explained).map_err(|e| Error::Internal(e.to_string()))?))
}

/// Which epochs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct From {
    /// The first epoch
    #[serde(default)]
    from: u64,
    /// At most this many, up to 10,000
    #[param(example = 100)]
    limit: Option<usize>,
}

/// The journal.
#[derive(Debug, Serialize, ToSchema)]
pub struct Epochs {
    epochs: Vec<Entry>,
}

/// What is kept of an epoch: with the bytes in its ranges, all that its rows depend on.
#[derive(Debug, Serialize, ToSchema)]
pub struct Entry {
    /// Its number: `_commit` of its rows
    epoch: u64,
    /// Of an entry that stands for several epochs long past: the first of them. Ranges, counts and rows are
    /// theirs together, a digest is that of their digests
    #[serde(skip_serializing_if = "Option::is_none")]
    first_epoch: Option<u64>,
    /// The only clock it saw
    opened_at: String,
    /// What was read: half-open ranges of offsets
    #[schema(value_type = Vec<Object>)]
    ranges: Vec<Value>,
    /// Watermark of each source afterwards
    source_watermarks: Vec<Option<String>>,
    /// Watermark of the pipeline afterwards
    watermark: Option<String>,
    /// When its rows became available
    available_at: String,
    /// Whether that was computed from event time
    modelled: bool,
    /// What became of the records, by source
    #[schema(value_type = Vec<Object>)]
    counts: Value,
    /// Rows that came out
    rows: u64,
    /// Where a large close goes on
    #[schema(value_type = Option<Object>)]
    close_cursor: Option<Value>,
    /// Schema ids judged unknown
    unknown_schema_ids: Vec<u32>,
    /// Whether the durable state stands here
    checkpoint: bool,
    /// Version of the engine's semantics
    semantics: u32,
}

/// List epochs
#[utoipa::path(get, path = "/api/v1/feature-groups/{group}/{version}/epochs", tag = "feature groups", operation_id = "epochs",
    params(("group" = String, Path, example = "docs_ctr"), ("version" = u32, Path, example = 1), From),
    responses((status = 200, description = "Epochs in order", body = Epochs)))]
pub async fn epochs(
    State(app): State<Arc<App>>,
    Path((name, version)): Path<(String, u32)>,
    Query(query): Query<From>,
) -> Result<Json<Epochs>, Error> {
    let entry = app.catalog.group(&name, version)?;
    let limit = query.limit.unwrap_or(100).clamp(1, 10_000);
    let read =
        move || Ok(app.store.journal(entry.def.id, query.from, limit)?.into_iter().map(Entry::new).collect());
    let epochs = tokio::task::spawn_blocking(read).await.map_err(|e| Error::Internal(e.to_string()))?;
    epochs.map(|epochs| Json(Epochs { epochs }))
}

impl Entry {
    fn new(entry: JournalEntry) -> Self {
        let ranges = entry.ranges.iter().map(|range| {
            json!({
                "source": range.partition.source,
                "partition": range.partition.partition,
                "from": range.from,
                "to": range.to,
                "count": range.count,
                "digest": format!("{:016x}", range.digest),
            })
        });
        Self {
            epoch: entry.epoch,
            first_epoch: entry.first_epoch,
            opened_at: entry.opened_at.to_string(),
            ranges: ranges.collect(),
            source_watermarks: entry.source_watermarks.iter().map(|w| instant::watermark(*w)).collect(),
            watermark: instant::watermark(entry.watermark),
            available_at: entry.available_at.to_string(),
            modelled: entry.modelled,
            counts: json!(entry.counts),
            rows: entry.rows,
            close_cursor: entry
                .close_cursor
                .map(|c| json!({"window_end": c.window_end.to_string(), "key": STANDARD.encode(c.key)})),
            unknown_schema_ids: entry.unknown_schema_ids,
            checkpoint: entry.checkpoint,
            semantics: entry.semantics,
        }
    }
}

/// Late records.
#[derive(Debug, Serialize, ToSchema)]
pub struct LateRecords {
    records: Vec<Late>,
    /// Give it as `after` for the next page; null: this is the last one
    next: Option<String>,
}

/// A record that no window took any more.
#[derive(Debug, Serialize, ToSchema)]
pub struct Late {
    /// The stream
    stream: String,
    partition: u32,
    offset: i64,
    /// The epoch that found it late
    epoch: u64,
    /// Value as it came, base64
    value: String,
}

/// List late records
#[utoipa::path(get, path = "/api/v1/feature-groups/{group}/{version}/late", tag = "feature groups", operation_id = "late_records",
    params(("group" = String, Path, example = "docs_ctr"), ("version" = u32, Path, example = 1), Page),
    responses((status = 200, description = "Records in the order they were found late", body = LateRecords)))]
pub async fn late(
    State(app): State<Arc<App>>,
    Path((name, version)): Path<(String, u32)>,
    Query(page): Query<Page>,
) -> Result<Json<LateRecords>, Error> {
    let entry = app.catalog.group(&name, version)?;
    let after = page.after::<2>()?.map(|[epoch, ordinal]| (epoch as u64, ordinal as u32));
    let read = move || {
        let limit = page.limit();
        let found = app.store.late(entry.def.id, after, limit)?;
        let next =
            found.last().filter(|_| found.len() == limit).map(|l| format!("{}.{}", l.epoch, l.ordinal));
        let records = found.into_iter().map(|late| Late {
            stream: source(&entry.def.sources, late.record.partition.source),
            partition: late.record.partition.partition,
            offset: late.record.offset,
            epoch: late.epoch,
            value: STANDARD.encode(late.record.value),
        });
        Ok(Json(LateRecords { records: records.collect(), next }))
    };
    tokio::task::spawn_blocking(read).await.map_err(|e| Error::Internal(e.to_string()))?
}

fn source(sources: &[crate::catalog::GroupSource], at: u16) -> String {
    sources.get(usize::from(at)).map(|s| s.name.to_string()).unwrap_or_default()
}
