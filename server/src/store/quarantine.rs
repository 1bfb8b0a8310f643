//! Records set aside: dead letters, and those that came too late.
//!
//! ```text
//! quarantine   version u8 · source u16 · present u8 (1 key, 2 value) · reason, detail, key, value: length u32, bytes
//! late         version u8 · source u16 · partition u32 · offset i64 · value
//! ```

use std::collections::HashMap;

use millpond_engine::epoch::Reason;

use super::bytes::{Bytes, VERSION, put_sized};
use super::commit::{LateRecord, PartitionKey, Quarantined};
use super::db::Family;
use super::journal::{reason_name, reason_of};
use super::{Error, Store, keys};
use crate::catalog::{GroupId, StreamId};

const HAS_KEY: u8 = 1;
const HAS_VALUE: u8 = 2;

/// A dead letter of a stream, and the pipeline that could not use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The pipeline.
    pub group: GroupId,
    /// The record.
    pub record: Quarantined,
}

/// A late record, and the place to read on after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateEntry {
    /// The epoch that found it late.
    pub epoch: u64,
    /// Its place among the late records of the epoch.
    pub ordinal: u32,
    /// The record.
    pub record: LateRecord,
}

pub(super) fn encode(q: &Quarantined) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.extend_from_slice(&q.partition.source.to_le_bytes());
    let key = if q.key.is_some() { HAS_KEY } else { 0 };
    out.push(key | if q.value.is_some() { HAS_VALUE } else { 0 });
    put_sized(&mut out, reason_name(q.reason).as_bytes());
    put_sized(&mut out, q.detail.as_bytes());
    put_sized(&mut out, q.key.as_deref().unwrap_or_default());
    put_sized(&mut out, q.value.as_deref().unwrap_or_default());
    out
}

/// The reason alone.
fn reason(value: &[u8]) -> Result<Reason, Error> {
    let mut b = Bytes::open("quarantine", value)?;
    b.take(3)?; // source and what is present
    reason_of(&String::from_utf8_lossy(b.sized()?))
}

fn decode(key: &[u8], value: &[u8]) -> Result<DeadLetter, Error> {
    let (partition, offset, group) = keys::parse_quarantine(key)?;
    let mut b = Bytes::open("quarantine", value)?;
    let source = b.u16()?;
    let present = b.u8()?;
    let (reason, detail, key, value) = (b.sized()?, b.sized()?, b.sized()?, b.sized()?);
    let record = Quarantined {
        partition: PartitionKey { source, partition },
        offset,
        reason: reason_of(&String::from_utf8_lossy(reason))?,
        detail: String::from_utf8_lossy(detail).into_owned(),
        key: (present & HAS_KEY != 0).then(|| key.to_vec()),
        value: (present & HAS_VALUE != 0).then(|| value.to_vec()),
    };
    Ok(DeadLetter { group, record })
}

pub(super) fn encode_late(l: &LateRecord) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.extend_from_slice(&l.partition.source.to_le_bytes());
    out.extend_from_slice(&l.partition.partition.to_le_bytes());
    out.extend_from_slice(&l.offset.to_le_bytes());
    out.extend_from_slice(&l.value);
    out
}

fn decode_late(key: &[u8], value: &[u8]) -> Result<LateEntry, Error> {
    let (epoch, ordinal) = keys::parse_late(key)?;
    let mut b = Bytes::open("late", value)?;
    let partition = PartitionKey { source: b.u16()?, partition: b.u32()? };
    let record = LateRecord { partition, offset: b.i64()?, value: b.rest().to_vec() };
    Ok(LateEntry { epoch, ordinal, record })
}

impl Store {
    /// Up to `limit` dead letters of a stream in the order (partition, offset, pipeline), those after
    /// `after` only; `group` leaves those of one pipeline.
    pub fn quarantine(
        &self,
        stream: StreamId,
        group: Option<GroupId>,
        after: Option<(u32, i64, GroupId)>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, Error> {
        let from = after.map(|(partition, offset, g)| {
            let mut key = keys::quarantine(stream, partition, offset, g);
            key.push(0);
            key
        });
        self.db
            .scan(Family::Quarantine, &keys::number(stream.0), from.as_deref())?
            .map(|k, v| {
                let (_, _, of) = keys::parse_quarantine(k)?;
                if group.is_none_or(|g| g == of) { decode(k, v).map(Some) } else { Ok(None) }
            })
            .filter_map(Result::transpose)
            .take(limit)
            .collect()
    }

    /// A pipeline's dead letters of a stream by reason, by looking at each: a record that two of its
    /// sources could not use is one letter.
    pub fn quarantine_reasons(
        &self,
        stream: StreamId,
        group: GroupId,
    ) -> Result<HashMap<Reason, u64>, Error> {
        let mut counts = HashMap::new();
        let mut letters = self.db.scan(Family::Quarantine, &keys::number(stream.0), None)?;
        while let Some((key, value)) = letters.advance()? {
            if keys::parse_quarantine(key)?.2 == group {
                *counts.entry(reason(value)?).or_default() += 1;
            }
        }
        Ok(counts)
    }

    /// Up to `limit` late records of a pipeline in order, those after (epoch, ordinal) `after` only.
    pub fn late(
        &self,
        group: GroupId,
        after: Option<(u64, u32)>,
        limit: usize,
    ) -> Result<Vec<LateEntry>, Error> {
        let from = after.map(|(epoch, ordinal)| {
            let mut key = keys::late(group, epoch, ordinal);
            key.push(0);
            key
        });
        self.db
            .scan(Family::Late, &keys::number(group.0), from.as_deref())?
            .map(decode_late)
            .take(limit)
            .collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().concat()
    }

    fn dead(key: Option<Vec<u8>>, value: Option<Vec<u8>>) -> Quarantined {
        Quarantined {
            partition: PartitionKey { source: 1, partition: 2 },
            offset: 3,
            reason: Reason::BadBody,
            detail: "é".to_owned(),
            key,
            value,
        }
    }

    #[test]
    fn golden_bytes() {
        let q = dead(None, Some(vec![0xFF]));
        assert_eq!(
            hex(&encode(&q)),
            "0101000208000000\
             6261645f626f647902000000c3a90000000001000000ff"
        );
        let l = LateRecord { partition: q.partition, offset: -1, value: vec![7] };
        assert_eq!(hex(&encode_late(&l)), "01010002000000ffffffffffffffff07");
        let back = decode_late(&keys::late(GroupId(1), 4, 5), &encode_late(&l)).unwrap();
        assert_eq!(back, LateEntry { epoch: 4, ordinal: 5, record: l });
    }

    proptest! {
        #[test]
        fn dead_letters_come_back(key in any::<Option<Vec<u8>>>(), value in any::<Option<Vec<u8>>>()) {
            let q = dead(key, value);
            let at = keys::quarantine(StreamId(9), 2, 3, GroupId(4));
            prop_assert_eq!(decode(&at, &encode(&q)).unwrap(), DeadLetter { group: GroupId(4), record: q });
        }
    }
}
