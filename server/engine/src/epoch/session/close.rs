//! Closing sessions: the rows that come out when the watermark passes their end.

use std::ops::Range;

use super::super::emit::{Bounds, Due, Kind};
use super::super::lanes::Cut;
use super::super::windowed::state_error;
use super::super::{CloseCursor, Error, Output};
use super::Sessionized;
use super::ends::End;
use crate::time::Micros;
use crate::window::{Said, Session};

impl Sessionized {
    /// What the first epoch after a restart, or after keys were let go of, needs to know: which of the sessions are closed.
    pub(super) fn know_closed(&mut self, cursor: Option<&CloseCursor>) {
        if self.entered.is_some() {
            return;
        }
        let edge = self.watermark;
        self.entered = Some(edge);
        self.reached = cursor.map_or(edge, |cursor| before(cursor.window_end));
        self.closed_to = self.reached;
        self.resumed = cursor.cloned();
        self.sleep();
        let slices: Vec<Micros> = self.sessions.slices.range(..=edge).map(|(end, _)| *end).collect();
        for slice_end in slices {
            self.list(slice_end, None);
        }
    }

    /// Notes the ends of the sessions that end with stretches of a slice which has entered: with some, or all of them.
    pub(super) fn list(&mut self, slice_end: Micros, numbers: Option<Range<u32>>) {
        let Some(slice) = self.sessions.slices.get(&slice_end) else { return };
        let is_asked = |number: &u32| numbers.as_ref().is_none_or(|numbers| numbers.contains(number));
        for number in slice.all().filter(is_asked) {
            let Some((end, _)) = self.sessions.ends_with(slice_end, number) else { continue };
            if is_closed(self.reached, self.resumed.as_ref(), end, slice.key(number)) {
                self.closed.push(end, slice_end, number);
            } else {
                self.open.push(end, slice_end, number);
            }
        }
    }

    /// Finds the sessions that the watermark has passed, in the order (end, encoded key): all, or more than `enough`.
    pub(super) fn collect_due(&mut self, enough: usize) -> Result<(), Error> {
        while self.reached < self.watermark && self.due.len() <= enough {
            // Keys that are not in memory come there as their time does.
            let to = match self.sessions.cold.wakes().filter(|at| *at <= self.watermark) {
                Some(at) => self.watermark.min(at.max(self.reached) + self.ahead()),
                None => self.watermark,
            };
            self.recall_due(to)?;
            self.collect_to(to);
        }
        Ok(())
    }

    /// The same up to an instant.
    fn collect_to(&mut self, to: Micros) {
        self.reached = to;
        self.enter(to);
        let mut ends = std::mem::take(&mut self.taken);
        ends.clear();
        self.open.take_until(to, &mut ends);
        // By stretch: memory is gone through from front to back.
        ends.sort_unstable_by_key(|(_, slice_end, number)| (*slice_end, *number));
        let mut due: Vec<Session> = Vec::new();
        for (end, slice_end, number) in ends.iter().copied() {
            let ends_here = self.sessions.ends_with(slice_end, number).filter(|(now, _)| *now == end);
            due.extend(ends_here.and_then(|(_, chain)| self.sessions.find(chain, slice_end)));
        }
        self.taken = ends;
        due.sort_unstable_by(|one, other| {
            let by_key = || self.sessions.key(*one).cmp(self.sessions.key(*other));
            one.last.cmp(&other.last).then_with(by_key)
        });
        due.dedup();
        // What was due before ends earlier.
        self.due.extend(due);
    }

    /// Closes the sessions that are due, up to the cut.
    pub(super) fn close_to(&mut self, cut: Option<&Cut>, output: &mut Output) -> Result<(), Error> {
        if cut.is_none() {
            self.collect_due(usize::MAX)?;
        }
        self.closed_to = cut.map_or(self.watermark, |cut| before(cut.done.window_end));
        let is_done = |session: &Session| {
            let place = (self.sessions.end(*session), self.sessions.key(*session));
            cut.is_none_or(|cut| place <= (cut.done.window_end, &cut.done.key))
        };
        let now = self.due.partition_point(is_done);
        let closing: Vec<Session> = self.due.drain(..now).collect();
        self.let_out(closing, Kind::Close, output)
    }

    /// Lets the rows of closed sessions out, which are kept for late records from here.
    pub(super) fn let_out(
        &mut self,
        closing: Vec<Session>,
        kind: Kind,
        output: &mut Output,
    ) -> Result<(), Error> {
        let event_times = closing.iter().map(|session| self.sessions.end(*session)).collect();
        let out = self.emit(&closing, event_times, kind, output)?;
        if self.emission.allowed_lateness.0 == 0 {
            // No record comes into one of them any more.
            self.over.extend(closing);
            return Ok(());
        }
        let mut last: Vec<End> = Vec::with_capacity(closing.len());
        for session in closing {
            let stretch = self.sessions.stretches(session).last();
            last.extend(stretch.map(|(slice_end, number)| (self.sessions.end(session), slice_end, number)));
        }
        for row in out {
            let Some((end, slice_end, number)) = last.get(row as usize) else { continue };
            if let Some(slice) = self.sessions.slices.get_mut(slice_end) {
                slice.say(*number, Said { closed: Some(*end), reopened: None });
            }
        }
        self.closed.extend(last.into_iter());
        Ok(())
    }

    /// Lets rows of sessions out. Returns which of them came out.
    pub(super) fn emit(
        &mut self,
        sessions: &[Session],
        event_times: Vec<Micros>,
        kind: Kind,
        output: &mut Output,
    ) -> Result<Vec<u32>, Error> {
        let Some(session) = sessions.first() else { return Ok(Vec::new()) };
        let end = self.sessions.end(*session);
        let states =
            self.sessions.states(&self.plan.functions, sessions).map_err(|e| state_error(end, &e))?;
        let bounds = sessions.iter().map(|session| (session.first, self.sessions.end(*session)));
        let bounds = Bounds::Each(bounds.collect());
        let keys = sessions.iter().map(|session| self.sessions.key(*session).to_vec()).collect();
        let is_out = kind != Kind::Close || self.emission.on_update;
        let due = Due { bounds, keys, states, event_times, first: kind != Kind::Revision };
        self.plan.emit(due, &|_| is_out, output)
    }

    /// Stretches of slices up to the watermark may end sessions from here on.
    fn enter(&mut self, edge: Micros) {
        let Some(entered) = self.entered.filter(|entered| *entered < edge) else { return };
        self.entered = Some(edge);
        let gap = self.plan.layout.slice();
        for (slice_end, slice) in self.sessions.slices.range(entered.next()..=edge) {
            let last = |number| slice.extent(number).map(|e| (e.last + gap, *slice_end, number));
            self.open.extend(slice.all().filter_map(last));
        }
    }

    /// Forgets the sessions that are closed to late records.
    pub(super) fn retire(&mut self) {
        let gone = self.closed_to - self.emission.allowed_lateness;
        for session in std::mem::take(&mut self.over) {
            self.sessions.remove(session);
        }
        let mut ends = std::mem::take(&mut self.taken);
        ends.clear();
        self.closed.take_until(gone, &mut ends);
        for (end, slice_end, number) in ends.iter().copied() {
            if self.sessions.ends_with(slice_end, number).is_none_or(|(now, _)| now != end) {
                continue;
            }
            if let Some(session) = self.sessions.of(slice_end, number) {
                self.sessions.remove(session);
            }
        }
        self.taken = ends;
    }

    /// After stretches of a slice were numbered anew, while no close is under way.
    pub(super) fn relist(&mut self, slice_end: Micros) {
        self.open.forget(slice_end);
        self.closed.forget(slice_end);
        if self.entered.is_some_and(|entered| slice_end <= entered) {
            self.list(slice_end, None);
        }
    }
}

/// Whether a session is closed: it ends up to here, or stands in the order (end, encoded key) up to where a close stood.
pub(super) fn is_closed(reached: Micros, resumed: Option<&CloseCursor>, end: Micros, key: &[u8]) -> bool {
    end <= reached || resumed.is_some_and(|done| (end, key) <= (done.window_end, done.key.as_slice()))
}

fn before(instant: Micros) -> Micros {
    Micros(instant.0.saturating_sub(1))
}
