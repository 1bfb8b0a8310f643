//! Rows that come out beside the closing of windows: of late records, and of windows that are still open.
//!
//! A late record lies in a slice that has closed with a window. Of the windows that it is not too late for,
//! the first gets a row for its key, and so do later ones in which the slices of the key changed: at once
//! if they are closed (a revision), else when they close (the row is *owed*).

use std::collections::{BTreeMap, BTreeSet, HashSet};

use arrow::array::{ArrayRef, BooleanArray, UInt32Array};
use datafusion::error::DataFusionError;

use super::close::{Kind, Rows, known};
use super::windowed::{Windowed, state_error};
use super::{Error, Output};
use crate::time::Micros;
use crate::window::{Parts, Touched};

/// Groups that the records of an epoch touched, by slice.
#[derive(Default)]
pub(super) struct Touches(BTreeMap<Micros, Touch>);

#[derive(Default)]
struct Touch {
    groups: BTreeSet<u32>,
    /// Those of them that are new.
    new: BTreeSet<u32>,
}

impl Touches {
    /// Notes groups of a slice that had `known` groups before.
    pub(super) fn note(&mut self, slice_end: Micros, groups: &[usize], known: u32) {
        let touch = self.0.entry(slice_end).or_default();
        let mut groups: Vec<u32> = groups.iter().map(|g| *g as u32).collect();
        groups.sort_unstable();
        groups.dedup();
        touch.new.extend(groups.iter().filter(|group| **group >= known));
        touch.groups.extend(groups);
    }
}

/// Keys that get a row when a window closes, by the end of the window; true: they lie in the store.
#[derive(Default)]
pub(super) struct Owed(pub(super) BTreeMap<Micros, BTreeMap<Vec<u8>, bool>>);

impl Windowed {
    /// Brings what late records touched up to date, and lets the revisions out.
    pub(super) fn revise(&mut self, output: &mut Output) -> Result<(), Error> {
        let closed = self.closed.unwrap_or(Micros::MIN);
        let layout = self.plan.layout;
        let mut late: Touched = BTreeMap::new();
        for (slice_end, touch) in &self.touched.0 {
            let Some(pane) = self.panes.get(slice_end).filter(|_| layout.first_end(*slice_end) <= closed)
            else {
                continue;
            };
            for group in &touch.groups {
                late.entry(pane.groups.key(*group).to_vec()).or_default().insert(*slice_end);
            }
        }
        if late.is_empty() {
            return Ok(());
        }
        if let Some(shared) = &mut self.shared {
            let parts = &mut self.plan.parts(&mut self.panes);
            shared.correct(&late, parts).map_err(|e| state_error(closed, &e))?;
        }
        // Windows that end up to here are closed to late records.
        let gone = self.watermark - self.emission.allowed_lateness;
        let mut revised: BTreeMap<Micros, BTreeSet<&[u8]>> = BTreeMap::new();
        for (key, slices) in &late {
            for slice_end in slices {
                let first = layout.first_end((*slice_end).max(gone.next()));
                if first > closed {
                    self.owed.0.entry(first).or_default().entry(key.clone()).or_insert(false);
                }
                let last = layout.last_end(*slice_end).min(closed);
                let mut window_end = first;
                while window_end <= last {
                    if window_end == first || self.changes(window_end, key) {
                        revised.entry(window_end).or_default().insert(key);
                    }
                    window_end = layout.after(window_end);
                }
                // A key that is new in the slice leaves it, too.
                if let Some(leaves) = layout.leaves(*slice_end).filter(|end| *end <= closed)
                    && self.is_new(*slice_end, key)
                {
                    revised.entry(leaves).or_default().insert(key);
                }
            }
        }
        for (window_end, keys) in revised {
            let keys: Vec<Vec<u8>> = keys.into_iter().map(<[u8]>::to_vec).collect();
            let states = self.states(window_end, &keys)?;
            self.emit(Rows { window_end, keys, states, kind: Kind::Revision }, output)?;
        }
        Ok(())
    }

    /// Whether the slices of a key in the window differ from those in the window before.
    fn changes(&self, window_end: Micros, key: &[u8]) -> bool {
        let Some(shared) = &self.shared else { return true };
        let layout = self.plan.layout;
        let before = layout.before(window_end);
        let enters = !shared.directory.found_within(key, before, window_end).is_empty();
        let (gone_from, gone_to) = (layout.start(before), layout.start(window_end));
        enters
            || layout.leaves(window_end).is_some()
                && !shared.directory.found_within(key, gone_from, gone_to).is_empty()
    }

    /// Whether the key came into the slice in this epoch.
    fn is_new(&self, slice_end: Micros, key: &[u8]) -> bool {
        let before = just_before(slice_end);
        let held = self.shared.as_ref().map(|s| s.directory.found_within(key, before, slice_end));
        let group = held.and_then(<[_]>::first).map(|h| h.group);
        let touch = self.touched.0.get(&slice_end);
        touch.zip(group).is_some_and(|(touch, group)| touch.new.contains(&group))
    }

    /// The states of keys over a window, a row for each.
    pub(super) fn states(&mut self, window_end: Micros, keys: &[Vec<u8>]) -> Result<Vec<ArrayRef>, Error> {
        let failed = |e: &dyn std::error::Error| state_error(window_end, e);
        if let Some(shared) = &self.shared {
            let keys = keys.iter().map(|key| known(shared, key)).collect::<Result<Vec<_>, _>>()?;
            let parts = &mut self.plan.parts(&mut self.panes);
            return shared.window(window_end, &keys, parts).map_err(|e| failed(&e));
        }
        let Some(pane) = self.panes.get_mut(&window_end) else {
            return Err(Error::Contract(format!("the window that ends at {window_end} is gone")));
        };
        // Both are in the order of the keys.
        let order = pane.groups.order();
        let mut rows: Vec<u32> = Vec::with_capacity(keys.len());
        for key in keys {
            let place = order.partition_point(|g| pane.groups.key(*g) < key.as_slice());
            rows.extend(order.get(place).filter(|g| pane.groups.key(**g) == key.as_slice()));
        }
        let rows = UInt32Array::from(rows);
        let states = pane.states().map_err(|e| failed(&e))?;
        let states = states.iter().map(|s| arrow::compute::take(s, &rows, None));
        Ok(states.collect::<Result<_, _>>().map_err(DataFusionError::from)?)
    }

    /// The current value of each open window that was touched: the earliest one that holds the record.
    pub(super) fn update_rows(&mut self, output: &mut Output) -> Result<(), Error> {
        let touched = std::mem::take(&mut self.touched.0);
        if !self.emission.on_update {
            return Ok(());
        }
        let layout = self.plan.layout;
        let open = layout.first_end(self.watermark.next());
        let mut due: BTreeMap<Micros, BTreeSet<Vec<u8>>> = BTreeMap::new();
        for (slice_end, touch) in touched {
            let window_end = layout.first_end(slice_end).max(open);
            let Some(pane) = self.panes.get(&slice_end) else { continue };
            if window_end <= layout.last_end(slice_end) {
                let keys = touch.groups.iter().map(|g| pane.groups.key(*g).to_vec());
                due.entry(window_end).or_default().extend(keys);
            }
        }
        let closed: HashSet<(Micros, Vec<u8>)> = output
            .rows
            .iter()
            .flat_map(|r| r.event_times.iter().copied().zip(r.keys.iter().cloned()))
            .collect();
        for (window_end, keys) in due {
            let mut keys: Vec<Vec<u8>> = keys.into_iter().collect();
            let mut states = self.states(window_end, &keys)?;
            let times = self.event_times(window_end, &states)?;
            // A row of this key and time that says how a window closed is not overwritten within the epoch.
            let is_free: BooleanArray = times
                .into_iter()
                .zip(&keys)
                .map(|(time, key)| Some(!closed.contains(&(time, key.clone()))))
                .collect();
            if is_free.false_count() > 0 {
                let mut free = is_free.iter();
                keys.retain(|_| free.next().flatten() == Some(true));
                for column in &mut states {
                    *column = arrow::compute::filter(column, &is_free).map_err(DataFusionError::from)?;
                }
            }
            if !keys.is_empty() {
                self.emit(Rows { window_end, keys, states, kind: Kind::Update }, output)?;
            }
        }
        Ok(())
    }

    /// Lets go of slices that no window needs any more.
    pub(super) fn retire(&mut self) {
        let (layout, lateness) = (self.plan.layout, self.emission.allowed_lateness);
        let closed = self.closed.unwrap_or(Micros::MIN);
        while let Some(first) = self.panes.first_entry() {
            let slice_end = *first.key();
            let last = layout.last_end(slice_end);
            if last + lateness > self.watermark || layout.leaves(slice_end).unwrap_or(last) > closed {
                break;
            }
            let pane = first.remove();
            if let Some(shared) = &mut self.shared {
                shared.forget(slice_end);
            }
            if pane.durable {
                self.dropped.insert((crate::state::AGGREGATE, slice_end));
            }
            drop(self.cold.retire(slice_end.next()));
        }
    }
}

impl super::plan::Plan {
    /// What shared windows are merged from.
    pub(super) fn parts<'p>(&'p self, panes: &'p mut BTreeMap<Micros, crate::window::Pane>) -> Parts<'p> {
        Parts { layout: self.layout, functions: &self.functions, panes, nothing: &self.nothing }
    }
}

fn just_before(instant: Micros) -> Micros {
    Micros(instant.0.saturating_sub(1))
}
