//! One side of a join: its rows by slices of time.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::error::ArrowError;

use super::slice::Arrivals;
use super::{Keys, Slice};
use crate::epoch::RecordId;
use crate::time::{Micros, Span};
use crate::window::{Split, split};

/// Slices a side's reach is divided into: the more there are, the sooner what is out of reach goes, and
/// the more tables a search looks into. Stored rows lie in such slices: other lengths need a migration.
const SLICES: i64 = 4;
/// No slice is shorter.
const SHORTEST: Span = Span(1_000_000);

/// The rows of one side that may still find a partner.
pub(crate) struct Buffer {
    /// Length of a slice.
    length: Span,
    /// How many records a row is made of.
    width: usize,
    /// By their end.
    slices: Vec<Slice>,
}

/// A row of a buffer, beside the row of the other side that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pair {
    /// The other side's row.
    pub(crate) row: u32,
    /// The slice, by its place in the buffer.
    pub(crate) slice: u32,
    /// The row in the slice.
    pub(crate) partner: u32,
}

/// Which rows of a buffer can be partners of a row with time `t`: those from `t + lower` to `t + upper`,
/// none of them before `kept`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reach {
    pub(crate) lower: Span,
    pub(crate) upper: Span,
    pub(crate) kept: Micros,
}

impl Buffer {
    /// An empty buffer of rows that are kept for `reach` after their time.
    pub(crate) fn new(reach: Span, width: usize) -> Self {
        let length = Span((reach.0 / SLICES).max(SHORTEST.0));
        Self { length, width, slices: Vec::new() }
    }

    /// Slices, and rows in them.
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.slices.len(), self.slices.iter().map(Slice::len).sum())
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.slices.iter().map(Slice::bytes).sum()
    }

    /// The end of the slice of a time.
    fn end(&self, time: i64) -> Micros {
        Micros(time).window_start(self.length, Span(0)) + self.length
    }

    /// The slice that ends here; a new one if there is none.
    fn slice(&mut self, end: Micros) -> Option<&mut Slice> {
        let place = self.slices.partition_point(|slice| slice.end < end);
        if self.slices.get(place).is_none_or(|slice| slice.end != end) {
            self.slices.insert(place, Slice::new(end, self.width));
        }
        self.slices.get_mut(place)
    }

    /// Takes rows in, each into its slice. Rows of one slice are not copied.
    pub(crate) fn push(&mut self, rows: Arrivals<'_>) -> Result<(), ArrowError> {
        let Arrivals { batch, keys, times, matched, records } = rows;
        let ends: Vec<i64> = times.iter().map(|time| self.end(*time).0).collect();
        let many = match split(&ends) {
            None => return Ok(()),
            Some(Split::One(end)) => {
                let all = 0..batch.num_rows();
                let arrivals = Arrivals { batch, keys, times, matched, records };
                return self.slice(Micros(end)).map_or(Ok(()), |slice| slice.push(arrivals, all));
            }
            Some(Split::Many(many)) => many,
        };
        for (end, members) in many {
            let width = self.width;
            let own = |row: &u32| records.get(*row as usize * width..(*row as usize + 1) * width);
            let records: Vec<RecordId> = members.iter().filter_map(own).flatten().copied().collect();
            let places = members.clone();
            let batch = arrow::compute::take_record_batch(&batch, &UInt32Array::from(members))?;
            let arrivals = Arrivals { batch, keys, times, matched, records };
            if let Some(slice) = self.slice(Micros(end)) {
                slice.push(arrivals, places.iter().map(|place| *place as usize))?;
            }
        }
        Ok(())
    }

    /// Appends the partners of rows from `rows.start` on, row by row, and each row's in the order of their
    /// times and records, until `limit` of them are found or all rows are through. Returns the next row.
    pub(crate) fn search(
        &self,
        keys: &Keys,
        times: &[i64],
        rows: Range<usize>,
        reach: Reach,
        limit: usize,
        pairs: &mut Vec<Pair>,
    ) -> usize {
        for row in rows.clone() {
            if pairs.len() >= limit {
                return row;
            }
            let time = Micros(times.get(row).copied().unwrap_or_default());
            let (from, to) = ((time + reach.lower).max(reach.kept), time + reach.upper);
            if from > to || keys.is_null(row) {
                continue;
            }
            let first = pairs.len();
            let place = self.slices.partition_point(|slice| slice.end <= from);
            for (place, slice) in self.slices.iter().enumerate().skip(place) {
                if slice.end - self.length > to {
                    break;
                }
                slice.find(keys, row, |partner| {
                    if (from.0..=to.0).contains(&slice.time(partner)) {
                        pairs.push(Pair { row: row as u32, slice: place as u32, partner });
                    }
                });
            }
            if let Some(found) = pairs.get_mut(first..).filter(|found| found.len() > 1) {
                found.sort_unstable_by(|a, b| self.order(*a).cmp(&self.order(*b)));
            }
        }
        rows.end
    }

    fn order(&self, pair: Pair) -> (i64, &[RecordId]) {
        match self.slices.get(pair.slice as usize) {
            Some(slice) => (slice.time(pair.partner), slice.records(pair.partner)),
            None => (i64::MAX, &[]),
        }
    }

    /// The first `width` columns of rows, which are given as (slice, row); of at least one row.
    pub(crate) fn columns(
        &self,
        rows: impl Iterator<Item = (u32, u32)>,
        width: usize,
    ) -> Result<Vec<ArrayRef>, ArrowError> {
        // Batches are numbered as they are first met: most are not in question.
        let first_of: Vec<usize> = self
            .slices
            .iter()
            .scan(0, |next, slice| Some(std::mem::replace(next, *next + slice.batches().len())))
            .collect();
        let all = self.slices.iter().map(|slice| slice.batches().len()).sum();
        let mut numbers: Vec<Option<usize>> = vec![None; all];
        let (mut batches, mut places) = (Vec::new(), Vec::new());
        for (slice, row) in rows {
            let held = self.slices.get(slice as usize).zip(first_of.get(slice as usize));
            let Some((slice, first)) = held else { continue };
            let (batch, row) = slice.place(row);
            let Some(number) = numbers.get_mut(first + batch) else { continue };
            let number = *number.get_or_insert_with(|| {
                batches.extend(slice.batches().get(batch));
                batches.len() - 1
            });
            places.push((number, row));
        }
        (0..width)
            .map(|column| {
                let arrays: Vec<&dyn Array> = batches
                    .iter()
                    .filter_map(|batch| batch.columns().get(column))
                    .map(AsRef::as_ref)
                    .collect();
                arrow::compute::interleave(&arrays, &places)
            })
            .collect()
    }

    /// What a row of the buffer is made of.
    pub(crate) fn records(&self, pair: Pair) -> &[RecordId] {
        self.slices.get(pair.slice as usize).map_or(&[], |slice| slice.records(pair.partner))
    }

    /// Notes that a row has found a partner, or that nobody waits for one any more.
    pub(crate) fn mark(&mut self, slice: u32, row: u32) {
        if let Some(slice) = self.slices.get_mut(slice as usize) {
            slice.mark(row);
        }
    }

    /// The rows with a time from `from` on and before `to` that have found no partner, `(slice, row)`, in
    /// the order of their times and records.
    pub(crate) fn alone(&mut self, from: Micros, to: Micros) -> Vec<(u32, u32)> {
        let length = self.length;
        let slices = (0..).zip(&mut self.slices);
        let slices = slices.filter(|(_, slice)| slice.end > from && slice.end - length < to);
        slices.flat_map(|(place, slice)| slice.alone(from, to).map(move |row| (place, row))).collect()
    }

    /// The times of the rows that have found no partner.
    pub(crate) fn unmatched_times(&self) -> impl Iterator<Item = i64> {
        self.slices.iter().flat_map(|slice| slice.unmatched().map(|row| slice.time(row)))
    }

    /// The greatest time of a row from `from` on that has found no partner.
    pub(crate) fn last_alone(&self, from: Micros) -> Option<Micros> {
        let of = |slice: &Slice| slice.unmatched().map(|row| slice.time(row)).max();
        let last = self.slices.iter().rev().filter(|slice| slice.end > from).find_map(of)?;
        Some(Micros(last)).filter(|last| *last >= from)
    }

    /// Lets go of slices all of whose rows have a time before `kept`; the ends of those of which the store
    /// has entries go to `dropped`.
    pub(crate) fn retire(&mut self, kept: Micros, dropped: &mut Vec<Micros>) {
        let gone = self.slices.partition_point(|slice| slice.end <= kept);
        dropped.extend(self.slices.drain(..gone).filter(|slice| slice.durable).map(|slice| slice.end));
    }

    /// Puts rows of one slice back, which lie in the store.
    pub(crate) fn restore(&mut self, end: Micros, rows: Arrivals<'_>) -> Result<(), ArrowError> {
        self.slice(end).map_or(Ok(()), |slice| slice.put_back(rows))
    }

    /// Whether rows of a key are in memory.
    pub(crate) fn has(&self, key: &[u8], hash: u64) -> bool {
        self.slices.iter().any(|slice| slice.has(key, hash))
    }

    /// Length of a slice.
    pub(crate) fn length(&self) -> Span {
        self.length
    }

    /// Right after a checkpoint: keeps the rows of these keys alone. Returns the slices that others were in.
    pub(crate) fn keep(&mut self, is_kept: &dyn Fn(&[u8]) -> bool) -> Result<Vec<Micros>, ArrowError> {
        let mut left = Vec::new();
        for slice in &mut self.slices {
            if slice.keep(is_kept)? {
                left.push(slice.end);
            }
        }
        self.slices.retain(|slice| slice.len() > 0);
        Ok(left)
    }

    /// The slices, by their end.
    pub(crate) fn slices(&self) -> &[Slice] {
        &self.slices
    }

    /// The rows of a slice with a time from `kept` on that are not in the store as they are; from here on
    /// they are taken to be. `is_done`: see [`Slice::take_unsaved`].
    pub(crate) fn take_unsaved(&mut self, slice: usize, kept: Micros, is_done: bool) -> Vec<u32> {
        let Some(slice) = self.slices.get_mut(slice) else { return Vec::new() };
        let mut rows = slice.take_unsaved(is_done);
        rows.retain(|row| slice.time(*row) >= kept.0);
        slice.durable |= !rows.is_empty();
        rows
    }
}
