//! Keys that are not in memory: put back before records come into them and before their sessions end.

use std::collections::BTreeSet;

use super::super::Error;
use super::super::keyed::Keyed;
use super::super::windowed::state_error;
use super::Sessionized;
use super::close::is_closed;
use super::ends::Ends;
use crate::key;
use crate::state::{StateRow, Wanted, oldest};
use crate::time::{Micros, Span};
use crate::window::{Session, Stretches};

/// What ends within this part of a slice is put back together: a slice is read so often at most while its sessions end.
const PARTS: i64 = 16;

impl Sessionized {
    /// How long before they end sessions are put back.
    pub(super) fn ahead(&self) -> Span {
        Span((self.plan.layout.slice().0 / PARTS).max(1))
    }

    /// Puts the keys of rows back.
    pub(super) fn recall(&mut self, arrivals: &[Keyed]) -> Result<(), Error> {
        if self.sessions.cold.is_empty() {
            return Ok(());
        }
        let (mut wanted, mut bytes, mut last) = (Wanted::default(), Vec::new(), Vec::new());
        for rows in arrivals {
            let keys = rows.columns.get(..self.plan.keys.len()).unwrap_or_default();
            let encoder = key::Encoder::new(keys).map_err(|e| Error::Contract(e.to_string()))?;
            for row in 0..rows.len() {
                bytes.clear();
                encoder.append(row, &mut bytes);
                if (wanted.is_empty() || bytes != last) && !self.sessions.has(&bytes) {
                    wanted.push(&bytes);
                    std::mem::swap(&mut bytes, &mut last);
                }
            }
        }
        self.put_back(&wanted)
    }

    /// Puts the keys back that have something to do up to an instant, or soon after.
    pub(super) fn recall_due(&mut self, to: Micros) -> Result<(), Error> {
        if self.sessions.cold.wakes().is_none_or(|at| at > to) {
            return Ok(());
        }
        let until = to + self.ahead();
        let Self { plan, sessions, emission, reached, resumed, .. } = self;
        let gap = plan.layout.slice();
        // A session ends, and is forgotten once it is closed to late records. Of one that goes on another
        // stretch says the same: it is put back for nothing.
        let wakes = |slice_end: Micros, rows: &[StateRow]| {
            let values = rows.iter().map(|row| row.value.as_slice());
            let extents = Stretches::extents(&plan.state, values).map_err(|e| state_error(slice_end, &e))?;
            let wakes = extents.iter().zip(rows).map(|(extent, row)| {
                let end = extent.last + gap;
                let is_closed = is_closed(*reached, resumed.as_ref(), end, &row.key.key);
                if is_closed { end + emission.allowed_lateness } else { end }
            });
            Ok::<Vec<Micros>, Error>(wakes.collect())
        };
        let wanted = sessions.due(to, until, &wakes)?;
        self.put_back(&wanted)
    }

    /// Puts keys back, with all of their stretches.
    fn put_back(&mut self, wanted: &Wanted) -> Result<(), Error> {
        if wanted.is_empty() {
            return Ok(());
        }
        let plan = &self.plan;
        let mut begun = Vec::new();
        for (slice_end, rows) in self.sessions.cold.fetch(wanted)? {
            let numbers =
                self.sessions.restore(&plan.key_schema, &plan.functions, &plan.state, slice_end, &rows);
            begun.push((slice_end, numbers.map_err(|e| state_error(slice_end, &e))?));
        }
        // Only now it is known with which of them sessions end.
        for (slice_end, numbers) in begun {
            if self.entered.is_some_and(|entered| slice_end <= entered) {
                self.list(slice_end, Some(numbers));
            }
        }
        Ok(())
    }

    /// The greatest end of a session.
    pub(super) fn greatest_end(&self) -> Result<Option<Micros>, Error> {
        let (sessions, plan) = (&self.sessions, &self.plan);
        let last = |slice_end: Micros, rows: &[StateRow]| {
            let values = rows.iter().map(|row| row.value.as_slice());
            let extents = Stretches::extents(&plan.state, values).map_err(|e| state_error(slice_end, &e))?;
            let ends = extents.iter().map(|extent| extent.last + plan.layout.slice());
            Ok::<Vec<Micros>, Error>(ends.collect())
        };
        let cold = sessions.cold.last(&|key| sessions.has(key), &last)?;
        Ok(sessions.greatest_end().max(cold))
    }

    /// After a restart: sessions end in the time after their last slice, as long as that is. Nothing has to be read before.
    pub(super) fn sleep(&mut self) {
        let (gap, reached) = (self.plan.layout.slice(), self.reached);
        let lateness = self.emission.allowed_lateness;
        self.sessions.cold.sleep(|slice_end| match slice_end {
            _ if slice_end > reached => slice_end,
            _ if slice_end + gap > reached => Micros::MIN,
            _ => slice_end + lateness,
        });
    }

    /// Right after a checkpoint that is durable: lets go of keys until the others take no more than about so
    /// many bytes, of those that did not change for longest first. What ends soon stays.
    pub(super) fn let_go(&mut self, bytes: usize) -> Result<(), Error> {
        let total = self.bytes();
        if !self.sessions.cold.is_attached() || total <= bytes {
            return Ok(());
        }
        let soon = self.reached + self.ahead();
        let due: BTreeSet<u32> = self.due.iter().map(|session| session.chain).collect();
        let (mut all, mut candidates) = (0, Vec::new());
        for chain in self.sessions.keys() {
            all += 1;
            let wakes = self.sessions.of_key(chain).map(|session| self.wakes(session)).min();
            if !due.contains(&chain) && wakes.is_none_or(|(at, _)| at > soon) {
                candidates.push(self.sessions.ages.candidate(chain, wakes));
            }
        }
        let is_all = candidates.len() == all;
        let keys = oldest(candidates, all, total, bytes);
        if !keys.is_empty() {
            let chains = keys.iter().map(|gone| gone.key).collect();
            let evicted = self.sessions.evict(&self.plan.key_schema, &chains);
            evicted.map_err(|e| state_error(self.watermark, &e))?;
            for (at, slice_end) in keys.into_iter().filter_map(|gone| gone.wakes) {
                self.sessions.cold.wake(slice_end, at);
            }
            // Stretches have other numbers: as after a restart, the next epoch lists them anew.
            (self.open, self.closed, self.entered) = (Ends::default(), Ends::default(), None);
            self.due.clear();
        }
        let left = self.bytes();
        self.kept_back = if is_all { 0 } else { left.saturating_sub(bytes) };
        Ok(())
    }

    /// When a session has something to do next, and the slice with its last stretch.
    fn wakes(&self, session: Session) -> (Micros, Micros) {
        let (end, key) = (self.sessions.end(session), self.sessions.key(session));
        let is_closed = is_closed(self.reached, self.resumed.as_ref(), end, key);
        let at = if is_closed { end + self.emission.allowed_lateness } else { end };
        (at, session.to)
    }
}
