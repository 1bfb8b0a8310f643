//! The columns that are kept of records, by stretches of time.

use std::collections::{BTreeMap, btree_map};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, UInt16Array, UInt32Array};
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
    /// Rows up to here lie in the store.
    pub(crate) saved: usize,
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

    /// Says which keys the rows of a slice are of that were added last.
    pub(crate) fn own(&mut self, end: Micros, owners: &[u32]) {
        if let Some(slice) = self.slices.get_mut(&end) {
            slice.owners.extend_from_slice(owners);
        }
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
