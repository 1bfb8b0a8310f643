//! From the keys of a slice to the last row of each.

use std::collections::HashSet;

use hashbrown::HashTable;

/// No row.
pub(crate) const NONE: u32 = u32::MAX;

/// Distinct keys by number, each with the last row that has it.
#[derive(Default)]
pub(crate) struct Table {
    /// Encoded keys one after the other.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    hashes: Vec<u64>,
    last: Vec<u32>,
    /// Key numbers. Nothing depends on the order of the table.
    numbers: HashTable<u32>,
    /// Keys that are never found.
    nulls: HashSet<Box<[u8]>>,
}

impl Table {
    /// Makes `row` the last one of a key; the key's number, and the row that was the last one before.
    pub(crate) fn insert(&mut self, key: &[u8], hash: u64, row: u32) -> (u32, u32) {
        if let Some(number) = self.number(key, hash) {
            let last = self.last.get_mut(number as usize);
            return (number, last.map_or(NONE, |last| std::mem::replace(last, row)));
        }
        let number = self.add(key, hash, row);
        let hashes = &self.hashes;
        self.numbers.insert_unique(hash, number, |known| hashes.get(*known as usize).copied().unwrap_or(0));
        (number, NONE)
    }

    /// A number for a key that is never found.
    pub(crate) fn add_null(&mut self, key: &[u8], hash: u64, row: u32) -> u32 {
        if !self.nulls.contains(key) {
            self.nulls.insert(key.into());
        }
        self.add(key, hash, row)
    }

    fn add(&mut self, key: &[u8], hash: u64, row: u32) -> u32 {
        let number = self.last.len() as u32;
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
        self.hashes.push(hash);
        self.last.push(row);
        number
    }

    /// The last row of a key.
    pub(crate) fn last(&self, key: &[u8], hash: u64) -> Option<u32> {
        self.number(key, hash).and_then(|number| self.last.get(number as usize)).copied()
    }

    /// Whether there are rows of a key, though it may be one that is never found.
    pub(crate) fn has(&self, key: &[u8], hash: u64) -> bool {
        self.number(key, hash).is_some() || self.nulls.contains(key)
    }

    /// The hash of a number's key, if that can be found.
    pub(crate) fn hash(&self, number: u32) -> (u64, bool) {
        let hash = self.hashes.get(number as usize).copied().unwrap_or_default();
        (hash, self.number(self.key(number), hash) == Some(number))
    }

    fn number(&self, key: &[u8], hash: u64) -> Option<u32> {
        let same = |known: &u32| self.hashes.get(*known as usize) == Some(&hash) && self.key(*known) == key;
        self.numbers.find(hash, same).copied()
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.capacity()
            + self.ends.capacity() * size_of::<usize>()
            + self.hashes.capacity() * size_of::<u64>()
            + self.last.capacity() * size_of::<u32>()
            + self.numbers.capacity() * (size_of::<u32>() + 1)
    }

    /// The key of a number.
    pub(crate) fn key(&self, number: u32) -> &[u8] {
        let number = number as usize;
        let start = number.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(number).copied().unwrap_or(start);
        self.bytes.get(start..end).unwrap_or_default()
    }
}
