//! How far a large close goes: what one lane would close is known only when all are asked.

use super::{Lane, Lanes};
use crate::epoch::{CloseCursor, Error};
use crate::time::Micros;

/// Where a close stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::epoch) struct Cut {
    /// The last key that it goes through.
    pub(in crate::epoch) done: CloseCursor,
    /// End of the window of the first key that is left.
    pub(in crate::epoch) next: Micros,
}

impl Cut {
    /// Whether keys of the window in which the close stops are left.
    pub(in crate::epoch) fn goes_on(&self) -> bool {
        self.next == self.done.window_end
    }
}

impl<L: Lane> Lanes<L> {
    /// Where a close of at most `limit` keys stops, if that is before all that is due; and how many keys it goes
    /// through at most.
    pub(super) fn cut(&mut self, limit: usize) -> Result<(Option<Cut>, usize), Error> {
        let at_most = |due: usize, lane: &L| due.saturating_add(lane.due_at_most(limit));
        let due = self.stations.iter().map(|station| &station.lane).fold(0, at_most);
        if due <= limit {
            return Ok((None, due));
        }
        // One more than the close goes through, whichever lane it is in.
        let is_much = self.workers.is_worthwhile(limit);
        let asked = self.each(is_much, move |station| station.lane.due(limit.saturating_add(1)))?;
        let mut all = asked.concat();
        if all.len() <= limit {
            return Ok((None, all.len()));
        }
        let (before, next, _) = all.select_nth_unstable(limit);
        let (done, next) = (before.iter().max().cloned(), next.window_end);
        Ok((done.map(|done| Cut { done, next }), limit))
    }
}
