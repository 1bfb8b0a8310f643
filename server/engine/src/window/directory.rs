//! The slices that each key occurs in.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::time::Micros;

/// Row of a chunk of merged states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) chunk: u32,
    pub(crate) row: u32,
}

/// One key in one slice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) slice_end: Micros,
    pub(crate) group: u32,
    /// This slice and those of its block before it, merged.
    pub(crate) prefix: Option<Place>,
    /// This slice and those of its block after it, merged.
    pub(crate) suffix: Option<Place>,
}

/// Key → its slices, ascending. Nothing depends on the order of the table.
#[derive(Default)]
pub(crate) struct Directory {
    table: HashTable<(Box<[u8]>, Vec<Held>)>,
    hasher: FixedState,
}

impl Directory {
    /// Notes that a key occurs in a slice, which was not known.
    pub(crate) fn insert(&mut self, key: &[u8], slice_end: Micros, group: u32) {
        let held = Held { slice_end, group, prefix: None, suffix: None };
        match self.find_mut(key) {
            Some(slices) => {
                let place = slices.partition_point(|h| h.slice_end < slice_end);
                slices.insert(place, held);
            }
            None => {
                let Self { table, hasher } = self;
                let hash = hasher.hash_one(key);
                table.insert_unique(hash, (key.into(), vec![held]), |(key, _)| hasher.hash_one(&**key));
            }
        }
    }

    /// Bytes in memory, with so many slices of all keys together.
    pub(crate) fn bytes(&self, slices: usize) -> usize {
        // A key of its own allocation is taken to be as long as a short text.
        let key = size_of::<(Box<[u8]>, Vec<Held>)>() + 16;
        self.table.capacity() * (key + 1) + slices * size_of::<Held>()
    }

    /// Forgets that a key occurs in a slice.
    pub(crate) fn remove(&mut self, key: &[u8], slice_end: Micros) {
        let hash = self.hasher.hash_one(key);
        let Ok(mut entry) = self.table.find_entry(hash, |(known, _)| **known == *key) else { return };
        let (_, slices) = entry.get_mut();
        slices.retain(|h| h.slice_end != slice_end);
        if slices.is_empty() {
            entry.remove();
        }
    }

    fn find_mut(&mut self, key: &[u8]) -> Option<&mut Vec<Held>> {
        let hash = self.hasher.hash_one(key);
        self.table.find_mut(hash, |(known, _)| **known == *key).map(|(_, slices)| slices)
    }

    /// A key's slices that end after `after` and not after `to`.
    pub(crate) fn within(&self, key: &[u8], after: Micros, to: Micros) -> &[Held] {
        let hash = self.hasher.hash_one(key);
        let Some((_, slices)) = self.table.find(hash, |(known, _)| **known == *key) else { return &[] };
        let from = slices.partition_point(|h| h.slice_end <= after);
        let to = slices.partition_point(|h| h.slice_end <= to);
        slices.get(from..to).unwrap_or_default()
    }

    /// A key in a slice.
    pub(crate) fn held_mut(&mut self, key: &[u8], slice_end: Micros) -> Option<&mut Held> {
        let slices = self.find_mut(key)?;
        let place = slices.binary_search_by_key(&slice_end, |h| h.slice_end).ok()?;
        slices.get_mut(place)
    }
}
