//! Which columns of a relation are event times, how far each stays behind the watermark, and how far
//! behind one another they may be.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;

use crate::query::{EventTime, IntervalJoin, JoinKind};
use crate::time::Span;

/// The event times among a relation's columns.
#[derive(Debug, Clone, Default)]
pub(super) struct Times {
    /// Each with its hold.
    holds: BTreeMap<usize, Span>,
    /// `(a, b)`: a is at most this much earlier than b, in every row. Negative: it is later.
    before: BTreeMap<(usize, usize), Span>,
}

impl Times {
    /// The event time of a source.
    pub fn source(column: usize) -> Self {
        Self { holds: BTreeMap::from([(column, Span(0))]), before: BTreeMap::new() }
    }

    /// The event time that a column is.
    pub fn get(&self, column: usize) -> Option<EventTime> {
        self.holds.get(&column).map(|hold| EventTime { column, hold: *hold })
    }

    /// Those that a projection keeps.
    pub fn projected(&self, exprs: &[Arc<dyn PhysicalExpr>]) -> Self {
        let picked: Vec<(usize, usize)> = exprs
            .iter()
            .enumerate()
            .filter_map(|(to, expr)| Some((to, expr.downcast_ref::<Column>()?.index())))
            .collect();
        let holds = picked.iter().filter_map(|(to, from)| Some((*to, *self.holds.get(from)?))).collect();
        let mut before = BTreeMap::new();
        for (a, from_a) in &picked {
            for (b, from_b) in &picked {
                before.extend(self.before.get(&(*from_a, *from_b)).map(|span| ((*a, *b), *span)));
            }
        }
        Self { holds, before }
    }

    /// Those of rows that are of one relation or of the other: event times in both, and what is true of
    /// both.
    pub fn united(&self, other: &Self) -> Self {
        fn both<K: Ord + Copy>(a: &BTreeMap<K, Span>, b: &BTreeMap<K, Span>) -> BTreeMap<K, Span> {
            a.iter().filter_map(|(key, span)| Some((*key, *span.max(b.get(key)?)))).collect()
        }
        Self { holds: both(&self.holds, &other.holds), before: both(&self.before, &other.before) }
    }

    /// Those of a join's rows. The times that its bound compares come with the holds of the join; each
    /// other one may be earlier than the one of its side by as much as it ever is.
    ///
    /// Right times are none in a LEFT join: they are NULL where it found nothing.
    pub fn joined(left: &Self, right: &Self, join: &IntervalJoin) -> Self {
        let width = join.left.schema.fields().len();
        let mut times = left.of_side(join.left_time.column, join.left_hold(), 0);
        if join.kind == JoinKind::Inner {
            let right = right.of_side(join.right_time.column, join.right_hold(), width);
            times.holds.extend(right.holds);
            times.before.extend(right.before);
            let (left, right) = (join.left_time.column, width + join.right_time.column);
            times.before.insert((left, right), join.upper);
            times.before.insert((right, left), Span(join.lower.0.saturating_neg()));
            times.close();
        }
        times
    }

    /// The times of one side whose own time `of` gets this hold, its columns moved by `width`.
    fn of_side(&self, of: usize, hold: Span, width: usize) -> Self {
        let hold_of = |column: usize| match self.before.get(&(column, of)) {
            _ if column == of => Some(hold),
            Some(before) => Some(Span(hold.0.saturating_add(before.0).max(0))),
            None => None,
        };
        let holds = self.holds.keys().filter_map(|c| Some((c + width, hold_of(*c)?))).collect();
        let before = self.before.iter().map(|((a, b), span)| ((a + width, b + width), *span)).collect();
        Self { holds, before }
    }

    /// What follows by way of a third time.
    fn close(&mut self) {
        let columns: Vec<usize> = self.holds.keys().copied().collect();
        for via in &columns {
            for a in &columns {
                for b in &columns {
                    let (Some(first), Some(second)) =
                        (self.before.get(&(*a, *via)), self.before.get(&(*via, *b)))
                    else {
                        continue;
                    };
                    let sum = Span(first.0.saturating_add(second.0));
                    if a != b && self.before.get(&(*a, *b)).is_none_or(|known| sum < *known) {
                        self.before.insert((*a, *b), sum);
                    }
                }
            }
        }
    }
}
