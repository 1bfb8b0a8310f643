//! The digest of what was read: count and xxh3 per range, and the hash of one record.
//!
//! Layout hashed per record, so that no two records share one: offset (i64 LE), kind (u8: 0 event,
//! 1 tombstone, 2 heartbeat, 3 heartbeat whose header is not eight bytes), heartbeat time (i64 LE,
//! 0 if none), key length + 1 (u32 LE, 0 for no key), key, value length (u32 LE), value.

use xxhash_rust::xxh3::Xxh3;

use super::{Kind, RecordRef, Records};

/// Count and digest of the records of one range, in the order of their offsets.
#[derive(Clone, Default)]
pub struct RangeDigest {
    /// Records so far.
    pub count: u64,
    hash: Xxh3,
}

impl RangeDigest {
    /// Takes one record in.
    pub fn update(&mut self, records: &Records, record: &RecordRef) {
        feed(&mut self.hash, records, record);
        self.count += 1;
    }

    /// xxh3 (64 bits, seed 0) over all records taken in.
    pub fn value(&self) -> u64 {
        self.hash.digest()
    }
}

/// xxh3 of one record: stored with a position and compared at start.
pub fn of_record(records: &Records, record: &RecordRef) -> u64 {
    let mut hash = Xxh3::default();
    feed(&mut hash, records, record);
    hash.digest()
}

fn feed(hash: &mut Xxh3, records: &Records, record: &RecordRef) {
    let (kind, time) = match record.kind {
        Kind::Event => (0, 0),
        Kind::Tombstone => (1, 0),
        Kind::Heartbeat(Some(time)) => (2, time.0),
        Kind::Heartbeat(None) => (3, 0),
    };
    let key = records.key(record);
    let value = records.value(record);
    let mut head = [0u8; 21];
    let (offset, rest) = head.split_at_mut(8);
    offset.copy_from_slice(&record.offset.to_le_bytes());
    let (kind_byte, rest) = rest.split_at_mut(1);
    kind_byte.copy_from_slice(&[kind]);
    let (time_bytes, key_length) = rest.split_at_mut(8);
    time_bytes.copy_from_slice(&time.to_le_bytes());
    key_length.copy_from_slice(&key.map_or(0, |k| k.len() as u32 + 1).to_le_bytes());
    hash.update(&head);
    hash.update(key.unwrap_or_default());
    hash.update(&(value.len() as u32).to_le_bytes());
    hash.update(value);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use millpond_engine::time::Micros;

    use super::*;

    fn digest(rows: &[(i64, Kind, Option<&[u8]>, &[u8])]) -> u64 {
        let mut records = Records::default();
        for (offset, kind, key, value) in rows {
            records.push(0, *offset, *kind, *key, value);
        }
        let mut range = RangeDigest::default();
        for record in &records.records {
            range.update(&records, record);
        }
        range.value()
    }

    #[test]
    fn every_part_of_a_record_counts() {
        let base = digest(&[(1, Kind::Event, Some(b"k"), b"v")]);
        let others = [
            digest(&[(2, Kind::Event, Some(b"k"), b"v")]),
            digest(&[(1, Kind::Event, Some(b""), b"v")]),
            digest(&[(1, Kind::Event, None, b"v")]),
            digest(&[(1, Kind::Event, Some(b"kv"), b"")]),
            digest(&[(1, Kind::Event, None, b"kv")]),
            digest(&[(1, Kind::Tombstone, Some(b"k"), b"")]),
            digest(&[(1, Kind::Heartbeat(None), None, b"")]),
            digest(&[(1, Kind::Heartbeat(Some(Micros(0))), None, b"")]),
            digest(&[(1, Kind::Heartbeat(Some(Micros(1))), None, b"")]),
            digest(&[(1, Kind::Event, Some(b"k"), b"v"), (2, Kind::Event, None, b"")]),
            digest(&[]),
        ];
        let mut all = vec![base];
        all.extend(others);
        let distinct: std::collections::HashSet<u64> = all.iter().copied().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn one_record_hashes_as_a_range_of_one() {
        let mut records = Records::default();
        records.push(3, 9, Kind::Event, Some(b"key"), b"value");
        assert_eq!(
            of_record(&records, &records.records[0]),
            digest(&[(9, Kind::Event, Some(b"key"), b"value")])
        );
    }

    #[test]
    fn golden() {
        assert_eq!(digest(&[(7, Kind::Event, Some(b"key"), b"value")]), 2_544_704_422_298_448_847);
    }
}
