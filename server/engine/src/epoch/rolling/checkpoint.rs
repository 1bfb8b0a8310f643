//! The way between the records in memory and the entries in the store.
//!
//! A record is written once: the entry of a checkpoint has the records of one key in one slice that came in
//! since the one before. It lies under the key and the place of its first record:
//!
//! ```text
//! key, then 22 bytes: event time (sign bit flipped) · source · partition · offset (sign bit flipped), big-endian
//! ```
//!
//! (then, of a row of a join, the other records that it is made of) and holds a list of records. A mark is an entry without content under the key and its instant.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, PrimitiveArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::error::DataFusionError;

use super::super::windowed::state_error;
use super::super::{Error, Output, RecordId};
use super::Rolling;
use crate::key;
use crate::rolling::{Gather, Identity, Keys, Places, Slice};
use crate::state::{EMPTIED, ROLLING, StateChange, StateKey, StateRow, codec};
use crate::time::Micros;

/// Bytes behind the key of an entry: where its first record stands.
pub(super) const PLACE: usize = 22;

/// Bytes behind the key of a mark: its instant.
pub(super) const INSTANT: usize = 8;

/// Entries put back at a time.
const RESTORE_CHUNK: usize = 1 << 14;

impl Rolling {
    /// The durable copy of the records that came in since the last checkpoint, sorted by key.
    pub(super) fn checkpoint(&mut self, output: &mut Output) -> Result<(), Error> {
        for (operator, slice_end) in std::mem::take(&mut self.dropped) {
            output.state.push(StateChange::drop_slice(operator, slice_end));
        }
        self.ages.checkpoint();
        let places = Places::new(&self.slices);
        for (end, slice) in self.slices.iter() {
            let mut keys: Vec<u32> = slice.unsaved().collect();
            keys.sort_unstable();
            keys.dedup();
            if !keys.is_empty() {
                for key in &keys {
                    self.ages.note(*key);
                }
                self.save(*end, keys, slice, &places, output)?;
            }
        }
        self.slices.iter_mut().for_each(|(_, slice)| slice.saved());
        self.save_marks(output);
        self.kept_back = 0;
        Ok(())
    }

    /// Saves the rows of a slice that are not in the store yet; `keys` are their keys.
    fn save(
        &self,
        end: Micros,
        keys: Vec<u32>,
        slice: &Slice,
        places: &Places<'_>,
        output: &mut Output,
    ) -> Result<(), Error> {
        let mut keys: Vec<(u8, u32)> =
            keys.into_iter().map(|key| (key::key_group(self.keys.bytes(key)), key)).collect();
        keys.sort_unstable_by(|(one, a), (other, b)| {
            one.cmp(other).then_with(|| self.keys.bytes(*a).cmp(self.keys.bytes(*b)))
        });
        let mut records = Gather::new(places);
        let mut lists: Vec<(StateKey, usize)> = Vec::with_capacity(keys.len());
        for (key_group, number) in keys {
            let known = self.keys.records(number);
            let own = known.between(self.slices.start_of(end), end.0.saturating_sub(1));
            let own = known.iter(own).filter(|entry| slice.is_unsaved(entry.row));
            let before = records.len();
            let mut place = None;
            for entry in own {
                place.get_or_insert_with(|| (entry.time, self.slices.identity(entry)));
                records.push(entry);
            }
            if let Some((time, identity)) = place {
                let key = placed(self.keys.bytes(number), time, identity);
                let key = StateKey { operator: ROLLING, slice_end: end, key_group, key };
                lists.push((key, records.len() - before));
            }
        }
        let list = self.list(&records, &lists)?;
        let values = codec::encode([(&self.plan.state, &list)], lists.len())
            .map_err(|e| Error::Contract(e.to_string()))?;
        output.state.reserve(lists.len());
        for (row, (key, _)) in lists.into_iter().enumerate() {
            output.state.push(StateChange::Put(StateRow { key, value: values.value(row).to_vec() }));
        }
        Ok(())
    }

    /// Records as lists of the given lengths.
    fn list(&self, records: &Gather<'_>, lists: &[(StateKey, usize)]) -> Result<ArrayRef, Error> {
        let DataType::List(record) = &self.plan.state.data_type else {
            return Err(Error::Contract("records are stored as a list".into()));
        };
        let DataType::Struct(fields) = record.data_type() else {
            return Err(Error::Contract("a record is stored as a struct".into()));
        };
        let columns = fields.iter().enumerate().map(|(at, field)| records.column(at, field.data_type()));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let arrow = |e| Error::DataFusion(DataFusionError::from(e));
        let values = StructArray::try_new(fields.clone(), columns, None).map_err(arrow)?;
        let offsets = OffsetBuffer::from_lengths(lists.iter().map(|(_, length)| *length));
        let list = ListArray::try_new(Arc::clone(record), offsets, Arc::new(values), None).map_err(arrow)?;
        Ok(Arc::new(list))
    }

    fn save_marks(&mut self, output: &mut Output) {
        let Self { marks, keys, .. } = self;
        for (end, marked) in marks.iter_mut() {
            let mut rows: Vec<StateKey> = std::mem::take(&mut marked.unsaved)
                .iter()
                .map(|(number, at)| {
                    let bytes = keys.bytes(*number);
                    let (key_group, mut key) = (key::key_group(bytes), bytes.to_vec());
                    key.extend(flipped(*at));
                    StateKey { operator: EMPTIED, slice_end: *end, key_group, key }
                })
                .collect();
            rows.sort_unstable();
            marked.durable |= !rows.is_empty();
            let put = |key| StateChange::Put(StateRow { key, value: vec![codec::VERSION] });
            output.state.extend(rows.into_iter().map(put));
        }
    }

    /// Reads stored entries, which come sorted by (operator, slice end, key group, key).
    pub(super) fn load(&mut self, rows: &mut dyn Iterator<Item = StateRow>) -> Result<(), Error> {
        let mut chunk: Vec<StateRow> = Vec::new();
        for row in rows {
            let slice_end = row.key.slice_end;
            match row.key.operator {
                ROLLING => {}
                EMPTIED => {
                    self.load_mark(&row)?;
                    continue;
                }
                other => {
                    let detail = format!("operator {other} is not in the query");
                    return Err(Error::State { window_end: slice_end, detail });
                }
            }
            let full = chunk.len() >= RESTORE_CHUNK;
            if full || chunk.last().is_some_and(|last| last.key.slice_end != slice_end) {
                self.load_chunk(&chunk)?;
                chunk.clear();
            }
            chunk.push(row);
        }
        self.load_chunk(&chunk)
    }

    /// Puts a mark back.
    pub(super) fn load_mark(&mut self, row: &StateRow) -> Result<(), Error> {
        let read = || {
            let (key, at) = row.key.key.split_last_chunk::<INSTANT>()?;
            (row.value == [codec::VERSION]).then_some((key, unflipped(*at)))
        };
        let Some((key, at)) = read() else {
            return Err(refused(row.key.slice_end, "a mark in words of another release"));
        };
        let number = self.keys.intern(key);
        self.marks.restore(&mut self.keys, number, at);
        Ok(())
    }

    /// The lists of records that entries of one slice are, and the times of all records.
    pub(super) fn decode(
        &self,
        end: Micros,
        rows: &[StateRow],
    ) -> Result<(ListArray, PrimitiveArray<Int64Type>), Error> {
        let values = rows.iter().map(|row| row.value.as_slice());
        let lists = codec::decode(std::slice::from_ref(&self.plan.state), values)
            .map_err(|e| state_error(end, &e))?;
        let lists = lists.first().and_then(|lists| lists.as_list_opt::<i32>());
        let records = lists.and_then(|lists| lists.values().as_struct_opt());
        let times = records.and_then(|records| records.columns().first());
        let times = times.and_then(|times| times.as_primitive_opt::<Int64Type>());
        let both = lists.cloned().zip(times.cloned());
        both.ok_or_else(|| refused(end, "an entry is no list of records"))
    }

    /// Puts entries of one slice back.
    pub(super) fn load_chunk(&mut self, chunk: &[StateRow]) -> Result<(), Error> {
        let Some(end) = chunk.first().map(|row| row.key.slice_end) else { return Ok(()) };
        let (lists, times) = self.decode(end, chunk)?;
        let Some(records) = lists.values().as_struct_opt() else { return Ok(()) };
        let slice = self.slices.start_of(end)..end.0;
        let mut owners: Vec<u32> = Vec::with_capacity(records.len());
        for (row, place) in chunk.iter().zip(lists.offsets().windows(2)) {
            let length = row.key.key.len().checked_sub(PLACE + self.plan.others * RecordId::BYTES);
            let key = length.and_then(|length| row.key.key.get(..length));
            let own: Option<Range<usize>> = match place {
                [from, to] => usize::try_from(*from).ok().zip(usize::try_from(*to).ok()).map(|(f, t)| f..t),
                _ => None,
            };
            let (Some(key), Some(own)) = (key, own) else {
                return Err(refused(end, "an entry without a key"));
            };
            let number = self.keys.intern(key);
            for record in own {
                if !times.values().get(record).is_some_and(|time| slice.contains(time)) {
                    return Err(refused(end, "a record of another slice"));
                }
                owners.push(number);
            }
        }
        if owners.is_empty() {
            return Ok(());
        }
        let owner = |_: &mut Keys, record: usize| owners.get(record).copied().unwrap_or_default();
        self.append(end, records.columns().to_vec(), true, owner)?;
        Ok(())
    }
}

fn refused(window_end: Micros, detail: &str) -> Error {
    Error::State { window_end, detail: detail.into() }
}

/// A key with the place of a record behind it.
fn placed(key: &[u8], time: i64, (source, partition, offset, others): Identity<'_>) -> Vec<u8> {
    let mut placed = Vec::with_capacity(key.len() + PLACE + others.len());
    placed.extend_from_slice(key);
    placed.extend(flipped(time));
    placed.extend(source.to_be_bytes());
    placed.extend(partition.to_be_bytes());
    placed.extend(flipped(offset));
    placed.extend_from_slice(others);
    placed
}

/// A number as bytes that order as it does.
fn flipped(number: i64) -> [u8; 8] {
    (number ^ i64::MIN).to_be_bytes()
}

fn unflipped(bytes: [u8; 8]) -> i64 {
    i64::from_be_bytes(bytes) ^ i64::MIN
}
