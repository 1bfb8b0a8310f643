//! What a decoder's column builders hold, as one batch.

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;

use super::column::{self, Column};

/// Takes `rows` rows out of the builders at `roots` as a batch of `schema`, and leaves them empty.
/// `pick` says which of the arrays the schema has, in its order.
pub(super) fn take(
    columns: &mut [Column],
    roots: &[usize],
    rows: usize,
    schema: &SchemaRef,
    pick: impl FnOnce(Vec<ArrayRef>) -> Vec<ArrayRef>,
) -> RecordBatch {
    let arrays: Result<Vec<ArrayRef>, _> = roots.iter().map(|root| column::finish(columns, *root)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    arrays
        .and_then(|arrays| RecordBatch::try_new_with_options(schema.clone(), pick(arrays), &options))
        .unwrap_or_else(|error| {
            // The builders are made from the same types as the schema and grow in step.
            unreachable!("column builders out of step with their schema: {error}")
        })
}
