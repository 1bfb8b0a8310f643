//! Rows that are out at instants without a record.

use std::collections::BTreeMap;

use super::Keys;
use crate::time::{Micros, Span};

/// The instants at which a frame was reported to be empty, as long as a late record may change what was
/// said of them; by stretches of time.
pub(crate) struct Marks {
    length: Span,
    slices: BTreeMap<Micros, Marked>,
}

/// The marks of one stretch of time, in the order in which they were set.
#[derive(Default)]
pub(crate) struct Marked {
    /// Key and instant.
    pub(crate) rows: Vec<(u32, i64)>,
    /// Those up to here lie in the store.
    pub(crate) saved: usize,
}

impl Marks {
    /// None yet, in slices of `length`.
    pub(crate) fn new(length: Span) -> Self {
        Self { length: Span(length.0.max(1)), slices: BTreeMap::new() }
    }

    /// Sets a mark, if it is not there.
    pub(crate) fn set(&mut self, keys: &mut Keys, key: u32, at: i64) {
        if keys.mark(key, at) {
            let end = Micros(at).window_start(self.length, Span(0)) + self.length;
            self.slices.entry(end).or_default().rows.push((key, at));
        }
    }

    /// The slices, ascending.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&Micros, &mut Marked)> {
        self.slices.iter_mut()
    }

    /// Takes the first slice out if it ends before `end`.
    pub(crate) fn pop_before(&mut self, end: Micros) -> Option<(Micros, Marked)> {
        self.slices.first_entry().filter(|first| *first.key() < end).map(|first| first.remove_entry())
    }
}
