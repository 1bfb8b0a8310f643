//! How far one partition has come: what decides who is read next, who is idle, and where to stop.

use millpond_engine::time::{Micros, Span};
use millpond_engine::watermark::PartitionTime;

/// One partition of a source, as the pipeline has read it (committed or not).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The next offset to apply.
    pub next: i64,
    /// No record is left before this offset, whatever `next` says (transaction markers are no records).
    pub clear_to: i64,
    /// Greatest event time or heartbeat so far.
    pub max_event_time: Option<Micros>,
    /// Everything that can be read has been applied.
    pub at_end: bool,
    /// Records lie behind an open transaction: the partition is not idle.
    pub blocked: bool,
    /// Since when there has been nothing to read.
    pub quiet_since: Micros,
}

impl Progress {
    /// A partition that is about to be read from `next` on.
    pub fn new(next: i64, max_event_time: Option<Micros>, now: Micros) -> Self {
        Self { next, clear_to: next, max_event_time, at_end: false, blocked: false, quiet_since: now }
    }

    /// Records up to `next` were applied, the latest event time among them `max_event_time`.
    pub fn advance(&mut self, next: i64, max_event_time: Option<Micros>, now: Micros) {
        self.next = next;
        self.clear_to = self.clear_to.max(next);
        self.max_event_time = self.max_event_time.max(max_event_time);
        self.at_end = false;
        self.quiet_since = self.quiet_since.max(now);
    }

    /// Idle: at the end *and* quiet for the timeout. Without a timeout no partition is ever idle.
    pub fn is_idle(&self, now: Micros, timeout: Option<Span>) -> bool {
        let quiet = |timeout: Span| self.quiet_since + timeout <= now;
        self.at_end && !self.blocked && timeout.is_some_and(quiet)
    }

    /// What the watermark needs to know.
    pub fn time(&self, now: Micros, idle_timeout: Option<Span>) -> PartitionTime {
        PartitionTime { max_event_time: self.max_event_time, idle: self.is_idle(now, idle_timeout) }
    }
}

/// Where all partitions are to stop for a moment: the stored end of a backfill, or a finish.
///
/// Each offset is a boundary that an epoch must not cross: what comes before is one thing (modelled
/// availability, the replay), what comes after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boundary(pub Vec<i64>);

impl Boundary {
    /// The first offset of a partition that must wait. Partitions that came later begin after it.
    pub fn of(&self, partition: u32) -> i64 {
        self.0.get(partition as usize).copied().unwrap_or(0)
    }

    /// True once every partition has come as far. A Kafka position may stay below the boundary where
    /// only transaction markers are left: then the end of the partition counts.
    pub fn is_passed(&self, partitions: &[Progress]) -> bool {
        self.0.iter().zip(0..).all(|(offset, number)| {
            *offset == 0
                || partitions.get(number).is_some_and(|p| p.clear_to >= *offset || p.at_end && !p.blocked)
        })
    }
}

/// The partitions in the order in which they are read: the least event time first, for the watermark
/// waits for it; one that has said nothing yet before all others.
pub fn reading_order(partitions: &[Progress]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..partitions.len()).collect();
    order.sort_by_key(|i| partitions.get(*i).and_then(|p| p.max_event_time));
    order
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(next: i64, time: Option<i64>) -> Progress {
        Progress::new(next, time.map(Micros), Micros(0))
    }

    #[test]
    fn the_slowest_partition_is_read_first_and_a_silent_one_before_it() {
        assert_eq!(
            reading_order(&[at(0, Some(30)), at(0, Some(10)), at(0, None), at(0, Some(20))]),
            [2, 1, 3, 0]
        );
    }

    #[test]
    fn idle_is_at_the_end_and_quiet_for_the_timeout() {
        let mut p = at(5, Some(1));
        p.quiet_since = Micros(100);
        assert!(!p.is_idle(Micros(1000), Some(Span(50))), "not at the end");
        p.at_end = true;
        assert!(!p.is_idle(Micros(149), Some(Span(50))), "not yet");
        assert!(p.is_idle(Micros(150), Some(Span(50))));
        assert!(!p.is_idle(Micros(1000), None), "no timeout: never");
        p.blocked = true;
        assert!(!p.is_idle(Micros(1000), Some(Span(50))), "behind an open transaction");
        p.blocked = false;
        p.advance(6, Some(Micros(0)), Micros(200));
        assert!(!p.is_idle(Micros(1000), Some(Span(50))), "records came");
        assert_eq!(p.max_event_time, Some(Micros(1)), "event time never goes back");
    }

    #[test]
    fn a_boundary_is_passed_when_every_partition_is() {
        let boundary = Boundary(vec![10, 0, 3]);
        assert!(!boundary.is_passed(&[at(10, None), at(0, None), at(2, None)]));
        assert!(boundary.is_passed(&[at(10, None), at(0, None), at(3, None)]));
        assert!(
            boundary.is_passed(&[at(11, None), at(5, None), at(4, None), at(0, None)]),
            "a new partition"
        );
        assert!(!boundary.is_passed(&[at(10, None)]), "a partition that is gone");
    }

    #[test]
    fn transaction_markers_do_not_hold_a_boundary_open() {
        let mut p = at(9, None);
        assert!(!Boundary(vec![10]).is_passed(std::slice::from_ref(&p)));
        p.at_end = true;
        assert!(Boundary(vec![10]).is_passed(std::slice::from_ref(&p)));
        p.blocked = true;
        assert!(!Boundary(vec![10]).is_passed(std::slice::from_ref(&p)));
        p.clear_to = 10;
        assert!(Boundary(vec![10]).is_passed(std::slice::from_ref(&p)), "the next record lies behind it");
    }
}
