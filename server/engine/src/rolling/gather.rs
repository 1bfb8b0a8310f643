//! Values of records out of the slices.

use arrow::array::{Array, ArrayRef, new_empty_array};
use arrow::datatypes::DataType;
use datafusion::error::Result;

use super::slices::{Chunk, Slices};
use super::{Entry, Keys};

/// Where rows lie, as long as nothing is added: the chunks of all slices, numbered through.
pub(crate) struct Places<'s> {
    ends: Vec<i64>,
    /// Number of each slice's first chunk.
    firsts: Vec<usize>,
    chunks: Vec<&'s Chunk>,
}

impl<'s> Places<'s> {
    pub(crate) fn new(slices: &'s Slices) -> Self {
        let mut places = Self { ends: Vec::new(), firsts: Vec::new(), chunks: Vec::new() };
        for (end, slice) in slices.iter() {
            places.ends.push(end.0);
            places.firsts.push(places.chunks.len());
            places.chunks.extend(&slice.chunks);
        }
        places
    }

    /// Number of the chunk of an entry, and the row there.
    fn find(&self, entry: Entry) -> Option<(usize, usize)> {
        let slice = self.ends.partition_point(|end| *end <= entry.time);
        let first = *self.firsts.get(slice)?;
        let until = self.firsts.get(slice + 1).copied().unwrap_or(self.chunks.len());
        let own = self.chunks.get(first..until)?;
        let place = own.partition_point(|c| c.first <= entry.row).checked_sub(1)?;
        Some((first + place, (entry.row - own.get(place)?.first) as usize))
    }
}

/// Rows that are to be gathered, column by column.
pub(crate) struct Gather<'p> {
    places: &'p Places<'p>,
    /// Of each chunk: its position among those that are read.
    known: Vec<Option<u32>>,
    read: Vec<&'p Chunk>,
    rows: Vec<(usize, usize)>,
}

impl<'p> Gather<'p> {
    pub(crate) fn new(places: &'p Places<'p>) -> Self {
        Self { places, known: vec![None; places.chunks.len()], read: Vec::new(), rows: Vec::new() }
    }

    /// Adds one record.
    pub(crate) fn push(&mut self, entry: Entry) {
        let Some((chunk, row)) = self.places.find(entry) else { return };
        let (Some(known), Some(columns)) = (self.known.get_mut(chunk), self.places.chunks.get(chunk)) else {
            return;
        };
        let read = &mut self.read;
        let source = *known.get_or_insert_with(|| {
            read.push(columns);
            read.len() as u32 - 1
        });
        self.rows.push((source as usize, row));
    }

    /// Adds a key's records, by position.
    pub(crate) fn extend(&mut self, keys: &Keys, key: u32, entries: std::ops::Range<usize>) {
        for entry in keys.records(key).iter(entries) {
            self.push(entry);
        }
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// One column of the rows.
    pub(crate) fn column(&self, column: usize, data_type: &DataType) -> Result<ArrayRef> {
        let parts: Vec<&dyn Array> =
            self.read.iter().filter_map(|chunk| chunk.columns.get(column)).map(AsRef::as_ref).collect();
        if parts.is_empty() {
            return Ok(new_empty_array(data_type));
        }
        Ok(arrow::compute::interleave(&parts, &self.rows)?)
    }
}
