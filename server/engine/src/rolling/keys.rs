//! Keys, and the records that each of them has.

use std::cmp::Ordering;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::records::{self, Entry, Records, Totals};
use crate::state::prefix;

/// Bytes of a key that need no memory of their own.
const SHORT: usize = 22;

/// An encoded key.
enum Bytes {
    /// So many of these.
    Short(u8, [u8; SHORT]),
    Long(Box<[u8]>),
}

impl Bytes {
    fn new(bytes: &[u8]) -> Self {
        let mut short = [0; SHORT];
        match (short.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(bytes);
                Self::Short(length, short)
            }
            _ => Self::Long(bytes.into()),
        }
    }

    fn get(&self) -> &[u8] {
        match self {
            Self::Short(length, short) => short.get(..usize::from(*length)).unwrap_or_default(),
            Self::Long(bytes) => bytes,
        }
    }
}

/// All keys by number. A number is free for another key once its key has no records any more; nothing that
/// leaves the engine depends on numbers or on the order of the table. What is asked for together lies together,
/// for keys come from all over memory.
pub(crate) struct Keys {
    totals: Totals,
    /// Hash and number of each key.
    table: HashTable<(u64, u32)>,
    bytes: Vec<Bytes>,
    /// Of each key its records ([`records`]). Some that are forgotten are still there, before the others, until the
    /// next one comes: no row looks back as far.
    words: Vec<Vec<u64>>,
    /// Of each key the time of its last record; [`i64::MIN`] without one, [`i64::MAX`] of a number that is free.
    last: Vec<i64>,
    /// Of each key the bytes that settle most comparisons.
    prefixes: Vec<u64>,
    /// Of each key the instants at which it has a row that is out though it has no record there, ascending.
    marks: Vec<Vec<i64>>,
    free: Vec<u32>,
    hasher: FixedState,
    /// Records before this time are forgotten.
    forgotten: i64,
}

impl Keys {
    /// No keys; these totals are kept along their records.
    pub(crate) fn new(totals: Totals) -> Self {
        Self {
            totals,
            table: HashTable::new(),
            bytes: Vec::new(),
            words: Vec::new(),
            last: Vec::new(),
            prefixes: Vec::new(),
            marks: Vec::new(),
            free: Vec::new(),
            hasher: FixedState::default(),
            forgotten: i64::MIN,
        }
    }

    /// The number of a key, which is new if need be.
    pub(crate) fn intern(&mut self, bytes: &[u8]) -> u32 {
        let hash = self.hasher.hash_one(bytes);
        if let Some(number) = self.find_hashed(bytes, hash) {
            return number;
        }
        // No column of a key is null: the first byte of all is the same.
        let prefix = prefix(bytes, 1);
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                self.bytes.push(Bytes::new(&[]));
                self.words.push(Vec::new());
                self.last.push(i64::MIN);
                self.prefixes.push(0);
                self.marks.push(Vec::new());
                self.bytes.len() as u32 - 1
            }
        };
        let place = number as usize;
        if let (Some(known), Some(last), Some(settles)) =
            (self.bytes.get_mut(place), self.last.get_mut(place), self.prefixes.get_mut(place))
        {
            (*known, *last, *settles) = (Bytes::new(bytes), i64::MIN, prefix);
        }
        self.table.insert_unique(hash, (hash, number), |(hash, _)| *hash);
        number
    }

    /// The number of a key, if it is there.
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<u32> {
        self.find_hashed(bytes, self.hasher.hash_one(bytes))
    }

    fn find_hashed(&self, bytes: &[u8], hash: u64) -> Option<u32> {
        let all = &self.bytes;
        let known = self.table.find(hash, |(known, number)| {
            *known == hash && all.get(*number as usize).is_some_and(|known| known.get() == bytes)
        });
        known.map(|(_, number)| *number)
    }

    /// The order of keys by their bytes.
    pub(crate) fn order(&self, one: u32, other: u32) -> Ordering {
        if one == other {
            return Ordering::Equal;
        }
        let prefix = |number: u32| self.prefixes.get(number as usize);
        prefix(one).cmp(&prefix(other)).then_with(|| self.bytes(one).cmp(self.bytes(other)))
    }

    /// What is added up along the records.
    pub(crate) fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Number of keys.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// The records of a key.
    pub(crate) fn records(&self, number: u32) -> Records<'_> {
        Records::new(self.words.get(number as usize).map_or(&[], Vec::as_slice), &self.totals)
    }

    /// An encoded key; empty where there is no such number.
    pub(crate) fn bytes(&self, number: u32) -> &[u8] {
        self.bytes.get(number as usize).map_or(&[], Bytes::get)
    }

    /// The numbers of all keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        (0..).zip(&self.last).filter(|(_, last)| **last < i64::MAX).map(|(number, _)| number)
    }

    /// Puts a record in its place, with what it adds to each total. `is_before` says of a record of the same
    /// time whether it comes first.
    pub(crate) fn insert(
        &mut self,
        number: u32,
        entry: Entry,
        added: &[u64],
        is_before: impl Fn(Entry) -> bool,
    ) {
        let place = number as usize;
        let (Some(words), Some(last)) = (self.words.get_mut(place), self.last.get_mut(place)) else { return };
        *last = (*last).max(entry.time);
        let known = Records::new(words, &self.totals);
        if known.get(0).is_some_and(|first| first.time < self.forgotten) {
            let gone = known.before(self.forgotten);
            records::drop_first(words, &self.totals, gone);
        }
        records::insert(words, &self.totals, entry, added, is_before);
    }

    /// The instants at which a key has a row that is out though it has no record there, ascending.
    pub(crate) fn marks(&self, number: u32) -> &[i64] {
        self.marks.get(number as usize).map_or(&[], Vec::as_slice)
    }

    /// Adds one; false: it was there.
    pub(crate) fn mark(&mut self, number: u32, at: i64) -> bool {
        let Some(marks) = self.marks.get_mut(number as usize) else { return false };
        let place = marks.binary_search(&at);
        if let Err(place) = place {
            marks.insert(place, at);
        }
        place.is_err()
    }

    /// Lets go of those before a time.
    pub(crate) fn unmark(&mut self, number: u32, before: i64) {
        if let Some(marks) = self.marks.get_mut(number as usize) {
            let gone = marks.partition_point(|at| *at < before);
            marks.drain(..gone);
        }
    }

    /// Forgets all records before `time`.
    pub(crate) fn forget(&mut self, time: i64) {
        self.forgotten = self.forgotten.max(time);
    }

    /// Gives a number back if nothing is left of its key; true: it was.
    pub(crate) fn release(&mut self, number: u32) -> bool {
        let place = number as usize;
        let Some(last) = self.last.get(place) else { return false };
        // Without a record it is there for its marks alone.
        let is_left = *last >= self.forgotten && *last > i64::MIN;
        if is_left || self.marks.get(place).is_some_and(|marks| !marks.is_empty()) {
            return false;
        }
        self.evict(number);
        true
    }

    /// The records of a key have other rows.
    pub(crate) fn renumber(&mut self, number: u32, row: impl Fn(Entry) -> u32) {
        if let Some(words) = self.words.get_mut(number as usize) {
            records::renumber(words, &self.totals, row);
        }
    }

    /// Forgets a key with all that is known of it, and gives its number back.
    pub(crate) fn evict(&mut self, number: u32) {
        let place = number as usize;
        let (Some(bytes), Some(words), Some(marks), Some(last)) = (
            self.bytes.get_mut(place),
            self.words.get_mut(place),
            self.marks.get_mut(place),
            self.last.get_mut(place),
        ) else {
            return;
        };
        let hash = self.hasher.hash_one(bytes.get());
        if let Ok(entry) = self.table.find_entry(hash, |(_, other)| *other == number) {
            entry.remove();
        }
        (*bytes, *words, *marks) = (Bytes::new(&[]), Vec::new(), Vec::new());
        *last = i64::MAX;
        self.free.push(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(time: i64, row: u32) -> Entry {
        Entry { time, row }
    }

    #[test]
    fn numbers_are_used_again_once_a_key_is_gone() {
        let mut keys = Keys::new(Totals::default());
        let (one, other) = (keys.intern(b"one"), keys.intern(b"other"));
        assert_ne!(one, other);
        assert_eq!(keys.intern(b"one"), one);
        keys.insert(one, entry(5, 0), &[], |_| true);
        assert!(!keys.release(one));
        keys.forget(6);
        assert!(keys.mark(one, 9) && !keys.mark(one, 9));
        assert!(!keys.release(one), "a row is out");
        keys.unmark(one, 10);
        assert!(keys.release(one));
        assert!(!keys.release(one), "once is enough");
        let third = b"\x01third, which is longer than others";
        assert_eq!((keys.len(), keys.intern(third)), (1, one));
        assert_eq!((keys.bytes(one), keys.records(one).len()), (&third[..], 0));
        let second = keys.intern(b"\x01second");
        assert_eq!((keys.order(one, second), keys.order(one, one)), (Ordering::Greater, Ordering::Equal));
    }

    #[test]
    fn what_is_forgotten_goes_when_the_next_record_comes() {
        let mut keys = Keys::new(Totals::new([false]));
        let number = keys.intern(b"k");
        for (time, row) in [(5, 3), (7, 1), (5, 1), (6, 9), (5, 2)] {
            keys.insert(number, entry(time, row), &[u64::from(row)], |peer| peer.row <= row);
        }
        keys.forget(6);
        assert_eq!(keys.records(number).total(&(3..5), 0), 10);
        keys.insert(number, entry(6, 4), &[4], |peer| peer.row <= 4);
        let records = keys.records(number);
        assert_eq!(records.iter(0..9).collect::<Vec<_>>(), [entry(6, 4), entry(6, 9), entry(7, 1)]);
        assert_eq!((records.total(&(0..3), 0), records.total(&(1..3), 0)), (14, 10));
    }
}
