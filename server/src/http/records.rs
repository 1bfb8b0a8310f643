//! `/api/v1/streams/{stream}/records`: appending events, and looking at raw ones.

mod body;
mod readable;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use readable::Readable;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use xxhash_rust::xxh3::xxh3_64;

use super::Error;
use super::error::ErrorBody;
use super::extract::{self, Body, Json, Path, Query};
use crate::app::{App, written_by_others};
use crate::catalog::StreamEntry;
use crate::log::position::Position;
use crate::log::writer::{Batch, Writer};
use crate::log::{Budget, Kind, RecordRef, Records};

/// Confluent-framed Avro: a big-endian u32 length before each frame, `0xFFFFFFFF` for a null value.
pub const FRAMES: &str = "application/vnd.millpond.avro";
/// How long raw records are waited for, where the log says that there are some …
const PATIENCE: Duration = Duration::from_secs(5);
/// … looked at this often.
const STEP: Duration = Duration::from_millis(50);

/// Batches without a producer id take turns over the partitions.
static TURN: AtomicU32 = AtomicU32::new(0);

/// Rows of a stream, as plain JSON.
#[derive(Debug, Serialize, ToSchema)]
pub struct Rows {
    /// One object a row; a bare array of rows is understood too
    #[schema(value_type = Option<Vec<Object>>)]
    rows: Vec<Value>,
    /// Primary keys that have no value from here on: records with that key and a null value, appended
    /// after the rows. One value, or an array in key order for a compound key
    #[schema(value_type = Option<Vec<Value>>, example = json!([]))]
    tombstones: Vec<Value>,
}

/// Where an append ended.
#[derive(Debug, Serialize, ToSchema)]
pub struct Appended {
    /// An opaque token: give it to `wait` or `min_position`
    position: String,
    /// Records appended
    appended: usize,
}

/// Append events
///
/// JSON rows are checked against the schema, all or nothing. Framed Avro is stored as it is and judged
/// by the pipelines. On the stream of an ingested feature group, tombstones delete: from the greatest
/// event time appended before them on, their keys have no value. A batch goes to one partition. Under a producer id, the same sequence again gives
/// the same reply and appends nothing; to a Kafka topic each such batch is a transaction.
#[utoipa::path(post, path = "/api/v1/streams/{stream}/records", tag = "streams", operation_id = "append_records",
    params(
        ("stream" = String, Path, example = "docs_events"),
        ("Millpond-Producer-Id" = Option<String>, Header, description = "Names the producer; with Millpond-Sequence"),
        ("Millpond-Sequence" = Option<u64>, Header, description = "Number of the batch: one more than that of the batch before"),
        ("Millpond-Partition" = Option<u32>, Header, description = "Partition; by default the hash of the producer id")
    ),
    request_body(content(
        (Rows = "application/json", example = json!({"rows": [
            {"user_id": "u1", "clicks": 1, "impressions": 10, "timestamp": "2026-01-31T12:00:00Z"},
            {"user_id": "u1", "clicks": 0, "impressions": 10, "timestamp": "2026-01-31T12:01:00Z"}
        ]})),
        (Vec<u8> = "application/vnd.millpond.avro")
    )),
    responses(
        (status = 200, description = "Durable", body = Appended),
        (status = 409, description = "`sequence_conflict`: a gap or a stale number; `details.last_sequence`", body = ErrorBody),
        (status = 413, description = "`payload_too_large`", body = ErrorBody),
        (status = 422, description = "`invalid_rows`: none was appended; `details` has row and field", body = ErrorBody)
    ))]
pub async fn append(
    State(app): State<Arc<App>>,
    Extension(writer): Extension<Arc<Writer>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Json<Appended>, Error> {
    let entry = app.catalog.stream(&name)?;
    written_by_others(&entry)?;
    let media = headers.get(header::CONTENT_TYPE).and_then(|t| t.to_str().ok()).unwrap_or("application/json");
    let framed = media.split(';').next().unwrap_or_default().trim() == FRAMES;
    let batch = batch(&headers, &body)?;
    let partition = partition(&entry, &headers, batch.as_ref())?;
    // Encoding ten megabytes of rows takes long enough to be in the way of vectors.
    let key =
        app.catalog.snapshot().groups_of(entry.def.id).find(|g| g.def.sql.is_none()).map(|g| g.key_schema());
    let blocking = Arc::clone(&entry);
    let encode = move || {
        if framed { body::frames(&body) } else { body::rows(&blocking, key.as_ref(), &body) }
    };
    let records = tokio::task::spawn_blocking(encode).await.map_err(|e| Error::Internal(e.to_string()))??;
    let appended = records.len();
    let offsets = writer.append(&entry.def, vec![(partition, records)], batch).await?;
    Ok(Json(Appended { position: Position { stream: entry.def.uuid, offsets }.to_string(), appended }))
}

fn batch(headers: &HeaderMap, body: &[u8]) -> Result<Option<Batch>, Error> {
    let producer = extract::text(headers, "millpond-producer-id")?;
    let sequence = extract::number(headers, "millpond-sequence")?;
    match (producer, sequence) {
        (_, None) => Ok(None),
        (Some(producer), Some(sequence)) if !producer.is_empty() && producer.len() <= 256 => {
            Ok(Some(Batch { producer: producer.to_owned(), sequence, digest: xxh3_64(body) }))
        }
        _ => Err(Error::invalid(
            "a sequence belongs to a producer id of 1 to 256 characters",
            "send Millpond-Producer-Id with Millpond-Sequence",
        )),
    }
}

/// The partition of a batch: named, else the producer's, else the next in turn.
fn partition(entry: &StreamEntry, headers: &HeaderMap, batch: Option<&Batch>) -> Result<u32, Error> {
    if let Some(named) = extract::number(headers, "millpond-partition")? {
        return existing(entry, named);
    }
    let partitions = entry.def.partitions.max(1);
    let producer = match batch {
        Some(batch) => Some(batch.producer.as_str()),
        None => extract::text(headers, "millpond-producer-id")?,
    };
    Ok(match producer {
        Some(id) => (xxh3_64(id.as_bytes()) % u64::from(partitions)) as u32,
        None => TURN.fetch_add(1, Ordering::Relaxed) % partitions,
    })
}

/// A partition that the stream has.
pub fn existing(entry: &StreamEntry, partition: u32) -> Result<u32, Error> {
    if partition < entry.def.partitions {
        return Ok(partition);
    }
    Err(Error::absent(
        format!("partition {partition} in stream {}", entry.def.name),
        format!("its partitions are 0 to {}", entry.def.partitions.saturating_sub(1)),
    ))
}

/// The offsets of a position in this stream.
pub fn position(entry: &StreamEntry, token: &str) -> Result<Vec<i64>, Error> {
    let hint = "use the token that an append to this stream returned";
    let position: Position =
        token.parse().map_err(|e: crate::log::position::BadToken| Error::invalid(e.to_string(), hint))?;
    if position.stream != entry.def.uuid {
        return Err(Error::invalid(format!("this position is not one of stream {}", entry.def.name), hint));
    }
    Ok(position.offsets)
}

/// Which raw records.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Raw {
    /// Partition
    #[serde(default)]
    partition: u32,
    /// First offset; the log's first by default
    offset: Option<i64>,
    /// At most this many, up to 10,000
    #[param(example = 10)]
    limit: Option<usize>,
}

/// Raw records.
#[derive(Debug, Serialize, ToSchema)]
pub struct RawRecords {
    records: Vec<RawRecord>,
}

/// One record as it stands in the log.
#[derive(Debug, Serialize, ToSchema)]
pub struct RawRecord {
    partition: u32,
    offset: i64,
    /// `event`, `tombstone` or `heartbeat`
    kind: &'static str,
    /// Of a heartbeat: microseconds since the Unix epoch, as it stands in the record
    heartbeat: Option<i64>,
    /// Message key, base64
    key: Option<String>,
    /// Value, base64; null for a null value
    value: Option<String>,
    /// The value as a row; null where it cannot be decoded
    #[schema(value_type = Option<Object>)]
    row: Option<Value>,
}

/// Read raw records
#[utoipa::path(get, path = "/api/v1/streams/{stream}/records", tag = "streams", operation_id = "raw_records",
    params(("stream" = String, Path, example = "docs_events"), Raw),
    responses(
        (status = 200, description = "Records in the order of their offsets", body = RawRecords),
        (status = 410, description = "`gone`: the log no longer has the offset", body = ErrorBody)
    ))]
pub async fn raw(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(query): Query<Raw>,
) -> Result<Json<RawRecords>, Error> {
    let entry = app.catalog.stream(&name)?;
    let partition = existing(&entry, query.partition)?;
    let limit = query.limit.unwrap_or(100).clamp(1, 10_000);
    let read = move || {
        let mut reader = crate::log::open(&entry.def, "millpond", &app.store, &app.config.kafka)?;
        let (first, end) = reader.range(partition)?;
        let from = query.offset.unwrap_or(first);
        if from < first {
            return Err(Error::Log(crate::log::Error::Gone { log: name, partition, wanted: from, first }));
        }
        let mut records = Records::default();
        reader.seek(partition, from)?;
        let deadline = Instant::now() + PATIENCE;
        while records.records.len() < limit && records.records.last().map_or(from, |r| r.offset + 1) < end {
            let budget = Budget { records: limit - records.records.len(), bytes: 4 << 20, wait: STEP };
            if reader.poll(partition, budget, &mut records)? > 0 {
                continue;
            }
            // Nothing yet: a topic is fetched in the background; its end may be markers that are no records.
            let ended = reader.ends()?.iter().any(|e| e.partition == partition && e.reached);
            if ended || Instant::now() > deadline {
                break;
            }
            reader.wait(STEP);
        }
        let mut readable = Readable::new(&app, &entry);
        let shown = records.records.iter().map(|r| show(&mut readable, &records, r));
        Ok(Json(RawRecords { records: shown.collect() }))
    };
    tokio::task::spawn_blocking(read).await.map_err(|e| Error::Internal(e.to_string()))?
}

fn show(readable: &mut Readable<'_>, records: &Records, record: &RecordRef) -> RawRecord {
    let (kind, heartbeat) = match record.kind {
        Kind::Event => ("event", None),
        Kind::Tombstone => ("tombstone", None),
        Kind::Heartbeat(time) => ("heartbeat", time.map(|t| t.0)),
    };
    let value = (record.kind == Kind::Event).then(|| records.value(record));
    RawRecord {
        partition: record.partition,
        offset: record.offset,
        kind,
        heartbeat,
        key: records.key(record).map(|k| STANDARD.encode(k)),
        value: value.map(|value| STANDARD.encode(value)),
        row: value.and_then(|value| readable.row(value)),
    }
}
