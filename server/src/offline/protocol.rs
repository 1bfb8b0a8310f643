//! The drain protocol: outbox → files → Delta commit → outbox entries deleted, exactly once.
//!
//! A Delta commit carries `txn(appId, version)` with version = the last outbox sequence in it. That
//! number, read from the table, is the only witness of what is in Delta: the reply to a commit is
//! not (it may be lost, or be an error although the commit stands). So each step begins by reading
//! it, [`decide`] says what to do, and [`drain`] does one step and reads again. Whatever the step was
//! that a crash cut short, the next process does the right one (the tests enumerate them all).
//!
//! Two things keep a step from being done twice: a commit is made *from* the version that was read
//! (put-if-absent of the next one, never retried on a later one), so a request that was lost and lands
//! late fails or is seen; and outbox entries are deleted only after what was read is durable.

use arrow::array::RecordBatch;

use crate::store::commit::OutboxEntry;

/// The table as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// Version of the table.
    pub version: u64,
    /// The last outbox sequence that is in it.
    pub transaction: Option<u64>,
}

/// The outbox as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owed {
    /// The greatest sequence that the store ever issued to the group; 0: none.
    pub issued: u64,
    /// The first entry that is still there.
    pub first: Option<u64>,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Delta has all there is.
    Done,
    /// Delta has the entries up to here: make that durable, then delete them.
    Forget(u64),
    /// Write and commit the entries after this sequence.
    Append(u64),
    /// Go no further.
    Halt(Halt),
}

/// Why a group's drain stops until somebody looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// The store is older than the table: appending would repeat or contradict rows.
    #[error(
        "the Delta table holds outbox sequence {table}, but the store has only issued {issued}: the store was rolled back. \
         Restore the store that wrote the table, or move the table away"
    )]
    StoreRolledBack {
        /// In the table.
        table: u64,
        /// Issued by the store.
        issued: u64,
    },
    /// The table is older than the store: rows that were in it are gone.
    #[error(
        "the Delta table ends at outbox sequence {table}, but everything before {first} was committed to it once: \
         the table was rolled back or replaced. Restore it"
    )]
    TableRolledBack {
        /// In the table; 0: nothing.
        table: u64,
        /// The first sequence that the store still has (or would issue next).
        first: u64,
    },
}

/// What to do, given what both sides say. Sequences of a group have no gaps.
pub fn decide(table: Snapshot, owed: Owed) -> Step {
    let held = table.transaction.unwrap_or(0);
    let first = owed.first.unwrap_or(owed.issued + 1);
    if held > owed.issued {
        Step::Halt(Halt::StoreRolledBack { table: held, issued: owed.issued })
    } else if first > held + 1 {
        Step::Halt(Halt::TableRolledBack { table: held, first })
    } else if first > owed.issued {
        Step::Done
    } else if first <= held {
        Step::Forget(held)
    } else {
        Step::Append(held)
    }
}

/// A Delta table as the protocol sees it. Living twice: delta-rs, and a table in memory that fails
/// in every way a real one can.
pub trait DeltaLog {
    /// Files that are written, durable, and in no commit yet.
    type Files: Send;
    /// What can go wrong.
    type Error: Send;

    /// Reads the newest version; makes the table where there is none.
    fn load(&mut self) -> impl Future<Output = Result<Snapshot, Self::Error>> + Send;
    /// Makes durable all that the last `load` saw.
    fn settle(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;
    /// Writes data files, durably.
    fn write(
        &mut self,
        rows: Vec<RecordBatch>,
    ) -> impl Future<Output = Result<Self::Files, Self::Error>> + Send;
    /// Commits files as version `from + 1` with the transaction version `transaction`, or fails;
    /// never as a later version. After an error the commit may stand all the same.
    fn commit(
        &mut self,
        from: u64,
        files: Self::Files,
        transaction: u64,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// A group's outbox.
pub trait Outbox {
    /// What can go wrong.
    type Error: Send;

    /// How far the outbox goes.
    fn owed(&self) -> Result<Owed, Self::Error>;
    /// Entries after a sequence, in order, until they hold at least `rows` rows (or there are no more).
    fn after(&self, sequence: u64, rows: usize) -> Result<Vec<OutboxEntry>, Self::Error>;
    /// Deletes the entries up to a sequence; returns how many rows they held.
    fn delete(&self, through: u64) -> Result<u64, Self::Error>;
}

/// Why a drain did not finish.
#[derive(Debug, thiserror::Error)]
pub enum Interrupted<L, O> {
    /// The table failed: try again later.
    #[error("{0}")]
    Table(L),
    /// The store failed.
    #[error("{0}")]
    Outbox(O),
    /// Somebody has to look at it.
    #[error(transparent)]
    Halt(#[from] Halt),
}

/// What a drain has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drained {
    /// Rows found durable in the table and taken off the outbox: each row once, whoever committed it.
    pub rows: u64,
    /// Commits that it made.
    pub commits: u64,
    /// The table's version when it ended; `None`: nothing was ever owed.
    pub version: Option<u64>,
}

/// Drains until all that had been issued at the call is in the table and gone from the outbox.
/// `rows`: about how many rows one commit takes. What was done stands in `drained` after an error too.
pub async fn drain<L: DeltaLog, O: Outbox>(
    log: &mut L,
    outbox: &O,
    rows: usize,
    drained: &mut Drained,
) -> Result<(), Interrupted<L::Error, O::Error>> {
    let target = outbox.owed().map_err(Interrupted::Outbox)?.issued;
    loop {
        let table = log.load().await.map_err(Interrupted::Table)?;
        drained.version = Some(table.version);
        match decide(table, outbox.owed().map_err(Interrupted::Outbox)?) {
            Step::Done => return Ok(()),
            Step::Halt(halt) => return Err(halt.into()),
            Step::Forget(through) => {
                log.settle().await.map_err(Interrupted::Table)?;
                drained.rows += outbox.delete(through).map_err(Interrupted::Outbox)?;
            }
            Step::Append(after) if after >= target => return Ok(()),
            Step::Append(after) => {
                let entries = outbox.after(after, rows).map_err(Interrupted::Outbox)?;
                let Some(last) = entries.last().map(|entry| entry.sequence) else { return Ok(()) };
                let batches: Vec<RecordBatch> = entries.into_iter().map(|entry| entry.rows).collect();
                let files = log.write(batches).await.map_err(Interrupted::Table)?;
                if let Err(error) = log.commit(table.version, files, last).await {
                    // Not known to have failed: the table says. The files stay either way; if no
                    // commit names them, vacuum takes them after its retention.
                    let now = log.load().await.map_err(Interrupted::Table)?;
                    if now.transaction != Some(last) {
                        return Err(Interrupted::Table(error));
                    }
                }
                drained.commits += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
