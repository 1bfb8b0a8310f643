//! Numbered batches of a log that is elsewhere: what is intended is on disk before that log is written,
//! and what came of it after.
//!
//! The embedded log writes a batch and its producer's record at once; a topic and this store cannot. So
//! a producer's record has two forms: settled, as [`super::producers`] has it, and unsettled, while a
//! batch may be in the log or not:
//!
//! ```text
//! producers   version u8 (2) · sequence u64 · digest u64 · when i64 · partition u32 · from i64
//!             · the settled record of the batch before, if there is one
//! ```

use millpond_engine::time::Micros;

use super::bytes::Bytes;
use super::db::{Batch, Family};
use super::producers::{FORGOTTEN_AFTER, Judged, Producer, ProducerBatch, judge};
use super::{Error, Store, keys};
use crate::catalog::StreamId;

/// The codec version of an unsettled record.
const UNSETTLED: u8 = 2;

/// A batch that may be in the log or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Its number.
    pub sequence: u64,
    /// The partition that it was meant for.
    pub partition: u32,
    /// No record of it lies before this offset.
    pub from: i64,
}

/// What a numbered batch is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// To be written to the log.
    New,
    /// Written before: the reply was the offset after its last record, by partition.
    Again(Vec<(u32, i64)>),
    /// An earlier batch of the producer, or this one before, may be in the log or not: that must be
    /// settled first.
    Unsettled(Intent),
}

/// A producer's record with a batch that is not settled.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unsettled {
    intent: Intent,
    digest: u64,
    at: Micros,
    before: Option<Producer>,
}

#[derive(Debug)]
enum Known {
    Settled(Producer),
    Unsettled(Unsettled),
}

impl Unsettled {
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![UNSETTLED];
        out.extend_from_slice(&self.intent.sequence.to_le_bytes());
        out.extend_from_slice(&self.digest.to_le_bytes());
        out.extend_from_slice(&self.at.0.to_le_bytes());
        out.extend_from_slice(&self.intent.partition.to_le_bytes());
        out.extend_from_slice(&self.intent.from.to_le_bytes());
        out.extend(self.before.iter().flat_map(Producer::encode));
        out
    }
}

impl Known {
    fn decode(value: &[u8]) -> Result<Self, Error> {
        if value.first() != Some(&UNSETTLED) {
            return Ok(Self::Settled(Producer::decode(value)?));
        }
        let mut b = Bytes::plain("producers", value);
        b.u8()?;
        let (sequence, digest, at) = (b.u64()?, b.u64()?, Micros(b.i64()?));
        let intent = Intent { sequence, partition: b.u32()?, from: b.i64()? };
        let before = if b.is_empty() { None } else { Some(Producer::decode(b.rest())?) };
        Ok(Self::Unsettled(Unsettled { intent, digest, at, before }))
    }
}

/// When a producer was last heard.
pub(super) fn heard(value: &[u8]) -> Result<Micros, Error> {
    Ok(match Known::decode(value)? {
        Known::Settled(producer) => producer.at,
        Known::Unsettled(unsettled) => unsettled.at,
    })
}

/// One caller at a time for each stream: what is judged must still hold when it is written.
impl Store {
    /// Judges a batch by its producer's last one.
    ///
    /// # Errors
    /// [`Error::Sequence`], as of [`Store::append`].
    pub fn judge_batch(&self, stream: StreamId, batch: &ProducerBatch<'_>) -> Result<Standing, Error> {
        let now = self.clock.wall();
        let last = match self.producer(stream, batch.id)? {
            Some(Known::Unsettled(last)) if last.at + FORGOTTEN_AFTER >= now => {
                return Ok(Standing::Unsettled(last.intent));
            }
            Some(Known::Settled(last)) => Some(last),
            Some(Known::Unsettled(_)) | None => None,
        };
        Ok(match judge(last.as_ref(), batch, now)? {
            Judged::New => Standing::New,
            Judged::Again { ends, .. } => Standing::Again(ends),
        })
    }

    /// Notes down that a batch is about to be written to a partition that ends at `from`, or later.
    pub fn intend(
        &self,
        stream: StreamId,
        batch: &ProducerBatch<'_>,
        partition: u32,
        from: i64,
    ) -> Result<(), Error> {
        let before = match self.producer(stream, batch.id)? {
            Some(Known::Settled(producer)) => Some(producer),
            Some(Known::Unsettled(unsettled)) => unsettled.before,
            None => None,
        };
        let intent = Intent { sequence: batch.sequence, partition, from };
        let unsettled = Unsettled { intent, digest: batch.digest, at: self.clock.wall(), before };
        self.db.put(Family::Producers, &keys::producer(stream, batch.id), &unsettled.encode())
    }

    /// Settles what was intended: the batch ends at an offset of its partition, or (`None`) it is not in
    /// the log and never will be.
    pub fn settle(&self, stream: StreamId, producer: &str, end: Option<i64>) -> Result<(), Error> {
        let Some(Known::Unsettled(it)) = self.producer(stream, producer)? else { return Ok(()) };
        let settled = match end {
            None => it.before,
            Some(end) => Some(Producer {
                sequence: it.intent.sequence,
                digest: it.digest,
                at: it.at,
                ends: vec![(it.intent.partition, end)],
                ticket: 0,
            }),
        };
        let key = keys::producer(stream, producer);
        let mut batch = Batch::new(&self.db);
        match settled {
            Some(settled) => batch.put(Family::Producers, &key, &settled.encode())?,
            None => batch.delete(Family::Producers, &key)?,
        }
        self.db.write(batch)
    }

    fn producer(&self, stream: StreamId, id: &str) -> Result<Option<Known>, Error> {
        let value = self.db.get(Family::Producers, &keys::producer(stream, id))?;
        value.map(|value| Known::decode(&value)).transpose()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

    use proptest::prelude::*;

    use super::*;
    use crate::store::Options;

    const STREAM: StreamId = StreamId(3);
    const DAY: i64 = 86_400_000_000;

    #[test]
    fn golden_bytes() {
        let before = Producer { sequence: 1, digest: 9, at: Micros(8), ends: vec![(2, 5)], ticket: 0 };
        let intent = Intent { sequence: 2, partition: 4, from: -1 };
        let known = Unsettled { intent, digest: 3, at: Micros(6), before: Some(before) };
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().concat();
        let bytes = known.encode();
        assert_eq!(
            hex(&bytes),
            "0202000000000000000300000000000000060000000000000004000000ffffffffffffffff\
             010100000000000000090000000000000008000000000000000100000002000000\
             0500000000000000"
        );
        let read = |bytes: &[u8]| match Known::decode(bytes).unwrap() {
            Known::Unsettled(it) => it,
            Known::Settled(it) => unreachable!("{it:?}"),
        };
        assert_eq!(read(&bytes), known);
        let first = Unsettled { before: None, ..known };
        assert_eq!(read(&first.encode()), first);
        assert!(Known::decode(&bytes[..bytes.len() - 1]).is_err());
    }

    /// The promise by its definition: each sequence of a producer at most once in the log, one after the
    /// other, and the same reply as long as it is the last.
    #[derive(Default)]
    struct Promise {
        log: Vec<(String, u64)>,
        last: BTreeMap<String, (u64, i64)>,
    }

    /// Where the writer dies.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Death {
        Never,
        /// The intent is on disk, the batch is not in the log.
        BeforeTheLog,
        /// The batch is in the log, the reply is not on disk.
        AfterTheLog,
    }

    /// The writer of `log/numbered.rs` over a list in the place of the topic.
    fn append(
        store: &Store,
        log: &mut Vec<(String, u64)>,
        batch: &ProducerBatch<'_>,
        death: Death,
    ) -> Result<Option<i64>, Error> {
        let mut standing = store.judge_batch(STREAM, batch)?;
        if let Standing::Unsettled(intent) = standing {
            let mut rest = (intent.from..).zip(log.iter().skip(intent.from as usize));
            let found = rest.find(|(_, it)| **it == (batch.id.to_owned(), intent.sequence));
            store.settle(STREAM, batch.id, found.map(|(offset, _)| offset + 1))?;
            standing = store.judge_batch(STREAM, batch)?;
        }
        if let Standing::Again(ends) = standing {
            return Ok(ends.first().map(|(_, end)| *end));
        }
        assert_eq!(standing, Standing::New);
        store.intend(STREAM, batch, 0, log.len() as i64)?;
        if death == Death::BeforeTheLog {
            return Ok(None);
        }
        log.push((batch.id.to_owned(), batch.sequence));
        if death == Death::AfterTheLog {
            return Ok(None);
        }
        store.settle(STREAM, batch.id, Some(log.len() as i64))?;
        Ok(Some(log.len() as i64))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
        #[test]
        fn a_batch_is_in_the_log_once_wherever_its_writer_dies(
            attempts in prop::collection::vec(
                (
                    prop::sample::select(vec!["p", "q"]),
                    0_u64..5,
                    prop::sample::select(vec![Death::Never, Death::BeforeTheLog, Death::AfterTheLog]),
                ),
                1..40,
            ),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut store = Store::open(dir.path(), &Options::default()).unwrap();
            let mut log = Vec::new();
            let mut promise = Promise::default();
            for (id, sequence, death) in attempts {
                let batch = ProducerBatch { id, sequence, digest: sequence * 10 };
                let last = promise.last.get(id).copied();
                let done = append(&store, &mut log, &batch, death);
                match last {
                    Some((s, end)) if s == sequence => prop_assert_eq!(done, Ok(Some(end)), "the same reply"),
                    Some((s, _)) if s + 1 != sequence => prop_assert_eq!(done, Err(Error::Sequence { last: s })),
                    _ => {
                        if death != Death::BeforeTheLog {
                            promise.log.push((id.to_owned(), sequence));
                            promise.last.insert(id.to_owned(), (sequence, promise.log.len() as i64));
                        }
                        let reply = (death == Death::Never).then_some(promise.log.len() as i64);
                        prop_assert_eq!(done, Ok(reply));
                        if death != Death::Never {
                            drop(store);
                            store = Store::open(dir.path(), &Options::default()).unwrap();
                        }
                    }
                }
                prop_assert_eq!(&log, &promise.log);
            }
        }
    }

    #[test]
    fn what_was_never_settled_is_forgotten_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let now = Arc::new(AtomicI64::new(100 * DAY));
        let clock = Arc::clone(&now);
        let options = Options { clock: Arc::new(move || Micros(clock.load(SeqCst))), ..Options::default() };
        let store = Store::open(dir.path(), &options).unwrap();
        let batch = ProducerBatch { id: "p", sequence: 7, digest: 1 };
        store.intend(STREAM, &batch, 2, 30).unwrap();
        let unsettled = Standing::Unsettled(Intent { sequence: 7, partition: 2, from: 30 });
        assert_eq!(store.judge_batch(STREAM, &batch), Ok(unsettled.clone()));
        now.store(107 * DAY, SeqCst);
        drop(store);
        let store = Store::open(dir.path(), &options).unwrap();
        assert_eq!(store.judge_batch(STREAM, &batch), Ok(unsettled));
        now.store(107 * DAY + 1, SeqCst);
        let other = ProducerBatch { id: "p", sequence: 40, digest: 1 };
        assert_eq!(store.judge_batch(STREAM, &other), Ok(Standing::New));
        drop(store);
        let store = Store::open(dir.path(), &options).unwrap();
        assert!(store.producer(STREAM, "p").unwrap().is_none());
    }
}
