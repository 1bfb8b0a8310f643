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

use std::collections::{BTreeMap, BTreeSet, HashMap};

use arrow::array::ArrayRef;
use foldhash::fast::FixedState;

use super::directory::{Directory, Held};
use super::{Error, Layout, Pane};
use crate::state::{Function, Merge};
use crate::time::Micros;

/// A key that late records touched in slices that had entered.
pub(crate) type Touched = BTreeMap<Vec<u8>, BTreeSet<Micros>>;

/// Prefixes and suffixes of the slices that need them.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) directory: Directory,
    /// By slice: the slice and those of its block before it.
    prefixes: HashMap<Micros, Merged, FixedState>,
    /// By slice: the slice and those of its block after it.
    suffixes: HashMap<Micros, Merged, FixedState>,
    /// Slices up to here have entered.
    entered: Option<Micros>,
    /// The boundary that suffixes reach up to.
    boundary: Option<Micros>,
}

/// Merged states of the groups of a slice.
#[derive(Default)]
struct Merged {
    /// The first has a row for each group that was there, in their order; later ones are of what late records
    /// changed.
    chunks: Vec<Vec<ArrayRef>>,
    /// Groups whose row is elsewhere: chunk and row.
    moved: HashMap<u32, (u32, u32), FixedState>,
}

impl Merged {
    /// Adds rows of groups, which take the place of those before.
    fn add(&mut self, groups: &[(u32, u32)], chunk: Vec<ArrayRef>) {
        let number = self.chunks.len() as u32;
        let moved = (0..).zip(groups).filter(|(row, (group, _))| (number, *row) != (0, *group));
        self.moved.extend(moved.map(|(row, (group, _))| (*group, (number, row))));
        self.chunks.push(chunk);
    }

    /// Chunk and row of a group.
    fn place(&self, group: u32) -> (u32, u32) {
        self.moved.get(&group).copied().unwrap_or((0, group))
    }

    /// The columns of a chunk.
    fn chunk(&self, number: u32) -> &[ArrayRef] {
        self.chunks.get(number as usize).map_or(&[], Vec::as_slice)
    }
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
        if groups.is_empty() {
            return Ok(());
        }
        let block = parts.layout.block(slice_end);
        let before = Micros(slice_end.0.saturating_sub(1));
        let groups = self.keys(slice_end, groups);
        let neighbour = |key: u32| self.directory.within(key, block, before).last();
        let chunk = merged(parts, slice_end, &groups, &self.prefixes, From::Prefix, true, neighbour)?;
        self.prefixes.entry(slice_end).or_default().add(&groups, chunk);
        Ok(())
    }

    /// Computes suffixes of some groups of a slice; those of the slices after it are there.
    fn suffix(&mut self, slice_end: Micros, groups: &[u32], parts: &mut Parts<'_>) -> Result<(), Error> {
        if groups.is_empty() {
            return Ok(());
        }
        let boundary = parts.layout.block(slice_end) + parts.layout.size();
        let groups = self.keys(slice_end, groups);
        let neighbour = |key: u32| self.directory.within(key, slice_end, boundary).first();
        let chunk = merged(parts, slice_end, &groups, &self.suffixes, From::Suffix, false, neighbour)?;
        self.suffixes.entry(slice_end).or_default().add(&groups, chunk);
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
            self.prefix(slice_end, &self.affected(touched, slice_end, changed), parts)?;
        }
        if self.boundary.is_none() {
            return Ok(());
        }
        for slice_end in slices(parts, boundary - parts.layout.size(), boundary) {
            let changed = |slices: &BTreeSet<Micros>| slices.range(slice_end..=boundary).next().is_some();
            self.suffix(slice_end, &self.affected(touched, slice_end, changed), parts)?;
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
                    && let Some(merged) = self.suffixes.get(&first.slice_end)
                {
                    let (chunk, row) = merged.place(first.group);
                    merge.add(target, From::Suffix(first.slice_end, chunk), row, || merged.chunk(chunk));
                    rest = rest.get(rest.partition_point(|h| h.slice_end <= block)..).unwrap_or_default();
                }
                let back = rest.partition_point(|h| h.slice_end <= entered);
                if rest.first().is_some_and(|h| h.slice_end > block)
                    && let Some(last) = back.checked_sub(1).and_then(|last| rest.get(last))
                    && let Some(merged) = self.prefixes.get(&last.slice_end)
                {
                    let (chunk, row) = merged.place(last.group);
                    merge.add(target, From::Prefix(last.slice_end, chunk), row, || merged.chunk(chunk));
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
        let merged = self.prefixes.values().chain(self.suffixes.values());
        let chunks = merged.flat_map(|merged| merged.chunks.iter().flatten());
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

/// Merges groups of a slice, each with its key, with what `neighbour` names of the key: before the slice, or
/// after it.
fn merged<'h>(
    parts: &mut Parts<'_>,
    slice_end: Micros,
    groups: &[(u32, u32)],
    known: &HashMap<Micros, Merged, FixedState>,
    from: impl Fn(Micros, u32) -> From,
    before: bool,
    neighbour: impl Fn(u32) -> Option<&'h Held>,
) -> Result<Vec<ArrayRef>, Error> {
    let Some(pane) = parts.panes.get_mut(&slice_end) else { return Ok(Vec::new()) };
    pane.states()?;
    let pane = &*pane;
    let mut merge = Merge::new();
    for (target, (group, key)) in groups.iter().enumerate() {
        if !before {
            merge.add(target, From::Slice(slice_end), *group, || pane.saved());
        }
        if let Some(held) = neighbour(*key)
            && let Some(merged) = known.get(&held.slice_end)
        {
            let (chunk, row) = merged.place(held.group);
            merge.add(target, from(held.slice_end, chunk), row, || merged.chunk(chunk));
        }
        if before {
            merge.add(target, From::Slice(slice_end), *group, || pane.saved());
        }
    }
    Ok(merge.finish(parts.functions, groups.len())?)
}
