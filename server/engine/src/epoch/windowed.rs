//! The windowed aggregate: records into panes, epoch by epoch.
//!
//! A row's way: window → within stages → key (null: rejected) → late? → arguments → pane of its slice →
//! group → accumulators, which live as long as the pane.

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, TimestampMicrosecondArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, TimestampMicrosecondType};
use datafusion::error::DataFusionError;

use super::evaluate::column;
use super::plan::Plan;
use super::records::{Rows, Verdicts};
use super::revise::{Owed, Touches};
use super::upstream::Upstream;
use super::{Emission, Error, Input, Output, Reason, checkpoint, stage};
use crate::query::FeatureQuery;
use crate::state::StateRow;
use crate::time::Micros;
use crate::window::{Pane, Shared, Split, split};

/// The operator and its state.
pub(super) struct Windowed {
    pub(super) plan: Plan,
    pub(super) emission: Emission,
    /// By the end of their slice.
    pub(super) panes: BTreeMap<Micros, Pane>,
    /// What windows that share slices need besides; nothing where a slice is a window.
    pub(super) shared: Option<Shared>,
    /// The watermark that the previous epoch committed: it judges lateness.
    pub(super) watermark: Micros,
    /// Windows up to here are closed; not known before the first epoch.
    pub(super) closed: Option<Micros>,
    /// Keys of the window that is being closed, in order.
    pub(super) closing: Option<(Micros, Vec<Vec<u8>>)>,
    /// Keys that get a row when a window closes, besides those that its slices name.
    pub(super) owed: Owed,
    /// What this epoch's records touched.
    pub(super) touched: Touches,
    /// Slices (operator, end) that are gone, but whose entries still lie in the store: until the next
    /// checkpoint.
    pub(super) dropped: BTreeSet<(u16, Micros)>,
}

impl Windowed {
    pub(super) fn restore(
        query: Arc<FeatureQuery>,
        emission: Emission,
        watermark: Micros,
        rows: impl Iterator<Item = StateRow>,
    ) -> Result<Self, Error> {
        let plan = Plan::new(query, emission.on_update)?;
        let restored = checkpoint::restore(&plan, rows)?;
        Ok(Self {
            shared: plan.layout.is_shared().then(|| Shared::of(&restored.panes)),
            plan,
            emission,
            panes: restored.panes,
            watermark,
            closed: None,
            closing: None,
            owed: restored.owed,
            touched: Touches::default(),
            dropped: BTreeSet::new(),
        })
    }

    pub(super) fn apply(&mut self, input: &Input<'_>, upstream: &mut Upstream) -> Result<Output, Error> {
        let mut output = Output::new(self.plan.query.sources.len());
        let mut cursor = input.cursor.clone();
        self.begin(cursor.as_ref())?;
        if self.shared.is_some() && input.batches.iter().any(|b| b.rows.num_rows() > 0) {
            // Records may come into slices of the window that is being closed: its rows come first. (A
            // pipeline gives no records while a close goes on.)
            if cursor.is_some() {
                self.close(cursor.take().as_ref(), usize::MAX, &mut output)?;
            }
        }
        let reached = upstream.take(input, &mut output, &mut |rows, verdicts| self.absorb(rows, verdicts))?;
        self.revise(&mut output)?;
        let mut watermark = self.watermark.max(reached);
        if input.finished
            && let Some((last, _)) = self.panes.last_key_value()
        {
            watermark = watermark.max(self.plan.layout.last_end(*last));
        }
        self.watermark = watermark;
        output.watermark = watermark;
        self.close(cursor.as_ref(), input.max_rows.max(1), &mut output)?;
        self.update_rows(&mut output)?;
        self.retire();
        if input.checkpoint {
            self.checkpoint(&mut output)?;
        }
        output.sort()?;
        Ok(output)
    }

    /// Open windows, and groups in them.
    pub(super) fn open(&self) -> (usize, usize) {
        (self.panes.len(), self.panes.values().map(|p| p.groups.len()).sum())
    }

    /// Takes rows of the input into the accumulators.
    fn absorb(&mut self, mut rows: Rows, verdicts: &mut Verdicts<'_>) -> Result<(), Error> {
        self.assign(&mut rows, verdicts)?;
        stage::on_records(&self.plan.shape.within, &mut rows, verdicts)?;
        self.judge(&mut rows, verdicts)?;
        let Some(arguments) = self.arguments(&mut rows, verdicts)? else { return Ok(()) };
        self.update(&rows, &arguments)?;
        verdicts.counts.applied += rows.len() as u64;
        Ok(())
    }

    /// Puts each row into its window, and adds the window's columns where they are read.
    fn assign(&self, rows: &mut Rows, verdicts: &mut Verdicts<'_>) -> Result<(), Error> {
        let shape = &self.plan.shape;
        let Some(times) = rows.batch.columns().get(shape.time.column).cloned() else {
            return Err(Error::Contract(format!("there is no time column {}", shape.time.column)));
        };
        let Some(typed) = times.as_primitive_opt::<TimestampMicrosecondType>() else {
            return Err(Error::Contract(format!("event times of type {}", times.data_type())));
        };
        if typed.null_count() > 0 {
            rows.remove(
                |row| typed.is_null(row),
                |at| verdicts.reject(at, Reason::NoEventTime, "the event time is null".into()),
            )?;
            return self.assign(rows, verdicts);
        }
        self.plan.layout.assign(typed.values(), &mut rows.starts);
        if self.plan.on_update {
            rows.keys = vec![Arc::clone(&times)];
        }
        if self.plan.reads_window {
            let size = self.plan.layout.slice().0;
            let shifted = |by: i64| -> ArrayRef {
                let values = rows.starts.iter().map(|s| s.saturating_add(by));
                let values = TimestampMicrosecondArray::from_iter_values(values);
                Arc::new(values.with_data_type(times.data_type().clone()))
            };
            let mut columns = rows.batch.columns().to_vec();
            columns.extend([shifted(0), shifted(size), shifted(size.saturating_sub(1))]);
            let mut fields = rows.batch.schema().fields().to_vec();
            for name in ["window_start", "window_end", "window_time"] {
                fields.push(Arc::new(Field::new(name, times.data_type().clone(), false)));
            }
            rows.batch = stage::batch(&Arc::new(Schema::new(fields)), columns, rows.starts.len())?;
        }
        Ok(())
    }

    /// Null keys, then lateness.
    fn judge(&self, rows: &mut Rows, verdicts: &mut Verdicts<'_>) -> Result<(), Error> {
        let plan = &self.plan;
        let keys = rows.evaluate(verdicts, &|batch| {
            plan.keys
                .iter()
                .zip(plan.key_schema.fields())
                .map(|(key, field)| cast(&column(key.as_ref(), batch)?, field.data_type()))
                .collect()
        })?;
        let Some(keys) = keys else { return Ok(()) };
        // The event time goes with the keys, behind them.
        rows.keys.splice(0..0, keys);
        for (index, field) in plan.key_schema.fields().iter().enumerate() {
            let nulls = rows.keys.get(index).and_then(|k| k.logical_nulls());
            if let Some(nulls) = nulls.filter(|n| n.null_count() > 0) {
                let detail = format!("'{}' is part of the primary key and is null", field.name());
                rows.remove(
                    |row| nulls.is_null(row),
                    |at| verdicts.reject(at, Reason::NullKey, detail.clone()),
                )?;
            }
        }
        let layout = plan.layout;
        let late = |start: i64| {
            let last = layout.last_end(Micros(start) + layout.slice());
            last + self.emission.allowed_lateness <= self.watermark
        };
        // Where the earliest is not late, none is.
        if rows.starts.iter().min().is_some_and(|s| late(*s)) {
            let starts = rows.starts.clone();
            rows.remove(|row| starts.get(row).is_some_and(|s| late(*s)), |at| verdicts.late(at))?;
        }
        Ok(())
    }

    /// Evaluates all functions' filters and arguments; what comes back lies function after function.
    fn arguments(
        &self,
        rows: &mut Rows,
        verdicts: &mut Verdicts<'_>,
    ) -> Result<Option<Vec<ArrayRef>>, Error> {
        let functions = self.plan.functions.get(..self.plan.query_functions()).unwrap_or_default();
        if rows.len() == 0 {
            return Ok(None);
        }
        let columns = rows.evaluate(verdicts, &|batch| {
            let mut columns = Vec::new();
            for function in functions {
                let filter = match &function.filter {
                    Some(filter) => Some(selection(&column(filter.as_ref(), batch)?)?),
                    None => None,
                };
                for argument in &function.arguments {
                    columns.push(match (column(argument.as_ref(), batch), &filter) {
                        // What fails only on records that FILTER leaves out does not fail.
                        (Err(_), Some(filter)) => {
                            argument.evaluate_selection(batch, filter)?.into_array(batch.num_rows())?
                        }
                        (column, _) => column?,
                    });
                }
                columns.extend(filter.map(|f| Arc::new(f) as ArrayRef));
            }
            Ok(columns)
        })?;
        Ok(columns)
    }

    /// Takes rows into the panes of their slices. Rows of one slice are not copied.
    fn update(&mut self, rows: &Rows, arguments: &[ArrayRef]) -> Result<(), Error> {
        let slice = self.plan.layout.slice();
        let Some(split) = split(&rows.starts) else { return Ok(()) };
        let slices = match split {
            Split::One(start) => {
                return self.update_slice(Micros(start) + slice, &rows.keys, arguments, rows.len());
            }
            Split::Many(slices) => slices,
        };
        for (start, members) in slices {
            let members = UInt32Array::from(members);
            let taken = |columns: &[ArrayRef]| -> Result<Vec<ArrayRef>, Error> {
                let taken = columns.iter().map(|c| arrow::compute::take(c, &members, None));
                Ok(taken.collect::<Result<_, _>>().map_err(DataFusionError::from)?)
            };
            let (keys, arguments) = (taken(&rows.keys)?, taken(arguments)?);
            self.update_slice(Micros(start) + slice, &keys, &arguments, members.len())?;
        }
        Ok(())
    }

    /// `keys`: the key columns, then the event time where that is aggregated too.
    fn update_slice(
        &mut self,
        slice_end: Micros,
        keys: &[ArrayRef],
        arguments: &[ArrayRef],
        rows: usize,
    ) -> Result<(), Error> {
        let pane = match self.panes.entry(slice_end) {
            btree_map::Entry::Occupied(pane) => pane.into_mut(),
            btree_map::Entry::Vacant(place) => place.insert(Pane::new(&self.plan.key_schema)?),
        };
        let known = pane.groups.len() as u32;
        let (keys, time) = keys.split_at_checked(self.plan.keys.len()).unwrap_or((keys, &[]));
        let arguments = [arguments, time].concat();
        pane.update(&self.plan.functions, keys, &arguments, rows).map_err(|e| state_error(slice_end, &e))?;
        if let Some(shared) = &mut self.shared {
            for group in known..pane.groups.len() as u32 {
                shared.directory.insert(pane.groups.key(group), slice_end, group);
            }
        }
        let is_closed = self.closed.is_some_and(|closed| self.plan.layout.first_end(slice_end) <= closed);
        if is_closed || self.emission.on_update {
            self.touched.note(slice_end, pane.numbers(), known);
        }
        Ok(())
    }
}

pub(super) fn state_error(window_end: Micros, error: &dyn std::error::Error) -> Error {
    Error::State { window_end, detail: error.to_string() }
}

/// A column as another type; a value that does not fit is an error, never NULL.
pub(super) fn cast(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, DataFusionError> {
    if column.data_type() == to {
        return Ok(Arc::clone(column));
    }
    let options = arrow::compute::CastOptions { safe: false, ..Default::default() };
    Ok(arrow::compute::cast_with_options(column, to, &options)?)
}

/// FILTER's column as a mask without nulls.
fn selection(mask: &ArrayRef) -> Result<BooleanArray, DataFusionError> {
    let Some(mask) = mask.as_boolean_opt() else {
        return Err(DataFusionError::Execution(format!("FILTER of type {}", mask.data_type())));
    };
    Ok(if mask.null_count() > 0 { arrow::compute::prep_null_mask_filter(mask) } else { mask.clone() })
}
