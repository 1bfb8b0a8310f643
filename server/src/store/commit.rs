//! The one commit of an epoch (invariant 1): what it makes visible or owes, as one synced batch.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use millpond_engine::epoch::{CloseCursor, Emitted, Reason};
use millpond_engine::state::StateChange;
use millpond_engine::time::Micros;
use serde::{Deserialize, Serialize};

use crate::catalog::{GroupId, StreamId};

/// Everything one epoch commits.
#[derive(Debug)]
pub struct EpochCommit {
    /// The group whose pipeline this is.
    pub group: GroupId,
    /// The stream of each source, in the order of the query's sources: dead letters lie with their stream.
    pub streams: Vec<StreamId>,
    /// Number of the epoch, one more than the last one committed; the first is 1.
    pub epoch: u64,
    /// Where each partition stands after the epoch.
    pub positions: Vec<(PartitionKey, Position)>,
    /// How the epoch came about; `available_at` is filled in by the committer.
    pub journal: JournalEntry,
    /// When its rows become available.
    pub availability: Availability,
    /// Rows for the online store and the outbox.
    pub rows: Vec<Emitted>,
    /// Dead letters.
    pub quarantine: Vec<Quarantined>,
    /// Late records, in order.
    pub late: Vec<LateRecord>,
    /// Changes of the operators' state.
    pub state: Vec<StateChange>,
}

/// When rows become available (section 4 of the design).
#[derive(Debug, Clone)]
pub enum Availability {
    /// At the instant of the commit.
    Live,
    /// Modelled from event time: the group's clock after this epoch, and one instant per row
    /// (outer index as `EpochCommit::rows`).
    Modelled {
        /// `C_e`.
        clock: Micros,
        /// `_available_at` of each row.
        rows: Vec<Vec<Micros>>,
    },
}

/// What a commit answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// When the rows became available: the live stamp, or the group's modelled clock.
    pub available_at: Micros,
}

/// A partition of one of a pipeline's sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartitionKey {
    /// Position of the source in the query.
    pub source: u16,
    /// Partition.
    pub partition: u32,
}

/// Where a pipeline stands in one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The next offset to read.
    pub offset: i64,
    /// Greatest event time (or heartbeat) seen in the partition.
    pub max_event_time: Option<Micros>,
    /// What tells the topic from a recreated one ([`crate::log::Reader::identity`]).
    pub identity: String,
    /// xxh3 of the last applied record, with its offset: compared at start.
    pub last_record: Option<(i64, u64)>,
}

/// A range of records that an epoch read: half-open offsets, count and digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalRange {
    /// Which partition.
    pub partition: PartitionKey,
    /// First offset.
    pub from: i64,
    /// Offset after the last.
    pub to: i64,
    /// Records delivered (Kafka: fewer than `to − from` where markers lie between).
    pub count: u64,
    /// xxh3 over (offset, key, value, heartbeat header) of each record.
    pub digest: u64,
}

/// Outcomes of invariant 4 for one source, over records delivered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Accounting {
    pub read: u64,
    pub applied: u64,
    pub late: u64,
    pub filtered: u64,
    pub quarantined: u64,
    pub tombstones: u64,
    pub heartbeats: u64,
    pub superseded: u64,
}

impl Accounting {
    /// Adds other records' outcomes.
    pub fn add(&mut self, other: &Self) {
        self.read += other.read;
        self.applied += other.applied;
        self.late += other.late;
        self.filtered += other.filtered;
        self.quarantined += other.quarantined;
        self.tombstones += other.tombstones;
        self.heartbeats += other.heartbeats;
        self.superseded += other.superseded;
    }
}

/// What the journal keeps of an epoch: with the bytes in its ranges, all that its output depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// Number of the epoch.
    pub epoch: u64,
    /// Of an entry that stands for several epochs long past ([`super::fold`]): the first of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_epoch: Option<u64>,
    /// The only clock the epoch saw.
    pub opened_at: Micros,
    /// What was read.
    pub ranges: Vec<JournalRange>,
    /// Watermark of each source after the epoch.
    pub source_watermarks: Vec<Micros>,
    /// Watermark of the pipeline after the epoch.
    pub watermark: Micros,
    /// Filled in by the committer: the live stamp, or the modelled clock.
    pub available_at: Micros,
    /// True while availability is modelled.
    pub modelled: bool,
    /// Per source.
    pub counts: Vec<Accounting>,
    /// Rows emitted.
    pub rows: u64,
    /// Where a large close goes on.
    pub close_cursor: Option<CloseCursor>,
    /// Schema ids judged unknown in this epoch.
    pub unknown_schema_ids: Vec<u32>,
    /// The durable state was written in this epoch: a restart begins there and applies what came after again.
    pub checkpoint: bool,
    /// A close went through at most this many keys in this epoch. 0 in what the first releases wrote,
    /// which made every epoch a checkpoint.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub max_rows: usize,
    /// Version of the engine's semantics.
    pub semantics: u32,
    /// Per source: the finish offsets that have been acted on, so that each finish closes windows once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finishes: Vec<Option<Vec<i64>>>,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Where it stands.
    pub partition: PartitionKey,
    /// Its offset.
    pub offset: i64,
    /// Why.
    pub reason: Reason,
    /// What exactly, for people.
    pub detail: String,
    /// The message key.
    pub key: Option<Vec<u8>>,
    /// The value as it came; `None` for a null value.
    pub value: Option<Vec<u8>>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde wants a reference
fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// A record that no window took any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateRecord {
    /// Where it stands.
    pub partition: PartitionKey,
    /// Its offset.
    pub offset: i64,
    /// The value as it came.
    pub value: Vec<u8>,
}

/// Rows owed to Delta: one outbox entry, as written by one epoch.
#[derive(Debug, Clone)]
pub struct OutboxEntry {
    /// Its place in the group's outbox, ascending.
    pub sequence: u64,
    /// The epoch that wrote it.
    pub epoch: u64,
    /// The Delta columns of `contract.md`: features, `_event_time`, `_event_date`, `_available_at`,
    /// `_modelled`, `_commit`, `_op`.
    pub rows: RecordBatch,
}

/// Sums of [`Accounting`] by source.
pub type Totals = BTreeMap<u16, Accounting>;
