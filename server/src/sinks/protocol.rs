//! The protocol of a sink: plan → write → progress, each row exactly once.
//!
//! Before anything is written, the plan (which entries it will be) is on disk; after it is written,
//! durably, the progress is, and with it the next plan. So whoever comes after a crash finds
//! at most one write of which it is not known what became, and knows exactly which rows it was. The
//! target then says which: a topic has the whole transaction or nothing of it; files are
//! written again, under the same names with the same rows.
//!
//! A target that failed is not trusted any more: it is opened anew and asked first ([`Target::recover`]).

use millpond_engine::time::Micros;

use crate::store::commit::OutboxEntry;
use crate::store::{Planned, SinkProgress};

/// Where rows go. Living three times: a topic, a folder, and a target in memory that fails in every way.
pub trait Target {
    /// What can go wrong.
    type Error;

    /// What became of the last plan. Called once, before the first write.
    fn recover(&mut self, progress: SinkProgress) -> Result<Found, Self::Error>;
    /// Writes the rows of these entries: durably when it returns. After an error they may be there too.
    fn write(&mut self, entries: &[OutboxEntry]) -> Result<(), Self::Error>;
}

/// What a target has of the last plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// All of it.
    All,
    /// Nothing, or what writing it again replaces.
    Nothing,
    /// Rows of this sequence, which was neither written nor planned, as far as the store knows.
    Beyond(u64),
}

/// The store's side: a group's outbox, and how far the sink has come with it.
pub trait Ledger {
    /// What can go wrong.
    type Error;

    /// How far the sink has come.
    fn progress(&self) -> Result<SinkProgress, Self::Error>;
    /// Keeps how far it has come, durably. Returns how many rows it has more than before.
    fn keep(&self, progress: SinkProgress) -> Result<u64, Self::Error>;
    /// The greatest sequence that was ever issued to the group; 0: none.
    fn issued(&self) -> Result<u64, Self::Error>;
    /// Entries after a sequence, in order, up to and with `through`, until they hold at least `rows` rows.
    fn entries(&self, after: u64, through: u64, rows: usize) -> Result<Vec<OutboxEntry>, Self::Error>;
    /// The time of day.
    fn now(&self) -> Micros;
}

/// Why a sink stops until somebody looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// The store is older than what was written: going on would repeat or contradict rows.
    #[error(
        "the sink holds outbox sequence {held}, but the store knows of none after {known}: the store was rolled back. \
         Restore the store that wrote it"
    )]
    StoreRolledBack {
        /// At the sink.
        held: u64,
        /// Written or planned, as the store knows.
        known: u64,
    },
    /// Rows that the sink does not have are not in the outbox any more.
    #[error(
        "the sink ends at outbox sequence {through}, and the outbox has lost what comes next: restore the store"
    )]
    Lost {
        /// The last sequence that the sink has.
        through: u64,
    },
}

/// Why a drain did not finish.
#[derive(Debug, thiserror::Error)]
pub enum Interrupted<T, L> {
    /// The target failed: open it anew and try again later.
    #[error("{0}")]
    Target(T),
    /// The store failed.
    #[error("{0}")]
    Ledger(L),
    /// Somebody has to look at it.
    #[error(transparent)]
    Halt(#[from] Halt),
}

/// Brings all that had been issued at the call to the target. `fresh`: it was just opened. `rows`: about
/// how many rows are written at once. The rows brought are added to `moved`, after an error too.
pub fn drain<T: Target, L: Ledger>(
    target: &mut T,
    ledger: &L,
    fresh: bool,
    rows: usize,
    moved: &mut u64,
) -> Result<(), Interrupted<T::Error, L::Error>> {
    let issued = ledger.issued().map_err(Interrupted::Ledger)?;
    let mut progress = ledger.progress().map_err(Interrupted::Ledger)?;
    if fresh {
        match (target.recover(progress).map_err(Interrupted::Target)?, progress.planned) {
            (Found::Beyond(held), planned) => {
                let known = planned.map_or(progress.through, |planned| planned.last);
                return Err(Halt::StoreRolledBack { held, known }.into());
            }
            (Found::All, Some(planned)) => {
                progress = SinkProgress { through: planned.last, planned: None };
                *moved += ledger.keep(progress).map_err(Interrupted::Ledger)?;
            }
            (Found::All, None) | (Found::Nothing, _) => {}
        }
    }
    let mut entries = match progress.planned {
        Some(planned) => ledger.entries(progress.through, planned.last, usize::MAX),
        None => ledger.entries(progress.through, issued, rows),
    }
    .map_err(Interrupted::Ledger)?;
    if progress.planned.is_none() && issued > progress.through {
        progress.planned = plan(&entries, ledger.now());
        *moved += ledger.keep(progress).map_err(Interrupted::Ledger)?;
    }
    while issued > progress.through {
        if !follow(&entries, progress) {
            return Err(Halt::Lost { through: progress.through }.into());
        }
        target.write(&entries).map_err(Interrupted::Target)?;
        let through = progress.planned.map_or(progress.through, |planned| planned.last);
        entries = ledger.entries(through, issued, rows).map_err(Interrupted::Ledger)?;
        progress = SinkProgress { through, planned: plan(&entries, ledger.now()) };
        *moved += ledger.keep(progress).map_err(Interrupted::Ledger)?;
    }
    Ok(())
}

fn plan(entries: &[OutboxEntry], at: Micros) -> Option<Planned> {
    entries.last().map(|entry| Planned { last: entry.sequence, at })
}

/// True where the entries are those that come next, up to the plan's last, without a gap.
fn follow(entries: &[OutboxEntry], progress: SinkProgress) -> bool {
    let last = progress.planned.map_or(progress.through, |planned| planned.last);
    entries.iter().map(|entry| entry.sequence).eq(progress.through + 1..=last) && !entries.is_empty()
}

#[cfg(test)]
mod tests;
