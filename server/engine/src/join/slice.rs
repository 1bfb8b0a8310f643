//! The rows of one side of a join over one stretch of time.

use std::ops::Range;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::error::ArrowError;

use super::Keys;
use super::table::{NONE, Table};
use crate::epoch::RecordId;
use crate::time::Micros;

/// Batches are put together until they have this many rows, so that light traffic leaves no trail of
/// small ones.
const BATCH: usize = 8192;

/// Rows with a time before `end`, and the table that finds them by their key.
pub(crate) struct Slice {
    pub(crate) end: Micros,
    /// Rows that are not in the store, ascending.
    unsaved: Vec<Range<u32>>,
    /// Others that are not in the store as they are: they have found a partner since.
    changed: Vec<u32>,
    /// True once entries of this slice lie in the store.
    pub(crate) durable: bool,
    batches: Vec<RecordBatch>,
    /// The first row of each batch.
    starts: Vec<u32>,
    times: Vec<i64>,
    /// Whether each row has found a partner.
    matched: Vec<bool>,
    /// What each row is made of, `width` records a row.
    records: Vec<RecordId>,
    width: usize,
    table: Table,
    /// The number of each row's key.
    keys: Vec<u32>,
    /// The row of the same key before each row.
    before: Vec<u32>,
    /// Rows by their times and records, as far as that was asked for.
    order: Vec<u32>,
}

/// Rows on their way into a slice: all parts have the same length, but for the records.
pub(crate) struct Arrivals<'a> {
    /// Their columns.
    pub(crate) batch: RecordBatch,
    /// Keys of these and other rows.
    pub(crate) keys: &'a Keys,
    /// Times of the same rows as the keys.
    pub(crate) times: &'a [i64],
    /// Whether each of the same rows has found a partner; empty where nobody asks.
    pub(crate) matched: &'a [bool],
    /// What the rows of the batch are made of, one after the other.
    pub(crate) records: Vec<RecordId>,
}

impl Slice {
    pub(crate) fn new(end: Micros, width: usize) -> Self {
        Self {
            end,
            unsaved: Vec::new(),
            changed: Vec::new(),
            durable: false,
            batches: Vec::new(),
            starts: Vec::new(),
            times: Vec::new(),
            matched: Vec::new(),
            records: Vec::new(),
            width,
            table: Table::default(),
            keys: Vec::new(),
            before: Vec::new(),
            order: Vec::new(),
        }
    }

    /// Bytes in memory; what batches share with others counts for each.
    pub(crate) fn bytes(&self) -> usize {
        let batches: usize = self.batches.iter().map(RecordBatch::get_array_memory_size).sum();
        let numbers = [&self.changed, &self.starts, &self.keys, &self.before, &self.order];
        batches
            + numbers.into_iter().map(|numbers| numbers.capacity() * size_of::<u32>()).sum::<usize>()
            + self.times.capacity() * size_of::<i64>()
            + self.matched.capacity()
            + self.records.capacity() * size_of::<RecordId>()
            + self.table.bytes()
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }

    /// Takes rows in. `members` are their places among the keys, in the order of the batch's rows.
    pub(crate) fn push(
        &mut self,
        arrivals: Arrivals<'_>,
        members: impl Iterator<Item = usize>,
    ) -> Result<(), ArrowError> {
        let Arrivals { batch, keys, times, matched, records } = arrivals;
        let first = self.len() as u32;
        self.starts.push(first);
        for member in members {
            let row = self.len() as u32;
            let (key, hash) = (keys.key(member), keys.hash(member));
            // Only the store asks for the key of a row that equals nothing.
            let (number, before) = if keys.is_null(member) {
                (self.table.add_null(key, hash, row), NONE)
            } else {
                self.table.insert(key, hash, row)
            };
            self.keys.push(number);
            self.before.push(before);
            self.times.push(times.get(member).copied().unwrap_or_default());
            self.matched.push(matched.get(member).copied().unwrap_or(false));
        }
        self.records.extend(records);
        self.batches.push(batch);
        let until = self.len() as u32;
        match self.unsaved.last_mut() {
            Some(last) if last.end == first => last.end = until,
            _ => self.unsaved.push(first..until),
        }
        self.merge()
    }

    /// Puts rows back that lie in the store.
    pub(crate) fn put_back(&mut self, rows: Arrivals<'_>) -> Result<(), ArrowError> {
        let (first, all) = (self.len() as u32, 0..rows.batch.num_rows());
        self.push(rows, all)?;
        self.durable = true;
        if let Some(last) = self.unsaved.last_mut() {
            last.end = last.end.min(first);
        }
        self.unsaved.retain(|rows| !rows.is_empty());
        Ok(())
    }

    /// Right after a checkpoint: keeps the rows of these keys alone. Returns whether there were others.
    pub(crate) fn keep(&mut self, is_kept: &dyn Fn(&[u8]) -> bool) -> Result<bool, ArrowError> {
        let kept: Vec<bool> = (0..self.len() as u32).map(|row| is_kept(self.key(row))).collect();
        if !kept.contains(&false) {
            return Ok(false);
        }
        let mut left = Self { durable: self.durable, ..Self::new(self.end, self.width) };
        for (batch, first) in self.batches.iter().zip(&self.starts) {
            let own = kept.get(*first as usize..*first as usize + batch.num_rows()).unwrap_or_default();
            let batch = arrow::compute::filter_record_batch(batch, &BooleanArray::from(own.to_vec()))?;
            if batch.num_rows() == 0 {
                continue;
            }
            left.starts.push(left.len() as u32);
            for (row, _) in (*first..).zip(own).filter(|(_, is_kept)| **is_kept) {
                left.copy(self, row);
            }
            left.batches.push(batch);
            left.merge()?;
        }
        *self = left;
        Ok(true)
    }

    /// Takes a row of another slice in, but for its columns.
    fn copy(&mut self, other: &Self, row: u32) {
        let number = other.keys.get(row as usize).copied().unwrap_or_default();
        let (key, (hash, is_found)) = (other.table.key(number), other.table.hash(number));
        let place = self.len() as u32;
        let (number, before) = if is_found {
            self.table.insert(key, hash, place)
        } else {
            (self.table.add_null(key, hash, place), NONE)
        };
        self.keys.push(number);
        self.before.push(before);
        self.times.push(other.time(row));
        self.matched.push(other.is_matched(row));
        self.records.extend_from_slice(other.records(row));
    }

    /// Whether there are rows of a key.
    pub(crate) fn has(&self, key: &[u8], hash: u64) -> bool {
        self.table.has(key, hash)
    }

    /// Puts the last batches together while they are small and much alike in size: a row is copied as
    /// often as its batch doubles.
    fn merge(&mut self) -> Result<(), ArrowError> {
        while let [.., one, other] = self.batches.as_slice() {
            let (first, second) = (one.num_rows(), other.num_rows());
            if first + second > BATCH || first > 2 * second {
                break;
            }
            let both = arrow::compute::concat_batches(one.schema_ref(), [one, other])?;
            self.batches.truncate(self.batches.len() - 2);
            self.batches.push(both);
            self.starts.pop();
        }
        Ok(())
    }

    /// Calls `found` with each row of a key.
    pub(crate) fn find(&self, keys: &Keys, member: usize, mut found: impl FnMut(u32)) {
        let mut row = self.table.last(keys.key(member), keys.hash(member)).unwrap_or(NONE);
        while row != NONE {
            found(row);
            row = self.before.get(row as usize).copied().unwrap_or(NONE);
        }
    }

    /// The time of a row.
    pub(crate) fn time(&self, row: u32) -> i64 {
        self.times.get(row as usize).copied().unwrap_or(i64::MIN)
    }

    /// What a row is made of.
    pub(crate) fn records(&self, row: u32) -> &[RecordId] {
        let start = row as usize * self.width;
        self.records.get(start..start + self.width).unwrap_or_default()
    }

    /// The encoded key of a row.
    pub(crate) fn key(&self, row: u32) -> &[u8] {
        self.keys.get(row as usize).map_or(&[], |number| self.table.key(*number))
    }

    /// Notes that a row has found a partner.
    pub(crate) fn mark(&mut self, row: u32) {
        if let Some(matched) = self.matched.get_mut(row as usize)
            && !std::mem::replace(matched, true)
            && !self.is_unsaved(row)
        {
            self.changed.push(row);
        }
    }

    fn is_unsaved(&self, row: u32) -> bool {
        let place = self.unsaved.partition_point(|rows| rows.end <= row);
        self.unsaved.get(place).is_some_and(|rows| rows.start <= row)
    }

    /// Whether a row has found a partner.
    pub(crate) fn is_matched(&self, row: u32) -> bool {
        self.matched.get(row as usize).copied().unwrap_or(false)
    }

    /// The rows with a time from `from` on and before `to` that have found no partner, in the order of their
    /// times and records. The watermark goes through a slice step by step, and rows that come in meanwhile
    /// are few: the order is kept, and what is new is merged into it.
    pub(crate) fn alone(&mut self, from: Micros, to: Micros) -> impl Iterator<Item = u32> {
        let mut order = std::mem::take(&mut self.order);
        if order.len() < self.len() {
            order.extend(order.len() as u32..self.len() as u32);
            // Sorted runs are merged, not sorted again.
            order.sort_by(|a, b| (self.time(*a), self.records(*a)).cmp(&(self.time(*b), self.records(*b))));
        }
        self.order = order;
        let place = |at: Micros| self.order.partition_point(|row| self.time(*row) < at.0);
        let due = self.order.get(place(from)..place(to)).unwrap_or_default();
        due.iter().copied().filter(|row| !self.is_matched(*row))
    }

    /// The rows that have found no partner.
    pub(crate) fn unmatched(&self) -> impl Iterator<Item = u32> {
        (0..).zip(&self.matched).filter(|(_, matched)| !**matched).map(|(row, _)| row)
    }

    /// The rows that are not in the store as they are; from here on they are taken to be. With `is_done`, what
    /// has found a partner is wanted no more: such a row is only written where it lies in the store without.
    pub(crate) fn take_unsaved(&mut self, is_done: bool) -> Vec<u32> {
        let mut rows = std::mem::take(&mut self.changed);
        let unsaved = std::mem::take(&mut self.unsaved).into_iter().flatten();
        rows.extend(unsaved.filter(|row| !(is_done && self.is_matched(*row))));
        rows
    }

    /// The batches of the slice, each with its rows one after the other.
    pub(crate) fn batches(&self) -> &[RecordBatch] {
        &self.batches
    }

    /// Where a row lies: batch, and row in it.
    pub(crate) fn place(&self, row: u32) -> (usize, usize) {
        let batch = self.starts.partition_point(|start| *start <= row).saturating_sub(1);
        let start = self.starts.get(batch).copied().unwrap_or(0);
        (batch, row.saturating_sub(start) as usize)
    }
}
