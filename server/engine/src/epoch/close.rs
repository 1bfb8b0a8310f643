//! Closing windows: the rows that come out when the watermark passes their end.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, TimestampMicrosecondArray, UInt32Array, new_null_array};
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::error::DataFusionError;

use super::evaluate::by_halves;
use super::windowed::{Windowed, cast, state_error};
use super::{CloseCursor, Emitted, Error, Input, Op, Output, stage};
use crate::key;
use crate::query::Group;
use crate::state;
use crate::time::Micros;
use crate::window::Pane;

impl Windowed {
    /// Closes what the watermark has passed, in the order (window end, encoded key), from the cursor on
    /// and at most `max_rows` keys far. A pane stays until its last key is done.
    pub(super) fn close(&mut self, input: &Input<'_>, output: &mut Output) -> Result<(), Error> {
        let mut budget = input.max_rows.max(1);
        let mut reached = input.cursor.clone();
        output.closed_to = output.watermark;
        while let Some(mut entry) = self.panes.first_entry() {
            let window_end = *entry.key();
            if window_end > self.watermark {
                break;
            }
            if budget == 0 {
                output.closed_to = reached.as_ref().map_or(output.watermark, |c| c.window_end);
                output.cursor = reached;
                break;
            }
            let pane = entry.get_mut();
            let order = pane.groups.order();
            let after = input.cursor.as_ref().filter(|c| c.window_end == window_end);
            let from =
                after.map_or(0, |c| order.partition_point(|g| pane.groups.key(*g) <= c.key.as_slice()));
            let to = order.len().min(from.saturating_add(budget));
            let chunk = order.get(from..to).unwrap_or_default();
            budget -= chunk.len();
            if let Some(group) = chunk.last() {
                reached = Some(CloseCursor { window_end, key: pane.groups.key(*group).to_vec() });
            }
            // Taken out and put back: emitting reads the pane and the plan at once.
            let mut pane = entry.remove();
            self.emit(window_end, &mut pane, chunk, output)?;
            if to < order.len() {
                self.panes.insert(window_end, pane);
            } else if pane.durable {
                self.dropped.insert(window_end);
            }
        }
        Ok(())
    }

    /// Rows of some groups of a window, in the order given.
    fn emit(
        &self,
        window_end: Micros,
        pane: &mut Pane,
        groups: &[u32],
        output: &mut Output,
    ) -> Result<(), Error> {
        if groups.is_empty() {
            return Ok(());
        }
        let aggregated = self.aggregated(window_end, pane, groups, &mut output.nulled)?;
        let (rows, left) = stage::on_groups(&self.plan.query.after, aggregated, &mut output.nulled)?;
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let schema = &self.plan.query.output;
        let columns = rows
            .columns()
            .iter()
            .zip(schema.fields())
            .map(|(column, field)| cast(column, field.data_type()))
            .collect::<Result<Vec<_>, _>>()?;
        let features = stage::batch(schema, columns, rows.num_rows())?;
        let key = |row: &u32| groups.get(*row as usize).map(|g| pane.groups.key(*g).to_vec());
        output.rows.push(Emitted {
            keys: left.iter().filter_map(key).collect(),
            event_times: vec![window_end; left.len()],
            ops: vec![Op::Upsert; left.len()],
            first: vec![true; left.len()],
            features,
        });
        Ok(())
    }

    /// Group columns and aggregates: [`crate::query::Aggregate::schema`].
    fn aggregated(
        &self,
        window_end: Micros,
        pane: &mut Pane,
        groups: &[u32],
        nulled: &mut u64,
    ) -> Result<RecordBatch, Error> {
        let plan = &self.plan;
        let aggregate = &plan.shape.aggregate;
        let keys = key::decode(groups.iter().map(|g| pane.groups.key(*g)), &plan.key_schema)
            .map_err(|e| state_error(window_end, &e))?;
        let mut keys = keys.into_iter();
        let start = window_end - plan.shape.window.size();
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
        let taken = UInt32Array::from_iter_values(groups.iter().copied());
        let states = pane.states().map_err(|e| state_error(window_end, &e))?.iter();
        let states = states.map(|s| arrow::compute::take(s, &taken, None).map_err(DataFusionError::from));
        let states = states.collect::<Result<Vec<_>, _>>()?;
        let mut schema = Vec::with_capacity(aggregate.schema.fields().len());
        schema.extend(aggregate.schema.fields().iter().take(columns.len()).cloned());
        let mut rest = states.as_slice();
        for (function, field) in plan.functions.iter().zip(fields) {
            let (own, others) = rest.split_at_checked(function.state.len()).unwrap_or((rest, &[]));
            rest = others;
            let column = evaluate(function, own, groups.len(), field.data_type(), nulled)?;
            let nullable = field.is_nullable() || column.null_count() > 0;
            schema.push(Arc::new(field.as_ref().clone().with_nullable(nullable)));
            columns.push(cast(&column, field.data_type())?);
        }
        stage::batch(&Arc::new(arrow::datatypes::Schema::new(schema)), columns, groups.len())
    }
}

/// One function over saved states. A group whose result fails (a sum beyond its type) gets NULL.
fn evaluate(
    function: &state::Function,
    states: &[ArrayRef],
    rows: usize,
    data_type: &DataType,
    nulled: &mut u64,
) -> Result<ArrayRef, Error> {
    let fields: Vec<_> =
        states.iter().map(|s| arrow::datatypes::Field::new("state", s.data_type().clone(), true)).collect();
    let batch = stage::batch(&Arc::new(arrow::datatypes::Schema::new(fields)), states.to_vec(), rows)?;
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
