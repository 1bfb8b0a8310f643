//! Where windows share slices: keys that are not in memory, with none of their slices.
//!
//! They are put back before a record comes into them, and before a window closes that has other slices of theirs than
//! the one before: with all of their slices, and the merges of these as they would have been. After some are let go of, the
//! merges of the others are computed anew, as after a restart.

use std::collections::{BTreeMap, btree_map};
use std::sync::Arc;

use super::Error;
use super::keyed::Keyed;
use super::windowed::{Windowed, state_error};
use crate::key;
use crate::state::{KeyGroups, StateView, Wanted, oldest};
use crate::time::Micros;
use crate::window::{Pane, Shared, Touched};

impl Windowed {
    /// From here on keys may be left in the store; those that lie there are.
    pub(super) fn leave_keys_in(
        &mut self,
        view: &Arc<dyn StateView>,
        key_groups: KeyGroups,
    ) -> Result<(), Error> {
        self.cold.attach(view, key_groups)?;
        for slice_end in self.cold.ends() {
            if let btree_map::Entry::Vacant(place) = self.panes.entry(slice_end) {
                place.insert(Pane::cold(&self.plan.key_schema)?);
            }
        }
        Ok(())
    }

    /// Puts the keys of rows back.
    pub(super) fn recall(&mut self, rows: &Keyed) -> Result<(), Error> {
        let Some(shared) = self.shared.as_ref().filter(|_| !self.cold.is_empty()) else { return Ok(()) };
        let keys = rows.columns.get(..self.plan.keys.len()).unwrap_or_default();
        let encoder = key::Encoder::new(keys).map_err(|e| Error::Contract(e.to_string()))?;
        let (mut wanted, mut bytes, mut last) = (Wanted::default(), Vec::new(), Vec::new());
        for row in 0..rows.len() {
            bytes.clear();
            encoder.append(row, &mut bytes);
            if (wanted.is_empty() || bytes != last) && shared.directory.find(&bytes).is_none() {
                wanted.push(&bytes);
                std::mem::swap(&mut bytes, &mut last);
            }
        }
        self.put_back(&wanted)
    }

    /// Puts the keys back that get a row when a window closes.
    pub(super) fn recall_moving(&mut self, window_end: Micros) -> Result<(), Error> {
        if self.cold.is_empty() {
            return Ok(());
        }
        let moving: Vec<Micros> = self.moving(window_end).map(|(slice_end, _)| slice_end).collect();
        let Some(shared) = &self.shared else { return Ok(()) };
        let is_known = |key: &[u8]| shared.directory.find(key).is_some();
        let mut wanted = Wanted::default();
        for slice_end in moving {
            if self.cold.has(slice_end) {
                self.cold.within(slice_end, &is_known, &mut wanted)?;
            }
        }
        for (key, _) in self.owed.0.get(&window_end).into_iter().flatten() {
            if !is_known(key) {
                wanted.push(key);
            }
        }
        self.put_back(&wanted)
    }

    /// Puts keys back, with all of their slices.
    fn put_back(&mut self, wanted: &Wanted) -> Result<(), Error> {
        let Some(shared) = self.shared.as_mut().filter(|_| !wanted.is_empty()) else { return Ok(()) };
        let mut touched: Touched = BTreeMap::new();
        for (slice_end, rows) in self.cold.fetch(wanted)? {
            let pane = match self.panes.entry(slice_end) {
                btree_map::Entry::Occupied(pane) => pane.into_mut(),
                btree_map::Entry::Vacant(place) => place.insert(Pane::new(&self.plan.key_schema)?),
            };
            let entries = rows.iter().map(|row| (row.key.key.as_slice(), row.value.as_slice()));
            pane.restore(&self.plan.key_schema, &self.plan.functions, &self.plan.state, entries)
                .map_err(|e| state_error(slice_end, &e))?;
            shared.directory.insert(slice_end, &pane.groups);
            for row in rows {
                touched.entry(row.key.key).or_default().insert(slice_end);
            }
        }
        for key in touched.keys().filter_map(|key| shared.directory.find(key)) {
            self.ages.note(key);
        }
        let closed = self.closed.unwrap_or(Micros::MIN);
        let parts = &mut self.plan.parts(&mut self.panes);
        shared.correct(&touched, parts).map_err(|e| state_error(closed, &e))
    }

    /// Right after a checkpoint that is durable: lets go of keys until the others take no more than about so many
    /// bytes, of those that did not change for longest first.
    pub(super) fn let_go_of_keys(&mut self, bytes: usize) -> Result<(), Error> {
        let total = self.taken().evictable;
        let Some(shared) = self.shared.as_ref().filter(|_| total > bytes) else { return Ok(()) };
        let candidates: Vec<_> = shared.directory.keys().map(|key| self.ages.candidate(key, None)).collect();
        let all = candidates.len();
        let mut is_gone: Vec<bool> = Vec::new();
        for gone in oldest(candidates, all, total, bytes) {
            let place = gone.key as usize;
            is_gone.resize(is_gone.len().max(place + 1), false);
            if let Some(is_gone) = is_gone.get_mut(place) {
                *is_gone = true;
            }
        }
        if is_gone.is_empty() {
            return Ok(());
        }
        for (slice_end, pane) in &mut self.panes {
            let keys = shared.directory.keys_of(*slice_end);
            let stays = |key: u32| !is_gone.get(key as usize).copied().unwrap_or_default();
            let left = (0..).zip(keys).filter(|(_, key)| stays(**key)).map(|(group, _)| group);
            let left: Vec<u32> = left.collect();
            if left.len() < keys.len() {
                self.cold.let_go(*slice_end, Some(keys.len() - left.len()));
                pane.keep(&self.plan.key_schema, left).map_err(|e| state_error(*slice_end, &e))?;
            }
        }
        // Keys have other numbers, and nothing is merged any more.
        let shared = Shared::of(&self.panes);
        for key in shared.directory.keys() {
            self.ages.note(key);
        }
        self.shared = Some(shared);
        self.closed = None;
        self.closing.clear();
        Ok(())
    }
}
