//! The decode stage: records of one partition → rows for the engine, and what could not become a row.
//!
//! A record is judged in this order (invariant 4): heartbeat, tombstone, decode, event time and skew;
//! the engine goes on from there. Nothing here depends on anything but the records, the schemas and
//! the epoch's `opened_at`.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use millpond_engine::avro::{Decoder, JsonDecoder, MAX_BODY, ReaderSchema, parse_frame};
use millpond_engine::epoch::{Delete, Reason, SourceBatch};
use millpond_engine::time::{Micros, Span};

use super::schemas::{Lookup, Schemas, Writer};
use super::{changes, judge, tombstones};
use crate::catalog::Format;
use crate::log::{Kind, RecordRef, Records};
use crate::store::commit::{Accounting, PartitionKey, Quarantined};

/// Rows of one batch at most: what DataFusion's kernels are made for.
pub const CHUNK: usize = 8192;

/// Decodes the records of one source.
pub struct Decode {
    bodies: Bodies,
    /// Position of the event time among the columns read.
    event_time: usize,
    /// The columns read, the event time not nullable.
    schema: SchemaRef,
    max_future_skew: Span,
    /// Of an ingested group: what the message keys of tombstones are read as.
    key: Option<Schema>,
}

/// What turns the values of records into rows.
enum Bodies {
    Avro {
        schemas: Schemas,
        decoder: Decoder,
    },
    Json(Box<JsonDecoder>),
    /// Many rows in each record, which the server wrote.
    Changes,
}

/// What one good record is.
enum Outcome {
    /// A row in the decoder.
    Row,
    /// Nothing but counted.
    Counted,
    /// The encoded primary key that a tombstone deletes.
    Delete(Vec<u8>),
}

/// What became of a chunk of records.
#[derive(Debug)]
pub struct Decoded {
    /// The rows, if there are any.
    pub rows: Option<SourceBatch>,
    /// `read`, `quarantined`, `tombstones` and `heartbeats`; the rest is the engine's to say.
    pub counts: Accounting,
    /// What an ingested group's tombstones delete.
    pub deletes: Vec<Delete>,
    /// Dead letters, in the order of their offsets.
    pub quarantine: Vec<Quarantined>,
    /// Greatest event time or heartbeat, of what was not quarantined.
    pub max_event_time: Option<Micros>,
    /// Schema ids that were judged unknown.
    pub unknown: BTreeSet<u32>,
}

/// The decode stage itself failed: a defect, for bad records never end here.
#[derive(Debug, thiserror::Error)]
#[error("decoded columns do not fit their schema: {0}")]
pub struct Error(#[from] arrow::error::ArrowError);

/// Why a chunk could not be decoded now.
#[derive(Debug)]
pub enum Failure {
    /// The schema registry has not answered yet: nothing was taken, try the chunk again.
    NotYet(String),
    /// A defect.
    Defect(Error),
}

impl Decode {
    /// Decodes `columns` of a reader schema; the event time is the `event_time`-th of them. With a
    /// `key`, tombstones delete.
    pub fn new(
        reader: &Arc<ReaderSchema>,
        columns: &[usize],
        event_time: usize,
        max_future_skew: Span,
        key: Option<Schema>,
        format: Format,
    ) -> Self {
        let fields: Vec<Arc<Field>> = columns
            .iter()
            .filter_map(|column| reader.arrow().fields().get(*column))
            .enumerate()
            .map(|(at, field)| {
                if at == event_time {
                    Arc::new(field.as_ref().clone().with_nullable(false))
                } else {
                    Arc::clone(field)
                }
            })
            .collect();
        Self {
            bodies: match format {
                Format::Avro => Bodies::Avro {
                    schemas: Schemas::new(Arc::clone(reader), columns.to_vec()),
                    decoder: Decoder::new(reader, columns),
                },
                Format::Json => Bodies::Json(Box::new(JsonDecoder::new(reader, columns))),
                Format::Changes => Bodies::Changes,
            },
            event_time,
            schema: Arc::new(Schema::new(fields)),
            max_future_skew,
            key,
        }
    }

    /// Decodes records of one partition, in the order of their offsets. `seen`: the greatest event time
    /// before them, from which on their tombstones delete.
    pub fn chunk(
        &mut self,
        partition: PartitionKey,
        records: &Records,
        opened_at: Micros,
        seen: Option<Micros>,
        lookup: &mut dyn FnMut(u32) -> Lookup,
    ) -> Result<Decoded, Failure> {
        if matches!(self.bodies, Bodies::Changes) {
            return changes::decode(partition, records, &self.schema, self.event_time)
                .map_err(Failure::Defect);
        }
        self.learn(records, lookup).map_err(Failure::NotYet)?;
        let limit = opened_at + self.max_future_skew;
        let mut out = Decoded {
            rows: None,
            counts: Accounting { read: records.records.len() as u64, ..Accounting::default() },
            deletes: Vec::new(),
            quarantine: Vec::new(),
            max_event_time: None,
            unknown: BTreeSet::new(),
        };
        let mut keys = Vec::new();
        let mut rows: Vec<&RecordRef> = Vec::with_capacity(records.records.len());
        for record in &records.records {
            match self.record(records, record, limit, &mut out) {
                Ok(Outcome::Row) => rows.push(record),
                Ok(Outcome::Delete(key)) => keys.push((record.offset, key)),
                Ok(Outcome::Counted) => {}
                Err((reason, detail)) => {
                    out.quarantine.push(dead(partition, records, record, reason, detail));
                }
            }
        }
        self.finish(partition, records, &rows, limit, &mut out).map_err(Failure::Defect)?;
        out.counts.quarantined = out.quarantine.len() as u64;
        if !keys.is_empty() {
            let times = out.rows.as_ref().map(|batch| (batch, self.event_time));
            out.deletes = tombstones::deletes(partition, records, keys, seen, times, limit);
        }
        Ok(out)
    }

    /// Schema ids that were unknown may be known next time.
    pub fn forget_unknown(&mut self) {
        if let Bodies::Avro { schemas, .. } = &mut self.bodies {
            schemas.forget_unknown();
        }
    }

    /// Looks up every schema id of the records before the first is decoded, so that a registry that
    /// does not answer leaves nothing half done.
    fn learn(&mut self, records: &Records, lookup: &mut dyn FnMut(u32) -> Lookup) -> Result<(), String> {
        let Bodies::Avro { schemas, .. } = &mut self.bodies else { return Ok(()) };
        let mut last = None;
        for record in records.records.iter().filter(|r| r.kind == Kind::Event) {
            let value = records.value(record);
            let Ok((id, _)) = parse_frame(value) else { continue };
            if last != Some(id) && value.len() <= MAX_BODY {
                schemas.learn(id, lookup)?;
                last = Some(id);
            }
        }
        Ok(())
    }

    /// One record: what it is, or why it is nothing.
    fn record(
        &mut self,
        records: &Records,
        record: &RecordRef,
        limit: Micros,
        out: &mut Decoded,
    ) -> Result<Outcome, (Reason, String)> {
        match record.kind {
            Kind::Heartbeat(None) => Err((
                Reason::BadHeartbeat,
                "the heartbeat header is not eight bytes (i64 µs, big-endian)".to_owned(),
            )),
            Kind::Heartbeat(Some(time)) if time > limit => {
                Err((Reason::FutureEventTime, future(time, limit)))
            }
            Kind::Heartbeat(Some(time)) => {
                out.counts.heartbeats += 1;
                out.max_event_time = out.max_event_time.max(Some(time));
                Ok(Outcome::Counted)
            }
            Kind::Tombstone => {
                let Some(key) = records.key(record) else {
                    let detail = "a null value needs a message key".to_owned();
                    return Err((Reason::TombstoneWithoutKey, detail));
                };
                let outcome = match &self.key {
                    None => Outcome::Counted,
                    Some(schema) => Outcome::Delete(
                        tombstones::key(schema, key).map_err(|detail| (Reason::BadKey, detail))?,
                    ),
                };
                out.counts.tombstones += 1;
                Ok(outcome)
            }
            Kind::Event => self.event(records.value(record), out).map(|()| Outcome::Row),
        }
    }

    fn event(&mut self, value: &[u8], out: &mut Decoded) -> Result<(), (Reason, String)> {
        if value.len() > MAX_BODY {
            return Err((Reason::TooLarge, format!("{} bytes; at most {MAX_BODY} are taken", value.len())));
        }
        let (schemas, decoder) = match &mut self.bodies {
            Bodies::Avro { schemas, decoder } => (schemas, decoder),
            Bodies::Json(decoder) => {
                return decoder.push(json_body(value)).map_err(|e| {
                    let reason = if e.is_full() { Reason::TooLarge } else { Reason::BadBody };
                    (reason, e.to_string())
                });
            }
            // Nothing of it comes here.
            Bodies::Changes => return Err((Reason::BadBody, "a record of changes by itself".to_owned())),
        };
        let (id, body) = parse_frame(value).map_err(|e| (Reason::BadFrame, e.to_string()))?;
        match schemas.get(id) {
            Writer::Unknown => {
                out.unknown.insert(id);
                Err((Reason::UnknownSchema, format!("the schema registry does not know id {id}")))
            }
            Writer::Incompatible(why) => Err((Reason::IncompatibleSchema, format!("schema {id}: {why}"))),
            Writer::Resolved(resolution) => decoder.push(resolution, body).map_err(|e| {
                let reason = if e.is_full() { Reason::TooLarge } else { Reason::BadBody };
                (reason, e.to_string())
            }),
        }
    }

    /// Takes the rows out of the decoder and judges their event times.
    fn finish(
        &mut self,
        partition: PartitionKey,
        records: &Records,
        rows: &[&RecordRef],
        limit: Micros,
        out: &mut Decoded,
    ) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        let batch = match &mut self.bodies {
            Bodies::Avro { decoder, .. } => decoder.finish(),
            Bodies::Json(decoder) => decoder.finish(),
            Bodies::Changes => RecordBatch::new_empty(Arc::clone(&self.schema)),
        };
        let judged = judge::event_times(batch, self.event_time, limit, &self.schema)?;
        out.max_event_time = out.max_event_time.max(judged.max_event_time);
        let mut bad = judged.bad.iter().peekable();
        let mut offsets = Vec::with_capacity(rows.len());
        for (row, record) in rows.iter().enumerate() {
            match bad.next_if(|(at, _)| *at == row) {
                None => offsets.push(record.offset),
                Some((_, reason)) => {
                    let detail = self.why(*reason, limit);
                    out.quarantine.push(dead(partition, records, record, *reason, detail));
                }
            }
        }
        if !judged.bad.is_empty() {
            out.quarantine.sort_by_key(|q| q.offset);
        }
        if !offsets.is_empty() {
            let PartitionKey { source, partition } = partition;
            out.rows = Some(SourceBatch { source, partition, offsets, rows: judged.rows });
        }
        Ok(())
    }

    fn why(&self, reason: Reason, limit: Micros) -> String {
        let column = self.schema.fields().get(self.event_time).map_or("", |f| f.name().as_str());
        match reason {
            Reason::NoEventTime => format!("'{column}' is null"),
            _ => format!("'{column}' is later than {limit}, the clock and max_future_skew"),
        }
    }
}

/// The JSON text of a value: framed, as Confluent's serializer writes it, or plain. No text begins with
/// the frame's zero byte.
pub fn json_body(value: &[u8]) -> &[u8] {
    parse_frame(value).map_or(value, |(_, body)| body)
}

fn future(time: Micros, limit: Micros) -> String {
    format!("{time} is later than {limit}, the clock and max_future_skew")
}

/// A dead letter, with its bytes.
pub fn dead(
    partition: PartitionKey,
    records: &Records,
    record: &RecordRef,
    reason: Reason,
    detail: String,
) -> Quarantined {
    Quarantined {
        partition,
        offset: record.offset,
        reason,
        detail,
        key: records.key(record).map(<[u8]>::to_vec),
        value: (record.kind == Kind::Event).then(|| records.value(record).to_vec()),
    }
}
