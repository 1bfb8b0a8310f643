//! The records of one key, and the running totals along them.
//!
//! They lie in one piece, so that a row is made out of one stretch of memory:
//!
//! ```text
//! totals of all │ time · row · totals before it │ time · row · totals before it │ …
//! ```

use std::ops::Range;

/// Words of a record besides its totals.
const OWN: usize = 2;

/// One record of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its event time in microseconds, which says in which slice it lies.
    pub(crate) time: i64,
    /// Its row there.
    pub(crate) row: u32,
}

/// What is added up along the records, each total in one word or two.
#[derive(Debug, Clone, Default)]
pub(crate) struct Totals {
    /// Of each the first word, and whether it has a second one.
    places: Vec<(usize, bool)>,
    words: usize,
}

impl Totals {
    /// Totals of 128 bits (`true`) and of 64.
    pub(crate) fn new(wide: impl IntoIterator<Item = bool>) -> Self {
        let mut totals = Self::default();
        for is_wide in wide {
            totals.places.push((totals.words, is_wide));
            totals.words += 1 + usize::from(is_wide);
        }
        totals
    }

    /// Words of all totals.
    pub(crate) fn words(&self) -> usize {
        self.words
    }

    /// Adds to a total: what a record adds is made of this.
    pub(crate) fn add(&self, total: usize, words: &mut [u64], value: i128) {
        let Some((place, is_wide)) = self.places.get(total).copied() else { return };
        let sum = read(words, place, is_wide).wrapping_add(value);
        for (word, part) in words.iter_mut().skip(place).take(1 + usize::from(is_wide)).zip([sum, sum >> 64])
        {
            *word = part as u64;
        }
    }

    fn add_all(&self, words: &mut [u64], added: &[u64]) {
        for (total, (place, is_wide)) in self.places.iter().enumerate() {
            match (is_wide, words.get_mut(*place), added.get(*place)) {
                (false, Some(word), Some(added)) => *word = word.wrapping_add(*added),
                _ => self.add(total, words, read(added, *place, *is_wide)),
            }
        }
    }
}

fn read(words: &[u64], place: usize, is_wide: bool) -> i128 {
    let word = |at: usize| words.get(at).copied().unwrap_or_default();
    if is_wide {
        i128::from(word(place)) | i128::from(word(place + 1)) << 64
    } else {
        i128::from(word(place) as i64)
    }
}

/// The records of a key in the order of (time, source, partition, offset).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Records<'k> {
    words: &'k [u64],
    totals: &'k Totals,
}

impl<'k> Records<'k> {
    pub(super) fn new(words: &'k [u64], totals: &'k Totals) -> Self {
        Self { words, totals }
    }

    fn stride(&self) -> usize {
        OWN + self.totals.words
    }

    fn place(&self, record: usize) -> usize {
        self.totals.words + record * self.stride()
    }

    /// Number of records.
    pub(crate) fn len(&self) -> usize {
        self.words.len().saturating_sub(self.totals.words) / self.stride()
    }

    /// The time of a record.
    pub(crate) fn time(&self, record: usize) -> i64 {
        self.words.get(self.place(record)).map_or(i64::MAX, |time| *time as i64)
    }

    /// A record.
    pub(crate) fn get(&self, record: usize) -> Option<Entry> {
        let own = self.words.get(self.place(record)..)?.first_chunk::<OWN>()?;
        let [time, row] = *own;
        Some(Entry { time: time as i64, row: row as u32 })
    }

    /// The last one.
    pub(crate) fn last(&self) -> Option<Entry> {
        self.get(self.len().checked_sub(1)?)
    }

    /// Some of them, by position.
    pub(crate) fn iter(self, records: Range<usize>) -> impl Iterator<Item = Entry> + 'k {
        records.map_while(move |record| self.get(record))
    }

    /// The first position of which something is not true that is true of all before it.
    fn partition_point(&self, is_before: impl Fn(usize) -> bool) -> usize {
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = from.midpoint(to);
            if is_before(middle) {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        from
    }

    /// How many come before a time.
    pub(crate) fn before(&self, time: i64) -> usize {
        self.partition_point(|record| self.time(record) < time)
    }

    /// Those with a time in `[from, to]`, as positions.
    pub(crate) fn between(&self, from: i64, to: i64) -> Range<usize> {
        let end = match to.checked_add(1) {
            Some(after) => self.before(after),
            None => self.len(),
        };
        // Frames are short, and end where the search for their start begins.
        let mut start = end;
        for _ in 0..8 {
            match start.checked_sub(1) {
                Some(record) if self.time(record) >= from => start = record,
                _ => return start..end,
            }
        }
        self.before(from).min(end)..end
    }

    /// The times of records from `from` on, each once.
    pub(crate) fn times(self, from: i64) -> impl Iterator<Item = i64> + 'k {
        let mut last = None;
        let times = (self.before(from)..self.len()).map(move |record| self.time(record));
        times.filter(move |time| last.replace(*time) != Some(*time))
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
        let after = |record: usize| self.time(record).saturating_add(preceding).saturating_add(1);
        for record in self.partition_point(|record| after(record) < from)..self.len() {
            let at = after(record);
            if record + 1 < self.len() && self.time(record + 1) <= at {
                continue;
            }
            if at >= to {
                return Some(at);
            }
            each(at);
        }
        None
    }

    /// What a total adds up to over records, which are given by position.
    pub(crate) fn total(&self, records: &Range<usize>, total: usize) -> i128 {
        let Some((place, is_wide)) = self.totals.places.get(total).copied() else { return 0 };
        let before = |record: usize| {
            let words = if record < self.len() { self.place(record) + OWN } else { 0 };
            read(self.words, words + place, is_wide)
        };
        let sum = before(records.end).wrapping_sub(before(records.start));
        if is_wide { sum } else { i128::from(sum as i64) }
    }
}

/// Puts a record in its place, with what it adds to each total. `is_before` says of a record of the same time
/// whether it comes first.
pub(super) fn insert(
    words: &mut Vec<u64>,
    totals: &Totals,
    entry: Entry,
    added: &[u64],
    is_before: impl Fn(Entry) -> bool,
) {
    if words.is_empty() {
        words.resize(totals.words, 0);
    }
    let records = Records::new(words, totals);
    let (length, stride) = (records.len(), records.stride());
    let place = match records.last() {
        Some(last) if last.time >= entry.time => records.partition_point(|record| {
            let known = records.get(record);
            known.is_some_and(|e| e.time < entry.time || e.time == entry.time && is_before(e))
        }),
        _ => length,
    };
    let at = records.place(place);
    if place == length {
        words.extend([entry.time as u64, u64::from(entry.row)]);
        words.extend_from_within(..totals.words);
    } else {
        let end = words.len();
        words.resize(end + stride, 0);
        // The totals before the one that stood here are those before the new one.
        words.copy_within(at..end, at + stride);
        for (word, own) in words.iter_mut().skip(at).zip([entry.time as u64, u64::from(entry.row)]) {
            *word = own;
        }
        for later in words.get_mut(at + stride..).unwrap_or_default().chunks_mut(stride) {
            totals.add_all(later.get_mut(OWN..).unwrap_or_default(), added);
        }
    }
    totals.add_all(words.get_mut(..totals.words).unwrap_or_default(), added);
}

/// Says which row each record is.
pub(super) fn renumber(words: &mut [u64], totals: &Totals, row: impl Fn(Entry) -> u32) {
    for record in words.get_mut(totals.words..).unwrap_or_default().chunks_mut(OWN + totals.words) {
        if let [time, known, ..] = record {
            *known = u64::from(row(Entry { time: *time as i64, row: *known as u32 }));
        }
    }
}

/// Lets go of the first records.
pub(super) fn drop_first(words: &mut Vec<u64>, totals: &Totals, records: usize) {
    let gone = records * (OWN + totals.words);
    words.drain(totals.words..(totals.words + gone).min(words.len()));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(times: &[i64]) -> Vec<u64> {
        let mut words = Vec::new();
        for time in times {
            insert(&mut words, &Totals::default(), Entry { time: *time, row: 0 }, &[], |_| true);
        }
        words
    }

    #[test]
    fn a_frame_is_empty_a_microsecond_after_it_held_the_last_record() {
        let emptied = |times: &[i64], from, to| {
            let mut found = Vec::new();
            let (words, totals) = (words(times), Totals::default());
            let next = Records::new(&words, &totals).emptied(10, from, to, |at| found.push(at));
            (found, next)
        };
        assert_eq!(emptied(&[0, 10, 10, 20], i64::MIN, 100), (vec![31], None));
        // The record at 11 is there when the one at 0 leaves; the one at 23 comes too late for the one at 11.
        assert_eq!(emptied(&[0, 11, 23], i64::MIN, 100), (vec![22, 34], None));
        assert_eq!(emptied(&[0, 11, 23], 23, 34), (vec![], Some(34)));
        assert_eq!(emptied(&[0, 11, 23], 35, 100), (vec![], None));
    }

    proptest! {
        /// Whatever the order in which records come, how many were dropped, and how large the numbers are.
        #[test]
        fn totals_are_those_of_the_records_between(
            given in prop::collection::vec((-20_i64..20, any::<u32>(), -9_i64..9, any::<i128>()), 0..40),
            drops in prop::collection::vec(0_usize..4, 40), from in -25_i64..25, length in 0_i64..30,
        ) {
            let totals = Totals::new([false, true]);
            let (mut words, mut naive) = (Vec::new(), Vec::new());
            for ((time, row, narrow, wide), dropped) in given.into_iter().zip(drops) {
                let mut added = vec![0; totals.words()];
                totals.add(0, &mut added, i128::from(narrow));
                totals.add(1, &mut added, wide);
                insert(&mut words, &totals, Entry { time, row }, &added, |peer| peer.row <= row);
                naive.push((time, row, narrow, wide));
                naive.sort_by_key(|(time, row, ..)| (*time, *row));
                if dropped == 0 {
                    drop_first(&mut words, &totals, 1);
                    naive.remove(0);
                }
            }
            let records = Records::new(&words, &totals);
            let found: Vec<(i64, u32)> = records.iter(0..records.len()).map(|e| (e.time, e.row)).collect();
            prop_assert_eq!(found, naive.iter().map(|(time, row, ..)| (*time, *row)).collect::<Vec<_>>());
            let range = records.between(from, from + length);
            let held = naive.iter().filter(|(time, ..)| (from..=from + length).contains(time));
            prop_assert_eq!(range.len(), held.clone().count());
            let narrow: i64 = held.clone().map(|(_, _, narrow, _)| *narrow).sum();
            let wide = held.fold(0_i128, |sum, (.., wide)| sum.wrapping_add(*wide));
            prop_assert_eq!((records.total(&range, 0), records.total(&range, 1)), (i128::from(narrow), wide));
            let times: std::collections::BTreeSet<i64> =
                naive.iter().map(|(time, ..)| *time).filter(|time| *time >= from).collect();
            prop_assert_eq!(records.times(from).collect::<Vec<_>>(), times.into_iter().collect::<Vec<_>>());
        }
    }
}
