//! One epoch through the engine and into a commit: pure but for the engine's own state.

use millpond_engine::epoch::{Emitted, Engine, Input, Output, RecordId};
use millpond_engine::sql::SEMANTICS;
use millpond_engine::time::{Micros, Span};
use millpond_engine::watermark::{modelled_clock, modelled_row};

use super::accounting;
use super::decode::dead;
use super::gather::Gathered;
use super::halt::{Halt, Stop};
use super::journal::Committed;
use super::watermarks::Watermarks;
use crate::catalog::{GroupId, StreamId};
use crate::store::commit::{
    Availability, EpochCommit, JournalEntry, LateRecord, PartitionKey, Position, Quarantined,
};

/// What an epoch is besides its records.
pub struct Epoch {
    /// The group.
    pub group: GroupId,
    /// The stream of each source.
    pub streams: Vec<StreamId>,
    /// Where the watermarks move.
    pub watermarks: Watermarks,
    /// The sources have been read past these finish offsets, for the first time.
    pub finishes: Option<Vec<Option<Vec<i64>>>>,
    /// Availability is modelled: the delay of the sources' watermarks.
    pub modelled: Option<Span>,
    /// Where each partition stands afterwards, of those that moved.
    pub positions: Vec<(PartitionKey, Position)>,
    /// A close goes through at most this many keys.
    pub max_rows: usize,
    /// The engine's state is written.
    pub checkpoint: bool,
    /// Sources whose streams say `on_bad_record = "halt"`.
    pub halting: Vec<bool>,
}

/// An epoch that was computed.
pub struct Stepped {
    /// What is to be committed.
    pub commit: EpochCommit,
    /// What did not come through.
    pub losses: Losses,
}

/// What is in no row though its records were applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    /// Values that became NULL because an expression failed after aggregation.
    pub nulled: u64,
    /// Rows of a join that failed, had no key or came late for their window.
    pub joined: u64,
}

/// Runs the engine over what was gathered and builds the commit. After an error the engine's state
/// is ahead of what is committed: the pipeline must be opened anew.
pub fn step(
    engine: &mut Engine,
    committed: &Committed,
    mut gathered: Gathered,
    epoch: Epoch,
) -> Result<Stepped, Stop> {
    let batches = gathered.take_batches();
    let deletes = gathered.take_deletes();
    engine.look_up_to(&epoch.watermarks.sources);
    let output = engine.apply(&Input {
        batches: &batches,
        deletes: &deletes,
        watermark: epoch.watermarks.pipeline,
        finished: epoch.finishes.is_some(),
        cursor: committed.cursor.clone(),
        max_rows: epoch.max_rows,
        checkpoint: epoch.checkpoint,
    })?;
    drop(batches);
    let quarantine = quarantined(&mut gathered, &output, &epoch.halting)?;
    let late = output.late.iter().map(|id| late(&gathered, *id)).collect::<Result<_, _>>()?;
    let counts = accounting::close(&gathered.counts, &output.counts)?;
    let availability = match epoch.modelled {
        None => Availability::Live,
        Some(delay) => modelled(committed.clock, delay, engine.hold(), &output),
    };
    let journal = JournalEntry {
        epoch: committed.epoch + 1,
        first_epoch: None,
        opened_at: gathered.opened_at,
        ranges: gathered.ranges(),
        source_watermarks: epoch.watermarks.sources,
        watermark: output.watermark,
        available_at: Micros(0), // the committer's to say
        modelled: epoch.modelled.is_some(),
        counts,
        rows: output.rows.iter().map(|batch| batch.keys.len() as u64).sum(),
        close_cursor: output.cursor,
        unknown_schema_ids: gathered.unknown.iter().copied().collect(),
        checkpoint: epoch.checkpoint,
        max_rows: epoch.max_rows,
        semantics: SEMANTICS,
        finishes: epoch.finishes.unwrap_or_else(|| committed.finishes.clone()),
    };
    let losses = Losses { nulled: output.nulled, joined: output.lost };
    let commit = EpochCommit {
        group: epoch.group,
        streams: epoch.streams,
        epoch: journal.epoch,
        positions: epoch.positions,
        journal,
        availability,
        rows: output.rows,
        quarantine,
        late,
        state: output.state,
    };
    Ok(Stepped { commit, losses })
}

/// Dead letters of both stages, in the order of the records.
fn quarantined(gathered: &mut Gathered, output: &Output, halting: &[bool]) -> Result<Vec<Quarantined>, Stop> {
    let mut letters = std::mem::take(&mut gathered.quarantine);
    for rejected in &output.rejected {
        let id = rejected.record;
        let (records, record) = gathered.record(id).ok_or_else(|| stray(id))?;
        if halting.get(usize::from(id.source)).copied().unwrap_or(false) {
            return Err(bad_record(id.partition, id.offset, &rejected.detail).into());
        }
        let partition = PartitionKey { source: id.source, partition: id.partition };
        letters.push(dead(partition, records, record, rejected.reason, rejected.detail.clone()));
    }
    letters.sort_by_key(|q| (q.partition, q.offset));
    Ok(letters)
}

fn late(gathered: &Gathered, id: RecordId) -> Result<LateRecord, Stop> {
    let (records, record) = gathered.record(id).ok_or_else(|| stray(id))?;
    Ok(LateRecord {
        partition: PartitionKey { source: id.source, partition: id.partition },
        offset: id.offset,
        value: records.value(record).to_vec(),
    })
}

/// Why a stream with `on_bad_record = "halt"` stands still.
pub fn bad_record(partition: u32, offset: i64, detail: &str) -> Halt {
    Halt::new(
        format!("the record at offset {offset} of partition {partition} is bad: {detail}"),
        "the stream says on_bad_record=\"halt\": mend what wrote it (or register its schema) and resume, or read the \
         topic as a stream with on_bad_record=\"quarantine\"",
    )
}

fn stray(id: RecordId) -> Stop {
    Halt::new(
        format!("the engine speaks of a record that was not read: {id:?}"),
        "this is a defect: nothing of the epoch was committed; report it with the group's definition",
    )
    .into()
}

/// The group's clock after the epoch, and from when on each row is available (section 4 of the design). Rows
/// of a query with a join come out `hold` later than their time says.
fn modelled(previous: Micros, delay: Span, hold: Span, output: &Output) -> Availability {
    let clock = modelled_clock(previous, output.watermark, Some(output.closed_to), delay);
    let of_batch = |batch: &Emitted| {
        let rows = batch.event_times.iter().zip(&batch.first);
        rows.map(|(time, first)| modelled_row(*time + hold, delay, previous, clock, *first)).collect()
    };
    Availability::Modelled { clock, rows: output.rows.iter().map(of_batch).collect() }
}
