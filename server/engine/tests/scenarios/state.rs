//! What a pipeline keeps of its engine's state, in memory.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, RwLock};

use millpond_engine::state::{Entries, StateChange, StateKey, StateRow, StateView, Unreadable};
use millpond_engine::time::Micros;

type Rows = BTreeMap<StateKey, Vec<u8>>;

/// As of the last checkpoint.
#[derive(Clone, Default)]
pub struct State(Arc<RwLock<Arc<Rows>>>);

impl State {
    fn now(&self) -> Arc<Rows> {
        Arc::clone(&self.0.read().unwrap())
    }

    pub fn is_empty(&self) -> bool {
        self.now().is_empty()
    }

    /// Writes what a checkpoint says: range deletes, then deletes, then puts, each in order and once.
    pub fn apply(&self, changes: &[StateChange]) {
        let mut now = self.0.write().unwrap();
        let rows = Arc::make_mut(&mut now);
        let (mut deleted, mut put) = (None, None);
        for change in changes {
            match change {
                StateChange::DropSlice { operator, slice_end, key_groups } => {
                    assert!(deleted.is_none() && put.is_none(), "slices are dropped first");
                    let is_of = |k: &StateKey| (k.operator, k.slice_end) == (*operator, *slice_end);
                    rows.retain(|k, _| !is_of(k) || !key_groups.contains(k.key_group));
                }
                StateChange::Delete(key) => {
                    assert!(put.is_none(), "entries are deleted before others are put");
                    assert!(deleted.replace(key).is_none_or(|last| last < key), "deletes come in order");
                    assert!(rows.remove(key).is_some(), "what is deleted was there");
                }
                StateChange::Put(row) => {
                    assert!(put.replace(&row.key).is_none_or(|last| *last < row.key), "puts come in order");
                    rows.insert(row.key.clone(), row.value.clone());
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
        let rows = self.now();
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
        let rows = self.now();
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
        let (rows, mut next) = (self.now(), Bound::Included(from.clone()));
        Ok(Box::new(std::iter::from_fn(move || {
            let (key, value) = rows.range((next.clone(), Bound::Unbounded)).next()?;
            next = Bound::Excluded(key.clone());
            Some(Ok(StateRow { key: key.clone(), value: value.clone() }))
        })))
    }
}
