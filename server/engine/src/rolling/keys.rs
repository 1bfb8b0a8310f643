//! Keys, and the records that each of them has.

use std::hash::BuildHasher;
use std::ops::Range;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// One record of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its event time in microseconds, which says in which slice it lies.
    pub(crate) time: i64,
    /// Its row there.
    pub(crate) row: u32,
}

/// One key.
#[derive(Debug, Default)]
pub(crate) struct Key {
    /// Encoded.
    pub(crate) bytes: Box<[u8]>,
    /// Its records in the order of (time, source, partition, offset).
    pub(crate) entries: Vec<Entry>,
    /// Running totals: those before its first record, then those after each, as many as there are tallies.
    totals: Vec<i128>,
    /// Instants at which it has a row that is out though it has no record there, ascending.
    pub(crate) marks: Vec<i64>,
}

impl Key {
    /// The entries with a time in `[from, to]`, as positions.
    pub(crate) fn between(&self, from: i64, to: i64) -> Range<usize> {
        let start = self.entries.partition_point(|e| e.time < from);
        let rest = self.entries.get(start..).unwrap_or_default();
        start..start + rest.partition_point(|e| e.time <= to)
    }

    /// The times of its records from `from` on, each once.
    pub(crate) fn times(&self, from: i64) -> impl Iterator<Item = i64> {
        let start = self.entries.partition_point(|e| e.time < from);
        let mut last = None;
        let entries = self.entries.get(start..).unwrap_or_default().iter();
        entries.map(|e| e.time).filter(move |time| last.replace(*time) != Some(*time))
    }

    /// The instants in `[from, to)` at which a frame that reaches `preceding` back has just become empty, and
    /// then the first one after those, as things are now.
    ///
    /// That is a microsecond after the last instant whose frame holds the last record of a run; where the
    /// next record comes right there, the frame is not empty.
    pub(crate) fn emptied(
        &self,
        preceding: i64,
        from: i64,
        to: i64,
        mut each: impl FnMut(i64),
    ) -> Option<i64> {
        let after = |e: &Entry| e.time.saturating_add(preceding).saturating_add(1);
        let start = self.entries.partition_point(|e| after(e) < from);
        let mut rest = self.entries.get(start..).unwrap_or_default().iter().peekable();
        while let Some(entry) = rest.next() {
            let at = after(entry);
            if rest.peek().is_some_and(|next| next.time <= at) {
                continue;
            }
            if at >= to {
                return Some(at);
            }
            each(at);
        }
        None
    }
}

/// All keys by number. A number is free for another key once its key has no records any more; nothing that
/// leaves the engine depends on numbers or on the order of the table.
pub(crate) struct Keys {
    tallies: usize,
    table: HashTable<u32>,
    keys: Vec<Key>,
    free: Vec<u32>,
    hasher: FixedState,
}

impl Keys {
    /// No keys, for so many tallies.
    pub(crate) fn new(tallies: usize) -> Self {
        let (table, hasher) = (HashTable::new(), FixedState::default());
        Self { tallies, table, keys: Vec::new(), free: Vec::new(), hasher }
    }

    /// The number of a key, which is new if need be.
    pub(crate) fn intern(&mut self, bytes: &[u8]) -> u32 {
        let Self { table, keys, free, hasher, .. } = self;
        let hash = hasher.hash_one(bytes);
        let is = |number: &u32| keys.get(*number as usize).is_some_and(|key| *key.bytes == *bytes);
        if let Some(number) = table.find(hash, is) {
            return *number;
        }
        let key = Key { bytes: bytes.into(), ..Key::default() };
        let number = match free.pop() {
            Some(number) => {
                if let Some(place) = keys.get_mut(number as usize) {
                    *place = key;
                }
                number
            }
            None => {
                keys.push(key);
                keys.len() as u32 - 1
            }
        };
        table.insert_unique(hash, number, |other| {
            keys.get(*other as usize).map_or(0, |key| hasher.hash_one(&*key.bytes))
        });
        number
    }

    /// Number of keys.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// A key.
    pub(crate) fn get(&self, number: u32) -> Option<&Key> {
        self.keys.get(number as usize)
    }

    /// A key, to be changed.
    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut Key> {
        self.keys.get_mut(number as usize)
    }

    /// An encoded key; empty where there is no such number.
    pub(crate) fn bytes(&self, number: u32) -> &[u8] {
        self.get(number).map_or(&[], |key| &key.bytes)
    }

    /// All keys, by number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Key)> {
        (0..).zip(&self.keys).filter(|(_, key)| !(key.entries.is_empty() && key.marks.is_empty()))
    }

    /// Puts a record in its place, with what it adds to each tally. `is_before` says of a record of the same
    /// time whether it comes first.
    pub(crate) fn insert(
        &mut self,
        number: u32,
        entry: Entry,
        added: &[i128],
        is_before: impl Fn(Entry) -> bool,
    ) {
        let Some(key) = self.keys.get_mut(number as usize) else { return };
        let is_last = key.entries.last().is_none_or(|last| last.time < entry.time);
        let place = if is_last {
            key.entries.push(entry);
            key.entries.len() - 1
        } else {
            let place =
                key.entries.partition_point(|e| e.time < entry.time || e.time == entry.time && is_before(*e));
            key.entries.insert(place, entry);
            place
        };
        if self.tallies == 0 {
            return;
        }
        if key.totals.is_empty() {
            key.totals.resize(self.tallies, 0);
        }
        // The new record has the totals before it, and what it adds is in all from it on.
        let before = place * self.tallies;
        for tally in 0..self.tallies {
            let total = key.totals.get(before + tally).copied().unwrap_or_default();
            key.totals.insert(before + self.tallies + tally, total);
        }
        let later = key.totals.get_mut(before + self.tallies..).unwrap_or_default();
        for totals in later.chunks_mut(self.tallies) {
            totals.iter_mut().zip(added).for_each(|(total, added)| *total = total.wrapping_add(*added));
        }
    }

    /// What a tally adds up to over records of a key, which are given by position.
    pub(crate) fn total(&self, number: u32, records: &Range<usize>, tally: usize) -> i128 {
        let Some(key) = self.get(number) else { return 0 };
        let at = |record: usize| key.totals.get(record * self.tallies + tally).copied().unwrap_or_default();
        at(records.end).wrapping_sub(at(records.start))
    }

    /// Forgets a key's records before `time`.
    pub(crate) fn forget(&mut self, number: u32, time: i64) {
        if let Some(key) = self.keys.get_mut(number as usize) {
            let gone = key.entries.partition_point(|e| e.time < time);
            key.entries.drain(..gone);
            key.totals.drain(..(gone * self.tallies).min(key.totals.len()));
        }
    }

    /// Gives a number back if nothing is left of its key; true: it was.
    pub(crate) fn release(&mut self, number: u32) -> bool {
        let Some(key) = self.keys.get(number as usize) else { return false };
        if !key.entries.is_empty() || !key.marks.is_empty() {
            return false;
        }
        let hash = self.hasher.hash_one(&*key.bytes);
        // A number that was given back before is not in the table any more.
        let Ok(entry) = self.table.find_entry(hash, |other| *other == number) else { return false };
        entry.remove();
        if let Some(key) = self.keys.get_mut(number as usize) {
            *key = Key::default();
        }
        self.free.push(number);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(times: &[i64]) -> Key {
        let entries = times.iter().map(|time| Entry { time: *time, row: 0 }).collect();
        Key { entries, ..Key::default() }
    }

    #[test]
    fn a_frame_is_empty_a_microsecond_after_it_held_the_last_record() {
        let emptied = |times: &[i64], from, to| {
            let mut found = Vec::new();
            let next = key(times).emptied(10, from, to, |at| found.push(at));
            (found, next)
        };
        assert_eq!(emptied(&[0, 10, 10, 20], i64::MIN, 100), (vec![31], None));
        // The record at 11 is there when the one at 0 leaves; the one at 23 comes too late for the one at 11.
        assert_eq!(emptied(&[0, 11, 23], i64::MIN, 100), (vec![22, 34], None));
        assert_eq!(emptied(&[0, 11, 23], 23, 34), (vec![], Some(34)));
        assert_eq!(emptied(&[0, 11, 23], 35, 100), (vec![], None));
    }

    #[test]
    fn numbers_are_used_again_once_a_key_is_gone() {
        let mut keys = Keys::new(0);
        let (one, other) = (keys.intern(b"one"), keys.intern(b"other"));
        assert_ne!(one, other);
        assert_eq!(keys.intern(b"one"), one);
        keys.insert(one, Entry { time: 5, row: 0 }, &[], |_| true);
        assert!(!keys.release(one));
        keys.forget(one, 6);
        assert!(keys.release(one));
        assert!(!keys.release(one), "once is enough");
        assert_eq!((keys.len(), keys.intern(b"third")), (1, one));
        assert_eq!(keys.bytes(one), b"third");
    }

    #[test]
    fn records_lie_in_the_order_of_time_and_peers_as_they_are_told() {
        let mut keys = Keys::new(2);
        let number = keys.intern(b"k");
        for (time, row) in [(5, 3), (7, 1), (5, 1), (6, 9), (5, 2)] {
            keys.insert(number, Entry { time, row }, &[1, i128::from(row)], |peer| peer.row <= row);
        }
        let entries = &keys.get(number).unwrap().entries;
        let found: Vec<_> = entries.iter().map(|e| (e.time, e.row)).collect();
        assert_eq!(found, [(5, 1), (5, 2), (5, 3), (6, 9), (7, 1)]);
        assert_eq!(keys.get(number).unwrap().between(5, 6), 0..4);
        assert_eq!(keys.get(number).unwrap().times(5).collect::<Vec<_>>(), [5, 6, 7]);
        // Their totals go with them, whatever was forgotten.
        let sums = |keys: &Keys, from, to| [0, 1].map(|tally| keys.total(number, &(from..to), tally));
        assert_eq!((sums(&keys, 0, 5), sums(&keys, 1, 4), sums(&keys, 2, 2)), ([5, 16], [3, 14], [0, 0]));
        keys.forget(number, 6);
        keys.insert(number, Entry { time: 6, row: 4 }, &[1, 4], |peer| peer.row <= 4);
        assert_eq!((sums(&keys, 0, 3), sums(&keys, 0, 1), sums(&keys, 1, 3)), ([3, 14], [1, 4], [2, 10]));
    }
}
