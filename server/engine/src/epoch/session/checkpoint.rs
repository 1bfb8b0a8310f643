//! The way between the stretches in memory and the entries in the store: one for each key and slice.

use arrow::array::{ArrayRef, UInt32Array};
use datafusion::error::DataFusionError;

use super::super::plan::Plan;
use super::super::windowed::state_error;
use super::super::{Error, Output};
use super::Sessionized;
use crate::state::{AGGREGATE, StateChange, StateKey, StateRow, codec};
use crate::time::Micros;
use crate::window::{Sessions, Stretches};

/// Entries put back at a time.
const RESTORE_CHUNK: usize = 1 << 16;

/// Reads stored entries.
pub(super) fn restore(plan: &Plan, rows: &mut dyn Iterator<Item = StateRow>) -> Result<Sessions, Error> {
    let mut sessions = Sessions::new(plan.layout.slice());
    let mut chunk: Vec<StateRow> = Vec::new();
    for row in rows {
        let StateKey { operator, slice_end, .. } = row.key;
        if operator != AGGREGATE {
            let detail = format!("operator {operator} is not in the query");
            return Err(Error::State { window_end: slice_end, detail });
        }
        let is_full = chunk.len() >= RESTORE_CHUNK;
        if is_full || chunk.last().is_some_and(|last| last.key.slice_end != slice_end) {
            restore_chunk(plan, &mut sessions, &chunk)?;
            chunk.clear();
        }
        chunk.push(row);
    }
    restore_chunk(plan, &mut sessions, &chunk)?;
    Ok(sessions)
}

fn restore_chunk(plan: &Plan, sessions: &mut Sessions, chunk: &[StateRow]) -> Result<(), Error> {
    let Some(slice_end) = chunk.first().map(|row| row.key.slice_end) else { return Ok(()) };
    let restored =
        sessions.restore(&plan.key_schema, &plan.functions, &plan.state, slice_end, chunk).map(drop);
    restored.map_err(|e| state_error(slice_end, &e))
}

impl Sessionized {
    /// What became of the entries in the store since the last checkpoint: slices that are gone, then
    /// entries that are, then the durable copy of what changed; all sorted by key. The stretches go on from
    /// it.
    pub(super) fn checkpoint(&mut self, output: &mut Output) -> Result<(), Error> {
        self.sessions.fold(&self.plan.functions).map_err(|e| state_error(self.watermark, &e))?;
        let dropped = self.sessions.take_dropped().into_iter();
        let dropped = dropped.map(|slice_end| StateChange::drop_slice(AGGREGATE, slice_end));
        output.state.extend(dropped);
        let mut changes: Vec<(Micros, Vec<u32>)> = Vec::new();
        let mut keys: Vec<u32> = Vec::new();
        for (slice_end, slice) in &mut self.sessions.slices {
            let (removed, changed) = slice.take_changes();
            let key = |number: &u32| state_key(*slice_end, slice, *number);
            output.state.extend(removed.iter().map(key).map(StateChange::Delete));
            keys.extend(changed.iter().map(|number| slice.chain(*number)));
            changes.push((*slice_end, changed));
        }
        for (slice_end, changed) in changes {
            if !changed.is_empty()
                && let Some(slice) = self.sessions.slices.get_mut(&slice_end)
            {
                save(&self.plan, slice_end, slice, &changed, output)?;
            }
        }
        self.sessions.saved(keys);
        self.kept_back = 0;
        if self.reached == self.watermark && self.due.is_empty() {
            let purged = self.sessions.purge(&self.plan.key_schema);
            for slice_end in purged.map_err(|e| state_error(self.watermark, &e))? {
                self.relist(slice_end);
            }
        }
        Ok(())
    }
}

fn save(
    plan: &Plan,
    slice_end: Micros,
    slice: &mut Stretches,
    changed: &[u32],
    output: &mut Output,
) -> Result<(), Error> {
    let taken = UInt32Array::from_iter_values(changed.iter().copied());
    let states = slice.states().map_err(|e| state_error(slice_end, &e))?;
    let states = states.iter().map(|s| arrow::compute::take(s, &taken, None));
    let mut columns: Vec<ArrayRef> = states.collect::<Result<_, _>>().map_err(DataFusionError::from)?;
    if columns.len() != plan.state.len() {
        return Err(Error::Contract("an aggregate saved another state than it declared".into()));
    }
    columns.extend(slice.times(changed));
    let described: Vec<codec::Column> = plan.state.iter().cloned().chain(Stretches::columns()).collect();
    let values = codec::encode(described.iter().zip(&columns), changed.len())
        .map_err(|e| Error::Contract(e.to_string()))?;
    output.state.reserve(changed.len());
    for (row, number) in changed.iter().enumerate() {
        let key = state_key(slice_end, slice, *number);
        output.state.push(StateChange::Put(StateRow { key, value: values.value(row).to_vec() }));
    }
    Ok(())
}

fn state_key(slice_end: Micros, slice: &Stretches, number: u32) -> StateKey {
    let (key_group, key) = (slice.key_group(number), slice.key(number).to_vec());
    StateKey { operator: AGGREGATE, slice_end, key_group, key }
}
