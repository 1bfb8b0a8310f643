//! TUMBLE, HOP and CUMULATE from their definition: all rows of a window are gone through for each row that comes out.

use std::collections::{BTreeMap, BTreeSet};

use super::{Arrival, Key, Operator, Row, in_order};
use crate::definition::{Bound, Definition, Window};

pub struct Windows<'d> {
    definition: &'d Definition,
    bounds: &'d [Bound],
    is_hop: bool,
    is_tumble: bool,
    /// From one window to the next; of CUMULATE what a window grows by.
    step: i64,
    size: i64,
    offset: i64,
    /// All rows that some window took.
    taken: BTreeMap<Key, Vec<Arrival>>,
    /// Those of this epoch; true: the first of its slice and key.
    fresh: Vec<(i64, Key, bool)>,
    /// Rows that are due because of late records alone.
    owed: BTreeSet<(i64, Key)>,
}

impl<'d> Windows<'d> {
    pub fn new(definition: &'d Definition, window: Window, bounds: &'d [Bound]) -> Self {
        let (step, size, offset) = match window {
            Window::Tumble { size, offset } => (size, size, offset),
            Window::Hop { slide, size, offset } => (slide, size, offset),
            Window::Cumulate { step, size, offset } => (step, size, offset),
            Window::Session { .. } => unreachable!(),
        };
        Self {
            definition,
            bounds,
            is_hop: matches!(window, Window::Hop { .. }),
            is_tumble: matches!(window, Window::Tumble { .. }),
            step,
            size,
            offset,
            taken: BTreeMap::new(),
            fresh: Vec::new(),
            owed: BTreeSet::new(),
        }
    }

    fn is_cumulate(&self) -> bool {
        !self.is_hop && !self.is_tumble
    }

    /// The greatest multiple of a length, shifted by the offset, that is not after an instant.
    fn floor(&self, time: i64, length: i64) -> i64 {
        (time - self.offset).div_euclid(length) * length + self.offset
    }

    /// The ends of all windows that hold an instant, in order.
    fn ends(&self, time: i64) -> Vec<i64> {
        if self.is_cumulate() {
            let start = self.floor(time, self.size);
            return (1..=self.size / self.step)
                .map(|n| start + n * self.step)
                .filter(|e| *e > time)
                .collect();
        }
        let last = self.floor(time, self.step);
        let starts = (0..=self.size / self.step).rev().map(|n| last - n * self.step);
        starts.map(|start| start + self.size).filter(|end| *end > time).collect()
    }

    fn start(&self, end: i64) -> i64 {
        if self.is_cumulate() { self.floor(end - 1, self.size) } else { end - self.size }
    }

    /// What an instant shares with all instants that are in the same windows.
    fn slice(&self, time: i64) -> i64 {
        let (mut gcd, mut rest) = (self.step, self.size);
        while rest != 0 {
            (gcd, rest) = (rest, gcd % rest);
        }
        (time - self.offset).div_euclid(gcd)
    }

    fn times(&self, key: &Key) -> impl Iterator<Item = i64> {
        self.taken.get(key).into_iter().flatten().map(|arrival| arrival.time)
    }

    /// The slices of a key's rows in `[start, end)`.
    fn slices(&self, key: &Key, start: i64, end: i64) -> BTreeSet<i64> {
        self.times(key).filter(|time| (start..end).contains(time)).map(|time| self.slice(time)).collect()
    }

    /// Whether a window has something to report of a key that the one before had not.
    fn changes(&self, key: &Key, end: i64) -> bool {
        let now = self.slices(key, self.start(end), end);
        if self.is_hop {
            now != self.slices(key, end - self.step - self.size, end - self.step)
        } else if self.is_tumble {
            !now.is_empty()
        } else {
            !self.slices(key, end - self.step, end).is_empty()
        }
    }

    /// A row as HAVING leaves it.
    fn row(&self, end: i64, key: &Key, first: bool, update: bool) -> Option<Row> {
        let start = self.start(end);
        let all = self.taken.get(key).into_iter().flatten();
        let held: Vec<&Arrival> = all.filter(|arrival| (start..end).contains(&arrival.time)).collect();
        let greatest = held.iter().map(|arrival| arrival.time).max();
        let time = if update { greatest.unwrap() } else { end };
        let bounds = self.bounds.iter().map(|bound| bound.of((start, end)));
        let aggregates = self.definition.aggregated(&in_order(held.iter().copied()));
        let values = key.iter().cloned().chain(bounds).chain(aggregates).collect();
        let values = self.definition.row(values);
        // A value may be out that no longer holds: of this window, of a moment in it, or of one before that the key has left.
        let is_out = !first || update || self.definition.on_update || held.is_empty();
        (values.is_some() || is_out).then(|| Row { time, key: key.clone(), first, values })
    }
}

impl Operator for Windows<'_> {
    fn is_late(&self, time: i64, before: i64) -> bool {
        self.ends(time).last().unwrap() + self.definition.lateness <= before
    }

    fn take(&mut self, arrivals: Vec<Arrival>, _before: i64) -> Vec<bool> {
        let late = vec![false; arrivals.len()];
        let known: BTreeMap<Key, BTreeSet<i64>> =
            self.taken.keys().map(|key| (key.clone(), self.slices(key, i64::MIN, i64::MAX))).collect();
        for arrival in arrivals {
            let slice = self.slice(arrival.time);
            let is_new = known.get(&arrival.key).is_none_or(|slices| !slices.contains(&slice));
            self.fresh.push((arrival.time, arrival.key.clone(), is_new));
            self.taken.entry(arrival.key.clone()).or_default().push(arrival);
        }
        late
    }

    fn last_end(&self) -> Option<i64> {
        let all = self.taken.keys().flat_map(|key| self.times(key));
        all.map(|time| *self.ends(time).last().unwrap()).max()
    }

    fn close(&mut self, before: i64, now: i64) -> Vec<Row> {
        let (lateness, on_update) = (self.definition.lateness, self.definition.on_update);
        let (mut revised, mut updated) = (BTreeSet::new(), BTreeSet::new());
        for (time, key, is_new) in std::mem::take(&mut self.fresh) {
            let ends = self.ends(time);
            updated.extend(ends.iter().find(|end| **end > now).map(|end| (*end, key.clone())));
            if ends[0] > before {
                continue;
            }
            // Of the windows that are not closed to late records the first has a row, at once or when it closes, …
            let first = *ends.iter().find(|end| **end + lateness > before).unwrap();
            if first > before {
                self.owed.insert((first, key.clone()));
            }
            // … and so have later ones in which something changes, …
            for end in ends.iter().filter(|end| (first..=before).contains(*end)) {
                if *end == first || self.changes(&key, *end) {
                    revised.insert((*end, key.clone()));
                }
            }
            // … and the one that a slice has left in which the key had not been.
            let leaves = ends.last().unwrap() + self.step;
            if self.is_hop && leaves <= before && is_new {
                revised.insert((leaves, key));
            }
        }
        let mut rows: Vec<Row> =
            revised.iter().filter_map(|(end, key)| self.row(*end, key, false, false)).collect();
        let mut closing: BTreeSet<(i64, Key)> = self.owed.clone();
        for key in self.taken.keys() {
            for time in self.times(key) {
                let ends = self.ends(time);
                let leaves = self.is_hop.then(|| ends.last().unwrap() + self.step);
                let all = ends.into_iter().chain(leaves);
                closing.extend(all.filter(|end| self.changes(key, *end)).map(|end| (end, key.clone())));
            }
        }
        closing.retain(|(end, _)| before < *end && *end <= now);
        rows.extend(closing.iter().filter_map(|(end, key)| self.row(*end, key, true, false)));
        self.owed.retain(|(end, _)| *end > now);
        if on_update {
            // How a window closed is not overwritten by an event at its very end.
            let closed: BTreeSet<(i64, Key)> = rows.iter().map(|row| (row.time, row.key.clone())).collect();
            let updates = updated.iter().filter_map(|(end, key)| self.row(*end, key, true, true));
            rows.extend(updates.filter(|row| !closed.contains(&(row.time, row.key.clone()))));
        }
        rows
    }
}
