//! Reading a history: the Delta snapshot and what is still in the outbox, without gap or repetition.
//!
//! The store's view is taken *first*, the Delta version after it. What the drain had deleted from the
//! view's outbox was durable in Delta before, so it is in the version read; and the transaction number
//! of that version says which of the view's entries are in it already: only those after it are added.
//! A drain may go on meanwhile; files that it replaces stay for at least seven days.
//!
//! Rows come in no order that means anything: file by file, then the outbox in the order of commits.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;
use datafusion::common::Column;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{Expr, SessionContext, lit};
use datafusion::scalar::ScalarValue;
use deltalake::DeltaTable;
use deltalake::delta_datafusion::{DeltaScanConfig, DeltaScanNext};
use futures::{StreamExt, TryStreamExt};
use millpond_engine::time::Micros;

use super::group::Group;
use crate::catalog::GroupId;
use crate::catalog::history::{EVENT_DATE, EVENT_TIME};
use crate::store::ReadView;

const DAY: i64 = 86_400_000_000;

/// Half-open bounds of event time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Range {
    /// The first instant, if there is one.
    pub start: Option<Micros>,
    /// The instant after the last, if there is one.
    pub end: Option<Micros>,
}

impl Group {
    /// The rows of the history that `view` sees (and those drained since), with these columns.
    pub(crate) async fn scan(
        &self,
        session: &SessionContext,
        view: ReadView,
        schema: SchemaRef,
        range: Range,
    ) -> Result<SendableRecordBatchStream, super::Error> {
        let mut handle = self.reading.lock().await;
        let read = handle.newest_with_transaction().await;
        if read.is_err() {
            // What was loaded may be what is wrong: the next reader begins anew.
            handle.forget();
        }
        let (table, held) = match read? {
            Some((table, transaction)) => (Some(table), transaction.unwrap_or(0)),
            None => (None, 0),
        };
        drop(handle);
        let owed = outbox(view, self.def.id, held).and_then({
            let schema = Arc::clone(&schema);
            move |batch| {
                let rows = within(&batch, range).and_then(|batch| conform(&batch, &schema));
                std::future::ready(rows.map_err(Into::into))
            }
        });
        let rows = match table {
            Some(table) => delta(session, &table, &schema, range).await?.chain(owed).left_stream(),
            None => owed.right_stream(),
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

/// The entries of an outbox after a sequence, each read when it is wanted.
fn outbox(
    view: ReadView,
    group: GroupId,
    after: u64,
) -> impl futures::Stream<Item = Result<RecordBatch, DataFusionError>> + Send + 'static {
    futures::stream::try_unfold((view, after), move |(view, after)| async move {
        let entry = view
            .outbox(group, Some(after))
            .and_then(|mut entries| entries.next().transpose())
            .map_err(|e| DataFusionError::External(Box::new(e)))?;
        Ok(entry.map(|entry| (entry.rows, (view, entry.sequence))))
    })
}

/// The rows of one version of the table: pruned by partition and statistics, then filtered.
async fn delta(
    session: &SessionContext,
    table: &DeltaTable,
    schema: &SchemaRef,
    range: Range,
) -> Result<SendableRecordBatchStream> {
    let mut config = DeltaScanConfig::new().with_wrap_partition_values(false);
    config.schema_force_view_types = false;
    table.update_datafusion_session(&session.state())?;
    let scan = DeltaScanNext::new(table.snapshot()?.snapshot().clone(), config)?;
    let mut frame = session.read_table(Arc::new(scan))?;
    for bound in bounds(range) {
        frame = frame.filter(bound)?;
    }
    let columns = schema.fields().iter().map(|f| named(f.name()));
    let schema = Arc::clone(schema);
    let rows = frame.select(columns.collect::<Vec<_>>())?.execute_stream().await?;
    let rows = rows.and_then({
        let schema = Arc::clone(&schema);
        move |batch| std::future::ready(conform(&batch, &schema).map_err(Into::into))
    });
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
}

/// A column by its exact name.
fn named(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

fn bounds(range: Range) -> Vec<Expr> {
    let instant = |t: Micros| lit(ScalarValue::TimestampMicrosecond(Some(t.0), Some("UTC".into())));
    let date = |t: i64| {
        lit(ScalarValue::Date32(Some(t.div_euclid(DAY).clamp(i32::MIN.into(), i32::MAX.into()) as i32)))
    };
    let mut bounds = Vec::new();
    if let Some(start) = range.start {
        bounds.push(named(EVENT_DATE).gt_eq(date(start.0)));
        bounds.push(named(EVENT_TIME).gt_eq(instant(start)));
    }
    if let Some(end) = range.end {
        bounds.push(named(EVENT_DATE).lt_eq(date(end.0.saturating_sub(1))));
        bounds.push(named(EVENT_TIME).lt(instant(end)));
    }
    bounds
}

/// The rows of an outbox entry that lie in the range.
fn within(batch: &RecordBatch, range: Range) -> Result<RecordBatch, ArrowError> {
    let times = batch
        .column_by_name(EVENT_TIME)
        .and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>())
        .ok_or_else(|| ArrowError::SchemaError(format!("no column '{EVENT_TIME}'")))?;
    let inside = |t: &i64| range.start.is_none_or(|s| *t >= s.0) && range.end.is_none_or(|e| *t < e.0);
    if times.values().iter().all(inside) {
        return Ok(batch.clone());
    }
    let keep = BooleanArray::from_iter(times.values().iter().map(|t| Some(inside(t))));
    filter_record_batch(batch, &keep)
}

/// The columns of `schema`, by name and in its types. Types differ only in how they are held
/// (names of list items, dictionaries): no value is changed, and one that would be is an error.
pub fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = schema
        .fields()
        .iter()
        .map(|field| {
            let column = batch
                .column_by_name(field.name())
                .ok_or_else(|| ArrowError::SchemaError(format!("no column '{}'", field.name())))?;
            same(column, field.data_type())
        })
        .collect::<Result<Vec<_>, _>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

fn same(column: &ArrayRef, data_type: &arrow::datatypes::DataType) -> Result<ArrayRef, ArrowError> {
    if column.data_type() == data_type { Ok(Arc::clone(column)) } else { cast(column, data_type) }
}
