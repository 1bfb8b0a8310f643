//! One epoch through the engine: `(state, batches, journal entry) → (state changes, rows out)`.
//!
//! ```text
//! records ─▶ stage ─▶ [join] ─▶ window ─▶ stage ─▶ key, late? ─▶ group ─▶ accumulators ─▶ (watermark) close ─▶ rows
//!                                                                            └▶ (checkpoint) saved states
//! ```
//!
//! [`upstream`] brings the rows of the query's input, those of a [`join`] and of a [`lookup`] too, [`lanes`] divides them among threads by
//! their keys. In each lane [`windowed`] takes them in, [`close`] decides which rows are due, [`revise`] those that are
//! due at other times, [`emit`] lets them out, [`checkpoint`] keeps what lasts, [`spill`] says how much of it is in
//! memory. [`session`] is the same for sessions, [`rolling`] for aggregates OVER the time before each record,
//! [`upsert`] the short way of ingested groups.
//!
//! What lies in the store is the state as of the last epoch with [`Input::checkpoint`]. A restart loads it and
//! applies the epochs since once more, with the same input each: the same rows come out, and are not wanted.

mod checkpoint;
mod close;
mod cold;
mod emit;
mod emitted;
mod evaluate;
mod intake;
mod join;
mod keyed;
mod lanes;
mod lookup;
mod output;
mod plan;
mod records;
mod revise;
mod rolling;
mod session;
mod spill;
mod stage;
#[cfg(test)]
mod tests;
mod upsert;
mod upstream;
mod windowed;

use std::sync::Arc;

use arrow::array::RecordBatch;

pub use emitted::{Emitted, Op};
pub(crate) use plan::depends_on_window;
pub(crate) use rolling::kept;
pub use spill::Memory;
pub(crate) use spill::joins;
pub use upsert::Upsert;

use self::lanes::{Derived, Lanes};
use self::rolling::Rolling;
use self::session::Sessionized;
use self::upsert::Upserting;
use self::upstream::Upstream;
use self::windowed::Windowed;
use crate::query::{self, FeatureQuery};
use crate::state::{StateChange, StateRow};
use crate::time::{Micros, Span};
use crate::workers::Workers;

/// Where a record stands: position of its source in [`FeatureQuery::sources`], partition, offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// Position of the source in the query.
    pub source: u16,
    /// Partition of the log.
    pub partition: u32,
    /// Offset within the partition.
    pub offset: i64,
}

/// Decoded records of one source and partition, in the order of their offsets.
#[derive(Debug, Clone)]
pub struct SourceBatch {
    /// Position of the source in the query.
    pub source: u16,
    /// Partition of the log.
    pub partition: u32,
    /// Offset of each row.
    pub offsets: Vec<i64>,
    /// The stream's columns projected to [`crate::query::Source::columns`]; event time never null, already judged for skew.
    pub rows: RecordBatch,
}

/// A tombstone of an ingested group: its key has no value from an event time on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// Which record. It is counted by the caller, as a tombstone, whatever becomes of it.
    pub record: RecordId,
    /// The encoded primary key.
    pub key: Vec<u8>,
    /// From when on.
    pub event_time: Micros,
}

/// When rows come out besides the close of their window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Emission {
    /// How long after the end of its window a record is still taken. It revises what is out already, at
    /// the end of its epoch.
    pub allowed_lateness: Span,
    /// Also the current value of each window that an epoch's records touched, with the greatest event time
    /// in it (before its end); where windows overlap, the earliest open one that holds the record.
    pub on_update: bool,
}

/// What an epoch is given besides the state.
#[derive(Debug)]
pub struct Input<'a> {
    /// Batches in the order (source, partition, offset).
    pub batches: &'a [SourceBatch],
    /// Tombstones in the same order; for the engine of an ingested group only.
    pub deletes: &'a [Delete],
    /// The watermark that this epoch commits: it closes windows, but judges no record of this epoch.
    pub watermark: Micros,
    /// True in the epoch in which the sources come past their finish offsets: the engine advances the
    /// watermark to the greatest open window end (see [`Output::watermark`]). Not again afterwards: the
    /// stream stays open, and later records wait for their watermark as before.
    pub finished: bool,
    /// Where the previous epoch's large close stopped, from its journal entry.
    pub cursor: Option<CloseCursor>,
    /// A close goes through at most this many keys in one epoch (at least one), emitted or rejected by HAVING.
    pub max_rows: usize,
    /// The states of all that changed since the last checkpoint are to be saved: they come out in
    /// [`Output::state`], and the engine goes on from them as if it had been restored. Epochs without it
    /// give no state at all.
    pub checkpoint: bool,
}

/// Where a large close stopped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct CloseCursor {
    /// End of the window that is being closed.
    pub window_end: Micros,
    /// Encoded key of the last row emitted (or rejected by HAVING).
    pub key: Vec<u8>,
}

/// What an epoch does.
#[derive(Debug, Clone)]
pub struct Output {
    /// Rows, ordered by (event time, encoded key).
    pub rows: Vec<Emitted>,
    /// Per source, what became of its rows here (decode's outcomes are counted by the caller).
    pub counts: Vec<Counts>,
    /// Rows that could not be computed, with the reason.
    pub rejected: Vec<Rejected>,
    /// Records that no window took, and no join.
    pub late: Vec<RecordId>,
    /// Of a checkpoint: range deletes of what was closed since the last one, then what is gone besides,
    /// then the durable copy of what changed since, sorted by key.
    pub state: Vec<StateChange>,
    /// The watermark after this epoch (≥ the input's, greater only by `finished`).
    pub watermark: Micros,
    /// How far the close has come, as a watermark: that of the epoch, or the one that closes the window at
    /// which [`Output::cursor`] stands (that window may be emitted in part).
    pub closed_to: Micros,
    /// Set: the close goes on in the next epoch, even without records. Every (window end, key) up to here
    /// is done.
    pub cursor: Option<CloseCursor>,
    /// Values that became NULL after aggregation because an expression failed.
    pub nulled: u64,
    /// Rows of a join that were left out: an expression failed on them, their key was NULL, or their window
    /// was closed. Their records are counted as applied.
    pub lost: u64,
}

/// Outcomes of invariant 4 that the engine decides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Taken by at least one window, or by a join.
    pub applied: u64,
    /// Rejected by WHERE.
    pub filtered: u64,
    /// No window took it any more, or no partner could have been found.
    pub late: u64,
    /// Null key or failing expression.
    pub quarantined: u64,
    /// Overwritten within the epoch (ingested groups).
    pub superseded: u64,
}

/// A record that could not become part of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Which record.
    pub record: RecordId,
    /// Why: a closed set of codes, see [`Reason`].
    pub reason: Reason,
    /// What exactly, for people.
    pub detail: String,
}

/// Why a record is quarantined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Not a Confluent frame: shorter than five bytes or another magic byte.
    BadFrame,
    /// The registry does not know the schema id.
    UnknownSchema,
    /// The writer's schema cannot be resolved to the stream's.
    IncompatibleSchema,
    /// The body does not follow its schema.
    BadBody,
    /// The record exceeds the size limit.
    TooLarge,
    /// Null or missing event time.
    NoEventTime,
    /// The event time is too far ahead of the clock.
    FutureEventTime,
    /// A column of the primary key is null.
    NullKey,
    /// An expression of the query fails on this record.
    Expression,
    /// A tombstone without a message key.
    TombstoneWithoutKey,
    /// The message key of a tombstone is not a primary key of the group.
    BadKey,
    /// A heartbeat whose header is not an i64 of microseconds.
    BadHeartbeat,
}

/// Why the engine cannot go on. Bad records never end here: they are [`Rejected`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A batch does not have the columns that the query reads, or an operator broke its contract.
    #[error("the engine was given what its query does not read: {0}")]
    Contract(String),
    /// DataFusion or Arrow failed where no single record is to blame.
    #[error("{0}")]
    DataFusion(#[from] datafusion::error::DataFusionError),
    /// The store does not give the state that lies there.
    #[error("the state of the feature group cannot be read: {0}")]
    Unreadable(#[from] crate::state::Unreadable),
    /// The durable copy of the state cannot be read.
    #[error("the state of the window that ends at {window_end} cannot be read: {detail}")]
    State {
        /// End of the window.
        window_end: Micros,
        /// What is wrong with it.
        detail: String,
    },
    /// The operating system gave no thread.
    #[error("no thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// The engine of one pipeline: its operators and the state in memory.
pub struct Engine {
    operator: Operator,
}

enum Operator {
    Derived(Upstream, Box<dyn Derived>),
    Upserting(Upserting),
}

impl Engine {
    /// An engine with the state that `rows` holds (none: empty), as it stood at watermark `watermark`, the
    /// one that the epoch of the last checkpoint committed ([`Output::watermark`]; before the first:
    /// [`Micros::MIN`]). `rows` come sorted by (operator, slice end, key group, key).
    pub fn restore(
        query: Arc<FeatureQuery>,
        emission: Emission,
        watermark: Micros,
        rows: impl Iterator<Item = StateRow>,
    ) -> Result<Self, Error> {
        Self::restore_on(&Arc::new(Workers::new(1)), query, emission, watermark, rows)
    }

    /// The same, computed on several threads. How many there are changes nothing but the time it takes, now or
    /// when the state was written.
    pub fn restore_on(
        workers: &Arc<Workers>,
        query: Arc<FeatureQuery>,
        emission: Emission,
        watermark: Micros,
        rows: impl Iterator<Item = StateRow>,
    ) -> Result<Self, Error> {
        let mut upstream = Upstream::new(Arc::clone(&query), watermark, emission.allowed_lateness)?;
        let (behind, mut claimed) = (watermark - upstream.hold(), Ok(()));
        let rows = rows.map_while(|row| upstream.claim(row).map_err(|error| claimed = Err(error)).ok());
        let rows: &mut dyn Iterator<Item = StateRow> = &mut rows.flatten();
        let sessions = |w: &query::Windowed| matches!(w.window, query::Window::Session { .. });
        let derived: Box<dyn Derived> = match &query.shape {
            query::Shape::Windowed(windowed) if sessions(windowed) => {
                Box::new(Lanes::<Sessionized>::restore(query, emission, behind, workers, rows)?)
            }
            query::Shape::Windowed(_) => {
                Box::new(Lanes::<Windowed>::restore(query, emission, behind, workers, rows)?)
            }
            query::Shape::Rolling(_) => {
                Box::new(Lanes::<Rolling>::restore(query, emission, behind, workers, rows)?)
            }
        };
        claimed?;
        upstream.put_back()?;
        Ok(Self { operator: Operator::Derived(upstream, derived) })
    }

    /// The engine of an ingested group: each record is a row. It keeps no state.
    pub fn ingest(group: Upsert, watermark: Micros) -> Result<Self, Error> {
        Ok(Self { operator: Operator::Upserting(Upserting::new(group, watermark)?) })
    }

    /// Applies one epoch. Pure: the same state and input give the same output, bit for bit.
    ///
    /// Where `input.batches` holds several batches of one partition, what they are cut into must follow
    /// from the records alone, as the epoch itself does. After an error the state is undefined: restore.
    pub fn apply(&mut self, input: &Input<'_>) -> Result<Output, Error> {
        match &mut self.operator {
            Operator::Derived(upstream, derived) => {
                upstream.drive(input, |input, upstream| derived.apply(input, upstream))
            }
            Operator::Upserting(upserting) => upserting.apply(input),
        }
    }

    /// Says up to which instant the records of each source are all there with the epoch that is applied next:
    /// what is looked up in a source is known up to there. Without it that is the epoch's watermark.
    pub fn look_up_to(&mut self, sources: &[Micros]) {
        if let Operator::Derived(upstream, _) = &mut self.operator {
            upstream.look_up_to(sources);
        }
    }

    /// Whether rows wait that an epoch would let go if the sources were as far as this.
    pub fn is_due(&self, sources: &[Micros]) -> bool {
        matches!(&self.operator, Operator::Derived(upstream, _) if upstream.is_due(sources))
    }

    /// The watermark that the last epoch committed.
    pub fn watermark(&self) -> Micros {
        match &self.operator {
            Operator::Derived(upstream, _) => upstream.watermark(),
            Operator::Upserting(upserting) => upserting.watermark(),
        }
    }

    /// How far behind the watermark rows come out: not at all but behind a join.
    pub fn hold(&self) -> Span {
        match &self.operator {
            Operator::Derived(upstream, _) => upstream.hold(),
            Operator::Upserting(_) => Span(0),
        }
    }

    /// Windows (or slices) that are open, and keys in them that are in memory; slices of rows that wait in a join, and these rows: what the
    /// state amounts to.
    pub fn open(&self) -> (usize, usize) {
        match &self.operator {
            Operator::Derived(upstream, derived) => upstream.open(derived.open()),
            Operator::Upserting(_) => (0, 0),
        }
    }
}
