//! The columns that are kept of records, by stretches of time.

use std::collections::{BTreeMap, btree_map};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, UInt16Array, UInt32Array};
use arrow::datatypes::{DataType, Int64Type, UInt16Type, UInt32Type};
use datafusion::error::Result;

use super::Entry;
use crate::epoch::RecordId;
use crate::time::{Micros, Span};

/// Columns in front of those that the query reads: event time, source, partition, offset.
pub(crate) const IDENTITY: [(&str, DataType); 4] = [
    ("time", DataType::Int64),
    ("source", DataType::UInt16),
    ("partition", DataType::UInt32),
    ("offset", DataType::Int64),
];

/// Source, partition and offset of a record: the order of records of one time. A row of a join has those of the
/// first of its records, then the others as bytes that order as they do.
pub(crate) type Identity<'s> = (u16, u32, i64, &'s [u8]);

/// Rows of a chunk at most, where small ones are put together.
const CHUNK: usize = 1 << 13;

/// Slices of equal length, aligned to the Unix epoch.
pub(crate) struct Slices {
    length: i64,
    /// Which column holds the other records of a row, where several stand behind it.
    others: Option<usize>,
    slices: BTreeMap<Micros, Slice>,
}

/// The rows of one stretch of time, in the order of their arrival.
#[derive(Default)]
pub(crate) struct Slice {
    pub(super) chunks: Vec<Chunk>,
    /// The key of each row.
    pub(crate) owners: Vec<u32>,
    rows: u32,
    /// Rows that are not in the store yet, ascending.
    unsaved: Vec<Range<u32>>,
    /// True once entries of this slice lie in the store.
    pub(crate) durable: bool,
}

pub(super) struct Chunk {
    /// Number of its first row in the slice.
    pub(super) first: u32,
    pub(super) rows: usize,
    pub(super) columns: Vec<ArrayRef>,
}

impl Slices {
    /// No rows yet, in slices of `length`, which is positive.
    pub(crate) fn new(length: Span, others: Option<usize>) -> Self {
        Self { length: length.0.max(1), others, slices: BTreeMap::new() }
    }

    /// Length of a slice.
    pub(crate) fn length(&self) -> Span {
        Span(self.length)
    }

    /// End of the slice that holds a time.
    pub(crate) fn end_of(&self, time: i64) -> Micros {
        Micros(time).window_start(Span(self.length), Span(0)) + Span(self.length)
    }

    /// Start of the slice that ends at `end`.
    pub(crate) fn start_of(&self, end: Micros) -> i64 {
        end.0.saturating_sub(self.length)
    }

    /// Adds rows of one slice, whose keys are still to be said; the number of the first.
    pub(crate) fn append(&mut self, end: Micros, columns: Vec<ArrayRef>, rows: usize) -> Result<u32> {
        let slice = self.slices.entry(end).or_default();
        let first = slice.rows;
        slice.chunks.push(Chunk { first, rows, columns });
        slice.rows += rows as u32;
        // Chunks of like size are put together, so there are few and no row is copied often.
        while let [.., one, other] = slice.chunks.as_slice()
            && one.rows <= other.rows
            && one.rows + other.rows <= CHUNK
        {
            let columns = one.columns.iter().zip(&other.columns);
            let columns = columns.map(|(a, b)| arrow::compute::concat(&[a.as_ref(), b.as_ref()]));
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            let chunk = Chunk { first: one.first, rows: one.rows + other.rows, columns };
            slice.chunks.truncate(slice.chunks.len() - 2);
            slice.chunks.push(chunk);
        }
        Ok(first)
    }

    /// Says which keys the rows of a slice are of that were added last, and whether they lie in the store.
    pub(crate) fn own(&mut self, end: Micros, owners: &[u32], is_saved: bool) {
        let Some(slice) = self.slices.get_mut(&end) else { return };
        let first = slice.owners.len() as u32;
        slice.owners.extend_from_slice(owners);
        slice.durable |= is_saved;
        let until = slice.owners.len() as u32;
        match slice.unsaved.last_mut() {
            _ if is_saved => {}
            Some(last) if last.end == first => last.end = until,
            _ => slice.unsaved.push(first..until),
        }
    }

    /// Right after a checkpoint: keeps the rows of these keys alone, which have other numbers then: `renumbered` is told
    /// the end of a slice, and of each of its rows the number, or [`u32::MAX`]. Returns the slices that others were in.
    pub(crate) fn keep(
        &mut self,
        is_kept: impl Fn(u32) -> bool,
        mut renumbered: impl FnMut(Micros, &[u32]),
    ) -> Result<Vec<Micros>> {
        let mut left = Vec::new();
        for (end, slice) in &mut self.slices {
            let mut next = 0..;
            let number =
                |owner: &u32| if is_kept(*owner) { next.next().unwrap_or(u32::MAX) } else { u32::MAX };
            let numbers: Vec<u32> = slice.owners.iter().map(number).collect();
            if !numbers.contains(&u32::MAX) {
                continue;
            }
            left.push(*end);
            slice.take(&numbers)?;
            renumbered(*end, &numbers);
        }
        self.slices.retain(|_, slice| slice.rows > 0);
        Ok(left)
    }

    /// Which record an entry is.
    pub(crate) fn identity(&self, entry: Entry) -> Identity<'_> {
        let chunk = self.slices.get(&self.end_of(entry.time)).and_then(|slice| slice.chunk(entry.row));
        let Some((chunk, row)) = chunk else { return (0, 0, 0, &[]) };
        let column = |at: usize| chunk.columns.get(at);
        (
            column(1).and_then(|c| c.as_primitive_opt::<UInt16Type>()).map_or(0, |c| c.value(row)),
            column(2).and_then(|c| c.as_primitive_opt::<UInt32Type>()).map_or(0, |c| c.value(row)),
            column(3).and_then(|c| c.as_primitive_opt::<Int64Type>()).map_or(0, |c| c.value(row)),
            self.others.and_then(column).and_then(|c| c.as_binary_opt::<i32>()).map_or(&[], |c| c.value(row)),
        )
    }

    /// All slices, ascending.
    pub(crate) fn iter(&self) -> btree_map::Iter<'_, Micros, Slice> {
        self.slices.iter()
    }

    /// All slices, ascending, to be changed.
    pub(crate) fn iter_mut(&mut self) -> btree_map::IterMut<'_, Micros, Slice> {
        self.slices.iter_mut()
    }

    /// Number of rows, and bytes of their columns in memory.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        let chunks = || self.slices.values().flat_map(|slice| &slice.chunks);
        let columns = chunks().flat_map(|chunk| &chunk.columns).map(|column| column.get_array_memory_size());
        let rows = chunks().map(|chunk| chunk.rows).sum();
        (rows, columns.sum::<usize>() + rows * size_of::<u32>())
    }

    /// Takes the first slice out if it ends before `end`.
    pub(crate) fn pop_before(&mut self, end: Micros) -> Option<(Micros, Slice)> {
        self.slices.first_entry().filter(|first| *first.key() < end).map(|first| first.remove_entry())
    }
}

impl Slice {
    /// Keeps the rows that have a number.
    fn take(&mut self, numbers: &[u32]) -> Result<()> {
        let mut kept: Vec<Vec<ArrayRef>> = Vec::new();
        for chunk in &self.chunks {
            let own = numbers.get(chunk.first as usize..chunk.first as usize + chunk.rows);
            let rows = (0..).zip(own.unwrap_or_default()).filter(|(_, number)| **number < u32::MAX);
            let rows = UInt32Array::from_iter_values(rows.map(|(row, _)| row));
            if !rows.is_empty() {
                let columns = chunk.columns.iter().map(|column| arrow::compute::take(column, &rows, None));
                kept.push(columns.collect::<Result<_, _>>()?);
            }
        }
        let width = kept.first().map_or(0, Vec::len);
        let column = |at: usize| {
            let parts: Vec<&dyn Array> = kept.iter().filter_map(|c| c.get(at)).map(AsRef::as_ref).collect();
            arrow::compute::concat(&parts)
        };
        let columns = (0..width).map(column).collect::<Result<Vec<_>, _>>()?;
        let mut number = numbers.iter();
        self.owners.retain(|_| number.next().is_some_and(|number| *number < u32::MAX));
        self.rows = self.owners.len() as u32;
        self.chunks.clear();
        if self.rows > 0 {
            self.chunks.push(Chunk { first: 0, rows: self.owners.len(), columns });
        }
        Ok(())
    }

    /// The keys of the rows that are not in the store yet.
    pub(crate) fn unsaved(&self) -> impl Iterator<Item = u32> {
        let owners = |rows: &Range<u32>| self.owners.get(rows.start as usize..rows.end as usize);
        self.unsaved.iter().filter_map(owners).flatten().copied()
    }

    /// Whether a row is not in the store yet.
    pub(crate) fn is_unsaved(&self, row: u32) -> bool {
        let place = self.unsaved.partition_point(|rows| rows.end <= row);
        self.unsaved.get(place).is_some_and(|rows| rows.start <= row)
    }

    /// All rows lie in the store.
    pub(crate) fn saved(&mut self) {
        self.durable |= !self.unsaved.is_empty();
        self.unsaved.clear();
    }

    /// The chunk of a row, and its place there.
    pub(super) fn chunk(&self, row: u32) -> Option<(&Chunk, usize)> {
        let place = self.chunks.partition_point(|c| c.first <= row).checked_sub(1)?;
        let chunk = self.chunks.get(place)?;
        Some((chunk, (row - chunk.first) as usize))
    }
}

/// The identity of records with their event times.
pub(crate) fn identity_columns(times: &[i64], records: &[RecordId]) -> Vec<ArrayRef> {
    vec![
        Arc::new(Int64Array::from_iter_values(times.iter().copied())),
        Arc::new(UInt16Array::from_iter_values(records.iter().map(|record| record.source))),
        Arc::new(UInt32Array::from_iter_values(records.iter().map(|record| record.partition))),
        Arc::new(Int64Array::from_iter_values(records.iter().map(|record| record.offset))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_whatever_was_put_together() {
        let mut slices = Slices::new(Span(1_000), None);
        let mut next = 0;
        for size in [1, 1, 5, 2, 1, 1, 40, 3] {
            let record = |offset| RecordId { source: 1, partition: 2, offset };
            let records: Vec<RecordId> = (next..next + size).map(record).collect();
            let columns = identity_columns(&vec![7; size as usize], &records);
            let first = slices.append(Micros(1_000), columns, size as usize).unwrap();
            assert_eq!(i64::from(first), next);
            next += size;
        }
        let (_, slice) = slices.iter().next().unwrap();
        assert!(slice.chunks.len() < 4, "{} chunks", slice.chunks.len());
        for row in 0..next {
            assert_eq!(slices.identity(Entry { time: 7, row: row as u32 }), (1, 2, row, &[][..]));
        }
        assert_eq!(slices.end_of(-1), Micros(0));
        assert_eq!(slices.end_of(1_000), Micros(2_000));
    }
}
