//! The durable state of operators, as engines see it: entries as the engine wrote them (its own version byte).

use std::sync::Arc;

use millpond_engine::state::{Entries, StateKey, StateRow, StateView, Unreadable};
use millpond_engine::time::Micros;
use rocksdb::{Range, ReadOptions};

use super::db::Family;
use super::{Error, Store, keys};
use crate::catalog::GroupId;

/// Keys looked up at a time: so many blocks at most are held in memory for it.
const LOOKUP: usize = 1024;

/// The state of one pipeline. What it shows changes with the pipeline's checkpoints alone.
struct PipelineState {
    store: Arc<Store>,
    group: GroupId,
}

impl StateView for PipelineState {
    fn get(
        &self,
        operator: u16,
        slice_end: Micros,
        keys: &[(u8, &[u8])],
        found: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), Unreadable> {
        let db = &self.store.db;
        let family = db.family(Family::State).map_err(|e| unreadable(&e))?;
        let prefix = keys::slice(self.group, operator, slice_end);
        let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(LOOKUP));
        for (chunk, keys) in keys.chunks(LOOKUP).enumerate() {
            bytes.clear();
            ends.clear();
            for (key_group, key) in keys {
                bytes.extend_from_slice(&prefix);
                bytes.push(*key_group);
                bytes.extend_from_slice(key);
                ends.push(bytes.len());
            }
            let starts = std::iter::once(&0).chain(&ends);
            let wanted = starts.zip(&ends).map(|(from, to)| bytes.get(*from..*to).unwrap_or_default());
            let values = db.rocks().batched_multi_get_cf(family, wanted, true);
            for (place, value) in values.into_iter().enumerate() {
                if let Some(value) = value.map_err(|e| Unreadable(e.into_string()))? {
                    found(chunk * LOOKUP + place, &value);
                }
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
        let db = &self.store.db;
        let family = db.family(Family::State).map_err(|e| unreadable(&e))?;
        let prefix = keys::slice(self.group, operator, slice_end);
        let mut options = ReadOptions::default();
        if let Some(end) = keys::after(&prefix) {
            options.set_iterate_upper_bound(end);
        }
        // One iterator for all: what lies beside what was read last is in its block.
        let mut rows = db.rocks().raw_iterator_cf_opt(family, options);
        let mut wanted = Vec::new();
        for (place, (key_group, key)) in keys.iter().enumerate() {
            wanted.clear();
            wanted.extend_from_slice(&prefix);
            wanted.push(*key_group);
            wanted.extend_from_slice(key);
            // Where it stands is at or behind the key before this one, and there may be nothing between.
            if place == 0 || rows.key().is_some_and(|at| at < wanted.as_slice()) {
                rows.seek(&wanted);
            }
            while let Some((at, value)) = rows.item()
                && let Some(suffix) = at.strip_prefix(wanted.as_slice())
            {
                found(place, suffix, value);
                rows.next();
            }
            rows.status().map_err(|e| Unreadable(e.into_string()))?;
        }
        Ok(())
    }

    fn scan(&self, from: &StateKey) -> Result<Entries<'_>, Unreadable> {
        let (prefix, from) = (keys::number(self.group.0), keys::state(self.group, from));
        let rows = self.store.db.scan(Family::State, &prefix, Some(&from)).map_err(|e| unreadable(&e))?;
        let rows = rows.map(|k, v| Ok(StateRow { key: keys::parse_state(k)?, value: v.to_vec() }));
        Ok(Box::new(rows.map(|row| row.map_err(|e| unreadable(&e)))))
    }
}

fn unreadable(error: &Error) -> Unreadable {
    Unreadable(error.to_string())
}

impl Store {
    /// The durable state of a pipeline.
    pub fn state(self: &Arc<Self>, group: GroupId) -> Arc<dyn StateView> {
        Arc::new(PipelineState { store: Arc::clone(self), group })
    }

    /// About how many bytes the state of a pipeline takes on disk, compressed; what was written last is not
    /// among them.
    pub fn state_bytes(&self, group: GroupId) -> Result<u64, Error> {
        let (from, to) = (keys::number(group.0), keys::number(group.0.saturating_add(1)));
        let family = self.db.family(Family::State)?;
        let sizes = self.db.rocks().get_approximate_sizes_cf(family, &[Range::new(&from, &to)]);
        Ok(sizes.into_iter().sum())
    }
}
