//! The rows of one key that are picked, from when on each.

use crate::time::Span;

/// Stands where a row has no columns: it is a delete.
pub(crate) const DELETED: u32 = u32::MAX;

/// One row of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// It is visible from here on.
    pub(crate) from: i64,
    /// Its event time.
    pub(crate) event_time: i64,
    /// The epoch that wrote it.
    pub(crate) commit: i64,
    /// Where its columns lie; [`DELETED`].
    pub(crate) row: u32,
}

impl Step {
    /// The greatest of what is visible is picked.
    fn order(&self) -> (i64, i64) {
        (self.event_time, self.commit)
    }

    /// Whether it is too old at an instant to be a value, and with it every row that is less.
    fn is_expired(&self, at: i64, ttl: Option<Span>) -> bool {
        ttl.is_some_and(|ttl| at.saturating_sub(self.event_time) > ttl.0)
    }
}

/// Rows in the order in which they become visible, each greater than the one before.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Steps(Vec<Step>);

impl Steps {
    /// Puts a row in its place. Returns the rows that are never picked any more: itself perhaps.
    pub(crate) fn insert(&mut self, step: Step) -> Vec<Step> {
        let place = self.0.partition_point(|s| s.from <= step.from);
        let before = place.checked_sub(1).and_then(|before| self.0.get(before));
        if before.is_some_and(|before| before.order() >= step.order()) {
            return vec![step];
        }
        let first = if before.is_some_and(|b| b.from == step.from) { place - 1 } else { place };
        let later = self.0.get(first..).unwrap_or_default();
        let last = first + later.partition_point(|s| s.order() <= step.order());
        self.0.splice(first..last, [step]).collect()
    }

    /// The row at an instant, if it is a value.
    pub(crate) fn at(&self, at: i64, ttl: Option<Span>) -> Option<u32> {
        let place = self.0.partition_point(|s| s.from <= at).checked_sub(1)?;
        let step = self.0.get(place)?;
        (step.row != DELETED && !step.is_expired(at, ttl)).then_some(step.row)
    }

    /// Lets go of what nobody who looks from `kept` on picks; these rows. A delete stays until it is older than
    /// the TTL: rows before it may still come.
    pub(crate) fn forget(&mut self, kept: i64, ttl: Option<Span>) -> Vec<Step> {
        let seen = self.0.partition_point(|s| s.from <= kept);
        let last = seen.checked_sub(1).and_then(|last| self.0.get(last));
        let gone =
            if last.is_some_and(|last| last.is_expired(kept, ttl)) { seen } else { seen.saturating_sub(1) };
        self.0.drain(..gone).collect()
    }

    /// The instants from which on [`Self::forget`] has something to do.
    pub(crate) fn due(&self, ttl: Option<Span>) -> Option<i64> {
        let second = self.0.get(1).map(|s| s.from);
        let expired = self.0.first().zip(ttl);
        let expired =
            expired.map(|(s, ttl)| s.from.max(s.event_time.saturating_add(ttl.0).saturating_add(1)));
        second.into_iter().chain(expired).min()
    }

    /// The rows, as they become visible.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Step> {
        self.0.iter()
    }

    /// The rows, to be told where their columns lie now.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Step> {
        self.0.iter_mut()
    }

    /// True where nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::epoch::Op;
    use crate::pick::{Stamp, Status, pick};
    use crate::time::Micros;

    fn stamps() -> impl Strategy<Value = Vec<Stamp>> {
        let stamp = (0_i64..12, 0_i64..12, any::<bool>());
        prop::collection::vec(stamp, 0..12).prop_map(|stamps| {
            let stamps =
                stamps.into_iter().zip(1..).map(|((event_time, available_at, deleted), commit)| Stamp {
                    event_time: Micros(event_time),
                    available_at: Micros(available_at),
                    commit,
                    op: if deleted { Op::Delete } else { Op::Upsert },
                });
            stamps.collect()
        })
    }

    fn step(stamp: &Stamp) -> Step {
        let row = if stamp.op == Op::Delete { DELETED } else { stamp.commit as u32 };
        let (from, event_time) = (stamp.visible_from().0, stamp.event_time.0);
        Step { from, event_time, commit: stamp.commit as i64, row }
    }

    proptest! {
        /// At every instant the one that the rule picks among all rows, whatever order they come in, however
        /// much was forgotten.
        #[test]
        fn a_step_is_what_is_picked(
            (stamps, order) in stamps().prop_flat_map(|stamps| {
                let order: Vec<usize> = (0..stamps.len()).collect();
                (Just(stamps), Just(order).prop_shuffle())
            }),
            ttl in prop::option::of(0_i64..6), kept in 0_i64..14, forgets in any::<u16>(),
        ) {
            let ttl = ttl.map(Span);
            let mut steps = Steps::default();
            for (number, place) in order.iter().enumerate() {
                steps.insert(step(&stamps[*place]));
                if forgets >> (number % 16) & 1 == 1 {
                    steps.forget(kept, ttl);
                }
            }
            for at in kept..16 {
                let (picked, status) = pick(&stamps, Micros(at), ttl);
                let expected = picked.filter(|_| status == Status::Found).map(|i| stamps[i].commit as u32);
                prop_assert_eq!(steps.at(at, ttl), expected, "at {}: {:?}", at, steps);
            }
            steps.forget(16, ttl);
            prop_assert!(steps.iter().count() <= 1);
            prop_assert!(steps.due(ttl).is_none_or(|at| at > 16));
        }
    }

    #[test]
    fn the_same_row_twice_is_there_once() {
        let mut steps = Steps::default();
        let one = Step { from: 5, event_time: 3, commit: 1, row: 7 };
        assert_eq!(steps.insert(one), []);
        assert_eq!(steps.insert(Step { row: 8, ..one }), [Step { row: 8, ..one }]);
        assert_eq!(steps.at(5, None), Some(7));
        assert_eq!(steps.at(4, None), None);
    }
}
