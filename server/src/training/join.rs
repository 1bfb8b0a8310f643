//! One group's features for spooled labels: sort both sides, merge, bring back the labels' order.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::TryStreamExt;
use millpond_engine::key::Encoder;
use millpond_engine::time::Micros;

use super::Error;
use super::labels::{key_column, micros};
use super::merge::{self, AT, FROM, KEY, ROW};
use super::sort::Workspace;
use super::spool::Spool;
use crate::catalog::history::{AVAILABLE_AT, COMMIT, DELETE, EVENT_TIME, OP};
use crate::offline::{Group, Range};
use crate::store::ReadView;

/// What is joined to the labels.
pub struct Side<'a> {
    /// The feature group.
    pub group: &'a Group,
    /// Its columns that are wanted, each once.
    pub columns: Vec<String>,
    /// The labels' columns that hold its key, in key order.
    pub key: Vec<String>,
}

/// What all sides share.
pub struct Join<'a> {
    /// Memory and disk.
    pub workspace: &'a Workspace,
    /// Folder for spools.
    pub spill: &'a std::path::Path,
    /// The state of the store that is read.
    pub view: ReadView,
    /// The labels.
    pub labels: &'a Spool,
    /// The labels' column with the instant of each.
    pub time: &'a str,
    /// Least and greatest instant of the labels; `None`: no label has one.
    pub span: Option<(i64, i64)>,
    /// Rows that became available later are not seen.
    pub as_of: Option<Micros>,
}

impl Join<'_> {
    /// The features of one group: one row per label, in the labels' order.
    pub async fn features(&self, side: &Side<'_>) -> Result<Spool, Error> {
        let fields = side.columns.iter().map(|name| side.group.history.field_with_name(name).cloned());
        let features = Schema::new(fields.collect::<Result<Vec<_>, _>>()?);
        let labels = self.workspace.sorted(self.keyed(side)?, &[KEY, AT])?;
        let rows = self.workspace.sorted(self.rows(side, &features).await?, &[KEY, FROM])?;
        let joined = merge::merge(labels, rows, &features, side.group.def.ttl);
        let ordered = self.workspace.sorted(joined, &[ROW])?;
        Ok(Spool::write(self.spill, ordered, |_| Ok(())).await?)
    }

    /// The labels as the merge wants them: encoded key, instant, place.
    fn keyed(&self, side: &Side<'_>) -> Result<SendableRecordBatchStream, Error> {
        let types = key_types(side.group)?;
        let (names, time) = (side.key.clone(), self.time.to_owned());
        let group = side.group.label().to_owned();
        let mut place = 0_i64;
        let schema = merge::label_schema();
        let stream = self.labels.stream()?.and_then(move |batch| {
            let first = place;
            place += batch.num_rows() as i64;
            std::future::ready(
                keyed(&batch, &names, &types, &time, first, &group)
                    .map_err(|e| DataFusionError::External(Box::new(e))),
            )
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }

    /// The group's history as the merge wants it: what any label could see.
    async fn rows(&self, side: &Side<'_>, features: &Schema) -> Result<SendableRecordBatchStream, Error> {
        let group = side.group;
        let end = self.span.map_or(Micros::MIN, |(_, last)| Micros(last).next());
        let start = match (self.span, group.def.ttl) {
            (Some((first, _)), Some(ttl)) => Some(Micros(first) - ttl),
            _ => None,
        };
        let own = [EVENT_TIME, AVAILABLE_AT, COMMIT, OP];
        let mut names: Vec<&str> = group.def.primary_key.iter().map(String::as_str).collect();
        names.extend(
            side.columns.iter().map(String::as_str).filter(|c| !group.def.primary_key.iter().any(|k| k == c)),
        );
        names.extend(own);
        let schema = project(&group.history, &names)?;
        let range = Range { start, end: Some(end) };
        let rows = group.scan(self.workspace.session(), self.view.clone(), schema, range).await?;
        let wanted = merge::row_schema(features);
        let (key, columns, as_of) = (group.def.primary_key.clone(), side.columns.clone(), self.as_of);
        let stream = rows.and_then({
            let wanted = Arc::clone(&wanted);
            move |batch| {
                std::future::ready(stamped(&batch, &key, &columns, &wanted, as_of).map_err(Into::into))
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(wanted, stream)))
    }
}

/// The types of a group's key, in key order.
fn key_types(group: &Group) -> Result<Vec<DataType>, ArrowError> {
    group.def.primary_key.iter().map(|k| Ok(group.features.field_with_name(k)?.data_type().clone())).collect()
}

/// These columns of a schema, in this order.
pub fn project(schema: &Schema, names: &[&str]) -> Result<SchemaRef, ArrowError> {
    let fields =
        names.iter().map(|name| schema.field_with_name(name).cloned()).collect::<Result<Vec<Field>, _>>()?;
    Ok(Arc::new(Schema::new(fields)))
}

fn keyed(
    batch: &RecordBatch,
    names: &[String],
    types: &[DataType],
    time: &str,
    first: i64,
    group: &str,
) -> Result<RecordBatch, Error> {
    let mut keys = Vec::with_capacity(names.len());
    for (name, wanted) in names.iter().zip(types) {
        let column = by_name(batch, name)?;
        keys.push(key_column(column, wanted)?.ok_or_else(|| Error::KeyType {
            column: name.clone(),
            found: column.data_type().clone(),
            group: group.to_owned(),
            wanted: wanted.clone(),
        })?);
    }
    let column = by_name(batch, time)?;
    let times = micros(column)?
        .ok_or_else(|| Error::TimeType { column: time.to_owned(), found: column.data_type().clone() })?;
    // A label without a key or a time sees nothing: it stands before every row.
    let blind = |row: usize| times.is_null(row) || keys.iter().any(|k| k.is_null(row));
    let at = Int64Array::from_iter_values(
        (0..batch.num_rows()).map(|row| if blind(row) { i64::MIN } else { times.value(row) }),
    );
    let places = Int64Array::from_iter_values((0..batch.num_rows()).map(|row| first + row as i64));
    let key = encode(&keys, batch.num_rows())?;
    Ok(RecordBatch::try_new(merge::label_schema(), vec![key, Arc::new(at), Arc::new(places)])?)
}

/// Encodes the key of each row; a key of no columns is the one key of a group of one row.
pub fn encode(columns: &[ArrayRef], rows: usize) -> Result<ArrayRef, ArrowError> {
    let encoder = Encoder::new(columns).map_err(|e| ArrowError::ExternalError(Box::new(e)))?;
    let mut keys = BinaryBuilder::with_capacity(rows, rows * 16);
    let mut key = Vec::new();
    for row in 0..rows {
        key.clear();
        encoder.append(row, &mut key);
        keys.append_value(&key);
    }
    Ok(Arc::new(keys.finish()))
}

fn by_name<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, ArrowError> {
    batch.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("no column '{name}'")))
}

/// Rows of a history with their stamps as integers: see [`merge::row_schema`].
fn stamped(
    batch: &RecordBatch,
    key: &[String],
    columns: &[String],
    schema: &SchemaRef,
    as_of: Option<Micros>,
) -> Result<RecordBatch, ArrowError> {
    let instants =
        |name| by_name(batch, name).map(arrow::array::AsArray::as_primitive::<TimestampMicrosecondType>);
    let (event_time, available_at) = (instants(EVENT_TIME)?, instants(AVAILABLE_AT)?);
    let from: Int64Array =
        event_time.values().iter().zip(available_at.values()).map(|(e, a)| Some(*e.max(a))).collect();
    let op = by_name(batch, OP)?.as_string::<i32>();
    let deletes: BooleanArray = op.iter().map(|op| Some(op == Some(DELETE))).collect();
    let keys = key.iter().map(|name| by_name(batch, name).cloned()).collect::<Result<Vec<_>, _>>()?;
    let mut all: Vec<ArrayRef> = vec![
        encode(&keys, batch.num_rows())?,
        Arc::new(from),
        Arc::new(event_time.unary::<_, Int64Type>(|t| t)),
        Arc::new(available_at.unary::<_, Int64Type>(|t| t)),
        Arc::clone(by_name(batch, COMMIT)?),
        Arc::new(deletes),
    ];
    for name in columns {
        all.push(Arc::clone(by_name(batch, name)?));
    }
    let rows = RecordBatch::try_new(Arc::clone(schema), all)?;
    match as_of {
        None => Ok(rows),
        Some(as_of) => {
            let seen: BooleanArray = available_at.values().iter().map(|t| Some(*t <= as_of.0)).collect();
            filter_record_batch(&rows, &seen)
        }
    }
}
