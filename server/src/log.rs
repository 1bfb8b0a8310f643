//! What a stream reads from: partitions of records addressed by offset.
//!
//! Two living implementations: [`embedded`] (RocksDB) and [`kafka`] (rdkafka).

pub mod embedded;
pub mod kafka;

use std::ops::Range;
use std::time::Duration;

use millpond_engine::time::Micros;

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

/// Reads one stream for one pipeline. Positions are the caller's: a reader starts where it is told.
pub trait Reader: Send {
    /// Reads on in one partition, appending to `into`. Returns the number of records appended.
    fn poll(&mut self, partition: u32, budget: Budget, into: &mut Records) -> Result<usize, Error>;
    /// Moves a partition to an offset.
    fn seek(&mut self, partition: u32, offset: i64) -> Result<(), Error>;
    /// How each partition stands now.
    fn ends(&mut self) -> Result<Vec<PartitionEnd>, Error>;
    /// What tells this topic from a recreated one of the same name; compared with the stored one at start.
    fn identity(&mut self) -> Result<String, Error>;
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
    /// The topic is not the one that was read before: halts.
    #[error("{log} is not the log that was read before (was {was}, is {is})")]
    Replaced {
        /// Stream or topic.
        log: String,
        /// Stored identity.
        was: String,
        /// Identity found.
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
