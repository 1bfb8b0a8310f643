//! Rows out: aggregates evaluated, HAVING and the SELECT list applied.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray, UInt32Array, new_null_array,
};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit, TimestampMicrosecondType};
use datafusion::error::DataFusionError;

use super::evaluate::by_halves;
use super::windowed::{Windowed, cast, state_error};
use super::{Emitted, Error, Op, Output, stage};
use crate::key;
use crate::query::Group;
use crate::state;
use crate::time::Micros;

/// Why rows come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Their window closes.
    Close,
    /// Their window closed before, and late records changed it.
    Revision,
    /// Their window is open, and shows what it holds so far.
    Update,
}

/// Rows of one window: for each key, in order, the states of all functions.
pub(super) struct Rows {
    pub(super) window_end: Micros,
    pub(super) keys: Vec<Vec<u8>>,
    pub(super) states: Vec<ArrayRef>,
    pub(super) kind: Kind,
}

impl Windowed {
    /// Lets rows out. Where HAVING rejects a key that may have a row which no longer holds (it left the
    /// window, or its window was out already), a delete takes the row's place.
    pub(super) fn emit(&self, given: Rows, output: &mut Output) -> Result<(), Error> {
        let window_end = given.window_end;
        let aggregated = self.aggregated(&given, &mut output.nulled)?;
        let (rows, left) = stage::on_groups(&self.plan.query.after, aggregated, &mut output.nulled)?;
        let schema = &self.plan.query.output;
        let columns = rows
            .columns()
            .iter()
            .zip(schema.fields())
            .map(|(column, field)| cast(column, field.data_type()))
            .collect::<Result<Vec<_>, _>>()?;
        let mut features = stage::batch(schema, columns, rows.num_rows())?;
        let mut order: Vec<(u32, Op)> = left.iter().map(|row| (*row, Op::Upsert)).collect();
        let deleted = self.deleted(&given, &left);
        if !deleted.is_empty() {
            let deletes = self.deletes(&given, &deleted)?;
            let relaxed = features.clone().with_schema(deletes.schema()).map_err(DataFusionError::from)?;
            features = arrow::compute::concat_batches(&deletes.schema(), [&relaxed, &deletes])
                .map_err(DataFusionError::from)?;
            order.extend(deleted.into_iter().map(|row| (row, Op::Delete)));
            let mut places: Vec<u32> = (0..order.len() as u32).collect();
            places.sort_unstable_by_key(|p| order.get(*p as usize).map(|(row, _)| *row));
            features = taken(&features, &UInt32Array::from(places))?;
            order.sort_unstable_by_key(|(row, _)| *row);
        }
        if order.is_empty() {
            return Ok(());
        }
        let times = match given.kind {
            Kind::Update => self.event_times(window_end, &given.states)?,
            Kind::Close | Kind::Revision => Vec::new(),
        };
        let mut keys = given.keys;
        let mut next = 0;
        let mut kept = order.iter().map(|(row, _)| *row).peekable();
        keys.retain(|_| {
            next += 1;
            kept.next_if_eq(&(next - 1)).is_some()
        });
        let time = |(row, _): &(u32, Op)| times.get(*row as usize).copied();
        output.rows.push(Emitted {
            keys,
            event_times: order.iter().map(|o| time(o).unwrap_or(window_end)).collect(),
            ops: order.iter().map(|(_, op)| *op).collect(),
            first: vec![given.kind != Kind::Revision; order.len()],
            features,
        });
        Ok(())
    }

    /// Which of the keys that HAVING left out get a delete.
    fn deleted(&self, given: &Rows, left: &[u32]) -> Vec<u32> {
        if left.len() == given.keys.len() {
            return Vec::new();
        }
        let start = self.plan.layout.start(given.window_end);
        let is_out = |key: &[u8]| match (&self.shared, given.kind) {
            (_, Kind::Revision | Kind::Update) => true,
            (_, Kind::Close) if self.emission.on_update => true,
            (Some(shared), Kind::Close) => shared.directory.within(key, start, given.window_end).is_empty(),
            (None, Kind::Close) => false,
        };
        let all = (0..).zip(&given.keys);
        all.filter(|(row, key)| left.binary_search(row).is_err() && is_out(key)).map(|(row, _)| row).collect()
    }

    /// Rows with nothing but their key.
    fn deletes(&self, given: &Rows, rows: &[u32]) -> Result<RecordBatch, Error> {
        let plan = &self.plan;
        let keys = rows.iter().filter_map(|row| given.keys.get(*row as usize)).map(Vec::as_slice);
        let keys = key::decode(keys, &plan.key_schema).map_err(|e| state_error(given.window_end, &e))?;
        let columns = plan.query.output.fields().iter().enumerate().map(|(at, field)| {
            let key = plan.query.key.iter().position(|k| *k == at).and_then(|k| keys.get(k));
            match key {
                Some(key) => cast(key, field.data_type()),
                None => Ok(new_null_array(field.data_type(), rows.len())),
            }
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        stage::batch(&stage::nullable(&plan.query.output), columns, rows.len())
    }

    /// Event times of rows whose window is open: the greatest in it, which is before its end.
    pub(super) fn event_times(&self, window_end: Micros, states: &[ArrayRef]) -> Result<Vec<Micros>, Error> {
        let Some(function) = self.plan.functions.get(self.plan.query_functions()) else {
            return Err(Error::Contract("the greatest event time is not kept".into()));
        };
        let width = states.len().saturating_sub(function.state.len());
        let times = state::evaluate(function, states.get(width..).unwrap_or_default())?;
        let before = Micros(window_end.0.saturating_sub(1));
        let times = times.as_primitive_opt::<TimestampMicrosecondType>().into_iter().flatten();
        Ok(times.map(|time| time.map_or(before, |time| Micros(time).min(before))).collect())
    }

    /// Group columns and aggregates: [`crate::query::Aggregate::schema`].
    fn aggregated(&self, given: &Rows, nulled: &mut u64) -> Result<RecordBatch, Error> {
        let (plan, window_end, groups) = (&self.plan, given.window_end, &given.keys);
        let aggregate = &plan.shape.aggregate;
        let keys = key::decode(groups.iter().map(Vec::as_slice), &plan.key_schema)
            .map_err(|e| state_error(window_end, &e))?;
        let mut keys = keys.into_iter();
        let start = plan.layout.start(window_end);
        let mut fields = aggregate.schema.fields().iter();
        let mut columns = Vec::with_capacity(aggregate.schema.fields().len());
        for (group, field) in aggregate.groups.iter().zip(fields.by_ref()) {
            let column = match group {
                Group::Key(..) => {
                    keys.next().unwrap_or_else(|| new_null_array(field.data_type(), groups.len()))
                }
                Group::WindowStart => instants(start, groups.len(), field.data_type()),
                Group::WindowEnd => instants(window_end, groups.len(), field.data_type()),
                Group::WindowTime => {
                    instants(Micros(window_end.0.saturating_sub(1)), groups.len(), field.data_type())
                }
            };
            columns.push(cast(&column, field.data_type())?);
        }
        let mut schema = Vec::with_capacity(aggregate.schema.fields().len());
        schema.extend(aggregate.schema.fields().iter().take(columns.len()).cloned());
        let mut rest = given.states.as_slice();
        for (function, field) in plan.functions.iter().zip(fields) {
            let (own, others) = rest.split_at_checked(function.state.len()).unwrap_or((rest, &[]));
            rest = others;
            let column = evaluate(function, own, groups.len(), field.data_type(), nulled)?;
            let nullable = field.is_nullable() || column.null_count() > 0;
            schema.push(Arc::new(field.as_ref().clone().with_nullable(nullable)));
            columns.push(cast(&column, field.data_type())?);
        }
        stage::batch(&Arc::new(Schema::new(schema)), columns, groups.len())
    }
}

fn taken(batch: &RecordBatch, rows: &UInt32Array) -> Result<RecordBatch, Error> {
    Ok(arrow::compute::take_record_batch(batch, rows).map_err(DataFusionError::from)?)
}

/// One function over saved states. A group whose result fails (a sum beyond its type) gets NULL.
fn evaluate(
    function: &state::Function,
    states: &[ArrayRef],
    rows: usize,
    data_type: &DataType,
    nulled: &mut u64,
) -> Result<ArrayRef, Error> {
    let fields: Vec<_> = states.iter().map(|s| Field::new("state", s.data_type().clone(), true)).collect();
    let batch = stage::batch(&Arc::new(Schema::new(fields)), states.to_vec(), rows)?;
    let columns = by_halves(&batch, &|b| Ok(vec![state::evaluate(function, b.columns())?]), &mut |_, _| {
        *nulled += 1;
        Some(vec![new_null_array(data_type, 1)])
    })?;
    columns
        .and_then(|c| c.into_iter().next())
        .ok_or_else(|| Error::Contract("an aggregate without a result".into()))
}

/// The same instant for every row.
fn instants(at: Micros, rows: usize, data_type: &DataType) -> ArrayRef {
    let column = TimestampMicrosecondArray::from_value(at.0, rows);
    match data_type {
        DataType::Timestamp(TimeUnit::Microsecond, zone) => Arc::new(column.with_timezone_opt(zone.clone())),
        _ => Arc::new(column),
    }
}
