//! Keys that are not in memory: put back before records come into them and before they have rows to let out.

use std::collections::BTreeSet;

use super::super::Error;
use super::super::keyed::Keyed;
use super::Rolling;
use crate::key;
use crate::rolling::Timers;
use crate::runs::Runs;
use crate::state::{StateRow, Wanted, oldest};
use crate::time::{Micros, Span};

/// What falls due within this part of a slice is put back together: a slice is read so often at most for each frame.
const PARTS: i64 = 4;

/// Entries put back at a time.
const CHUNK: usize = 1 << 14;

impl Rolling {
    /// How long before they have rows to let out keys are put back.
    pub(super) fn ahead(&self) -> Span {
        Span((self.slices.length().0 / PARTS).max(1))
    }

    /// How long after a record its key may have a row to let out.
    fn offsets(&self) -> impl Iterator<Item = i64> {
        let own = (!self.emission.on_update).then_some(0);
        let emptied = self.plan.frames.iter().map(|frame| frame.preceding.0.saturating_add(1));
        own.into_iter().chain(emptied)
    }

    /// Puts the keys of rows back.
    pub(super) fn recall(&mut self, rows: &Keyed) -> Result<(), Error> {
        if self.cold.is_empty() && self.cold_marks.is_empty() {
            return Ok(());
        }
        let keys = rows.columns.get(..self.plan.shape.keys.len()).unwrap_or_default();
        let encoder = key::Encoder::new(keys).map_err(|e| Error::Contract(e.to_string()))?;
        let (mut wanted, mut bytes, mut last) = (Wanted::default(), Vec::new(), Vec::new());
        for row in 0..rows.len() {
            bytes.clear();
            encoder.append(row, &mut bytes);
            if (wanted.is_empty() || bytes != last) && self.keys.find(&bytes).is_none() {
                wanted.push(&bytes);
                std::mem::swap(&mut bytes, &mut last);
            }
        }
        self.put_back(&wanted)
    }

    /// Puts the keys back that have something to do up to an instant, or soon after.
    pub(super) fn recall_due(&mut self, to: Micros) -> Result<(), Error> {
        if self.cold.wakes().is_none_or(|at| at > to) {
            return Ok(());
        }
        let until = to + self.ahead();
        let mut cold = std::mem::take(&mut self.cold);
        let wakes = |end: Micros, rows: &[StateRow]| self.wakes_of(end, rows);
        let wanted = cold.due(to, until, &|key| self.keys.find(key).is_some(), &wakes);
        self.cold = cold;
        self.put_back(&wanted?)
    }

    /// When each of some entries says that its key has something to do next. Later records of the key may say otherwise: then
    /// it is put back for nothing.
    fn wakes_of(&self, end: Micros, rows: &[StateRow]) -> Result<Vec<Micros>, Error> {
        let (lists, times) = self.decode(end, rows)?;
        let from = self.collected.0;
        let wakes = lists.offsets().windows(2).map(|place| {
            let own = match place {
                [from, to] => times.values().get(*from as usize..*to as usize),
                _ => None,
            };
            let at = own.unwrap_or_default().iter().flat_map(|time| {
                self.offsets().map(|offset| time.saturating_add(offset)).filter(|at| *at >= from)
            });
            Micros(at.min().unwrap_or(i64::MAX))
        });
        Ok(wakes.collect())
    }

    /// Puts keys back, with all of their records and marks.
    fn put_back(&mut self, wanted: &Wanted) -> Result<(), Error> {
        if wanted.is_empty() {
            return Ok(());
        }
        for (_, rows) in self.cold.fetch(wanted)? {
            rows.chunks(CHUNK).try_for_each(|rows| self.load_chunk(rows))?;
        }
        for (_, rows) in self.cold_marks.fetch(wanted)? {
            rows.iter().try_for_each(|row| self.load_mark(row))?;
        }
        for (_, key) in wanted.sorted() {
            if let Some(number) = self.keys.find(key) {
                self.ages.note(number);
                self.watch(number);
            }
        }
        Ok(())
    }

    /// The greatest event time among the records of keys that are not in memory.
    pub(super) fn latest_cold(&self) -> Result<Option<Micros>, Error> {
        let last = |end: Micros, rows: &[StateRow]| {
            let (_, times) = self.decode(end, rows)?;
            Ok::<Vec<Micros>, Error>(times.values().iter().copied().map(Micros).collect())
        };
        self.cold.last(&|key| self.keys.find(key).is_some(), &last)
    }

    /// After a restart: from the times of a slice it follows before when nothing in it has anything to do.
    pub(super) fn sleep(&mut self) {
        let (from, offsets): (i64, Vec<i64>) = (self.collected.0, self.offsets().collect());
        let length = self.slices.length();
        self.cold.sleep(|end| {
            let wakes = offsets.iter().filter(|offset| end.0.saturating_add(**offset) > from);
            let first = wakes.map(|offset| (end - length).0.saturating_add(*offset).max(from)).min();
            Micros(first.unwrap_or(i64::MAX))
        });
    }

    /// Right after a checkpoint that is durable: lets go of keys until the others take no more than about so many
    /// bytes, of those that did not change for longest first. What has something to do soon stays.
    pub(super) fn let_go(&mut self, bytes: usize) -> Result<(), Error> {
        let total = self.bytes();
        if !self.cold.is_attached() || total <= bytes {
            return Ok(());
        }
        let soon = self.collected + self.ahead();
        let left: BTreeSet<u32> = self.left.iter().map(|row| row.key).collect();
        let mut candidates = Vec::new();
        for key in self.keys.iter().filter(|key| !left.contains(key)) {
            let wakes = self.wakes(key);
            if wakes.is_none_or(|(at, _)| at > soon) {
                candidates.push(self.ages.candidate(key, wakes));
            }
        }
        let all = self.keys.len();
        let is_all = candidates.len() == all;
        let gone = oldest(candidates, all, total, bytes);
        if !gone.is_empty() {
            let keys: BTreeSet<u32> = gone.iter().map(|gone| gone.key).collect();
            self.evict_keys(&keys)?;
            for (at, end) in gone.into_iter().filter_map(|gone| gone.wakes) {
                self.cold.wake(end, at);
            }
            // As after a restart: the next epoch lists the others anew.
            (self.pending, self.timers) = (Runs::default(), Timers::new(self.plan.frames.len()));
            self.left.clear();
            self.begun = false;
        }
        let left = self.bytes();
        self.kept_back = if is_all { 0 } else { left.saturating_sub(bytes) };
        Ok(())
    }

    fn evict_keys(&mut self, gone: &BTreeSet<u32>) -> Result<(), Error> {
        let mut is_gone = vec![false; gone.last().map_or(0, |last| *last as usize + 1)];
        for key in gone {
            if let Some(is_gone) = is_gone.get_mut(*key as usize) {
                *is_gone = true;
            }
        }
        let is_kept = |key: u32| !is_gone.get(key as usize).copied().unwrap_or_default();
        let mut rows: Vec<(Micros, Vec<u32>)> = Vec::new();
        for end in self.slices.keep(is_kept, |end, numbers| rows.push((end, numbers.to_vec())))? {
            self.cold.let_go(end, None);
        }
        for end in self.marks.keep(is_kept) {
            self.cold_marks.let_go(end, None);
        }
        for key in gone {
            self.keys.evict(*key);
        }
        let slices = &self.slices;
        let left: Vec<u32> = self.keys.iter().collect();
        for key in left {
            self.keys.renumber(key, |entry| {
                let end = slices.end_of(entry.time);
                let place = rows.binary_search_by_key(&end, |(end, _)| *end).ok();
                let numbers = place.and_then(|place| rows.get(place)).map(|(_, numbers)| numbers);
                numbers.and_then(|numbers| numbers.get(entry.row as usize)).copied().unwrap_or(entry.row)
            });
        }
        Ok(())
    }

    /// When a key has something to do next, and the end of the slice with the record that says so.
    fn wakes(&self, key: u32) -> Option<(Micros, Micros)> {
        let (records, from) = (self.keys.records(key), self.collected.0);
        let waits = if self.emission.on_update { None } else { records.times(from).next() };
        let emptied = self.plan.frames.iter().filter_map(|frame| {
            let at = records.emptied(frame.preceding.0, from, from, |_| {})?;
            Some((at, at.saturating_sub(frame.preceding.0).saturating_sub(1)))
        });
        let first = waits.map(|time| (time, time)).into_iter().chain(emptied).min();
        first.map(|(at, time)| (Micros(at), self.slices.end_of(time)))
    }
}
