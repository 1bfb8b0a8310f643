//! What leaves the engine: rows with their keys and times.

use arrow::array::{Array, RecordBatch};
use datafusion::error::DataFusionError;

use super::{Error, stage};
use crate::time::Micros;

/// Rows of one batch, aligned: `keys[i]`, `event_times[i]`, `ops[i]` belong to row i of `features`.
#[derive(Debug, Clone)]
pub struct Emitted {
    /// Encoded primary keys ([`crate::key`]).
    pub keys: Vec<Vec<u8>>,
    /// `_event_time` of each row.
    pub event_times: Vec<Micros>,
    /// Whether the row sets or removes the value.
    pub ops: Vec<Op>,
    /// A first emission of its window (true) or a revision after lateness (false).
    pub first: Vec<bool>,
    /// The features with the primary key: [`crate::query::FeatureQuery::output`].
    pub features: RecordBatch,
}

impl Emitted {
    /// The rows of several batches in the order of (event time, key).
    pub(super) fn sorted(batches: &[Self]) -> Result<Self, Error> {
        let mut order: Vec<(Micros, &[u8], usize, usize)> = Vec::new();
        for (number, batch) in batches.iter().enumerate() {
            for (row, (time, key)) in batch.event_times.iter().zip(&batch.keys).enumerate() {
                order.push((*time, key, number, row));
            }
        }
        // Each batch is in order, so this merges more than it sorts.
        order.sort();
        let schema = batches.iter().map(|b| b.features.schema()).reduce(|one, other| {
            // Deletes have nulls where the query has none.
            if other.fields().iter().zip(one.fields()).any(|(o, f)| o.is_nullable() && !f.is_nullable()) {
                other
            } else {
                one
            }
        });
        let Some(schema) = schema else { return Err(Error::Contract("no rows to sort".into())) };
        let mut columns = Vec::with_capacity(schema.fields().len());
        let places: Vec<(usize, usize)> = order.iter().map(|(_, _, batch, row)| (*batch, *row)).collect();
        for column in 0..schema.fields().len() {
            let parts: Vec<&dyn Array> = batches.iter().map(|b| b.features.column(column).as_ref()).collect();
            let column = arrow::compute::interleave(&parts, &places);
            columns.push(column.map_err(DataFusionError::from)?);
        }
        let of = |(_, _, batch, row): &(Micros, &[u8], usize, usize)| {
            let batch = batches.get(*batch)?;
            Some((*batch.ops.get(*row)?, *batch.first.get(*row)?))
        };
        let (ops, first) = order.iter().filter_map(of).unzip();
        Ok(Self {
            keys: order.iter().map(|(_, key, ..)| key.to_vec()).collect(),
            event_times: order.iter().map(|(time, ..)| *time).collect(),
            ops,
            first,
            features: stage::batch(&schema, columns, order.len())?,
        })
    }
}

/// What a row does to its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// The row is the value.
    Upsert,
    /// No value from here.
    Delete,
}
