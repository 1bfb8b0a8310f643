//! Labels and the features of each group, side by side again: all are in the labels' order.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;

use super::merge::ROW;
use super::sort::BATCH;
use super::spool::{Reader, Spool};

/// Where a column of the result comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// A column of the labels.
    Label(String),
    /// A column of the n-th joined side.
    Side(usize, String),
}

/// One column of the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Its source.
    pub from: From,
}

/// The result, batch by batch.
pub fn assemble(labels: &Spool, sides: &[Spool], outputs: &[Output]) -> Result<SendableRecordBatchStream> {
    let fields = outputs.iter().map(|output| {
        let (schema, column, nullable) = match &output.from {
            From::Label(column) => (Some(labels.schema()), column, false),
            From::Side(side, column) => (sides.get(*side).map(Spool::schema), column, true),
        };
        let schema = schema.ok_or_else(|| ArrowError::SchemaError(format!("no side for '{column}'")))?;
        let field = schema.field_with_name(column)?;
        let field: Field =
            field.clone().with_name(&output.name).with_nullable(nullable || field.is_nullable());
        Ok(field)
    });
    let schema = Arc::new(Schema::new(fields.collect::<Result<Vec<_>, ArrowError>>()?));
    let work = Work {
        labels: labels.open()?,
        sides: sides.iter().map(Spool::open).collect::<Result<_>>()?,
        outputs: outputs.to_vec(),
        schema: Arc::clone(&schema),
    };
    let batches =
        futures::stream::try_unfold(
            work,
            |mut work| async move { Ok(work.next()?.map(|batch| (batch, work))) },
        );
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
}

struct Work {
    labels: Reader,
    sides: Vec<Reader>,
    outputs: Vec<Output>,
    schema: SchemaRef,
}

impl Work {
    fn next(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        let labels = self.labels.pull(BATCH)?;
        if labels.num_rows() == 0 {
            return Ok(None);
        }
        let sides =
            self.sides.iter_mut().map(|side| side.pull(labels.num_rows())).collect::<Result<Vec<_>, _>>()?;
        if sides.iter().any(|side| side.num_rows() != labels.num_rows()) {
            return Err(ArrowError::ComputeError(format!("a side has lost rows: its {ROW}s are not whole")));
        }
        let columns = self.outputs.iter().map(|output| {
            let (batch, column) = match &output.from {
                From::Label(column) => (Some(&labels), column),
                From::Side(side, column) => (sides.get(*side), column),
            };
            let column: Option<&ArrayRef> = batch.and_then(|batch| batch.column_by_name(column));
            column.cloned().ok_or_else(|| ArrowError::SchemaError(format!("no column '{}'", output.name)))
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(labels.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map(Some)
    }
}
