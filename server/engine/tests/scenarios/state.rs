//! What a pipeline keeps of its engine's state, in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use millpond_engine::state::{Entries, StateChange, StateKey, StateRow, StateView, Unreadable};
use millpond_engine::time::Micros;

/// As of the last checkpoint.
#[derive(Clone, Default)]
pub struct State(Arc<RwLock<BTreeMap<StateKey, Vec<u8>>>>);

impl State {
    pub fn is_empty(&self) -> bool {
        self.0.read().unwrap().is_empty()
    }

    pub fn apply(&self, changes: &[StateChange]) {
        let mut rows = self.0.write().unwrap();
        for change in changes {
            match change {
                StateChange::Put(row) => drop(rows.insert(row.key.clone(), row.value.clone())),
                StateChange::Delete(key) => drop(rows.remove(key)),
                StateChange::DropSlice { operator, slice_end, key_groups } => {
                    let is_of = |k: &StateKey| (k.operator, k.slice_end) == (*operator, *slice_end);
                    rows.retain(|k, _| !is_of(k) || !key_groups.contains(k.key_group));
                }
            }
        }
    }
}

impl StateView for State {
    fn get(
        &self,
        operator: u16,
        slice_end: Micros,
        keys: &[(u8, &[u8])],
        found: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), Unreadable> {
        let rows = self.0.read().unwrap();
        for (place, (key_group, key)) in keys.iter().enumerate() {
            let key = StateKey { operator, slice_end, key_group: *key_group, key: key.to_vec() };
            if let Some(value) = rows.get(&key) {
                found(place, value);
            }
        }
        Ok(())
    }

    fn below(
        &self,
        operator: u16,
        slice_end: Micros,
        keys: &[(u8, &[u8])],
        found: &mut dyn FnMut(usize, &[u8], &[u8]),
    ) -> Result<(), Unreadable> {
        let rows = self.0.read().unwrap();
        for (place, (key_group, key)) in keys.iter().enumerate() {
            let from = StateKey { operator, slice_end, key_group: *key_group, key: key.to_vec() };
            for (known, value) in rows.range(from..) {
                let is_of =
                    (known.operator, known.slice_end, known.key_group) == (operator, slice_end, *key_group);
                match known.key.strip_prefix(*key).filter(|_| is_of) {
                    Some(suffix) => found(place, suffix, value),
                    None => break,
                }
            }
        }
        Ok(())
    }

    fn scan(&self, from: &StateKey) -> Result<Entries<'_>, Unreadable> {
        let rows = self.0.read().unwrap();
        let row = |(key, value): (&StateKey, &Vec<u8>)| StateRow { key: key.clone(), value: value.clone() };
        let rows: Vec<StateRow> = rows.range(from.clone()..).map(row).collect();
        Ok(Box::new(rows.into_iter().map(Ok)))
    }
}
