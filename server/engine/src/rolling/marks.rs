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
    /// Those of them that are not in the store yet.
    pub(crate) unsaved: Vec<(u32, i64)>,
    /// True once entries of this slice lie in the store.
    pub(crate) durable: bool,
}

impl Marks {
    /// None yet, in slices of `length`.
    pub(crate) fn new(length: Span) -> Self {
        Self { length: Span(length.0.max(1)), slices: BTreeMap::new() }
    }

    /// Sets a mark, if it is not there.
    pub(crate) fn set(&mut self, keys: &mut Keys, key: u32, at: i64) {
        if keys.mark(key, at) {
            let marked = self.of(at);
            marked.rows.push((key, at));
            marked.unsaved.push((key, at));
        }
    }

    /// Puts one back that lies in the store.
    pub(crate) fn restore(&mut self, keys: &mut Keys, key: u32, at: i64) {
        if keys.mark(key, at) {
            let marked = self.of(at);
            marked.rows.push((key, at));
            marked.durable = true;
        }
    }

    fn of(&mut self, at: i64) -> &mut Marked {
        let end = Micros(at).window_start(self.length, Span(0)) + self.length;
        self.slices.entry(end).or_default()
    }

    /// Right after a checkpoint: keeps those of these keys alone. Returns the slices that others were in.
    pub(crate) fn keep(&mut self, is_kept: impl Fn(u32) -> bool) -> Vec<Micros> {
        let mut left = Vec::new();
        for (end, marked) in &mut self.slices {
            let before = marked.rows.len();
            marked.rows.retain(|(key, _)| is_kept(*key));
            if marked.rows.len() < before {
                marked.rows.shrink_to_fit();
                left.push(*end);
            }
        }
        self.slices.retain(|_, marked| !marked.rows.is_empty());
        left
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
