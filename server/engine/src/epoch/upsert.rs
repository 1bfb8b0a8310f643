//! Ingested groups: each record is a row, each tombstone a row that says there is no value.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray, new_null_array};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use datafusion::error::DataFusionError;

use super::intake::cast;
use super::plan::plain;
use super::{Counts, Delete, Emitted, Error, Input, Op, Output, Reason, RecordId, Rejected};
use crate::key;
use crate::time::Micros;

/// An ingested group as the engine sees it.
#[derive(Debug, Clone)]
pub struct Upsert {
    /// Positions of the primary key's columns in the batches, in key order.
    pub key: Vec<usize>,
    /// Position of the event time, Timestamp(µs, UTC).
    pub event_time: usize,
    /// Positions of the columns that are features (with the primary key), in the order of `output`.
    pub features: Vec<usize>,
    /// The rows that come out. Never dictionary-encoded.
    pub output: SchemaRef,
}

/// Turns records into rows; there is no state between epochs.
pub(super) struct Upserting {
    group: Upsert,
    key_schema: SchemaRef,
    watermark: Micros,
}

/// One row that an epoch may write.
struct Row {
    event_time: Micros,
    key: Vec<u8>,
    record: RecordId,
    op: Op,
    batch: usize,
    row: usize,
}

impl Upserting {
    pub(super) fn new(group: Upsert, watermark: Micros) -> Result<Self, Error> {
        let fields = group
            .key
            .iter()
            .map(|k| {
                let at = group.features.iter().position(|f| f == k);
                at.and_then(|at| group.output.fields().get(at)).map(|f| {
                    Arc::new(f.as_ref().clone().with_data_type(plain(f.data_type())).with_nullable(false))
                })
            })
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Error::Contract("the primary key is not among the features".into()))?;
        let key_schema = Arc::new(arrow::datatypes::Schema::new(fields));
        key::check(&key_schema).map_err(|e| Error::Contract(e.to_string()))?;
        Ok(Self { group, key_schema, watermark })
    }

    pub(super) fn watermark(&self) -> Micros {
        self.watermark
    }

    pub(super) fn apply(&mut self, input: &Input<'_>) -> Result<Output, Error> {
        let sources = input.batches.iter().map(|b| usize::from(b.source) + 1).max().unwrap_or(0).max(1);
        let mut output = Output::new(sources);
        let mut rows = Vec::new();
        for (number, batch) in input.batches.iter().enumerate() {
            self.judge(number, batch, &mut rows, &mut output)?;
        }
        rows.extend(input.deletes.iter().enumerate().map(|(row, delete)| Row {
            event_time: delete.event_time,
            key: delete.key.clone(),
            record: delete.record,
            op: Op::Delete,
            batch: input.batches.len(),
            row,
        }));
        self.watermark = self.watermark.max(input.watermark);
        output.watermark = self.watermark;
        output.closed_to = self.watermark;
        let rows = newest(rows, &mut output.counts);
        if !rows.is_empty() {
            let features = self.features(input, &rows)?;
            output.rows.push(Emitted {
                event_times: rows.iter().map(|r| r.event_time).collect(),
                ops: rows.iter().map(|r| r.op).collect(),
                first: vec![true; rows.len()],
                keys: rows.into_iter().map(|r| r.key).collect(),
                features,
            });
        }
        output.sort()?;
        Ok(output)
    }

    /// Rejects records without a key or a time, and collects the others.
    fn judge(
        &self,
        number: usize,
        batch: &super::SourceBatch,
        rows: &mut Vec<Row>,
        output: &mut Output,
    ) -> Result<(), Error> {
        let column = |at: usize| {
            batch
                .rows
                .columns()
                .get(at)
                .ok_or_else(|| Error::Contract(format!("a batch without column {at}")))
        };
        let keys = self
            .group
            .key
            .iter()
            .zip(self.key_schema.fields())
            .map(|(at, field)| Ok(cast(column(*at)?, field.data_type())?))
            .collect::<Result<Vec<ArrayRef>, Error>>()?;
        let times = column(self.group.event_time)?;
        let Some(times) = times.as_primitive_opt::<TimestampMicrosecondType>() else {
            return Err(Error::Contract(format!("event times of type {}", times.data_type())));
        };
        let encoder = key::Encoder::new(&keys).map_err(|e| Error::Contract(e.to_string()))?;
        for (row, offset) in batch.offsets.iter().enumerate().take(batch.rows.num_rows()) {
            let record = RecordId { source: batch.source, partition: batch.partition, offset: *offset };
            let null = keys.iter().zip(self.key_schema.fields()).find(|(k, _)| k.is_null(row));
            let failure = if times.is_null(row) {
                Some((Reason::NoEventTime, "the event time is null".to_owned()))
            } else {
                null.map(|(_, field)| {
                    let detail = format!("'{}' is part of the primary key and is null", field.name());
                    (Reason::NullKey, detail)
                })
            };
            if let Some((reason, detail)) = failure {
                output.counts_of(batch.source).quarantined += 1;
                output.rejected.push(Rejected { record, reason, detail });
                continue;
            }
            output.counts_of(batch.source).applied += 1;
            let mut key = Vec::with_capacity(16);
            encoder.append(row, &mut key);
            let event_time = Micros(times.value(row));
            rows.push(Row { event_time, key, record, op: Op::Upsert, batch: number, row });
        }
        Ok(())
    }

    fn features(&self, input: &Input<'_>, rows: &[Row]) -> Result<RecordBatch, Error> {
        let places: Vec<(usize, usize)> = rows.iter().map(|r| (r.batch, r.row)).collect();
        let deleted = self.deleted(input.deletes)?;
        let columns = self
            .group
            .features
            .iter()
            .zip(self.group.output.fields())
            .zip(deleted)
            .map(|((at, field), deleted)| {
                let mut parts = input
                    .batches
                    .iter()
                    .map(|b| {
                        let column = b.rows.columns().get(*at);
                        let column = column.ok_or_else(|| Error::Contract(format!("no column {at}")))?;
                        Ok(cast(column, field.data_type())?)
                    })
                    .collect::<Result<Vec<_>, Error>>()?;
                parts.push(deleted);
                let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
                Ok(arrow::compute::interleave(&parts, &places).map_err(DataFusionError::from)?)
            })
            .collect::<Result<Vec<_>, Error>>()?;
        super::stage::batch(&self.group.output, columns, rows.len())
    }

    /// What the rows of tombstones hold: the key and the event time; all else is null.
    fn deleted(&self, deletes: &[Delete]) -> Result<Vec<ArrayRef>, Error> {
        let keys = key::decode(deletes.iter().map(|d| d.key.as_slice()), &self.key_schema)
            .map_err(|e| Error::Contract(e.to_string()))?;
        let times = TimestampMicrosecondArray::from_iter_values(deletes.iter().map(|d| d.event_time.0));
        let times: ArrayRef = Arc::new(times.with_timezone("UTC"));
        self.group
            .features
            .iter()
            .zip(self.group.output.fields())
            .map(|(at, field)| {
                let known = match self.group.key.iter().position(|k| k == at) {
                    Some(key) => keys.get(key),
                    None if *at == self.group.event_time => Some(&times),
                    None => None,
                };
                let null = || Ok(new_null_array(field.data_type(), deletes.len()));
                known.map_or_else(null, |known| Ok(cast(known, field.data_type())?))
            })
            .collect()
    }
}

/// The last record of each (event time, key), in that order; the others count as superseded, if they
/// are not tombstones, which are counted already.
fn newest(mut rows: Vec<Row>, counts: &mut [Counts]) -> Vec<Row> {
    rows.sort_unstable_by(|a, b| (a.event_time, &a.key, a.record).cmp(&(b.event_time, &b.key, b.record)));
    let mut kept: Vec<Row> = Vec::with_capacity(rows.len());
    for row in rows {
        if let Some(last) = kept.last_mut()
            && last.event_time == row.event_time
            && last.key == row.key
        {
            if last.op == Op::Upsert
                && let Some(counts) = counts.get_mut(usize::from(last.record.source))
            {
                counts.applied -= 1;
                counts.superseded += 1;
            }
            *last = row;
        } else {
            kept.push(row);
        }
    }
    kept
}
