//! WHERE and projections, before and after the aggregate.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;

use super::Error;
use super::evaluate::{by_halves, column};
use super::records::{Rows, Verdicts};
use crate::query::Stage;

/// Runs stages over records: a row that a filter does not keep is *filtered*, one on which an expression
/// fails is rejected.
pub(super) fn on_records(
    stages: &[Stage],
    rows: &mut Rows,
    verdicts: &mut Verdicts<'_>,
) -> Result<(), Error> {
    for stage in stages {
        match stage {
            Stage::Filter(predicate) => {
                let mask = rows.evaluate(verdicts, &|b| Ok(vec![column(predicate.as_ref(), b)?]))?;
                if let Some(keep) = mask.as_deref().and_then(<[_]>::first).map(mask_of).transpose()? {
                    verdicts.counts.filtered += (keep.len() - keep.true_count()) as u64;
                    rows.retain(&keep)?;
                }
            }
            Stage::Project(expressions, schema) => {
                let columns = rows.evaluate(verdicts, &|b| project(expressions, b))?;
                rows.batch = match columns {
                    Some(columns) => batch(schema, columns, rows.len())?,
                    None => RecordBatch::new_empty(schema.clone()),
                };
            }
        }
    }
    Ok(())
}

/// Runs stages over aggregated rows: HAVING leaves some out, and an expression that fails gives NULL and
/// is counted. Returns what is left, and which rows of the input that is.
pub(super) fn on_groups(
    stages: &[Stage],
    mut rows: RecordBatch,
    nulled: &mut u64,
) -> Result<(RecordBatch, Vec<u32>), Error> {
    let mut left: Vec<u32> = (0..rows.num_rows() as u32).collect();
    for stage in stages {
        match stage {
            Stage::Filter(predicate) => {
                let Some(mask) = tolerant(predicate, &rows, nulled)? else { continue };
                let keep = mask_of(&mask)?;
                rows = arrow::compute::filter_record_batch(&rows, &keep).map_err(DataFusionError::from)?;
                let mut kept = keep.iter();
                left.retain(|_| kept.next().flatten() == Some(true));
            }
            Stage::Project(expressions, schema) => {
                let columns: Option<Vec<ArrayRef>> =
                    expressions.iter().map(|e| tolerant(e, &rows, nulled)).collect::<Result<_, _>>()?;
                rows = match columns {
                    Some(columns) => batch(&nullable(schema), columns, rows.num_rows())?,
                    None => RecordBatch::new_empty(nullable(schema)),
                };
            }
        }
    }
    Ok((rows, left))
}

/// One expression over aggregated rows, NULL where it fails. `None` without rows.
fn tolerant(
    expression: &Arc<dyn PhysicalExpr>,
    rows: &RecordBatch,
    nulled: &mut u64,
) -> Result<Option<ArrayRef>, Error> {
    let data_type = expression.data_type(rows.schema_ref())?;
    let columns = by_halves(rows, &|b| Ok(vec![column(expression.as_ref(), b)?]), &mut |_, _| {
        *nulled += 1;
        Some(vec![new_null_array(&data_type, 1)])
    })?;
    Ok(columns.and_then(|c| c.into_iter().next()))
}

fn project(
    expressions: &[Arc<dyn PhysicalExpr>],
    batch: &RecordBatch,
) -> Result<Vec<ArrayRef>, DataFusionError> {
    expressions.iter().map(|e| column(e.as_ref(), batch)).collect()
}

/// A filter's column; NULL does not keep a row.
pub(super) fn mask_of(mask: &ArrayRef) -> Result<BooleanArray, Error> {
    let Some(mask) = mask.as_boolean_opt() else {
        return Err(Error::Contract(format!("a filter of type {}", mask.data_type())));
    };
    Ok(if mask.null_count() > 0 { arrow::compute::prep_null_mask_filter(mask) } else { mask.clone() })
}

/// A batch that may have no columns at all.
pub(super) fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, Error> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(DataFusionError::from)?)
}

/// The schema with every column nullable: what failed after the aggregate is NULL, whatever the planner
/// inferred.
pub(super) fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
}
