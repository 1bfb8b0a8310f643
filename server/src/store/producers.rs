//! Idempotent producers: the last batch of each, its digest and its reply.
//!
//! ```text
//! version u8 · sequence u64 · digest u64 · when i64 · n u32 · n × (partition u32, end i64)
//! ```

use std::collections::{BTreeSet, HashMap};

use millpond_engine::time::{Micros, Span};

use super::bytes::{Bytes, VERSION};
use super::db::{Batch, Db, Family};
use super::{Error, keys, numbered};
use crate::catalog::StreamId;

/// A producer that was not heard for so long is forgotten.
pub(super) const FORGOTTEN_AFTER: Span = Span(7 * 86_400_000_000);

/// Kept in memory at most, by stream; the others are read from disk when they come back.
const REMEMBERED: usize = 10_000;

/// One batch of a producer that numbers its batches.
#[derive(Debug, Clone, Copy)]
pub struct ProducerBatch<'a> {
    /// The producer's id.
    pub id: &'a str,
    /// One more than that of its batch before.
    pub sequence: u64,
    /// Digest of the batch as it came: the same batch again has the same.
    pub digest: u64,
}

/// The last batch of a producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Producer {
    pub sequence: u64,
    pub digest: u64,
    pub at: Micros,
    pub ends: Vec<(u32, i64)>,
    /// The ticket that puts it on disk; 0: it is there.
    pub ticket: u64,
}

impl Producer {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.digest.to_le_bytes());
        out.extend_from_slice(&self.at.0.to_le_bytes());
        out.extend_from_slice(&(self.ends.len() as u32).to_le_bytes());
        for (partition, end) in &self.ends {
            out.extend_from_slice(&partition.to_le_bytes());
            out.extend_from_slice(&end.to_le_bytes());
        }
        out
    }

    pub fn decode(value: &[u8]) -> Result<Self, Error> {
        let mut b = Bytes::open("producers", value)?;
        let (sequence, digest, at) = (b.u64()?, b.u64()?, Micros(b.i64()?));
        let n = b.u32()?;
        let ends = (0..n).map(|_| Ok((b.u32()?, b.i64()?))).collect::<Result<_, Error>>()?;
        Ok(Self { sequence, digest, at, ends, ticket: 0 })
    }
}

/// What a batch is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// To be appended.
    New,
    /// Appended before, on disk with this ticket: this was the reply.
    Again { ends: Vec<(u32, i64)>, ticket: u64 },
}

/// Judges a batch by its producer's last one.
pub(super) fn judge(
    last: Option<&Producer>,
    batch: &ProducerBatch<'_>,
    now: Micros,
) -> Result<Judged, Error> {
    let Some(last) = last.filter(|p| p.at + FORGOTTEN_AFTER >= now) else {
        return Ok(Judged::New);
    };
    if batch.sequence == last.sequence && batch.digest == last.digest {
        return Ok(Judged::Again { ends: last.ends.clone(), ticket: last.ticket });
    }
    if last.sequence.checked_add(1) == Some(batch.sequence) {
        return Ok(Judged::New);
    }
    Err(Error::Sequence { last: last.sequence })
}

/// A stream's producers.
#[derive(Debug, Default)]
pub(super) struct Producers {
    known: HashMap<String, Producer>,
    changed: BTreeSet<String>,
}

impl Producers {
    /// Judges a batch by its producer's last one.
    pub fn judge(
        &mut self,
        db: &Db,
        stream: StreamId,
        batch: &ProducerBatch<'_>,
        now: Micros,
    ) -> Result<Judged, Error> {
        if !self.known.contains_key(batch.id) {
            let value = db.get(Family::Producers, &keys::producer(stream, batch.id))?;
            if let Some(producer) = value.map(|v| Producer::decode(&v)).transpose()? {
                self.known.insert(batch.id.to_owned(), producer);
            }
        }
        judge(self.known.get(batch.id), batch, now)
    }

    /// Remembers a batch that is about to be written; `written` is the last ticket on disk.
    pub fn put(&mut self, id: &str, producer: Producer, written: u64) {
        if self.known.len() >= REMEMBERED {
            self.known.retain(|_, p| p.ticket > written);
        }
        self.changed.insert(id.to_owned());
        self.known.insert(id.to_owned(), producer);
    }

    /// What has to be written with the next batch.
    pub fn take_changed(&mut self) -> Vec<(String, Producer)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().filter_map(|id| self.known.get(&id).cloned().map(|p| (id, p))).collect()
    }
}

/// Forgets producers that were not heard for too long.
pub(super) fn purge(db: &Db, now: Micros) -> Result<(), Error> {
    let mut batch = Batch::new(db);
    let mut any = false;
    let mut scan = db.scan(Family::Producers, &[], None)?;
    while let Some((key, value)) = scan.advance()? {
        if numbered::heard(value)? + FORGOTTEN_AFTER < now {
            batch.delete(Family::Producers, key)?;
            any = true;
        }
    }
    if any { db.write(batch) } else { Ok(()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let producer =
            Producer { sequence: 2, digest: 3, at: Micros(4), ends: vec![(1, 5), (0, 6)], ticket: 0 };
        let bytes = producer.encode();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().concat();
        assert_eq!(
            hex,
            "01020000000000000003000000000000000400000000000000020000000100000005000000000000000000\
             00000600000000000000"
        );
        assert_eq!(Producer::decode(&bytes).unwrap(), producer);
        assert!(Producer::decode(&bytes[..bytes.len() - 1]).is_err());
    }
}
