//! The way between the accumulators of an epoch and the saved form that outlives it.

use std::collections::{BTreeMap, btree_map};

use super::plan::Plan;
use super::windowed::{Windowed, state_error};
use super::{Error, Output};
use crate::state::{AGGREGATE, Accumulators, StateChange, StateKey, StateRow, codec};
use crate::time::Micros;
use crate::window::{Pane, UNTOUCHED};

/// Entries put back at a time.
const RESTORE_CHUNK: usize = 8192;

/// The panes that the stored entries make up.
pub(super) fn restore(
    plan: &Plan,
    rows: impl Iterator<Item = StateRow>,
) -> Result<BTreeMap<Micros, Pane>, Error> {
    let mut panes: BTreeMap<Micros, Pane> = BTreeMap::new();
    let mut chunk: Vec<StateRow> = Vec::new();
    for row in rows {
        if row.key.operator != AGGREGATE {
            let detail = format!("operator {} is not in the query", row.key.operator);
            return Err(Error::State { window_end: row.key.slice_end, detail });
        }
        let full = chunk.len() >= RESTORE_CHUNK;
        if full || chunk.last().is_some_and(|last| last.key.slice_end != row.key.slice_end) {
            restore_chunk(plan, &mut panes, &chunk)?;
            chunk.clear();
        }
        chunk.push(row);
    }
    restore_chunk(plan, &mut panes, &chunk)?;
    Ok(panes)
}

fn restore_chunk(plan: &Plan, panes: &mut BTreeMap<Micros, Pane>, chunk: &[StateRow]) -> Result<(), Error> {
    let Some(window_end) = chunk.first().map(|row| row.key.slice_end) else { return Ok(()) };
    let pane = match panes.entry(window_end) {
        btree_map::Entry::Occupied(pane) => pane.into_mut(),
        btree_map::Entry::Vacant(place) => place.insert(Pane::new(&plan.key_schema)?),
    };
    let rows = chunk.iter().map(|row| (row.key.key.as_slice(), row.value.as_slice()));
    codec::decode(&plan.state, rows.clone().map(|(_, value)| value))
        .map_err(|e| state_error(window_end, &e))?;
    pane.restore(&plan.key_schema, rows).map_err(|e| state_error(window_end, &e))
}

impl Windowed {
    /// Starts the groups numbered since `first_new` from their saved form.
    pub(super) fn resume(&self, first_new: usize, accumulators: &mut Accumulators) -> Result<(), Error> {
        let resumed = self.touched.get(first_new..).unwrap_or_default();
        let Some((window_end, _)) = resumed.first() else { return Ok(()) };
        let saved = |(end, group): &(Micros, u32)| self.panes.get(end).map_or(&[][..], |p| p.saved(*group));
        let columns = codec::decode(&self.plan.state, resumed.iter().map(saved))
            .map_err(|e| state_error(*window_end, &e))?;
        let numbers: Vec<usize> = (first_new..self.touched.len()).collect();
        accumulators.merge(&self.plan.functions, &columns, &numbers, self.touched.len())?;
        Ok(())
    }

    /// Replaces the groups of this epoch by their saved form. Returns it, by the groups' numbers.
    pub(super) fn save(&mut self, accumulators: &mut Accumulators) -> Result<codec::Encoded, Error> {
        if self.touched.is_empty() {
            return Ok(codec::Encoded::default());
        }
        let columns = accumulators.take_state()?;
        let rows = self.touched.len();
        if columns.len() != self.plan.state.len() || columns.iter().any(|c| c.len() != rows) {
            return Err(Error::Contract("an aggregate saved another state than it declared".into()));
        }
        let encoded = codec::encode(self.plan.state.iter().zip(&columns), rows)
            .map_err(|e| Error::Contract(e.to_string()))?;
        for (number, (window_end, group)) in self.touched.iter().enumerate() {
            if let Some(pane) = self.panes.get_mut(window_end) {
                pane.save(*group, encoded.value(number));
                pane.set_number(*group as usize, UNTOUCHED);
            }
        }
        Ok(encoded)
    }

    /// The durable copy of what this epoch touched and did not close, sorted by key.
    pub(super) fn changes(&mut self, saved: codec::Encoded, output: &mut Output) {
        let open = |(end, group): &(Micros, u32)| self.panes.get(end).map(|pane| (pane, *group));
        let mut order: Vec<(Micros, u8, u64, usize)> = Vec::with_capacity(self.touched.len());
        for (number, touched) in self.touched.iter().enumerate() {
            if let Some((pane, group)) = open(touched) {
                order.push((touched.0, pane.key_group(group), pane.prefix(group), number));
            }
        }
        let key = |number: usize| {
            self.touched.get(number).and_then(open).map_or(&[][..], |(pane, group)| pane.key(group))
        };
        order.sort_unstable_by(|a, b| {
            (a.0, a.1, a.2).cmp(&(b.0, b.1, b.2)).then_with(|| key(a.3).cmp(key(b.3)))
        });
        output.state.reserve(order.len());
        for (slice_end, key_group, _, number) in order {
            let key = StateKey { operator: AGGREGATE, slice_end, key_group, key: key(number).to_vec() };
            output.state.push(StateChange::Put(StateRow { key, value: saved.value(number).to_vec() }));
        }
        for (window_end, _) in &self.touched {
            if let Some(pane) = self.panes.get_mut(window_end) {
                pane.durable = true;
            }
        }
    }
}
