//! Evaluating expressions over a batch in which some rows may fail.

use arrow::array::{Array, ArrayRef, RecordBatch};
use datafusion::error::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;

/// What evaluates a batch: some columns, a row for each row.
pub(super) type Evaluate<'e> = &'e dyn Fn(&RecordBatch) -> Result<Vec<ArrayRef>, DataFusionError>;

/// What becomes of a row that fails: columns of one row in its place, or nothing.
pub(super) type OnFailure<'e> = &'e mut dyn FnMut(usize, &DataFusionError) -> Option<Vec<ArrayRef>>;

/// One expression as a column.
pub(super) fn column(expr: &dyn PhysicalExpr, batch: &RecordBatch) -> Result<ArrayRef, DataFusionError> {
    expr.evaluate(batch)?.into_array(batch.num_rows())
}

/// Evaluates `batch`; where that fails, halves it until the failing rows stand alone, and hands them to
/// `on_failure`. A row fails if and only if it fails by itself: what a vectorised expression computes in
/// vain for the rows beside it (the other side of an AND, say) is never held against a row.
/// `None`: no row is left.
pub(super) fn by_halves(
    batch: &RecordBatch,
    evaluate: Evaluate<'_>,
    on_failure: OnFailure<'_>,
) -> Result<Option<Vec<ArrayRef>>, DataFusionError> {
    if batch.num_rows() == 0 {
        return Ok(None);
    }
    let mut pieces = Vec::new();
    halve(batch, 0, evaluate, on_failure, &mut pieces);
    if pieces.len() < 2 {
        return Ok(pieces.pop());
    }
    let columns = pieces.first().map_or(0, Vec::len);
    (0..columns)
        .map(|c| {
            let parts: Vec<&dyn Array> = pieces.iter().filter_map(|p| p.get(c)).map(AsRef::as_ref).collect();
            Ok(arrow::compute::concat(&parts)?)
        })
        .collect::<Result<_, DataFusionError>>()
        .map(Some)
}

fn halve(
    batch: &RecordBatch,
    first: usize,
    evaluate: Evaluate<'_>,
    on_failure: OnFailure<'_>,
    pieces: &mut Vec<Vec<ArrayRef>>,
) {
    let rows = batch.num_rows();
    match evaluate(batch) {
        Ok(columns) => pieces.push(columns),
        Err(error) if rows <= 1 => pieces.extend(on_failure(first, &error)),
        Err(_) => {
            let half = rows / 2;
            halve(&batch.slice(0, half), first, evaluate, on_failure, pieces);
            halve(&batch.slice(half, rows - half), first + half, evaluate, on_failure, pieces);
        }
    }
}

/// The error as a person should read it: without DataFusion's wrapping and backtrace.
pub(super) fn message(error: &DataFusionError) -> String {
    match error.find_root() {
        DataFusionError::ArrowError(inner, _) => inner.to_string(),
        DataFusionError::Execution(text) => text.clone(),
        other => other.strip_backtrace(),
    }
}
