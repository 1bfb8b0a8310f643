//! Closing sessions: the rows that come out when the watermark passes their end.

use super::super::emit::{Bounds, Due, Kind};
use super::super::lanes::Cut;
use super::super::windowed::state_error;
use super::super::{CloseCursor, Error, Output};
use super::Sessionized;
use crate::time::Micros;
use crate::window::{Said, Session};

impl Sessionized {
    /// What the first epoch after a restart needs to know: which of the sessions are closed.
    pub(super) fn know_closed(&mut self, cursor: Option<&CloseCursor>) {
        if self.entered.is_some() {
            return;
        }
        let edge = self.watermark;
        self.entered = Some(edge);
        let slices: Vec<Micros> = self.sessions.slices.range(..=edge).map(|(end, _)| *end).collect();
        for slice_end in slices {
            self.list(slice_end, cursor);
        }
    }

    /// Notes the ends of the sessions that end in a slice which has entered.
    fn list(&mut self, slice_end: Micros, cursor: Option<&CloseCursor>) {
        let Some(slice) = self.sessions.slices.get(&slice_end) else { return };
        let edge = self.watermark;
        for number in slice.all() {
            let Some(end) = self.sessions.ends_with(slice_end, number) else { continue };
            let is_due = |c: &CloseCursor| (end, slice.key(number)) > (c.window_end, c.key.as_slice());
            if end > edge || cursor.is_some_and(is_due) {
                self.open.push(end, slice_end, number);
            } else {
                self.closed.push(end, slice_end, number);
            }
        }
    }

    /// Finds the sessions that the watermark has passed, in the order (end, encoded key).
    pub(super) fn collect_due(&mut self) {
        let edge = self.watermark;
        self.enter(edge);
        let mut due = Vec::new();
        while let Some((end, slice_end, number)) = self.open.pop(edge) {
            if self.sessions.ends_with(slice_end, number) == Some(end)
                && let Some(slice) = self.sessions.slices.get(&slice_end)
            {
                due.push((end, slice.key(number).to_vec(), slice_end));
            }
        }
        due.sort_unstable();
        due.dedup();
        // What was due before ends earlier.
        self.due.extend(due);
    }

    /// Closes the sessions that are due, up to the cut.
    pub(super) fn close_to(&mut self, cut: Option<&Cut>, output: &mut Output) -> Result<(), Error> {
        let is_done = |(end, key, _): &(Micros, Vec<u8>, Micros)| {
            cut.is_none_or(|cut| (*end, key) <= (cut.done.window_end, &cut.done.key))
        };
        let now = self.due.partition_point(is_done);
        let closing: Vec<(Vec<u8>, Session)> = self
            .due
            .drain(..now)
            .filter_map(|(_, key, slice_end)| {
                let session = self.sessions.find(&key, slice_end)?;
                Some((key, session))
            })
            .collect();
        self.let_out(closing, Kind::Close, output)
    }

    /// Lets the rows of closed sessions out, which are kept for late records from here.
    pub(super) fn let_out(
        &mut self,
        closing: Vec<(Vec<u8>, Session)>,
        kind: Kind,
        output: &mut Output,
    ) -> Result<(), Error> {
        let mut last: Vec<(Micros, Micros, u32)> = Vec::with_capacity(closing.len());
        for (key, session) in &closing {
            let stretch = self.sessions.stretches(key, *session).last();
            last.extend(stretch.map(|(slice_end, number)| (self.sessions.end(*session), slice_end, number)));
        }
        let event_times = last.iter().map(|(end, ..)| *end).collect();
        let out = self.emit(closing, event_times, kind, output)?;
        if self.emission.allowed_lateness.0 > 0 {
            for row in out {
                let Some((end, slice_end, number)) = last.get(row as usize) else { continue };
                if let Some(slice) = self.sessions.slices.get_mut(slice_end) {
                    slice.say(*number, Said { closed: Some(*end), reopened: None });
                }
            }
        }
        self.closed.extend(last.into_iter());
        Ok(())
    }

    /// Lets rows of sessions out. Returns which of them came out.
    pub(super) fn emit(
        &mut self,
        sessions: Vec<(Vec<u8>, Session)>,
        event_times: Vec<Micros>,
        kind: Kind,
        output: &mut Output,
    ) -> Result<Vec<u32>, Error> {
        let Some((_, session)) = sessions.first() else { return Ok(Vec::new()) };
        let end = self.sessions.end(*session);
        let states =
            self.sessions.states(&self.plan.functions, &sessions).map_err(|e| state_error(end, &e))?;
        let bounds = sessions.iter().map(|(_, session)| (session.first, self.sessions.end(*session)));
        let bounds = Bounds::Each(bounds.collect());
        let keys = sessions.into_iter().map(|(key, _)| key).collect();
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
        let gone = self.watermark - self.emission.allowed_lateness;
        while let Some((end, slice_end, number)) = self.closed.pop(gone) {
            if self.sessions.ends_with(slice_end, number) != Some(end) {
                continue;
            }
            if let Some((key, session)) = self.sessions.of(slice_end, number) {
                let key = key.to_vec();
                self.sessions.remove(&key, session);
            }
        }
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
