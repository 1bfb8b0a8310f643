//! What a stream reads from: partitions of records addressed by offset.
//!
//! Two living implementations: [`embedded`] (RocksDB) and [`kafka`] (rdkafka).

pub mod digest;
pub mod embedded;
pub mod kafka;
mod numbered;
pub mod position;
pub mod writer;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use millpond_engine::time::Micros;

use crate::catalog::Stream;
use crate::config;
use crate::store::Store;

/// What a record is before anyone looks at its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A value.
    Event,
    /// A null value.
    Tombstone,
    /// A null value with the header `millpond-heartbeat`: time without a row.
    /// `None`: the header is not eight bytes (quarantined).
    Heartbeat(Option<Micros>),
}

/// One record of a [`Records`] buffer: where it stands, and where its bytes are in the buffer.
#[derive(Debug, Clone)]
pub struct RecordRef {
    /// Partition.
    pub partition: u32,
    /// Offset in the partition.
    pub offset: i64,
    /// What it is.
    pub kind: Kind,
    /// The message key, if there is one.
    pub key: Option<Range<usize>>,
    /// The value; empty for a null value.
    pub value: Range<usize>,
}

/// Records in one growing buffer: no allocation per record.
#[derive(Debug, Default)]
pub struct Records {
    /// Keys and values, one after the other.
    pub bytes: Vec<u8>,
    /// In the order they were read: ascending offsets within a partition.
    pub records: Vec<RecordRef>,
}

/// The end of a partition, and whether the reader stands at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionEnd {
    /// Partition.
    pub partition: u32,
    /// The offset after the last record that can be read now (Kafka: last stable offset).
    pub end: i64,
    /// True when everything readable has been delivered. (A Kafka position need not equal `end`:
    /// transaction markers are invisible.)
    pub reached: bool,
    /// True where records lie behind a transaction that is still open: the partition is not idle,
    /// however quiet it looks.
    pub blocked: bool,
}

/// How far one `poll` may go.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// At most this many records …
    pub records: usize,
    /// … and about this many bytes, …
    pub bytes: usize,
    /// … waiting at most this long for the first one.
    pub wait: Duration,
}

/// Reads one stream for one pipeline. Positions are the caller's: a reader starts where it is told,
/// and nothing is read from a partition before its first `seek`.
pub trait Reader: Send {
    /// Partitions that exist now. They may grow while the reader lives (a topic's do).
    fn partitions(&mut self) -> Result<u32, Error>;
    /// Moves a partition to an offset.
    fn seek(&mut self, partition: u32, offset: i64) -> Result<(), Error>;
    /// Reads on in one partition, appending to `into`. Returns the number of records appended.
    fn poll(&mut self, partition: u32, budget: Budget, into: &mut Records) -> Result<usize, Error>;
    /// How each partition that was sought stands now. Cheap: no round trip.
    fn ends(&mut self) -> Result<Vec<PartitionEnd>, Error>;
    /// First offset and the offset after the last of a partition, asked anew.
    fn range(&mut self, partition: u32) -> Result<(i64, i64), Error>;
    /// What tells this log from a recreated one of the same name; compared with the stored one at start.
    fn identity(&mut self) -> Result<String, Error>;
    /// True where what was read can be read again: a log that is compacted gives other records later.
    fn is_replayable(&mut self) -> Result<bool, Error> {
        Ok(true)
    }
    /// Blocks until some partition may have something to read, at most for `timeout`.
    fn wait(&mut self, timeout: Duration);
    /// Of a log of changes: the instant up to which all changes are there that will ever be, for who reads on
    /// from now. `None`: there is no such instant yet, or the log is none of changes.
    fn complete_to(&mut self) -> Result<Option<Micros>, Error> {
        Ok(None)
    }
    /// Of a log of changes: whether the group has come to the finish of all its streams, so that for now no
    /// further change comes.
    fn is_finished(&mut self) -> Result<bool, Error> {
        Ok(false)
    }
    /// Tells others how far the pipeline has come (Kafka: committed offsets, so that tools see the
    /// lag). Best effort, never read back.
    fn committed(&mut self, positions: &[(u32, i64)]) {
        let _ = positions;
    }
}

/// Opens a stream's log for one pipeline. `name` is what a topic's committed offsets are shown under.
pub fn open(
    stream: &Stream,
    name: &str,
    store: &Arc<Store>,
    kafka: &config::Kafka,
) -> Result<Box<dyn Reader>, Error> {
    Ok(match &stream.topic {
        Some(topic) => Box::new(kafka::KafkaReader::open(kafka, topic, name)?),
        None => Box::new(embedded::EmbeddedReader::open(Arc::clone(store), stream)),
    })
}

/// A place in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The first record that is still there.
    Start,
    /// After the last record.
    End,
    /// The first record that was appended at or after an instant (Kafka: by its timestamp).
    Time(Micros),
}

/// The offset of each partition at one place of a stream's log. Blocks: brokers may be asked.
pub fn offsets(stream: &Stream, at: At, store: &Store, kafka: &config::Kafka) -> Result<Vec<i64>, Error> {
    match (&stream.topic, at) {
        (Some(topic), At::Time(time)) => kafka::offsets_at(kafka, topic, time),
        (Some(topic), At::Start) => Ok(kafka::describe(kafka, topic)?.ranges.iter().map(|r| r.0).collect()),
        (Some(topic), At::End) => Ok(kafka::describe(kafka, topic)?.ranges.iter().map(|r| r.1).collect()),
        (None, at) => (0..stream.partitions)
            .map(|partition| {
                Ok(match at {
                    At::Start => store.log_range(stream.id, partition)?.0,
                    At::End => store.log_end(stream.id, partition)?,
                    At::Time(time) => store.log_offset_at(stream.id, partition, time)?,
                })
            })
            .collect(),
    }
}

/// Why a log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log no longer has what is asked for: halts the pipeline, is never skipped.
    #[error("partition {partition} of {log} begins at offset {first}: offset {wanted} is gone")]
    Gone {
        /// Stream or topic.
        log: String,
        /// Partition.
        partition: u32,
        /// What was asked for.
        wanted: i64,
        /// What is left.
        first: i64,
    },
    /// The log is not the one that was read before: halts.
    #[error("{log} is not the log that was read before (was {was}, is {is})")]
    Replaced {
        /// Stream or topic.
        log: String,
        /// What was stored.
        was: String,
        /// What was found.
        is: String,
    },
    /// The broker or the disk does not answer: retried.
    #[error("{log} cannot be reached: {detail}")]
    Unavailable {
        /// Stream or topic.
        log: String,
        /// What the client says.
        detail: String,
    },
    /// No such topic or partition.
    #[error("{log} does not exist: {detail}")]
    Missing {
        /// Stream or topic.
        log: String,
        /// What the client says.
        detail: String,
    },
    /// The configuration cannot be used: no brokers, or a property that librdkafka does not know.
    #[error("{log} cannot be opened: {detail}")]
    Configuration {
        /// Stream or topic.
        log: String,
        /// What is wrong.
        detail: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] crate::store::Error),
}

impl Error {
    /// True where waiting and trying again is the answer.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

impl Records {
    /// The key of a record.
    pub fn key(&self, record: &RecordRef) -> Option<&[u8]> {
        record.key.clone().map(|range| self.bytes.get(range).unwrap_or_default())
    }

    /// The value of a record; empty for a null value.
    pub fn value(&self, record: &RecordRef) -> &[u8] {
        self.bytes.get(record.value.clone()).unwrap_or_default()
    }

    /// Appends one record, copying its bytes.
    pub fn push(&mut self, partition: u32, offset: i64, kind: Kind, key: Option<&[u8]>, value: &[u8]) {
        let key = key.map(|key| {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(key);
            start..self.bytes.len()
        });
        let start = self.bytes.len();
        self.bytes.extend_from_slice(value);
        let value = start..self.bytes.len();
        self.records.push(RecordRef { partition, offset, kind, key, value });
    }

    /// Splits off what comes from `offset` on (records of one partition, ascending). The bytes of both
    /// halves stay valid; what was split off is copied.
    pub fn split_off(&mut self, offset: i64) -> Self {
        let at = self.records.partition_point(|r| r.offset < offset);
        let mut rest = Self::default();
        for record in self.records.get(at..).unwrap_or_default() {
            rest.push(record.partition, record.offset, record.kind, self.key(record), self.value(record));
        }
        self.records.truncate(at);
        rest
    }

    /// The record at an offset (records of one partition, ascending).
    pub fn at(&self, offset: i64) -> Option<&RecordRef> {
        let at = self.records.binary_search_by_key(&offset, |r| r.offset).ok()?;
        self.records.get(at)
    }

    /// Forgets everything, keeping the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
    }
}
