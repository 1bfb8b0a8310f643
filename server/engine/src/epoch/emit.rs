//! Rows out: aggregates evaluated, HAVING and the SELECT list applied.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray, UInt32Array, new_null_array,
};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit, TimestampMicrosecondType};
use datafusion::error::DataFusionError;

use super::evaluate::by_halves;
use super::intake::cast;
use super::plan::Plan;
use super::windowed::{Windowed, state_error};
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

/// Start and end of the window of each row of several that come out together.
pub(super) enum Bounds {
    /// All rows are of one window.
    One(Micros, Micros),
    /// Each row has its own.
    Each(Vec<(Micros, Micros)>),
}

/// Rows that are to come out, in order: for each key the states of all functions.
pub(super) struct Due {
    pub(super) bounds: Bounds,
    pub(super) keys: Vec<Vec<u8>>,
    pub(super) states: Vec<ArrayRef>,
    /// `_event_time` of each row.
    pub(super) event_times: Vec<Micros>,
    /// None of them was out before.
    pub(super) first: bool,
}

impl Bounds {
    /// Of each of `rows` rows, where its window starts.
    fn starts(&self, rows: usize) -> TimestampMicrosecondArray {
        match self {
            Self::One(start, _) => TimestampMicrosecondArray::from_value(start.0, rows),
            Self::Each(bounds) => {
                TimestampMicrosecondArray::from_iter_values(bounds.iter().map(|(start, _)| start.0))
            }
        }
    }

    /// Of each of `rows` rows, where its window ends, less a length of time.
    fn ends(&self, rows: usize, less: i64) -> TimestampMicrosecondArray {
        match self {
            Self::One(_, end) => TimestampMicrosecondArray::from_value(end.0.saturating_sub(less), rows),
            Self::Each(bounds) => {
                let ends = bounds.iter().map(|(_, end)| end.0.saturating_sub(less));
                TimestampMicrosecondArray::from_iter_values(ends)
            }
        }
    }

    /// The end of the first row's window.
    fn window_end(&self) -> Micros {
        match self {
            Self::One(_, end) => *end,
            Self::Each(bounds) => bounds.first().map_or(Micros::MIN, |(_, end)| *end),
        }
    }
}

impl Windowed {
    /// Lets rows out. Where HAVING rejects a key that may have a row which no longer holds (it left the
    /// window, or its window was out already), a delete takes the row's place.
    pub(super) fn emit(&self, given: Rows, output: &mut Output) -> Result<(), Error> {
        let Rows { window_end, keys, states, kind } = given;
        let start = self.plan.layout.start(window_end);
        let event_times = match kind {
            Kind::Update => self.event_times(window_end, &states)?,
            Kind::Close | Kind::Revision => vec![window_end; keys.len()],
        };
        let is_out = |key: &[u8]| match (&self.shared, kind) {
            (_, Kind::Revision | Kind::Update) => true,
            (_, Kind::Close) if self.emission.on_update => true,
            (Some(shared), Kind::Close) => shared.directory.found_within(key, start, window_end).is_empty(),
            (None, Kind::Close) => false,
        };
        let bounds = Bounds::One(start, window_end);
        let due = Due { bounds, keys, states, event_times, first: kind != Kind::Revision };
        self.plan.emit(due, &is_out, output)?;
        Ok(())
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
}

impl Plan {
    /// Lets rows out. Where HAVING rejects one whose key may have a row that no longer holds (`is_out`), a
    /// delete takes its place. Returns which of the rows given came out.
    pub(super) fn emit(
        &self,
        due: Due,
        is_out: &dyn Fn(&[u8]) -> bool,
        output: &mut Output,
    ) -> Result<Vec<u32>, Error> {
        let aggregated = self.aggregated(&due, &mut output.nulled)?;
        let (rows, left) = stage::on_groups(&self.query.after, aggregated, &mut output.nulled)?;
        let schema = &self.query.output;
        let columns = rows
            .columns()
            .iter()
            .zip(schema.fields())
            .map(|(column, field)| cast(column, field.data_type()))
            .collect::<Result<Vec<_>, _>>()?;
        let mut features = stage::batch(schema, columns, rows.num_rows())?;
        let mut order: Vec<(u32, Op)> = left.iter().map(|row| (*row, Op::Upsert)).collect();
        let all = (0..).zip(&due.keys).filter(|(row, _)| left.binary_search(row).is_err());
        let deleted: Vec<u32> = all.filter(|(_, key)| is_out(key)).map(|(row, _)| row).collect();
        if !deleted.is_empty() {
            let keys = deleted.iter().filter_map(|row| due.keys.get(*row as usize)).map(Vec::as_slice);
            let deletes = self.deletes(&keys.collect::<Vec<_>>(), due.bounds.window_end())?;
            let relaxed = features.clone().with_schema(deletes.schema()).map_err(DataFusionError::from)?;
            features = arrow::compute::concat_batches(&deletes.schema(), [&relaxed, &deletes])
                .map_err(DataFusionError::from)?;
            order.extend(deleted.into_iter().map(|row| (row, Op::Delete)));
            let mut places: Vec<u32> = (0..order.len() as u32).collect();
            places.sort_unstable_by_key(|p| order.get(*p as usize).map(|(row, _)| *row));
            features = taken(&features, &UInt32Array::from(places))?;
            order.sort_unstable_by_key(|(row, _)| *row);
        }
        let out: Vec<u32> = order.iter().map(|(row, _)| *row).collect();
        if out.is_empty() {
            return Ok(out);
        }
        let mut keys = due.keys;
        let mut next = 0;
        let mut kept = out.iter().copied().peekable();
        keys.retain(|_| {
            next += 1;
            kept.next_if_eq(&(next - 1)).is_some()
        });
        output.rows.push(Emitted {
            keys,
            event_times: out.iter().filter_map(|row| due.event_times.get(*row as usize).copied()).collect(),
            ops: order.iter().map(|(_, op)| *op).collect(),
            first: vec![due.first; out.len()],
            features,
        });
        Ok(out)
    }

    /// Lets rows out that say of keys, from event times on in this order, that there is no value: what stood
    /// there does not hold any more.
    pub(super) fn retract(&self, gone: Vec<(Micros, Vec<u8>)>, output: &mut Output) -> Result<(), Error> {
        let Some((window_end, _)) = gone.first() else { return Ok(()) };
        let keys: Vec<&[u8]> = gone.iter().map(|(_, key)| key.as_slice()).collect();
        let features = self.deletes(&keys, *window_end)?;
        let (ops, first) = (vec![Op::Delete; gone.len()], vec![false; gone.len()]);
        let (event_times, keys) = gone.into_iter().unzip();
        output.rows.push(Emitted { keys, event_times, ops, first, features });
        Ok(())
    }

    /// Rows with nothing but their key.
    fn deletes(&self, keys: &[&[u8]], window_end: Micros) -> Result<RecordBatch, Error> {
        let rows = keys.len();
        let keys =
            key::decode(keys.iter().copied(), &self.key_schema).map_err(|e| state_error(window_end, &e))?;
        let columns = self.query.output.fields().iter().enumerate().map(|(at, field)| {
            let key = self.query.key.iter().position(|k| *k == at).and_then(|k| keys.get(k));
            match key {
                Some(key) => cast(key, field.data_type()),
                None => Ok(new_null_array(field.data_type(), rows)),
            }
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        stage::batch(&stage::nullable(&self.query.output), columns, rows)
    }

    /// Group columns and aggregates: [`crate::query::Aggregate::schema`].
    fn aggregated(&self, given: &Due, nulled: &mut u64) -> Result<RecordBatch, Error> {
        let (bounds, groups) = (&given.bounds, &given.keys);
        let aggregate = &self.shape.aggregate;
        let keys = key::decode(groups.iter().map(Vec::as_slice), &self.key_schema)
            .map_err(|e| state_error(bounds.window_end(), &e))?;
        let mut keys = keys.into_iter();
        let mut fields = aggregate.schema.fields().iter();
        let mut columns = Vec::with_capacity(aggregate.schema.fields().len());
        for (group, field) in aggregate.groups.iter().zip(fields.by_ref()) {
            let instants = match group {
                Group::Key(..) => None,
                Group::WindowStart => Some(bounds.starts(groups.len())),
                Group::WindowEnd => Some(bounds.ends(groups.len(), 0)),
                Group::WindowTime => Some(bounds.ends(groups.len(), 1)),
            };
            let column = match instants {
                Some(instants) => zoned(instants, field.data_type()),
                None => keys.next().unwrap_or_else(|| new_null_array(field.data_type(), groups.len())),
            };
            columns.push(cast(&column, field.data_type())?);
        }
        let mut schema = Vec::with_capacity(aggregate.schema.fields().len());
        schema.extend(aggregate.schema.fields().iter().take(columns.len()).cloned());
        let mut rest = given.states.as_slice();
        for (function, field) in self.functions.iter().zip(fields) {
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

/// Instants in the zone of their column.
fn zoned(instants: TimestampMicrosecondArray, data_type: &DataType) -> ArrayRef {
    match data_type {
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            Arc::new(instants.with_timezone_opt(zone.clone()))
        }
        _ => Arc::new(instants),
    }
}
