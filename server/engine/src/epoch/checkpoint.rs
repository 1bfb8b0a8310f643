//! The way between the panes in memory and the entries in the store.

use std::collections::{BTreeMap, btree_map};

use arrow::array::UInt32Array;
use datafusion::error::DataFusionError;

use super::plan::Plan;
use super::revise::Owed;
use super::windowed::{Windowed, state_error};
use super::{Error, Output};
use crate::key;
use crate::state::{AGGREGATE, OWED, StateChange, StateKey, StateRow, codec};
use crate::time::Micros;
use crate::window::Pane;

/// Entries put back at a time.
const RESTORE_CHUNK: usize = 1 << 16;

/// What the stored entries make up.
pub(super) struct Restored {
    pub(super) panes: BTreeMap<Micros, Pane>,
    pub(super) owed: Owed,
}

/// Reads stored entries.
pub(super) fn restore(plan: &Plan, rows: &mut dyn Iterator<Item = StateRow>) -> Result<Restored, Error> {
    let mut panes: BTreeMap<Micros, Pane> = BTreeMap::new();
    let mut owed = Owed::default();
    let mut chunk: Vec<StateRow> = Vec::new();
    for row in rows {
        let slice_end = row.key.slice_end;
        let refuse = |detail: String| Error::State { window_end: slice_end, detail };
        match row.key.operator {
            AGGREGATE => {}
            OWED if plan.layout.is_shared() => {
                if row.value != [codec::VERSION] {
                    return Err(refuse("a row is owed in words of another release".into()));
                }
                owed.0.entry(slice_end).or_default().insert(row.key.key, true);
                continue;
            }
            other => return Err(refuse(format!("operator {other} is not in the query"))),
        }
        let full = chunk.len() >= RESTORE_CHUNK;
        if full || chunk.last().is_some_and(|last| last.key.slice_end != slice_end) {
            restore_chunk(plan, &mut panes, &chunk)?;
            chunk.clear();
        }
        chunk.push(row);
    }
    restore_chunk(plan, &mut panes, &chunk)?;
    Ok(Restored { panes, owed })
}

fn restore_chunk(plan: &Plan, panes: &mut BTreeMap<Micros, Pane>, chunk: &[StateRow]) -> Result<(), Error> {
    let Some(slice_end) = chunk.first().map(|row| row.key.slice_end) else { return Ok(()) };
    let pane = match panes.entry(slice_end) {
        btree_map::Entry::Occupied(pane) => pane.into_mut(),
        btree_map::Entry::Vacant(place) => place.insert(Pane::new(&plan.key_schema)?),
    };
    let rows = chunk.iter().map(|row| (row.key.key.as_slice(), row.value.as_slice()));
    pane.restore(&plan.key_schema, &plan.functions, &plan.state, rows).map_err(|e| state_error(slice_end, &e))
}

impl Windowed {
    /// The durable copy of what changed since the last checkpoint and is still there, sorted by key; the
    /// panes go on from it.
    pub(super) fn checkpoint(&mut self, output: &mut Output) -> Result<(), Error> {
        for (operator, slice_end) in std::mem::take(&mut self.dropped) {
            output.state.push(StateChange::drop_slice(operator, slice_end));
        }
        self.ages.checkpoint();
        for (slice_end, pane) in &mut self.panes {
            let mut changed = pane.take_changed();
            if changed.is_empty() {
                continue;
            }
            if let Some(shared) = self.shared.as_ref().filter(|_| self.cold.is_attached()) {
                let keys = shared.directory.keys_of(*slice_end);
                for key in changed.iter().filter_map(|group| keys.get(*group as usize)) {
                    self.ages.note(*key);
                }
            }
            pane.groups.sort_for_store(&mut changed);
            let taken = UInt32Array::from_iter_values(changed.iter().copied());
            let states = pane.states().map_err(|e| state_error(*slice_end, &e))?;
            let states = states.iter().map(|s| arrow::compute::take(s, &taken, None));
            let states = states.collect::<Result<Vec<_>, _>>().map_err(DataFusionError::from)?;
            if states.len() != self.plan.state.len() {
                return Err(Error::Contract("an aggregate saved another state than it declared".into()));
            }
            let values = codec::encode(self.plan.state.iter().zip(&states), changed.len())
                .map_err(|e| Error::Contract(e.to_string()))?;
            output.state.reserve(changed.len());
            for (row, group) in changed.iter().enumerate() {
                let key = StateKey {
                    operator: AGGREGATE,
                    slice_end: *slice_end,
                    key_group: pane.groups.key_group(*group),
                    key: pane.groups.key(*group).to_vec(),
                };
                output.state.push(StateChange::Put(StateRow { key, value: values.value(row).to_vec() }));
            }
            pane.durable = true;
        }
        self.save_owed(output);
        Ok(())
    }

    fn save_owed(&mut self, output: &mut Output) {
        for (slice_end, keys) in &mut self.owed.0 {
            let mut rows: Vec<StateKey> = Vec::new();
            for (key, durable) in keys.iter_mut().filter(|(_, durable)| !**durable) {
                *durable = true;
                let (slice_end, key_group) = (*slice_end, key::key_group(key));
                rows.push(StateKey { operator: OWED, slice_end, key_group, key: key.clone() });
            }
            rows.sort_unstable();
            let put = |key| StateChange::Put(StateRow { key, value: vec![codec::VERSION] });
            output.state.extend(rows.into_iter().map(put));
        }
    }
}
