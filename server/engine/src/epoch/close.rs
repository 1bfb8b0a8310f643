//! Closing windows: the rows that come out when the watermark passes their end.

use std::ops::Bound;

use arrow::array::{ArrayRef, UInt32Array};
use datafusion::error::DataFusionError;

use super::windowed::{Windowed, state_error};
use super::{CloseCursor, Error, Output};
use crate::state::OWED;
use crate::time::Micros;
use crate::window::Stored;

pub(super) use super::emit::{Kind, Rows};

impl Windowed {
    /// What the first epoch after a restart needs to know: how far windows are closed.
    pub(super) fn begin(&mut self, cursor: Option<&CloseCursor>) -> Result<(), Error> {
        if self.closed.is_none() {
            let layout = self.plan.layout;
            let closed = match cursor {
                Some(cursor) => layout.before(cursor.window_end),
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

    /// Closes what the watermark has passed, in the order (window end, encoded key), from the cursor on
    /// and at most `budget` keys far.
    pub(super) fn close(
        &mut self,
        cursor: Option<&CloseCursor>,
        mut budget: usize,
        output: &mut Output,
    ) -> Result<(), Error> {
        let mut reached = cursor.cloned();
        output.closed_to = self.watermark;
        output.cursor = None;
        while let Some(window_end) = self.next_end() {
            if budget == 0 {
                output.closed_to = reached.as_ref().map_or(self.watermark, |c| c.window_end);
                // As far as a restart would take it: there may be windows without keys in between.
                let before = reached.as_ref().map(|c| self.plan.layout.before(c.window_end));
                self.closed = self.closed.max(before);
                output.cursor = reached;
                return Ok(());
            }
            self.enter(window_end)?;
            let done = reached.as_ref().filter(|c| c.window_end == window_end);
            let (keys, states, is_last) = self.due(window_end, done.map(|c| c.key.as_slice()), budget)?;
            budget -= keys.len();
            if let Some(key) = keys.last() {
                reached = Some(CloseCursor { window_end, key: key.clone() });
                self.emit(Rows { window_end, keys, states, kind: Kind::Close }, output)?;
            }
            if !is_last {
                continue;
            }
            self.closed = Some(window_end);
            if let Some(owed) = self.owed.0.remove(&window_end)
                && owed.values().any(|durable| *durable)
            {
                self.dropped.insert((OWED, window_end));
            }
        }
        // As far as a restart would take it.
        let closed = self.plan.layout.last_closed(self.watermark);
        self.closed = self.closed.max(Some(closed));
        self.enter(closed)
    }

    /// The first window that is to be closed and has something to report.
    fn next_end(&self) -> Option<Micros> {
        let layout = self.plan.layout;
        let closed = self.closed.unwrap_or(Micros::MIN);
        let slice_after = |at: Micros| self.panes.range((Bound::Excluded(at), Bound::Unbounded)).next();
        let entering = slice_after(closed).map(|(end, _)| layout.first_end(*end));
        let leaving = slice_after(layout.start(closed)).and_then(|(end, _)| layout.leaves(*end));
        let owed = self.owed.0.keys().next().copied();
        [entering, leaving, owed].into_iter().flatten().min().filter(|end| *end <= self.watermark)
    }

    /// The keys after `done` that get a row when a window closes, in order and at most `limit`, with their
    /// states; and whether these are the last.
    fn due(
        &mut self,
        window_end: Micros,
        done: Option<&[u8]>,
        limit: usize,
    ) -> Result<(Vec<Vec<u8>>, Vec<ArrayRef>, bool), Error> {
        if self.shared.is_none() {
            let Some(pane) = self.panes.get_mut(&window_end) else {
                return Ok((Vec::new(), Vec::new(), true));
            };
            if pane.is_cold
                && let Some(view) = self.view.as_deref()
            {
                let stored = Stored { view, slice_end: window_end, state: &self.plan.state };
                let rows = pane.ordered(done, limit, stored).map_err(|e| state_error(window_end, &e))?;
                return Ok((rows.keys, rows.states, rows.is_last));
            }
            let order = pane.groups.order();
            let from = done.map_or(0, |done| order.partition_point(|g| pane.groups.key(*g) <= done));
            let to = order.len().min(from.saturating_add(limit));
            let chunk = order.get(from..to).unwrap_or_default();
            let keys = chunk.iter().map(|g| pane.groups.key(*g).to_vec()).collect();
            let chunk = UInt32Array::from_iter_values(chunk.iter().copied());
            let states = pane.states().map_err(|e| state_error(window_end, &e))?.iter();
            let states = states.map(|s| arrow::compute::take(s, &chunk, None).map_err(DataFusionError::from));
            return Ok((keys, states.collect::<Result<_, _>>()?, to == order.len()));
        }
        let all = match self.closing.take() {
            Some((end, keys)) if end == window_end => keys,
            _ => self.shared_due(window_end),
        };
        let from = done.map_or(0, |done| all.partition_point(|k| k.as_slice() <= done));
        let to = all.len().min(from.saturating_add(limit));
        let keys = all.get(from..to).unwrap_or_default().to_vec();
        let is_last = to == all.len();
        if !is_last {
            self.closing = Some((window_end, all));
        }
        let states = if keys.is_empty() { Vec::new() } else { self.states(window_end, &keys)? };
        Ok((keys, states, is_last))
    }

    /// All keys that get a row when a window closes, in order: their slices in the window are others than
    /// in the window before, or late records changed them.
    fn shared_due(&self, window_end: Micros) -> Vec<Vec<u8>> {
        let layout = self.plan.layout;
        let before = layout.before(window_end);
        let mut keys: Vec<&[u8]> = Vec::new();
        let entering = self.panes.range((Bound::Excluded(before), Bound::Included(window_end)));
        let leaves = layout.leaves(window_end).is_some();
        let (from, to) = (layout.start(before), layout.start(window_end));
        let leaving = self.panes.range((Bound::Excluded(from), Bound::Included(to))).filter(|_| leaves);
        for (_, pane) in entering.chain(leaving) {
            keys.extend((0..pane.groups.len() as u32).map(|g| pane.groups.key(g)));
        }
        keys.extend(self.owed.0.get(&window_end).into_iter().flatten().map(|(key, _)| key.as_slice()));
        keys.sort_unstable();
        keys.dedup();
        keys.into_iter().map(<[u8]>::to_vec).collect()
    }
}
