//! The rows of a view's left-most group as labels: what batch data joins to.
//!
//! One row per (key, event time): its newest revision, unless that is a delete. Its instant, at which
//! the other groups are joined, is when that revision became visible, `max(_event_time,
//! _available_at)`: they come with the values that were served beside it first. Rows are in the order
//! of (event time, key).

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt};

use super::join::encode;
use super::merge::{AT, KEY};
use crate::catalog::history::{AVAILABLE_AT, COMMIT, DELETE, EVENT_TIME, OP, instant};

/// The history's columns, then the encoded key and the instant.
pub fn schema(history: &Schema) -> SchemaRef {
    let mut fields: Vec<Field> = history.fields().iter().map(|f| f.as_ref().clone()).collect();
    fields.push(Field::new(KEY, DataType::Binary, false));
    fields.push(Field::new(AT, instant(), false));
    Arc::new(Schema::new(fields))
}

/// What the revisions are sorted by before [`newest`].
pub const REVISIONS: [&str; 3] = [KEY, EVENT_TIME, COMMIT];
/// What the result is sorted by.
pub const ORDER: [&str; 2] = [EVENT_TIME, KEY];

/// Adds the encoded key and the instant to rows of the history.
pub fn keyed(rows: SendableRecordBatchStream, key: Vec<String>) -> SendableRecordBatchStream {
    let schema = schema(&rows.schema());
    let batches = rows.and_then({
        let schema = Arc::clone(&schema);
        move |batch| std::future::ready(extend(&batch, &key, &schema).map_err(Into::into))
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

fn extend(batch: &RecordBatch, key: &[String], schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let column = |name: &str| {
        batch.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("no column '{name}'")))
    };
    let keys = key.iter().map(|name| column(name).cloned()).collect::<Result<Vec<_>, _>>()?;
    let times = column(EVENT_TIME)?.as_primitive::<TimestampMicrosecondType>().values();
    let available = column(AVAILABLE_AT)?.as_primitive::<TimestampMicrosecondType>().values();
    let at: TimestampMicrosecondArray = times.iter().zip(available).map(|(e, a)| Some(*e.max(a))).collect();
    let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
    columns.push(encode(&keys, batch.num_rows())?);
    columns.push(Arc::new(at.with_timezone("UTC")));
    RecordBatch::try_new(Arc::clone(schema), columns)
}

/// Keeps the last row of each (key, event time) of a stream sorted by [`REVISIONS`], without deletes.
pub fn newest(rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
    let schema = rows.schema();
    // An empty batch at the end lets the row that is held back go.
    let end = futures::stream::iter([Ok(RecordBatch::new_empty(Arc::clone(&schema)))]);
    let batches = rows.map_ok(|batch| (batch, false)).chain(end.map_ok(|batch| (batch, true)));
    let held = RecordBatch::new_empty(Arc::clone(&schema));
    let kept = batches
        .scan(held, |held, batch| {
            let kept = batch.and_then(|(batch, last)| {
                let all = concat_batches(&batch.schema(), [&*held, &batch])?;
                let whole = if last { all.num_rows() } else { all.num_rows().saturating_sub(1) };
                let kept = filter_record_batch(&all, &last_of_each(&all, whole)?)?;
                *held = all.slice(whole, all.num_rows() - whole);
                Ok(kept)
            });
            std::future::ready(Some(kept))
        })
        .boxed();
    Box::pin(RecordBatchStreamAdapter::new(schema, kept))
}

/// Marks, among the first `whole` rows, those that the next row does not replace and that are no delete.
fn last_of_each(rows: &RecordBatch, whole: usize) -> Result<BooleanArray, ArrowError> {
    let column = |name: &str| {
        rows.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("no column '{name}'")))
    };
    let keys = column(KEY)?.as_binary::<i32>();
    let times = column(EVENT_TIME)?.as_primitive::<TimestampMicrosecondType>();
    let ops = column(OP)?.as_string::<i32>();
    let replaced = |row: usize| {
        row + 1 < rows.num_rows()
            && keys.value(row) == keys.value(row + 1)
            && times.value(row) == times.value(row + 1)
    };
    Ok((0..rows.num_rows())
        .map(|row| Some(row < whole && !replaced(row) && ops.value(row) != DELETE))
        .collect())
}
