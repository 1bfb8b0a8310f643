//! An interval join: rows of two relations into rows of both.
//!
//! A row that comes in is compared with the rows of the other side that wait, and then waits itself. So of
//! two rows that belong together it is the later one that finds the other, and no pair is found twice.
//! Which rows wait is a matter of the previous epoch's watermark alone, so within an epoch it does not
//! matter which side comes first.

mod cold;
mod half;

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array, new_null_array};
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;

pub(super) use self::half::Half;
use super::evaluate::{by_halves, column};
use super::records::{Rows, Verdicts};
use super::upstream::Sink;
use super::{Error, RecordId, stage};
use crate::join::{Arrivals, Keys, NO_RECORD, Pair, Reach};
use crate::query::{IntervalJoin, JoinKind};
use crate::state::{StateChange, StateRow};
use crate::time::{Micros, Span};

/// Joined rows go on in batches of at most this many: what many rows of one key give is never there at once.
const CHUNK: usize = 8192;

/// A side of a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// The operator and its state.
pub(super) struct Join {
    left: Half,
    right: Half,
    /// Least and greatest `right.t - left.t`.
    bound: (Span, Span),
    /// Left rows without a partner come out.
    is_left: bool,
    condition: Option<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
    /// A join above asks what rows are made of.
    is_named: bool,
    /// Rows that did not come through: see [`super::Output::lost`].
    pub(super) lost: u64,
    /// Bytes that were not let go of the last time because they will be wanted soon.
    kept_back: usize,
}

impl Join {
    /// The join of this number in its query. `widths`: how many records the rows of each side are made of.
    pub(super) fn new(
        join: &IntervalJoin,
        number: u16,
        widths: (usize, usize),
        is_named: bool,
    ) -> Result<Self, Error> {
        let is_left = join.kind == JoinKind::Left;
        let (on_left, on_right) = join.on.iter().cloned().unzip();
        let mut left = Half::new(&join.left, on_left, join.left_time.column, join.left_reach(), widths.0)?;
        let mut right =
            Half::new(&join.right, on_right, join.right_time.column, join.right_reach(), widths.1)?;
        left.operator = half::operator(number, Side::Left);
        right.operator = half::operator(number, Side::Right);
        left.keeps_all = is_left;
        if left.key_types() != right.key_types() {
            return Err(Error::Contract("the two sides of a join have keys of different types".into()));
        }
        Ok(Self {
            left,
            right,
            bound: (join.lower, join.upper),
            is_left,
            condition: join.condition.clone(),
            schema: Arc::clone(&join.schema),
            is_named,
            lost: 0,
            kept_back: 0,
        })
    }

    fn half(&self, side: Side) -> &Half {
        match side {
            Side::Left => &self.left,
            Side::Right => &self.right,
        }
    }

    fn half_mut(&mut self, side: Side) -> &mut Half {
        match side {
            Side::Left => &mut self.left,
            Side::Right => &mut self.right,
        }
    }

    /// Takes rows of one side in; `watermark` is that of the previous epoch. What they give with rows that
    /// wait goes to `sink`.
    pub(super) fn take(
        &mut self,
        side: Side,
        mut rows: Rows,
        verdicts: &mut Verdicts<'_>,
        watermark: Micros,
        sink: Sink<'_>,
    ) -> Result<(), Error> {
        let half = self.half(side);
        half.judge(&mut rows, verdicts, watermark)?;
        verdicts.counts.applied += rows.len() as u64;
        half.leave_out_nulls(&mut rows)?;
        if rows.len() == 0 {
            return Ok(());
        }
        let keys = Keys::new(&rows.keys, rows.len()).map_err(|e| Error::Contract(e.to_string()))?;
        self.left.recall(&keys)?;
        self.right.recall(&keys)?;
        let half = self.half(side);
        let times = half.times(&rows.batch)?;
        let mut records = Vec::with_capacity(rows.len() * half.width);
        for row in 0..rows.len() {
            verdicts.records(rows.origin(row), &mut records);
            records.resize((row + 1) * half.width, NO_RECORD);
        }
        let mut arrivals = Arriving { side, batch: rows.batch, records, matched: Vec::new() };
        if self.is_left && side == Side::Left {
            arrivals.matched = vec![false; keys.len()];
        }

        let (reach, other) = (self.reach(side, watermark), side.other());
        let (mut next, mut pairs) = (0, Vec::new());
        while next < keys.len() {
            pairs.clear();
            let (rest, buffer) = (next..keys.len(), &self.half(other).buffer);
            next = buffer.search(&keys, times.values(), rest, reach, CHUNK, &mut pairs);
            for pairs in pairs.chunks(CHUNK) {
                self.pass_on(&mut arrivals, pairs, sink)?;
            }
        }

        let Arriving { batch, records, matched, .. } = arrivals;
        let arrivals = Arrivals { batch, keys: &keys, times: times.values(), matched: &matched, records };
        Ok(self.half_mut(side).buffer.push(arrivals).map_err(DataFusionError::from)?)
    }

    /// Where the partners of one side's rows lie.
    fn reach(&self, side: Side, watermark: Micros) -> Reach {
        let (lower, upper) = self.bound;
        let (lower, upper) = match side {
            Side::Left => (lower, upper),
            Side::Right => (Span(upper.0.saturating_neg()), Span(lower.0.saturating_neg())),
        };
        Reach { lower, upper, kept: watermark - self.half(side.other()).reach }
    }

    /// Makes rows of pairs and gives them to `sink`.
    fn pass_on(&mut self, arrivals: &mut Arriving, pairs: &[Pair], sink: Sink<'_>) -> Result<(), Error> {
        let own = arrivals.columns(pairs)?;
        let other = self.half(arrivals.side.other());
        let partners = pairs.iter().map(|pair| (pair.slice, pair.partner));
        let others = other.buffer.columns(partners, other.columns()).map_err(DataFusionError::from)?;
        let columns = match arrivals.side {
            Side::Left => [own, others].concat(),
            Side::Right => [others, own].concat(),
        };
        let mut batch = stage::batch(&self.schema, columns, pairs.len())?;
        let keep = match &self.condition {
            Some(condition) => Some(hold(condition, &batch, &mut self.lost)?),
            None => None,
        };
        if let Some(keep) = &keep {
            batch = arrow::compute::filter_record_batch(&batch, keep).map_err(DataFusionError::from)?;
        }
        let is_kept = |(at, _): &(usize, &Pair)| keep.as_ref().is_none_or(|keep| keep.value(*at));
        let pairs = || pairs.iter().enumerate().filter(is_kept).map(|(_, pair)| *pair);
        let mut records = Vec::new();
        if self.is_named {
            let other = &self.half(arrivals.side.other()).buffer;
            for pair in pairs() {
                let (own, other) =
                    (arrivals.records(pair.row, self.half(arrivals.side).width), other.records(pair));
                let (left, right) = match arrivals.side {
                    Side::Left => (own, other),
                    Side::Right => (other, own),
                };
                records.extend_from_slice(left);
                records.extend_from_slice(right);
            }
        }
        if self.is_left {
            for pair in pairs() {
                match arrivals.side {
                    Side::Left => arrivals.mark(pair.row),
                    Side::Right => self.left.buffer.mark(pair.slice, pair.partner),
                }
            }
        }
        self.give(&batch, &records, sink)
    }

    fn give(&mut self, batch: &RecordBatch, records: &[RecordId], sink: Sink<'_>) -> Result<(), Error> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let mut verdicts = Verdicts::joined(records, self.width());
        sink(Rows::new(batch), &mut verdicts)?;
        self.lost += verdicts.lost;
        Ok(())
    }

    /// Gives the left rows that are now known to have no partner to `sink`: those whose time bound the
    /// watermark passes on its way from `before` to `after`.
    pub(super) fn give_up(&mut self, before: Micros, after: Micros, sink: Sink<'_>) -> Result<(), Error> {
        if !self.is_left {
            return Ok(());
        }
        let mut from = before;
        loop {
            // Rows that are not in memory come there as their time does.
            let to = self.left.next_stop(from, after);
            self.left.recall_due(to)?;
            self.give_up_some(from, to, sink)?;
            if to >= after {
                return Ok(());
            }
            from = to;
        }
    }

    fn give_up_some(&mut self, before: Micros, after: Micros, sink: Sink<'_>) -> Result<(), Error> {
        let reach = self.left.reach;
        let alone = self.left.buffer.alone(before - reach, after - reach);
        for rows in alone.chunks(CHUNK) {
            let given = rows.iter().copied();
            let mut columns =
                self.left.buffer.columns(given, self.left.columns()).map_err(DataFusionError::from)?;
            let others = self.schema.fields().iter().skip(columns.len());
            let others: Vec<ArrayRef> =
                others.map(|field| new_null_array(field.data_type(), rows.len())).collect();
            columns.extend(others);
            let batch = stage::batch(&self.schema, columns, rows.len())?;
            let mut records = Vec::new();
            for (slice, row) in rows {
                if self.is_named {
                    let pair = Pair { row: 0, slice: *slice, partner: *row };
                    records.extend_from_slice(self.left.buffer.records(pair));
                    records.resize(records.len() + self.right.width, NO_RECORD);
                }
                self.left.buffer.mark(*slice, *row);
            }
            self.give(&batch, &records, sink)?;
        }
        Ok(())
    }

    /// The watermark with which the last left row that waits, when the watermark stands here, comes out.
    pub(super) fn waits_until(&self, watermark: Micros) -> Result<Option<Micros>, Error> {
        if !self.is_left {
            return Ok(None);
        }
        let (reach, from) = (self.left.reach, watermark - self.left.reach);
        let last = self.left.buffer.last_alone(from).max(self.left.last_cold(from)?);
        Ok(last.map(|time| (time + reach).next()))
    }

    /// Lets go of what is out of reach.
    pub(super) fn retire(&mut self, watermark: Micros) {
        self.left.retire(watermark);
        self.right.retire(watermark);
    }

    /// How many records a row is made of.
    pub(super) fn width(&self) -> usize {
        self.left.width + self.right.width
    }

    /// Slices, and rows in them.
    pub(super) fn len(&self) -> (usize, usize) {
        let (left, right) = (self.left.len(), self.right.len());
        (left.0 + right.0, left.1 + right.1)
    }

    /// The side that has this number in [`crate::state::StateKey::operator`].
    pub(super) fn side(&self, operator: u16) -> Option<Side> {
        [Side::Left, Side::Right].into_iter().find(|side| self.half(*side).operator == operator)
    }

    /// Puts stored rows of one slice of a side back.
    pub(super) fn restore(&mut self, side: Side, end: Micros, rows: &[StateRow]) -> Result<(), Error> {
        self.half_mut(side).restore(end, rows)
    }

    /// What changed since the last checkpoint: slices that are gone, and the durable copy of rows that
    /// still wait when the watermark stands here.
    pub(super) fn save(
        &mut self,
        watermark: Micros,
        gone: &mut Vec<StateChange>,
        put: &mut Vec<StateChange>,
    ) -> Result<(), Error> {
        self.kept_back = 0;
        self.left.save(watermark, gone, put)?;
        self.right.save(watermark, gone, put)
    }
}

/// Rows that come in, while their partners are looked for.
struct Arriving {
    side: Side,
    batch: RecordBatch,
    /// What they are made of, one row after the other.
    records: Vec<RecordId>,
    /// Whether each has found a partner; empty where nobody asks.
    matched: Vec<bool>,
}

impl Arriving {
    /// The columns of the rows of pairs.
    fn columns(&self, pairs: &[Pair]) -> Result<Vec<ArrayRef>, Error> {
        let is_each =
            pairs.len() == self.batch.num_rows() && pairs.iter().zip(0..).all(|(p, row)| p.row == row);
        if is_each {
            return Ok(self.batch.columns().to_vec());
        }
        let rows = UInt32Array::from_iter_values(pairs.iter().map(|pair| pair.row));
        let columns = self.batch.columns().iter().map(|column| arrow::compute::take(column, &rows, None));
        Ok(columns.collect::<Result<_, _>>().map_err(DataFusionError::from)?)
    }

    fn records(&self, row: u32, width: usize) -> &[RecordId] {
        self.records.get(row as usize * width..(row as usize + 1) * width).unwrap_or_default()
    }

    fn mark(&mut self, row: u32) {
        if let Some(matched) = self.matched.get_mut(row as usize) {
            *matched = true;
        }
    }
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }
}

/// Which pairs a condition is true of. It is not true of one on which it fails, which is counted.
fn hold(
    condition: &Arc<dyn PhysicalExpr>,
    pairs: &RecordBatch,
    lost: &mut u64,
) -> Result<BooleanArray, Error> {
    let mask = by_halves(pairs, &|b| Ok(vec![column(condition.as_ref(), b)?]), &mut |_, _| {
        *lost += 1;
        Some(vec![Arc::new(BooleanArray::from(vec![false])) as ArrayRef])
    })?;
    match mask.as_deref().and_then(<[_]>::first) {
        Some(mask) => stage::mask_of(mask),
        None => Ok(BooleanArray::from(Vec::<bool>::new())),
    }
}
