//! What an epoch has gathered: records, rows and verdicts, by source and partition.

use std::collections::{BTreeMap, BTreeSet};

use millpond_engine::epoch::{Delete, RecordId, SourceBatch};
use millpond_engine::time::Micros;

use super::buffers::Buffers;
use super::decode::Decoded;
use crate::log::digest::{self, RangeDigest};
use crate::log::{RecordRef, Records};
use crate::store::commit::{Accounting, JournalRange, PartitionKey, Quarantined};

/// An epoch in the making. `opened_at` is the only clock that it will ever see.
pub struct Gathered {
    /// When its first record was about to be read.
    pub opened_at: Micros,
    /// What was read, by partition: in this order the engine sees it.
    pub partitions: BTreeMap<PartitionKey, Range>,
    /// What the decode stage counted, per source.
    pub counts: Vec<Accounting>,
    /// Dead letters of the decode stage.
    pub quarantine: Vec<Quarantined>,
    /// Schema ids judged unknown.
    pub unknown: BTreeSet<u32>,
    /// Records so far.
    pub records: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Where the records' memory goes afterwards.
    buffers: Buffers,
}

/// What was read of one partition: half-open offsets, with the bytes and the rows.
pub struct Range {
    /// First offset.
    pub from: i64,
    /// Offset after the last record.
    pub to: i64,
    digest: RangeDigest,
    chunks: Vec<Records>,
    batches: Vec<SourceBatch>,
    deletes: Vec<Delete>,
}

impl Gathered {
    /// An epoch that has read nothing.
    pub fn new(opened_at: Micros, sources: usize) -> Self {
        Self::with_buffers(opened_at, sources, Buffers::default())
    }

    /// The same, with a place for the records' memory.
    pub fn with_buffers(opened_at: Micros, sources: usize, buffers: Buffers) -> Self {
        Self {
            buffers,
            opened_at,
            partitions: BTreeMap::new(),
            counts: vec![Accounting::default(); sources],
            quarantine: Vec::new(),
            unknown: BTreeSet::new(),
            records: 0,
            bytes: 0,
        }
    }

    /// Takes a decoded chunk in. `from` is where the partition stood before it.
    pub fn add(&mut self, partition: PartitionKey, from: i64, chunk: Records, decoded: Decoded) {
        let range = self.partitions.entry(partition).or_insert_with(|| Range {
            from,
            to: from,
            digest: RangeDigest::default(),
            chunks: Vec::new(),
            batches: Vec::new(),
            deletes: Vec::new(),
        });
        for record in &chunk.records {
            range.digest.update(&chunk, record);
        }
        range.to = chunk.records.last().map_or(range.to, |r| r.offset + 1);
        range.batches.extend(decoded.rows);
        range.deletes.extend(decoded.deletes);
        self.records += chunk.records.len();
        self.bytes += chunk.bytes.len();
        range.chunks.push(chunk);
        if let Some(counts) = self.counts.get_mut(usize::from(partition.source)) {
            counts.read += decoded.counts.read;
            counts.quarantined += decoded.counts.quarantined;
            counts.tombstones += decoded.counts.tombstones;
            counts.heartbeats += decoded.counts.heartbeats;
        }
        self.quarantine.extend(decoded.quarantine);
        self.unknown.extend(decoded.unknown);
    }

    /// True where no record was read.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// The batches in the order (source, partition, offset), taken out.
    pub fn take_batches(&mut self) -> Vec<SourceBatch> {
        self.partitions.values_mut().flat_map(|range| std::mem::take(&mut range.batches)).collect()
    }

    /// The deletes in the same order, taken out.
    pub fn take_deletes(&mut self) -> Vec<Delete> {
        self.partitions.values_mut().flat_map(|range| std::mem::take(&mut range.deletes)).collect()
    }

    /// The ranges for the journal, in order.
    pub fn ranges(&self) -> Vec<JournalRange> {
        self.partitions
            .iter()
            .map(|(partition, range)| JournalRange {
                partition: *partition,
                from: range.from,
                to: range.to,
                count: range.digest.count,
                digest: range.digest.value(),
            })
            .collect()
    }

    /// A record that was read, with the buffer that holds its bytes.
    pub fn record(&self, id: RecordId) -> Option<(&Records, &RecordRef)> {
        let range = self.partitions.get(&PartitionKey { source: id.source, partition: id.partition })?;
        range.chunk_of(id.offset)
    }

    /// The last record of a partition with its hash: stored with the position, compared at the next start.
    pub fn last_record(&self, partition: PartitionKey) -> Option<(i64, u64)> {
        let chunk = self.partitions.get(&partition)?.chunks.last()?;
        let record = chunk.records.last()?;
        Some((record.offset, digest::of_record(chunk, record)))
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        self.buffers.give(std::mem::take(&mut self.partitions).into_values().flat_map(|range| range.chunks));
    }
}

impl Range {
    fn chunk_of(&self, offset: i64) -> Option<(&Records, &RecordRef)> {
        let ends_before = |chunk: &Records| chunk.records.last().is_none_or(|r| r.offset < offset);
        let chunk = self.chunks.get(self.chunks.partition_point(ends_before))?;
        Some((chunk, chunk.at(offset)?))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::log::Kind;

    fn chunk(offsets: &[i64]) -> (Records, Decoded) {
        let mut records = Records::default();
        for offset in offsets {
            records.push(3, *offset, Kind::Event, None, offset.to_string().as_bytes());
        }
        let read = offsets.len() as u64;
        let decoded = Decoded {
            rows: None,
            deletes: Vec::new(),
            counts: Accounting { read, ..Accounting::default() },
            quarantine: Vec::new(),
            max_event_time: None,
            unknown: BTreeSet::new(),
        };
        (records, decoded)
    }

    #[test]
    fn ranges_join_chunks_and_keep_holes() {
        let mut gathered = Gathered::new(Micros(0), 1);
        let key = PartitionKey { source: 0, partition: 3 };
        for (from, offsets) in [(4, &[4, 5][..]), (6, &[8, 11])] {
            let (records, decoded) = chunk(offsets);
            gathered.add(key, from, records, decoded);
        }
        let range = gathered.ranges().remove(0);
        assert_eq!((range.from, range.to, range.count), (4, 12, 4));
        assert_eq!(gathered.counts, [Accounting { read: 4, ..Accounting::default() }]);
        let find = |offset| {
            let id = RecordId { source: 0, partition: 3, offset };
            gathered.record(id).map(|(records, record)| records.value(record).to_vec())
        };
        assert_eq!(find(8).unwrap(), b"8");
        assert_eq!(find(4).unwrap(), b"4");
        assert_eq!((find(7), find(12), find(3)), (None, None, None));
        assert_eq!(gathered.last_record(key).unwrap().0, 11);
    }

    #[test]
    fn the_digest_does_not_depend_on_the_chunks() {
        let whole = {
            let mut gathered = Gathered::new(Micros(0), 1);
            let (records, decoded) = chunk(&[1, 2, 3]);
            gathered.add(PartitionKey { source: 0, partition: 3 }, 1, records, decoded);
            gathered.ranges()
        };
        let mut gathered = Gathered::new(Micros(0), 1);
        for offsets in [&[1][..], &[2, 3]] {
            let (records, decoded) = chunk(offsets);
            gathered.add(PartitionKey { source: 0, partition: 3 }, offsets[0], records, decoded);
        }
        assert_eq!(gathered.ranges(), whole);
    }
}
