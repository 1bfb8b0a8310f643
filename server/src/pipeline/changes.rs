//! The decode stage of what is looked up: each record holds rows that a group committed.

use std::collections::BTreeSet;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;
use millpond_engine::epoch::SourceBatch;
use millpond_engine::time::Micros;

use super::decode::{Decoded, Error};
use crate::log::Records;
use crate::store::commit::{Accounting, PartitionKey};
use crate::store::read_changes;

/// Decodes records of changes; accounted for are rows, all of them good. `time`: which column says when they became
/// available.
pub fn decode(
    partition: PartitionKey,
    records: &Records,
    schema: &SchemaRef,
    time: usize,
) -> Result<Decoded, Error> {
    let (mut batches, mut offsets) = (Vec::with_capacity(records.records.len()), Vec::new());
    for record in &records.records {
        let rows = read_changes(records.value(record)).map_err(|e| ArrowError::ExternalError(Box::new(e)))?;
        let rows = project(&rows, schema)?;
        offsets.extend(std::iter::repeat_n(record.offset, rows.num_rows()));
        batches.push(rows);
    }
    let rows = concat_batches(schema, &batches)?;
    let times = rows.columns().get(time).and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
    let max_event_time = times.and_then(arrow::compute::max).map(Micros);
    let counts = Accounting { read: rows.num_rows() as u64, ..Accounting::default() };
    let PartitionKey { source, partition } = partition;
    Ok(Decoded {
        rows: (rows.num_rows() > 0).then_some(SourceBatch { source, partition, offsets, rows }),
        counts,
        deletes: Vec::new(),
        quarantine: Vec::new(),
        max_event_time,
        unknown: BTreeSet::new(),
    })
}

/// The columns that are read, in their types; types differ only in how values are held.
fn project(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = schema.fields().iter().map(|field| {
        let column = rows.column_by_name(field.name());
        let column = column.ok_or_else(|| ArrowError::SchemaError(format!("no column {}", field.name())))?;
        if column.data_type() == field.data_type() {
            Ok(column.clone())
        } else {
            cast(column, field.data_type())
        }
    });
    RecordBatch::try_new(schema.clone(), columns.collect::<Result<_, _>>()?)
}
