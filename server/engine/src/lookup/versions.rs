//! Keys, and the rows that each of them has.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::BuildHasher;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::rows::Rows;
use super::steps::{DELETED, Step, Steps};
use crate::time::Span;

/// So many rows that nobody wants are there before they are cleared away.
const WASTE: usize = 8192;

/// A row as it comes in: its stamp, and whether it is a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) from: i64,
    pub(crate) event_time: i64,
    pub(crate) commit: i64,
    pub(crate) is_delete: bool,
}

/// One key.
#[derive(Default)]
struct Key {
    bytes: Box<[u8]>,
    steps: Steps,
    /// An entry of it lies in the store.
    is_stored: bool,
    /// That entry is not what it should be.
    is_changed: bool,
}

/// A key that changed, as it is to be stored.
pub(crate) struct Changed<'v> {
    pub(crate) key: &'v [u8],
    /// Its rows, as they become visible; none: the entry goes.
    pub(crate) versions: Vec<(Version, Option<u32>)>,
}

/// All keys. Nothing that leaves the engine depends on their numbers or on the order of the table.
pub(crate) struct Versions {
    ttl: Option<Span>,
    rows: Rows,
    table: HashTable<u32>,
    keys: Vec<Key>,
    free: Vec<u32>,
    hasher: FixedState,
    /// When to look whether a key has something to forget.
    due: BinaryHeap<Reverse<(i64, u32)>>,
    changed: Vec<u32>,
    /// Rows that somebody wants.
    live: usize,
    /// Bytes of all keys.
    key_bytes: usize,
}

impl Versions {
    /// No rows yet, of these columns.
    pub(crate) fn new(schema: SchemaRef, ttl: Option<Span>) -> Self {
        Self {
            ttl,
            rows: Rows::new(schema),
            table: HashTable::new(),
            keys: Vec::new(),
            free: Vec::new(),
            hasher: FixedState::default(),
            due: BinaryHeap::new(),
            changed: Vec::new(),
            live: 0,
            key_bytes: 0,
        }
    }

    /// Keys.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Bytes that they and their rows take.
    pub(crate) fn bytes(&self) -> usize {
        let table = self.table.capacity() * (size_of::<u32>() + 1) + self.keys.capacity() * size_of::<Key>();
        let due = self.due.capacity() * size_of::<Reverse<(i64, u32)>>();
        self.rows.bytes() + self.live * size_of::<Step>() + self.key_bytes + table + due
    }

    fn find(&self, bytes: &[u8]) -> Option<u32> {
        let is = |number: &u32| self.keys.get(*number as usize).is_some_and(|key| *key.bytes == *bytes);
        self.table.find(self.hasher.hash_one(bytes), is).copied()
    }

    /// The number of a key, which is new if need be.
    fn intern(&mut self, bytes: &[u8]) -> u32 {
        if let Some(number) = self.find(bytes) {
            return number;
        }
        let key = Key { bytes: bytes.into(), ..Key::default() };
        self.key_bytes += bytes.len();
        let number = match self.free.pop() {
            Some(number) => {
                if let Some(place) = self.keys.get_mut(number as usize) {
                    *place = key;
                }
                number
            }
            None => {
                self.keys.push(key);
                self.keys.len() as u32 - 1
            }
        };
        let Self { table, keys, hasher, .. } = self;
        table.insert_unique(hasher.hash_one(bytes), number, |other| {
            keys.get(*other as usize).map_or(0, |key| hasher.hash_one(&*key.bytes))
        });
        number
    }

    /// Adds rows, one of `batch` for each of `rows`: its key and what it is.
    pub(crate) fn insert<'k>(
        &mut self,
        batch: RecordBatch,
        rows: impl Iterator<Item = (&'k [u8], Version)>,
    ) -> Result<(), ArrowError> {
        self.put(batch, rows, false)
    }

    /// Puts rows back that lie in the store.
    pub(crate) fn restore<'k>(
        &mut self,
        batch: RecordBatch,
        rows: impl Iterator<Item = (&'k [u8], Version)>,
    ) -> Result<(), ArrowError> {
        self.put(batch, rows, true)
    }

    fn put<'k>(
        &mut self,
        batch: RecordBatch,
        rows: impl Iterator<Item = (&'k [u8], Version)>,
        is_stored: bool,
    ) -> Result<(), ArrowError> {
        let first = self.rows.append(batch)?;
        for (row, (bytes, version)) in (first..).zip(rows) {
            let number = self.intern(bytes);
            let row = if version.is_delete { DELETED } else { row };
            let Version { from, event_time, commit, .. } = version;
            let step = Step { from, event_time, commit, row };
            let Some(key) = self.keys.get_mut(number as usize) else { continue };
            let gone = key.steps.insert(step);
            key.is_stored |= is_stored;
            let is_new = !gone.contains(&step);
            let values = |steps: &[Step]| steps.iter().filter(|s| s.row != DELETED).count();
            self.live = (self.live + values(&[step])).saturating_sub(values(&gone));
            if is_new {
                self.due.extend(key.steps.due(self.ttl).map(|at| Reverse((at, number))));
            }
            if is_new && !is_stored {
                self.change(number);
            }
        }
        self.clear_away()
    }

    fn change(&mut self, number: u32) {
        if let Some(key) = self.keys.get_mut(number as usize)
            && !std::mem::replace(&mut key.is_changed, true)
        {
            self.changed.push(number);
        }
    }

    /// The row of a key at an instant, by its number.
    pub(crate) fn at(&self, key: &[u8], at: i64) -> Option<u32> {
        self.keys.get(self.find(key)? as usize)?.steps.at(at, self.ttl)
    }

    /// The columns of rows, NULL where there is none.
    pub(crate) fn columns(
        &self,
        rows: impl Iterator<Item = Option<u32>>,
    ) -> Result<Vec<ArrayRef>, ArrowError> {
        self.rows.columns(rows)
    }

    /// Lets go of what nobody who looks from `kept` on picks.
    pub(crate) fn forget(&mut self, kept: i64) -> Result<(), ArrowError> {
        while let Some(Reverse((at, number))) = self.due.peek().copied()
            && at <= kept
        {
            self.due.pop();
            let Some(key) = self.keys.get_mut(number as usize) else { continue };
            let gone = key.steps.forget(kept, self.ttl);
            if gone.is_empty() {
                continue; // it was looked at before, or the number is another key's now
            }
            self.live = self.live.saturating_sub(gone.iter().filter(|s| s.row != DELETED).count());
            self.due.extend(key.steps.due(self.ttl).map(|at| Reverse((at, number))));
            self.change(number);
        }
        self.clear_away()
    }

    /// Clears rows away that nobody wants, once they are most of them.
    fn clear_away(&mut self) -> Result<(), ArrowError> {
        if self.rows.len() <= 2 * self.live + WASTE {
            return Ok(());
        }
        let mut kept = Vec::with_capacity(self.live);
        for step in self.keys.iter_mut().flat_map(|key| key.steps.iter_mut()).filter(|s| s.row != DELETED) {
            kept.push(std::mem::replace(&mut step.row, kept.len() as u32));
        }
        self.rows.keep(&kept)
    }

    /// The keys that changed since this was last asked; from here on they are taken to lie in the store.
    /// Sorted by nothing.
    pub(crate) fn changed(&self) -> impl Iterator<Item = Changed<'_>> {
        self.changed.iter().filter_map(|number| {
            let key = self.keys.get(*number as usize)?;
            let versions = key.steps.iter().map(|step| {
                let Step { from, event_time, commit, row } = *step;
                let is_delete = row == DELETED;
                (Version { from, event_time, commit, is_delete }, (!is_delete).then_some(row))
            });
            let versions: Vec<_> = versions.collect();
            (key.is_stored || !versions.is_empty()).then_some(Changed { key: &key.bytes, versions })
        })
    }

    /// What [`Self::changed`] gave lies in the store.
    pub(crate) fn saved(&mut self) {
        for number in std::mem::take(&mut self.changed) {
            let Some(key) = self.keys.get_mut(number as usize) else { continue };
            key.is_changed = false;
            key.is_stored = !key.steps.is_empty();
            if key.is_stored {
                continue;
            }
            let hash = self.hasher.hash_one(&*key.bytes);
            if let Ok(entry) = self.table.find_entry(hash, |other| *other == number) {
                entry.remove();
                self.key_bytes -= key.bytes.len();
                *key = Key::default();
                self.free.push(number);
            }
        }
    }
}

/// A batch that may have no columns at all.
pub(super) fn batch(
    schema: &SchemaRef,
    columns: Vec<ArrayRef>,
    rows: usize,
) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
}
