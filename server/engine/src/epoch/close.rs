//! Closing windows: the rows that come out when the watermark passes their end.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;

use arrow::array::{ArrayRef, UInt32Array};
use datafusion::error::DataFusionError;

use super::lanes::Cut;
use super::windowed::{Windowed, state_error, stored};
use super::{CloseCursor, Error, Output};
use crate::state::OWED;
use crate::time::Micros;
use crate::window::{Ordered, Pane, Shared};

pub(super) use super::emit::{Kind, Rows};

impl Windowed {
    /// What the first epoch after a restart needs to know: how far windows are closed.
    pub(super) fn know_closed(&mut self) -> Result<(), Error> {
        if self.closed.is_none() {
            let layout = self.plan.layout;
            let closed = match &self.left {
                Some(left) => layout.before(left.window_end),
                None => layout.last_closed(self.watermark),
            };
            self.closed = Some(closed);
            self.enter(closed)?;
        }
        Ok(())
    }

    fn enter(&mut self, window_end: Micros) -> Result<(), Error> {
        match &mut self.shared {
            Some(shared) if window_end > Micros::MIN => {
                let parts = &mut self.plan.parts(&mut self.panes);
                shared.enter(window_end, parts).map_err(|e| state_error(window_end, &e))
            }
            _ => Ok(()),
        }
    }

    /// Closes what the watermark has passed, in the order (window end, encoded key): from where the previous
    /// epoch left it on, and up to the cut.
    pub(super) fn close_to(&mut self, cut: Option<&Cut>, output: &mut Output) -> Result<(), Error> {
        let layout = self.plan.layout;
        let last = cut.map_or(self.watermark, |cut| cut.done.window_end);
        let left = self.left.take();
        while let Some(window_end) = self.next_end(self.closed.unwrap_or(Micros::MIN), last) {
            self.enter(window_end)?;
            let of_window = |cursor: &CloseCursor| cursor.window_end == window_end;
            let after = left.as_ref().filter(|left| of_window(left)).map(|left| left.key.as_slice());
            let to = cut.map(|cut| &cut.done).filter(|done| of_window(done)).map(|done| done.key.as_slice());
            let (keys, states) = self.closing(window_end, after, to)?;
            if !keys.is_empty() {
                self.emit(Rows { window_end, keys, states, kind: Kind::Close }, output)?;
            }
            if to.is_some() {
                break;
            }
            self.is_closed(window_end);
        }
        self.recalled.clear();
        // As far as a restart would take it: there may be windows without keys in between.
        match cut {
            None => {
                self.closing.clear();
                let closed = layout.last_closed(self.watermark);
                self.closed = self.closed.max(Some(closed));
                self.enter(closed)
            }
            Some(cut) => {
                let window_end = cut.done.window_end;
                self.closed = self.closed.max(Some(layout.before(window_end)));
                if !cut.goes_on() {
                    self.is_closed(window_end);
                }
                self.enter(window_end)
            }
        }
    }

    /// All rows of a window are out.
    fn is_closed(&mut self, window_end: Micros) {
        self.closed = self.closed.max(Some(window_end));
        self.closing.remove(&window_end);
        if let Some(owed) = self.owed.0.remove(&window_end)
            && owed.values().any(|durable| *durable)
        {
            self.dropped.insert((OWED, window_end));
        }
    }

    /// The first window after `closed` and up to `last` that has something to report.
    fn next_end(&self, closed: Micros, last: Micros) -> Option<Micros> {
        let layout = self.plan.layout;
        let slice_after = |at: Micros| self.panes.range((Bound::Excluded(at), Bound::Unbounded)).next();
        let entering = slice_after(closed).map(|(end, _)| layout.first_end(*end));
        let leaving = slice_after(layout.start(closed)).and_then(|(end, _)| layout.leaves(*end));
        let owed = self.owed.0.range((Bound::Excluded(closed), Bound::Unbounded)).next().map(|(end, _)| *end);
        [entering, leaving, owed].into_iter().flatten().min().filter(|end| *end <= last)
    }

    /// No more keys than this are due; where they are more than `enough`, it may say less than all.
    pub(super) fn count_due(&self, enough: usize) -> usize {
        let (mut closed, mut due) = (self.closed.unwrap_or(Micros::MIN), 0);
        while let Some(window_end) = self.next_end(closed, self.watermark).filter(|_| due <= enough) {
            let of_window = match &self.shared {
                // How many groups lie in the store alone is not known before they are read.
                None => self.panes.get(&window_end).map_or(0, |pane| {
                    if pane.is_cold { enough.saturating_add(1) } else { pane.groups.len() }
                }),
                Some(_) if self.moving(window_end).any(|(end, _)| self.cold.has(end)) => {
                    enough.saturating_add(1)
                }
                Some(_) => {
                    let owed = self.owed.0.get(&window_end).map_or(0, BTreeMap::len);
                    owed + self.moving(window_end).map(|(_, pane)| pane.groups.len()).sum::<usize>()
                }
            };
            due = due.saturating_add(of_window);
            closed = window_end;
        }
        due
    }

    /// The first `limit` of the keys that are due, in order.
    pub(super) fn find_due(&mut self, limit: usize) -> Result<Vec<CloseCursor>, Error> {
        let left = self.left.clone();
        let (mut closed, mut due) = (self.closed.unwrap_or(Micros::MIN), Vec::new());
        while let Some(window_end) = self.next_end(closed, self.watermark).filter(|_| due.len() < limit) {
            let after = left.as_ref().filter(|left| left.window_end == window_end);
            let keys = self.keys_of(window_end, after.map(|left| left.key.as_slice()), limit - due.len())?;
            due.extend(keys.into_iter().map(|key| CloseCursor { window_end, key }));
            closed = window_end;
        }
        Ok(due)
    }

    /// The first `limit` keys after one that get a row when a window closes, in order.
    fn keys_of(
        &mut self,
        window_end: Micros,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, Error> {
        if self.shared.is_some() {
            let all = self.take_closing(window_end)?;
            let Some(shared) = &self.shared else { return Ok(Vec::new()) };
            let due = between(&all, |own, key| shared.directory.key(*own).cmp(key), after, None);
            let due = due.iter().take(limit).map(|key| shared.directory.key(*key).to_vec()).collect();
            self.closing.insert(window_end, all);
            return Ok(due);
        }
        if let Some(rows) = self.cold_due(window_end, after, limit)? {
            let keys = rows.keys.clone();
            self.recalled.insert(window_end, rows);
            return Ok(keys);
        }
        let Some(pane) = self.panes.get_mut(&window_end) else { return Ok(Vec::new()) };
        let order = pane.groups.order();
        let due = between(&order, |group, key| pane.groups.key(*group).cmp(key), after, None);
        Ok(due.iter().take(limit).map(|group| pane.groups.key(*group).to_vec()).collect())
    }

    /// The first `limit` rows after a key, where some lie in the store alone.
    fn cold_due(
        &mut self,
        window_end: Micros,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Option<Ordered>, Error> {
        let stored = stored(self.view.as_ref(), &self.plan.state, window_end);
        let pane = self.panes.get_mut(&window_end).filter(|pane| pane.is_cold);
        let rows = pane.zip(stored).map(|(pane, stored)| pane.ordered(after, limit, stored));
        rows.transpose().map_err(|e| state_error(window_end, &e))
    }

    /// The keys that get a row when a window closes, after one and up to another, in order, with their states.
    fn closing(
        &mut self,
        window_end: Micros,
        after: Option<&[u8]>,
        to: Option<&[u8]>,
    ) -> Result<(Vec<Vec<u8>>, Vec<ArrayRef>), Error> {
        if self.shared.is_some() {
            let all = self.take_closing(window_end)?;
            let Some(shared) = &self.shared else { return Ok((Vec::new(), Vec::new())) };
            let due = between(&all, |own, key| shared.directory.key(*own).cmp(key), after, to);
            let keys: Vec<Vec<u8>> = due.iter().map(|key| shared.directory.key(*key).to_vec()).collect();
            let states = if due.is_empty() {
                Vec::new()
            } else {
                let parts = &mut self.plan.parts(&mut self.panes);
                shared.window(window_end, due, parts).map_err(|e| state_error(window_end, &e))?
            };
            if to.is_some() {
                self.closing.insert(window_end, all);
            }
            return Ok((keys, states));
        }
        let recalled = match self.recalled.remove(&window_end) {
            None => self.cold_due(window_end, after, usize::MAX)?,
            recalled => recalled,
        };
        if let Some(Ordered { mut keys, states }) = recalled {
            keys.truncate(to.map_or(keys.len(), |to| keys.partition_point(|key| key.as_slice() <= to)));
            let states = states.iter().map(|column| column.slice(0, keys.len())).collect();
            return Ok((keys, states));
        }
        let Some(pane) = self.panes.get_mut(&window_end) else { return Ok((Vec::new(), Vec::new())) };
        let order = pane.groups.order();
        let due = between(&order, |group, key| pane.groups.key(*group).cmp(key), after, to);
        let keys = due.iter().map(|g| pane.groups.key(*g).to_vec()).collect();
        let due = UInt32Array::from_iter_values(due.iter().copied());
        let states = pane.states().map_err(|e| state_error(window_end, &e))?.iter();
        let states = states.map(|s| arrow::compute::take(s, &due, None).map_err(DataFusionError::from));
        Ok((keys, states.collect::<Result<_, _>>()?))
    }

    /// All keys that get a row when a window closes, in order, where windows share slices.
    fn take_closing(&mut self, window_end: Micros) -> Result<Vec<u32>, Error> {
        match self.closing.remove(&window_end) {
            Some(keys) => Ok(keys),
            None => self.shared_due(window_end),
        }
    }

    /// All keys that get a row when a window closes, in order: their slices in the window are others than
    /// in the window before, or late records changed them.
    fn shared_due(&mut self, window_end: Micros) -> Result<Vec<u32>, Error> {
        self.recall_moving(window_end)?;
        let moving: Vec<Micros> = self.moving(window_end).map(|(end, _)| end).collect();
        let order = |end: &Micros| self.panes.get_mut(end).map(|pane| pane.groups.order());
        let orders: Vec<_> = moving.iter().map(order).collect();
        let Some(shared) = &self.shared else { return Ok(Vec::new()) };
        let slices = moving.iter().zip(orders);
        let slices = slices.filter_map(|(end, order)| {
            self.panes.get(end).zip(order).map(|(p, order)| (*end, order, &p.groups))
        });
        let owed = self.owed.0.get(&window_end).into_iter().flatten();
        let owed = owed.map(|(key, _)| known(shared, key)).collect::<Result<Vec<_>, _>>()?;
        Ok(shared.directory.in_order(&slices.collect::<Vec<_>>(), &owed))
    }

    /// The slices that are in a window and not in the one before, or the other way round.
    pub(super) fn moving(&self, window_end: Micros) -> impl Iterator<Item = (Micros, &Pane)> {
        let layout = self.plan.layout;
        let before = layout.before(window_end);
        let entering = self.panes.range((Bound::Excluded(before), Bound::Included(window_end)));
        let leaves = layout.leaves(window_end).is_some();
        let (from, to) = (layout.start(before), layout.start(window_end));
        let leaving = self.panes.range((Bound::Excluded(from), Bound::Included(to))).filter(move |_| leaves);
        entering.chain(leaving).map(|(end, pane)| (*end, pane))
    }
}

/// The number of a key that is in a slice.
pub(super) fn known(shared: &Shared, key: &[u8]) -> Result<u32, Error> {
    let missing = || Error::Contract("a key that has a row to come is in no slice".into());
    shared.directory.find(key).ok_or_else(missing)
}

/// Of things in the order of their keys those after one key and up to another.
fn between<'t, T>(
    all: &'t [T],
    compare: impl Fn(&T, &[u8]) -> Ordering,
    after: Option<&[u8]>,
    to: Option<&[u8]>,
) -> &'t [T] {
    let from = after.map_or(0, |after| all.partition_point(|t| compare(t, after).is_le()));
    let to = to.map_or(all.len(), |to| all.partition_point(|t| compare(t, to).is_le()));
    all.get(from..to).unwrap_or_default()
}
