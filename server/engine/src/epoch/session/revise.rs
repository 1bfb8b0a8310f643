//! What records from behind the watermark do to rows that are out, and rows of sessions that are still open.
//!
//! A late record that is taken may extend sessions that are closed, or join them with each other or with
//! one that is open. The row of a session that has another end by now does not hold: a delete takes its
//! place, or, where the session is open again and `on_update` shows what it holds so far, that value does.

use std::collections::{BTreeMap, HashSet};

use super::super::emit::Kind;
use super::super::{Error, Output};
use super::Sessionized;
use crate::time::Micros;
use crate::window::{Said, Session};

impl Sessionized {
    /// Notes where sessions end by now that this epoch changed behind the watermark, and lets revisions out.
    pub(super) fn revise(&mut self, output: &mut Output) -> Result<(), Error> {
        let (edge, gap) = (self.watermark, self.plan.layout.slice());
        let entered = self.entered.unwrap_or(Micros::MIN);
        // Without lateness no closed session is there.
        let may_be_closed = self.emission.allowed_lateness.0 > 0;
        let mut behind: Vec<(Micros, u32)> = Vec::new();
        for (slice_end, slice) in self.sessions.slices.range_mut(..edge + gap) {
            behind.extend(slice.take_behind().into_iter().map(|number| (*slice_end, number)));
        }
        let mut changed: BTreeMap<(Micros, Vec<u8>), Session> = BTreeMap::new();
        for (slice_end, number) in behind {
            let extent = self.sessions.slices.get(&slice_end).and_then(|slice| slice.extent(number));
            let ends = extent.map(|extent| extent.last + gap).filter(|end| *end > edge);
            if let Some(end) = ends.filter(|_| slice_end <= entered) {
                self.open.push(end, slice_end, number);
            }
            if may_be_closed && let Some(session) = self.sessions.of(slice_end, number) {
                changed.insert((self.sessions.end(session), self.sessions.key(session).to_vec()), session);
            }
        }
        let (mut again, mut first) = (Vec::new(), Vec::new());
        for ((end, key), session) in changed {
            let is_out = self.supersede(&key, session);
            if end <= edge {
                if is_out { &mut again } else { &mut first }.push(session);
            }
        }
        self.let_out(again, Kind::Revision, output)?;
        self.let_out(first, Kind::Close, output)
    }

    /// Notes which rows of a session that are out stand at another event time than its end, and says
    /// whether one stands there.
    fn supersede(&mut self, key: &[u8], session: Session) -> bool {
        let end = self.sessions.end(session);
        let stretches: Vec<(Micros, u32)> = self.sessions.stretches(session).collect();
        let mut is_out = false;
        for (slice_end, number) in stretches {
            let Some(slice) = self.sessions.slices.get_mut(&slice_end) else { continue };
            let said = slice.said(number);
            match said.closed {
                Some(at) if at == end => is_out = true,
                Some(at) => {
                    slice.say(number, Said { closed: None, ..said });
                    self.gone.insert((key.to_vec(), at));
                }
                None => {}
            }
        }
        is_out
    }

    /// The current value of each open session that was touched, and deletes where rows stood that have no
    /// session any more.
    pub(super) fn update_rows(&mut self, output: &mut Output) -> Result<(), Error> {
        if self.emission.on_update {
            self.show(output)?;
        }
        let gone = std::mem::take(&mut self.gone).into_iter().map(|(key, at)| (at, key));
        let mut gone: Vec<(Micros, Vec<u8>)> = gone.collect();
        gone.sort_unstable();
        self.plan.retract(gone, output)
    }

    fn show(&mut self, output: &mut Output) -> Result<(), Error> {
        let edge = self.watermark;
        let mut touched: Vec<(Micros, u32)> = Vec::new();
        for (slice_end, slice) in &mut self.sessions.slices {
            touched.extend(slice.take_touched().into_iter().map(|number| (*slice_end, number)));
        }
        let mut shown: BTreeMap<(Micros, Vec<u8>), Session> = BTreeMap::new();
        for (slice_end, number) in touched {
            let Some(session) = self.sessions.of(slice_end, number) else { continue };
            if self.sessions.end(session) > edge {
                let key = self.sessions.key(session).to_vec();
                shown.insert((self.stands_at(&key, session), key), session);
            }
        }
        // How a session closed is not overwritten within the epoch.
        let closed: HashSet<(Micros, &[u8])> = output
            .rows
            .iter()
            .flat_map(|r| r.event_times.iter().copied().zip(r.keys.iter().map(Vec::as_slice)))
            .collect();
        shown.retain(|(time, key), _| !closed.contains(&(*time, key.as_slice())));
        let (mut sessions, mut event_times) = (Vec::new(), Vec::new());
        for ((time, _), session) in shown {
            sessions.push(session);
            event_times.push(time);
        }
        self.emit(&sessions, event_times, Kind::Update, output)?;
        Ok(())
    }

    /// The event time of an open session's row: its last event, but not before a row that said how it
    /// ended before it was opened again, or that row would hide it.
    fn stands_at(&mut self, key: &[u8], session: Session) -> Micros {
        if self.emission.allowed_lateness.0 == 0 {
            return session.last;
        }
        let stretches = self.sessions.stretches(session);
        let said = stretches.filter_map(|(slice_end, number)| {
            Some(self.sessions.slices.get(&slice_end)?.said(number).reopened)
        });
        let before = said.flatten().max();
        let end = self.sessions.end(session);
        let ended = (key.to_vec(), session.first)..(key.to_vec(), end);
        let now = self.gone.range(ended).next_back().map(|(_, at)| *at);
        let stands = before.max(now).max(Some(session.last)).unwrap_or(session.last);
        if now == Some(stands) {
            self.gone.remove(&(key.to_vec(), stands));
            let last = self.sessions.stretches(session).last();
            if let Some((slice_end, number)) = last
                && let Some(slice) = self.sessions.slices.get_mut(&slice_end)
            {
                let said = slice.said(number);
                slice.say(number, Said { reopened: Some(stands), ..said });
            }
        }
        stands
    }
}
