//! The one rule that picks a row, online and in training (invariant 7).
//!
//! Among the rows of a key with `_available_at <= t` and `_event_time <= t`: the greatest
//! (`_event_time`, `_commit`), then the TTL. A `delete` is picked like any row and means "no value
//! from here". Serving calls this with `t = as_of`, training with the label's time; because both
//! call *this*, they agree bit for bit.

use crate::epoch::Op;
use crate::time::{Micros, Span};

/// What the rule looks at in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// `_event_time`.
    pub event_time: Micros,
    /// `_available_at`.
    pub available_at: Micros,
    /// `_commit`: the epoch.
    pub commit: u64,
    /// `_op`.
    pub op: Op,
}

/// What a pick says about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The picked row is the value.
    Found,
    /// No row is visible.
    Missing,
    /// The picked row is older than the TTL.
    Expired,
    /// The picked row is a delete.
    Deleted,
}

impl Stamp {
    /// True where the row exists for a reader at `t`.
    pub fn visible(&self, t: Micros) -> bool {
        self.visible_from() <= t
    }

    /// The first instant at which the row is visible.
    pub fn visible_from(&self) -> Micros {
        self.event_time.max(self.available_at)
    }

    /// Order among visible rows: the greatest is picked. (`_event_time`, `_commit`) identifies a
    /// row of its key, so there are no ties between different rows.
    pub fn order(&self) -> (Micros, u64) {
        (self.event_time, self.commit)
    }

    /// What the picked row means at `t`. Older than the TTL is `t − _event_time > ttl`: a value
    /// exactly as old as its TTL is still served.
    pub fn status(&self, t: Micros, ttl: Option<Span>) -> Status {
        match (self.op, ttl) {
            (Op::Delete, _) => Status::Deleted,
            (Op::Upsert, Some(ttl)) if t.0.saturating_sub(self.event_time.0) > ttl.0 => Status::Expired,
            (Op::Upsert, _) => Status::Found,
        }
    }
}

/// Picks among a key's rows (in any order): the picked row's position, and what it means.
pub fn pick(rows: &[Stamp], t: Micros, ttl: Option<Span>) -> (Option<usize>, Status) {
    let best = rows.iter().enumerate().filter(|(_, row)| row.visible(t)).max_by_key(|(_, row)| row.order());
    match best {
        Some((index, row)) => (Some(index), row.status(t, ttl)),
        None => (None, Status::Missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(event_time: i64, available_at: i64, commit: u64, op: Op) -> Stamp {
        Stamp { event_time: Micros(event_time), available_at: Micros(available_at), commit, op }
    }

    #[test]
    fn the_latest_event_time_wins_and_then_the_latest_commit() {
        let rows = [row(10, 11, 1, Op::Upsert), row(20, 22, 2, Op::Upsert), row(10, 30, 3, Op::Upsert)];
        assert_eq!(pick(&rows, Micros(10), None), (None, Status::Missing), "not available yet");
        assert_eq!(pick(&rows, Micros(11), None), (Some(0), Status::Found));
        assert_eq!(pick(&rows, Micros(21), None), (Some(0), Status::Found));
        assert_eq!(pick(&rows, Micros(22), None), (Some(1), Status::Found));
        assert_eq!(
            pick(&rows, Micros(99), None),
            (Some(1), Status::Found),
            "a late revision does not shift latest"
        );
        assert_eq!(
            pick(&[rows[0], rows[2]], Micros(30), None),
            (Some(1), Status::Found),
            "but replaces its own"
        );
    }

    #[test]
    fn a_row_ahead_of_its_event_time_waits_for_it() {
        assert_eq!(pick(&[row(20, 5, 1, Op::Upsert)], Micros(19), None), (None, Status::Missing));
        assert_eq!(pick(&[row(20, 5, 1, Op::Upsert)], Micros(20), None), (Some(0), Status::Found));
    }

    #[test]
    fn a_delete_hides_and_a_ttl_ends() {
        let rows = [row(10, 10, 1, Op::Upsert), row(20, 20, 2, Op::Delete)];
        assert_eq!(pick(&rows, Micros(25), None), (Some(1), Status::Deleted));
        let ttl = Some(Span(5));
        assert_eq!(pick(&rows[..1], Micros(15), ttl).1, Status::Found, "as old as its TTL");
        assert_eq!(pick(&rows[..1], Micros(16), ttl).1, Status::Expired);
        assert_eq!(pick(&rows, Micros(99), ttl).1, Status::Deleted, "a delete does not expire");
    }
}
