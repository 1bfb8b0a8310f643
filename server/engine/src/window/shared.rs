//! Windows that share slices: what a window holds of a key, without going through its slices.
//!
//! Time is cut into blocks as long as a window. A window reaches over one block boundary at most:
//!
//! ```text
//! block │  s1   s2   s3   s4  │  s5   s6  …        window (s2 … s5]
//!       │      └── suffix ───┘│ prefix
//! ```
//!
//! When a slice *enters* (the first window that holds it closes), each of its keys gets the merge of this
//! slice and those of the block before it (prefix). When the first window beyond a block closes, each key
//! in each slice of the block gets the merge of this slice and those of the block after it (suffix). A
//! window's value is the suffix of the first slice that holds the key, merged with the prefix of the last.
//! So a key costs two merges for each slice that it occurs in, and one for each row.
//!
//! All of this follows from the slices and from how far windows are closed, by the same merges in the same
//! order whenever it is computed: a restored engine has the same bits.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::ArrayRef;

use super::{Directory, Error, Layout, Pane, Place};
use crate::state::{Function, Merge};
use crate::time::Micros;

/// A key that late records touched in slices that had entered.
pub(crate) type Touched = BTreeMap<Vec<u8>, BTreeSet<Micros>>;

/// Prefixes and suffixes of the slices that need them.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) directory: Directory,
    /// Merged states by slice: the first chunk of each has a row for each group, later ones correct it.
    prefixes: BTreeMap<Micros, Vec<Vec<ArrayRef>>>,
    suffixes: BTreeMap<Micros, Vec<Vec<ArrayRef>>>,
    /// Slices up to here have entered.
    entered: Option<Micros>,
    /// The boundary that suffixes reach up to.
    boundary: Option<Micros>,
}

/// Which columns a row to be merged comes from.
#[derive(PartialEq, Eq, Hash)]
enum From {
    Slice(Micros),
    Prefix(Micros, u32),
    Suffix(Micros, u32),
    Nothing,
}

/// What the merges are made of.
pub(crate) struct Parts<'p> {
    pub(crate) layout: Layout,
    pub(crate) functions: &'p [Function],
    pub(crate) panes: &'p mut BTreeMap<Micros, Pane>,
    /// One row of states of no events at all.
    pub(crate) nothing: &'p [ArrayRef],
}

impl Shared {
    /// For slices that are there already.
    pub(crate) fn of(panes: &BTreeMap<Micros, Pane>) -> Self {
        let mut shared = Self::default();
        for (slice_end, pane) in panes {
            shared.directory.insert(*slice_end, &pane.groups);
        }
        shared
    }

    /// Lets the slices up to the end of a window enter, and gets what that window needs ready.
    pub(crate) fn enter(&mut self, window_end: Micros, parts: &mut Parts<'_>) -> Result<(), Error> {
        let from = self.entered.map_or(Micros::MIN, Micros::next);
        if from <= window_end {
            let entering: Vec<Micros> = parts.panes.range(from..=window_end).map(|(end, _)| *end).collect();
            self.entered = Some(window_end);
            for slice_end in entering {
                let all = parts.panes.get(&slice_end).map_or(0, |p| p.groups.len() as u32);
                self.prefix(slice_end, &(0..all).collect::<Vec<_>>(), parts)?;
            }
        }
        let boundary = parts.layout.block(window_end);
        if parts.layout.leaves(window_end).is_some() && self.boundary.is_none_or(|b| b < boundary) {
            self.boundary = Some(boundary);
            self.suffixes.clear();
            self.prefixes.retain(|end, _| *end > boundary);
            for slice_end in slices(parts, boundary - parts.layout.size(), boundary) {
                let all = parts.panes.get(&slice_end).map_or(0, |p| p.groups.len() as u32);
                self.suffix(slice_end, &(0..all).collect::<Vec<_>>(), parts)?;
            }
        }
        Ok(())
    }

    /// Computes prefixes of some groups of a slice; those of the slices before it are there.
    fn prefix(&mut self, slice_end: Micros, groups: &[u32], parts: &mut Parts<'_>) -> Result<(), Error> {
        let block = parts.layout.block(slice_end);
        let before = Micros(slice_end.0.saturating_sub(1));
        let keys = self.keys(slice_end, groups);
        let neighbour = |key: u32| {
            let held = self.directory.within(key, block, before).last()?;
            held.prefix.map(|place| (held.slice_end, place))
        };
        let chunk = merged(parts, slice_end, &keys, &self.prefixes, From::Prefix, true, neighbour)?;
        let chunks = self.prefixes.entry(slice_end).or_default();
        chunks.push(chunk);
        let chunk = chunks.len() as u32 - 1;
        for (row, (_, key)) in (0..).zip(&keys) {
            if let Some(held) = self.directory.held_mut(*key, slice_end) {
                held.prefix = Some(Place { chunk, row });
            }
        }
        Ok(())
    }

    /// Computes suffixes of some groups of a slice; those of the slices after it are there.
    fn suffix(&mut self, slice_end: Micros, groups: &[u32], parts: &mut Parts<'_>) -> Result<(), Error> {
        let boundary = parts.layout.block(slice_end) + parts.layout.size();
        let keys = self.keys(slice_end, groups);
        let neighbour = |key: u32| {
            let held = self.directory.within(key, slice_end, boundary).first()?;
            held.suffix.map(|place| (held.slice_end, place))
        };
        let chunk = merged(parts, slice_end, &keys, &self.suffixes, From::Suffix, false, neighbour)?;
        let chunks = self.suffixes.entry(slice_end).or_default();
        chunks.push(chunk);
        let chunk = chunks.len() as u32 - 1;
        for (row, (_, key)) in (0..).zip(&keys) {
            if let Some(held) = self.directory.held_mut(*key, slice_end) {
                held.suffix = Some(Place { chunk, row });
            }
        }
        Ok(())
    }

    /// Groups of a slice, each with its key.
    fn keys(&self, slice_end: Micros, groups: &[u32]) -> Vec<(u32, u32)> {
        let keys = self.directory.keys_of(slice_end);
        groups.iter().filter_map(|group| keys.get(*group as usize).map(|key| (*group, *key))).collect()
    }

    /// Computes anew what late records changed.
    pub(crate) fn correct(&mut self, touched: &Touched, parts: &mut Parts<'_>) -> Result<(), Error> {
        let Some(entered) = self.entered else { return Ok(()) };
        let boundary = self.boundary.unwrap_or(Micros::MIN);
        let back = slices(parts, boundary, entered);
        for slice_end in back.into_iter().rev() {
            let block = parts.layout.block(slice_end);
            let changed = |slices: &BTreeSet<Micros>| slices.range(block.next()..=slice_end).next().is_some();
            let groups = self.affected(touched, slice_end, changed);
            if !groups.is_empty() {
                self.prefix(slice_end, &groups, parts)?;
            }
        }
        if self.boundary.is_none() {
            return Ok(());
        }
        for slice_end in slices(parts, boundary - parts.layout.size(), boundary) {
            let changed = |slices: &BTreeSet<Micros>| slices.range(slice_end..=boundary).next().is_some();
            let groups = self.affected(touched, slice_end, changed);
            if !groups.is_empty() {
                self.suffix(slice_end, &groups, parts)?;
            }
        }
        Ok(())
    }

    /// Groups of a slice whose keys were touched in slices of interest.
    fn affected(
        &self,
        touched: &Touched,
        slice_end: Micros,
        changed: impl Fn(&BTreeSet<Micros>) -> bool,
    ) -> Vec<u32> {
        let before = Micros(slice_end.0.saturating_sub(1));
        touched
            .iter()
            .filter(|(_, slices)| changed(slices))
            .filter_map(|(key, _)| self.directory.found_within(key, before, slice_end).first())
            .map(|held| held.group)
            .collect()
    }

    /// States of keys over a window, a row for each key; of a key without events, those of no events.
    pub(crate) fn window(
        &self,
        window_end: Micros,
        keys: &[u32],
        parts: &mut Parts<'_>,
    ) -> Result<Vec<ArrayRef>, Error> {
        let start = parts.layout.start(window_end);
        let block = parts.layout.block(window_end);
        // A window may be asked for that closed long ago, or is not closed yet: its parts are not those of
        // now, and it is merged slice by slice.
        let entered = self.entered.unwrap_or(Micros::MIN);
        let current = parts.layout.leaves(window_end).is_none() || self.boundary == Some(block);
        for slice_end in slices(parts, start, window_end) {
            if let Some(pane) = parts.panes.get_mut(&slice_end) {
                pane.states()?;
            }
        }
        let (panes, nothing) = (&*parts.panes, parts.nothing);
        let mut merge = Merge::new();
        for (target, key) in keys.iter().enumerate() {
            let held = self.directory.within(*key, start, window_end);
            if held.is_empty() {
                merge.add(target, From::Nothing, 0, || nothing);
            }
            let mut rest = held;
            if current {
                if let Some(first) = held.first()
                    && first.slice_end <= block
                    && let Some(place) = first.suffix
                {
                    let source = From::Suffix(first.slice_end, place.chunk);
                    merge.add(target, source, place.row, || chunk(&self.suffixes, first.slice_end, place));
                    rest = rest.get(rest.partition_point(|h| h.slice_end <= block)..).unwrap_or_default();
                }
                let back = rest.partition_point(|h| h.slice_end <= entered);
                if rest.first().is_some_and(|h| h.slice_end > block)
                    && let Some(last) = back.checked_sub(1).and_then(|last| rest.get(last))
                    && let Some(place) = last.prefix
                {
                    let source = From::Prefix(last.slice_end, place.chunk);
                    merge.add(target, source, place.row, || chunk(&self.prefixes, last.slice_end, place));
                    rest = rest.get(back..).unwrap_or_default();
                }
            }
            for held in rest {
                let columns = || panes.get(&held.slice_end).map_or(&[][..], Pane::saved);
                merge.add(target, From::Slice(held.slice_end), held.group, columns);
            }
        }
        Ok(merge.finish(parts.functions, keys.len())?)
    }

    /// Bytes in memory, besides those of the panes.
    pub(crate) fn bytes(&self) -> usize {
        let chunks = self.prefixes.values().chain(self.suffixes.values()).flatten().flatten();
        let chunks: usize = chunks.map(|column| column.get_array_memory_size()).sum();
        chunks + self.directory.bytes()
    }

    /// Forgets a slice.
    pub(crate) fn forget(&mut self, slice_end: Micros) {
        self.directory.forget(slice_end);
        self.prefixes.remove(&slice_end);
        self.suffixes.remove(&slice_end);
    }
}

/// Slices that end after `after` and not after `to`, the newest first.
fn slices(parts: &Parts<'_>, after: Micros, to: Micros) -> Vec<Micros> {
    if after >= to {
        return Vec::new();
    }
    parts.panes.range(after.next()..=to).rev().map(|(end, _)| *end).collect()
}

fn chunk(chunks: &BTreeMap<Micros, Vec<Vec<ArrayRef>>>, slice_end: Micros, place: Place) -> &[ArrayRef] {
    chunks.get(&slice_end).and_then(|c| c.get(place.chunk as usize)).map_or(&[], Vec::as_slice)
}

/// Merges groups of a slice, each with its key, with what `neighbour` names of the key: before the slice, or
/// after it.
fn merged(
    parts: &mut Parts<'_>,
    slice_end: Micros,
    groups: &[(u32, u32)],
    chunks: &BTreeMap<Micros, Vec<Vec<ArrayRef>>>,
    from: impl Fn(Micros, u32) -> From,
    before: bool,
    neighbour: impl Fn(u32) -> Option<(Micros, Place)>,
) -> Result<Vec<ArrayRef>, Error> {
    let Some(pane) = parts.panes.get_mut(&slice_end) else { return Ok(Vec::new()) };
    pane.states()?;
    let pane = &*pane;
    let mut merge = Merge::new();
    for (target, (group, key)) in groups.iter().enumerate() {
        if !before {
            merge.add(target, From::Slice(slice_end), *group, || pane.saved());
        }
        if let Some((end, place)) = neighbour(*key) {
            merge.add(target, from(end, place.chunk), place.row, || chunk(chunks, end, place));
        }
        if before {
            merge.add(target, From::Slice(slice_end), *group, || pane.saved());
        }
    }
    Ok(merge.finish(parts.functions, groups.len())?)
}
