//! Folding of the journal: of epochs long past, a thousand become one entry.
//!
//! Light traffic is cut into hundreds of epochs a second, and the journal has an entry for each. What is
//! needed of one that is older than the last checkpoint is where its rows came from and what became of its
//! records: a folded entry says that of its epochs together.

use std::collections::BTreeMap;

use millpond_engine::time::Micros;
use xxhash_rust::xxh3::Xxh3;

use super::bytes;
use super::commit::{Accounting, JournalEntry, JournalRange, PartitionKey};
use super::db::{Batch, Family};
use super::journal::put_entry;
use super::{Error, Store, keys};
use crate::catalog::GroupId;

/// So many epochs become one entry.
pub const FOLD: usize = 1_000;

impl Store {
    /// Folds the oldest [`FOLD`] epochs of a group that are not folded yet, if all of them were opened before
    /// `before` and a restart will not apply them again. True: they are one entry now.
    pub fn fold_journal(&self, group: GroupId, before: Micros) -> Result<bool, Error> {
        let state = self.group(group)?;
        let (folded, checkpoint) = {
            let record = &state.lock().record;
            (record.folded, record.checkpoint.unwrap_or(record.epoch))
        };
        if checkpoint <= folded + FOLD as u64 {
            return Ok(false);
        }
        let last = self.journal(group, folded + FOLD as u64, 1)?;
        if last.first().is_none_or(|last| last.opened_at >= before) {
            return Ok(false);
        }
        let entries = self.journal(group, folded + 1, FOLD)?;
        let whole = |entry: &JournalEntry| entry.epoch == folded + FOLD as u64;
        let Some(entry) = fold(&entries).filter(whole) else {
            return Err(Error::corrupt("journal", "epochs are missing before the checkpoint"));
        };
        let mut batch = Batch::new(&self.db);
        let (first, last) = (keys::numbered(group, folded + 1), keys::numbered(group, entry.epoch));
        batch.delete_range(Family::Journal, &first, &last)?;
        put_entry(&mut batch, group, &entry, Some(entry.available_at))?;
        let mut state = state.lock();
        let mut record = state.record.clone();
        record.folded = entry.epoch;
        batch.put(Family::Meta, &keys::group_record(group), &bytes::json("meta", &record)?)?;
        self.db.write(batch)?;
        state.record = record;
        Ok(true)
    }
}

/// One entry for several that follow each other: ranges and counts together, time as after the last of them.
fn fold(entries: &[JournalEntry]) -> Option<JournalEntry> {
    let (first, last) = (entries.first()?, entries.last()?);
    let mut ranges: BTreeMap<PartitionKey, (JournalRange, Xxh3)> = BTreeMap::new();
    let mut counts = vec![Accounting::default(); last.counts.len()];
    for entry in entries {
        for range in &entry.ranges {
            let (all, digests) = ranges
                .entry(range.partition)
                .or_insert_with(|| (JournalRange { count: 0, ..range.clone() }, Xxh3::new()));
            all.to = range.to;
            all.count += range.count;
            digests.update(&range.digest.to_le_bytes());
        }
        for (sum, counts) in counts.iter_mut().zip(&entry.counts) {
            sum.add(counts);
        }
    }
    let mut unknown: Vec<u32> = entries.iter().flat_map(|e| e.unknown_schema_ids.iter().copied()).collect();
    unknown.sort_unstable();
    unknown.dedup();
    let digested =
        |(range, digests): (JournalRange, Xxh3)| JournalRange { digest: digests.digest(), ..range };
    Some(JournalEntry {
        first_epoch: Some(first.epoch),
        ranges: ranges.into_values().map(digested).collect(),
        counts,
        rows: entries.iter().map(|e| e.rows).sum(),
        unknown_schema_ids: unknown,
        checkpoint: false,
        ..last.clone()
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn entry(epoch: u64, from: i64, to: i64) -> JournalEntry {
        let partition = PartitionKey { source: 0, partition: 2 };
        let count = (to - from) as u64;
        JournalEntry {
            epoch,
            first_epoch: None,
            opened_at: Micros(epoch as i64 * 10),
            ranges: vec![JournalRange { partition, from, to, count, digest: epoch }],
            source_watermarks: vec![Micros(epoch as i64)],
            watermark: Micros(epoch as i64),
            available_at: Micros(epoch as i64 * 10 + 5),
            modelled: false,
            counts: vec![Accounting { read: count, applied: count, ..Accounting::default() }],
            rows: 1,
            close_cursor: None,
            unknown_schema_ids: vec![9, 1],
            checkpoint: true,
            max_rows: 7,
            semantics: 1,
            finishes: Vec::new(),
        }
    }

    #[test]
    fn what_was_read_and_what_became_of_it_is_kept() {
        let folded = fold(&[entry(4, 10, 12), entry(5, 12, 12), entry(6, 14, 20)]).unwrap();
        assert_eq!((folded.first_epoch, folded.epoch), (Some(4), 6));
        let range = &folded.ranges[..];
        assert_eq!((range.len(), range[0].from, range[0].to, range[0].count), (1, 10, 20, 8));
        let mut digests = Xxh3::new();
        for d in [4_u64, 5, 6] {
            digests.update(&d.to_le_bytes());
        }
        assert_eq!(range[0].digest, digests.digest());
        assert_eq!(folded.counts, [Accounting { read: 8, applied: 8, ..Accounting::default() }]);
        assert_eq!((folded.rows, folded.watermark, folded.available_at), (3, Micros(6), Micros(65)));
        assert_eq!((folded.unknown_schema_ids, folded.checkpoint), (vec![1, 9], false));
        assert_eq!(fold(&[]), None);
    }
}
