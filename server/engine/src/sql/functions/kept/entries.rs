//! The kept values of every group, vectorised.
//!
//! A batch becomes a chunk: its columns as they came, with their order as rows of bytes. A group is a list
//! of places in chunks, the best first, so taking a value in is a search and a move of eight bytes, and no
//! value is copied. Chunks are written anew, without what no group holds any more, when that is more than
//! what is held.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, StringArray, StructArray, UInt32Array,
    new_empty_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::SortOptions;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use super::{By, Give, Kept, fields};
use crate::sql::functions::count_distinct::canonical;
use crate::sql::functions::own::{each, item, taken};

/// Chunks that a group's places may lie in before they are written anew, whatever is held.
const CHUNKS: usize = 64;
/// … and one more for each so many places: to write them anew costs as much for each batch.
const PLACES_PER_CHUNK: usize = 512;
/// Rows that no group holds any more and that are never worth the work.
const IDLE_ROWS: usize = 1_024;

/// Rows that came in together.
struct Chunk {
    columns: Vec<ArrayRef>,
    order: Rows,
    /// The values as they are compared with each other.
    identity: Option<Rows>,
}

/// A row of a chunk.
#[derive(Debug, Clone, Copy)]
struct Place {
    chunk: u32,
    row: u32,
}

/// What is kept of every group.
pub(super) struct Entries {
    kept: Kept,
    /// Types of an entry's columns.
    columns: Vec<DataType>,
    order: RowConverter,
    /// Of values by time of which only the best of equal ones is kept.
    identity: Option<RowConverter>,
    chunks: Chunks,
    /// Of each group, the best first.
    groups: Vec<Vec<Place>>,
    /// How many places there are.
    held: usize,
}

struct Chunks {
    by_time: bool,
    all: Vec<Chunk>,
    /// How many rows they have.
    rows: usize,
}

impl Chunks {
    fn get(&self, place: Place) -> Option<&Chunk> {
        self.all.get(place.chunk as usize)
    }

    /// Whether `one` is better (less) or worse than `other`.
    fn compare(&self, one: Place, other: Place) -> Ordering {
        let (Some(a), Some(b)) = (self.get(one), self.get(other)) else { return Ordering::Equal };
        let (i, j) = (one.row as usize, other.row as usize);
        let order = a.order.row(i).cmp(&b.order.row(j));
        if order.is_eq() && self.by_time { tie((a, i), (b, j)) } else { order }
    }

    /// Whether two values are the same.
    fn same(&self, one: Place, other: Place) -> bool {
        let identity = |place: Place| {
            let rows = self.get(place)?.identity.as_ref()?;
            Some(rows.row(place.row as usize))
        };
        identity(one) == identity(other)
    }
}

/// Where time and log do not say which row comes first, as with rows of a join, their values do.
fn tie((a, i): (&Chunk, usize), (b, j): (&Chunk, usize)) -> Ordering {
    let (Some(one), Some(other)) = (a.columns.first(), b.columns.first()) else { return Ordering::Equal };
    let comparator = arrow::array::make_comparator(one, other, SortOptions::default());
    comparator.map_or(Ordering::Equal, |compare| compare(i, j))
}

impl Entries {
    /// Nothing yet, of entries with these columns.
    pub(super) fn new(kept: Kept, columns: Vec<DataType>) -> Result<Self> {
        let order = RowConverter::new(kept.order(&columns))?;
        let by_time = kept.is_by_time() && kept.distinct;
        let value = columns.iter().take(1).filter(|_| by_time);
        let identity = value.map(|value| RowConverter::new(vec![SortField::new(value.clone())])).next();
        let identity = identity.transpose()?;
        let chunks = Chunks { by_time: kept.is_by_time(), all: Vec::new(), rows: 0 };
        Ok(Self { kept, columns, order, identity, chunks, groups: Vec::new(), held: 0 })
    }

    /// Columns as a chunk, in their own types.
    fn chunk(&self, columns: &[ArrayRef]) -> Result<Chunk> {
        if columns.len() != self.columns.len() {
            return internal_err!("{}() was given {} columns", self.kept.name, columns.len());
        }
        let by_value = matches!(self.kept.by, By::Value { .. });
        let plain = columns.iter().zip(&self.columns).enumerate().map(|(number, (column, data_type))| {
            let column = if column.data_type() == data_type {
                Arc::clone(column)
            } else {
                arrow::compute::cast(column, data_type)?
            };
            // Values that are compared are one where they count as one.
            if by_value && number == 0 { canonical(&column) } else { Ok(column) }
        });
        let columns = plain.collect::<Result<Vec<_>>>()?;
        let Some(value) = columns.first() else {
            return internal_err!("{}() takes a column", self.kept.name);
        };
        let ordered =
            if by_value { std::slice::from_ref(value) } else { columns.get(1..).unwrap_or_default() };
        let order = self.order.convert_columns(ordered)?;
        let identity = match &self.identity {
            Some(identity) => Some(identity.convert_columns(&[canonical(value)?])?),
            None => None,
        };
        Ok(Chunk { columns, order, identity })
    }

    /// Takes rows in, each into `group(row)`.
    fn add(&mut self, columns: &[ArrayRef], group: impl Fn(usize) -> Option<usize>) -> Result<()> {
        let chunk = self.chunk(columns)?;
        let nulls = chunk.columns.first().filter(|_| !self.kept.nulls).and_then(|v| v.logical_nulls());
        let rows = chunk.order.num_rows();
        let number = self.chunks.all.len() as u32;
        self.chunks.all.push(chunk);
        self.chunks.rows += rows;
        for row in 0..rows {
            if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                continue;
            }
            if let Some(group) = group(row) {
                self.take_in(group, Place { chunk: number, row: row as u32 });
            }
        }
        self.tidy()
    }

    /// Keeps a row, if it is better than what is kept.
    fn take_in(&mut self, group: usize, new: Place) {
        let Self { chunks, groups, kept, held, .. } = self;
        let Some(places) = groups.get_mut(group) else { return };
        let full = places.len() >= kept.limit;
        if full && places.last().is_none_or(|worst| chunks.compare(*worst, new) != Ordering::Greater) {
            return;
        }
        let at = places.partition_point(|known| chunks.compare(*known, new) == Ordering::Less);
        if kept.distinct {
            let known = match kept.by {
                By::Time { .. } => places.iter().position(|known| chunks.same(*known, new)),
                By::Value { .. } => places
                    .get(at)
                    .and_then(|known| (chunks.compare(*known, new) == Ordering::Equal).then_some(at)),
            };
            match known {
                // It is there already, and better.
                Some(known) if known < at || matches!(kept.by, By::Value { .. }) => return,
                Some(known) => {
                    places.remove(known);
                    *held -= 1;
                }
                None => {}
            }
        }
        if places.len() >= kept.limit {
            places.pop();
            *held -= 1;
        }
        places.insert(at, new);
        *held += 1;
    }

    /// Writes the chunks anew where that is due.
    fn tidy(&mut self) -> Result<()> {
        let idle = self.chunks.rows > 2 * self.held + IDLE_ROWS;
        if !idle && self.chunks.all.len() <= CHUNKS.max(self.held / PLACES_PER_CHUNK) {
            return Ok(());
        }
        let columns = self.gather(self.groups.iter().flatten())?;
        let chunk = self.chunk(&columns)?;
        self.chunks.rows = chunk.order.num_rows();
        self.chunks.all = vec![chunk];
        for (row, place) in (0..).zip(self.groups.iter_mut().flatten()) {
            *place = Place { chunk: 0, row };
        }
        Ok(())
    }

    /// The columns of places.
    fn gather<'p>(&self, places: impl Iterator<Item = &'p Place>) -> Result<Vec<ArrayRef>> {
        let places: Vec<(usize, usize)> = places.map(|p| (p.chunk as usize, p.row as usize)).collect();
        let column = |number: usize, data_type: &DataType| -> Result<ArrayRef> {
            let parts: Vec<&dyn Array> =
                self.chunks.all.iter().filter_map(|c| c.columns.get(number)).map(AsRef::as_ref).collect();
            if parts.is_empty() {
                return Ok(new_empty_array(data_type));
            }
            Ok(arrow::compute::interleave(&parts, &places)?)
        };
        self.columns.iter().enumerate().map(|(number, data_type)| column(number, data_type)).collect()
    }

    /// Takes the emitted groups: the columns of all their places, and where each group's end.
    fn emitted(&mut self, emit: EmitTo) -> Result<(Vec<ArrayRef>, OffsetBuffer<i32>)> {
        let groups = emit.take_needed(&mut self.groups);
        let offsets = OffsetBuffer::from_lengths(groups.iter().map(Vec::len));
        let columns = self.gather(groups.iter().flatten())?;
        self.held -= groups.iter().map(Vec::len).sum::<usize>();
        if self.groups.is_empty() {
            self.chunks.rows = 0;
            self.chunks.all = Vec::new();
        }
        Ok((columns, offsets))
    }
}

impl GroupsAccumulator for Entries {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.groups.resize_with(total_groups, Vec::new);
        self.add(values, |row| groups.get(row).copied().filter(|_| taken(filter, row)))
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let (columns, offsets) = self.emitted(emit)?;
        let Some(values) = columns.into_iter().next() else { return internal_err!("an entry has a value") };
        let groups = || offsets.windows(2).filter_map(|ends| Some((*ends.first()?, *ends.last()?)));
        Ok(match &self.kept.give {
            Give::One(place) => {
                let place = *place as i32;
                let rows = groups().map(|(start, end)| (start + place < end).then(|| (start + place) as u32));
                arrow::compute::take(&values, &rows.collect::<UInt32Array>(), None)?
            }
            Give::List { empty } => {
                let any: NullBuffer = groups().map(|(start, end)| *empty || start < end).collect();
                Arc::new(ListArray::try_new(item(values.data_type()), offsets, values, Some(any))?)
            }
            Give::Text(between) => {
                let values = values.as_string::<i32>();
                let text = |(start, end): (i32, i32)| {
                    let parts = (start..end).map(|row| values.value(row as usize)).collect::<Vec<_>>();
                    (!parts.is_empty()).then(|| parts.join(between))
                };
                Arc::new(groups().map(text).collect::<StringArray>())
            }
            Give::Count => {
                Arc::new(Int64Array::from_iter_values(groups().map(|(start, end)| i64::from(end - start))))
            }
        })
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let (columns, offsets) = self.emitted(emit)?;
        let entries: ArrayRef = Arc::new(StructArray::try_new(fields(&self.columns), columns, None)?);
        Ok(vec![Arc::new(ListArray::try_new(item(entries.data_type()), offsets, entries, None)?)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        let [lists] = states else { return internal_err!("{}() has one state", self.kept.name) };
        let lists = lists.as_list::<i32>();
        self.groups.resize_with(total_groups, Vec::new);
        let (Some(first), Some(last)) = (lists.value_offsets().first(), lists.value_offsets().last()) else {
            return Ok(());
        };
        let mut owners = Vec::with_capacity((last - first) as usize);
        for (row, group) in groups.iter().enumerate() {
            owners.resize(owners.len() + lists.value_length(row) as usize, *group);
        }
        let entries = lists.values().slice(*first as usize, (last - first) as usize);
        self.add(entries.as_struct().columns(), |row| owners.get(row).copied())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        each(Self::new(self.kept.clone(), self.columns.clone())?, values, filter)
    }

    fn size(&self) -> usize {
        let of_chunk = |chunk: &Chunk| {
            let columns: usize = chunk.columns.iter().map(|column| column.get_array_memory_size()).sum();
            columns + chunk.order.size() + chunk.identity.as_ref().map_or(0, Rows::size)
        };
        self.chunks.all.iter().map(of_chunk).sum::<usize>()
            + self.groups.capacity() * size_of::<Vec<Place>>()
            + self.held * size_of::<Place>()
    }
}
