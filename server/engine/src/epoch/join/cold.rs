//! Keys whose rows are not in memory: put back before rows of the key come to either side, and before a row has waited in vain.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use datafusion::error::DataFusionError;

use super::{Half, Join};
use crate::epoch::{Error, Memory};
use crate::join::{Keys, hash};
use crate::state::{Cold, KeyGroups, StateRow, StateView, Wanted};
use crate::time::{Micros, Span};

/// What has waited in vain within this part of a slice is put back together.
const PARTS: i64 = 4;

impl Half {
    /// From here on keys may be left in the store.
    fn attach(&mut self, view: &Arc<dyn StateView>) -> Result<(), Error> {
        self.cold = Cold::new(self.operator, self.width * crate::epoch::RecordId::BYTES);
        self.cold.attach(view, KeyGroups::ALL)?;
        let (length, reach) = (self.buffer.length(), self.reach);
        let waits = self.keeps_all;
        // No row has waited in vain before the first of its slice has.
        let first = |end: Micros| if waits { end - length + reach } else { Micros(i64::MAX) };
        self.cold.sleep(first);
        Ok(())
    }

    /// Slices, and rows in them that are in memory.
    pub(super) fn len(&self) -> (usize, usize) {
        let (slices, rows) = self.buffer.len();
        let is_in_memory = |end: &Micros| self.buffer.slices().iter().any(|slice| slice.end == *end);
        (slices + self.cold.ends().filter(|end| !is_in_memory(end)).count(), rows)
    }

    /// How long before they have waited in vain rows are put back.
    fn ahead(&self) -> Span {
        Span((self.buffer.length().0 / PARTS).max(1))
    }

    /// Puts the rows of keys back.
    pub(super) fn recall(&mut self, keys: &Keys) -> Result<(), Error> {
        if self.cold.is_empty() {
            return Ok(());
        }
        let mut wanted = Wanted::default();
        for row in 0..keys.len() {
            if !self.buffer.has(keys.key(row), keys.hash(row)) {
                wanted.push(keys.key(row));
            }
        }
        self.put_back(&wanted)
    }

    fn put_back(&mut self, wanted: &Wanted) -> Result<(), Error> {
        if wanted.is_empty() {
            return Ok(());
        }
        let fetched = self.cold.fetch(wanted)?;
        fetched.iter().try_for_each(|(slice_end, rows)| self.restore(*slice_end, rows))
    }

    /// Puts the rows back that have waited in vain when the watermark stands here, or soon after.
    pub(super) fn recall_due(&mut self, to: Micros) -> Result<(), Error> {
        if self.cold.wakes().is_none_or(|at| at > to) {
            return Ok(());
        }
        let until = to + self.ahead();
        let mut cold = std::mem::take(&mut self.cold);
        let wakes = |slice_end: Micros, rows: &[StateRow]| self.wakes_of(slice_end, rows);
        let wanted = cold.due(to, until, &|key| self.buffer.has(key, hash(key)), &wakes);
        self.cold = cold;
        self.put_back(&wanted?)
    }

    /// The instant up to which rows are to be put back next on the way to another one.
    pub(super) fn next_stop(&self, from: Micros, to: Micros) -> Micros {
        match self.cold.wakes() {
            Some(at) if at <= to => to.min(at.max(from) + self.ahead()),
            _ => to,
        }
    }

    /// When each stored row has waited in vain: never, once it has found a partner.
    fn wakes_of(&self, slice_end: Micros, rows: &[StateRow]) -> Result<Vec<Micros>, Error> {
        let (matched, batch) = self.decode(slice_end, rows)?;
        let times = self.times(&batch)?;
        let wakes = times.values().iter().zip(matched).map(|(time, matched)| {
            if matched || !self.keeps_all { Micros(i64::MAX) } else { Micros(*time) + self.reach }
        });
        Ok(wakes.collect())
    }

    /// The greatest time of a stored row from `from` on that has found no partner.
    pub(super) fn last_cold(&self, from: Micros) -> Result<Option<Micros>, Error> {
        let last = |slice_end: Micros, rows: &[StateRow]| {
            let wakes = self.wakes_of(slice_end, rows)?;
            let waits = wakes.into_iter().filter(|at| at.0 < i64::MAX).map(|at| at - self.reach);
            Ok::<Vec<Micros>, Error>(waits.filter(|time| *time >= from).collect())
        };
        self.cold.last(&|key| self.buffer.has(key, hash(key)), &last)
    }

    /// Right after a checkpoint that is durable: lets go of keys until the others take no more than about so many bytes, of
    /// those first whose last row is the oldest. `soon`: rows that have waited in vain up to here stay.
    fn let_go(&mut self, bytes: usize, watermark: Micros) -> Result<(), Error> {
        let total = self.buffer.bytes();
        if !self.cold.is_attached() || total <= bytes {
            return Ok(());
        }
        let (soon, waits) = (watermark + self.ahead(), self.keeps_all);
        // Of each key its last row, and when the first has waited in vain, with the slice.
        let mut keys: BTreeMap<&[u8], (i64, Option<(Micros, Micros)>)> = BTreeMap::new();
        for slice in self.buffer.slices() {
            for row in 0..slice.len() as u32 {
                let time = slice.time(row);
                let known = keys.entry(slice.key(row)).or_insert((time, None));
                known.0 = known.0.max(time);
                let at = Micros(time) + self.reach;
                if waits && !slice.is_matched(row) && at >= watermark {
                    let wakes = (at, slice.end);
                    known.1 = Some(known.1.map_or(wakes, |first| first.min(wakes)));
                }
            }
        }
        let all = keys.len();
        let candidates = keys.into_iter().filter(|(_, (_, wakes))| wakes.is_none_or(|(at, _)| at > soon));
        let mut candidates: Vec<_> = candidates.map(|(key, (last, wakes))| (last, key, wakes)).collect();
        let gone = (all as u128 * (total - bytes) as u128).div_ceil(total as u128);
        let gone = usize::try_from(gone).unwrap_or(usize::MAX);
        if gone < candidates.len() {
            candidates.select_nth_unstable(gone);
            candidates.truncate(gone);
        }
        let wakes: Vec<(Micros, Micros)> = candidates.iter().filter_map(|(.., wakes)| *wakes).collect();
        let gone: HashSet<Vec<u8>> = candidates.into_iter().map(|(_, key, _)| key.to_vec()).collect();
        if !gone.is_empty() {
            let left = self.buffer.keep(&|key| !gone.contains(key)).map_err(DataFusionError::from)?;
            for slice_end in left {
                self.cold.let_go(slice_end, None);
            }
            for (at, slice_end) in wakes {
                self.cold.wake(slice_end, at);
            }
        }
        Ok(())
    }
}

impl Join {
    /// From here on keys may be left in the store.
    pub(in crate::epoch) fn attach(&mut self, view: &Arc<dyn StateView>) -> Result<(), Error> {
        self.left.attach(view)?;
        self.right.attach(view)
    }

    /// What the rows take of the memory.
    pub(in crate::epoch) fn memory(&self) -> Memory {
        let rows = self.left.buffer.bytes() + self.right.buffer.bytes();
        let evictable = if self.left.cold.is_attached() { rows.saturating_sub(self.kept_back) } else { 0 };
        Memory { bytes: rows + self.left.cold.bytes() + self.right.cold.bytes(), evictable }
    }

    /// See [`crate::epoch::Engine::evict`].
    pub(in crate::epoch) fn let_go(&mut self, bytes: usize, watermark: Micros) -> Result<(), Error> {
        let (left, right) = (self.left.buffer.bytes(), self.right.buffer.bytes());
        let of_left = bytes as u128 * left as u128 / (left + right).max(1) as u128;
        let of_left = usize::try_from(of_left).unwrap_or(usize::MAX);
        self.left.let_go(of_left, watermark)?;
        self.right.let_go(bytes - of_left, watermark)?;
        let rows = self.left.buffer.bytes() + self.right.buffer.bytes();
        self.kept_back = rows.saturating_sub(bytes);
        Ok(())
    }
}
