//! What the last commit left behind: all that the next epoch needs besides the engine's state.

use std::collections::BTreeMap;

use millpond_engine::epoch::CloseCursor;
use millpond_engine::time::Micros;

use super::watermarks::Watermarks;
use crate::store::commit::{EpochCommit, JournalEntry, PartitionKey, Position};

/// Where a pipeline stands after its last commit.
#[derive(Debug, Clone, PartialEq)]
pub struct Committed {
    /// Number of the last epoch; 0: none.
    pub epoch: u64,
    /// Watermark of the pipeline.
    pub watermark: Micros,
    /// Watermark of each source.
    pub source_watermarks: Vec<Micros>,
    /// `opened_at` of the last epoch: the next one's is not before it.
    pub opened_at: Micros,
    /// A large close that goes on.
    pub cursor: Option<CloseCursor>,
    /// When the last epoch's rows became available; `None` before the first.
    pub available_at: Option<Micros>,
    /// The group's modelled clock.
    pub clock: Micros,
    /// An epoch was stamped by the commit clock: a live group's backfill is over for good.
    pub live: bool,
    /// Finish offsets acted on, per source.
    pub finishes: Vec<Option<Vec<i64>>>,
    /// Where each partition stands.
    pub positions: BTreeMap<PartitionKey, Position>,
}

impl Committed {
    /// What the store holds of a pipeline with this many sources.
    pub fn restore(
        last: Option<&JournalEntry>,
        positions: Vec<(PartitionKey, Position)>,
        sources: usize,
    ) -> Self {
        let mut committed = Self {
            epoch: 0,
            watermark: Micros::MIN,
            source_watermarks: vec![Micros::MIN; sources],
            opened_at: Micros::MIN,
            cursor: None,
            available_at: None,
            clock: Micros::MIN,
            live: false,
            finishes: vec![None; sources],
            positions: positions.into_iter().collect(),
        };
        if let Some(entry) = last {
            committed.take(entry, entry.available_at);
        }
        committed
    }

    /// An epoch was committed.
    pub fn advance(&mut self, commit: &EpochCommit, available_at: Micros) {
        self.take(&commit.journal, available_at);
        self.positions.extend(commit.positions.iter().cloned());
    }

    fn take(&mut self, entry: &JournalEntry, available_at: Micros) {
        self.epoch = entry.epoch;
        self.watermark = entry.watermark;
        for (mine, theirs) in self.source_watermarks.iter_mut().zip(&entry.source_watermarks) {
            *mine = *theirs;
        }
        self.opened_at = entry.opened_at;
        self.cursor.clone_from(&entry.close_cursor);
        self.available_at = Some(available_at);
        if entry.modelled {
            self.clock = available_at;
        } else {
            self.live = true;
        }
        for (mine, theirs) in self.finishes.iter_mut().zip(&entry.finishes) {
            mine.clone_from(theirs);
        }
    }

    /// The watermarks as they are: while a large close goes on, they stand still.
    pub fn watermarks(&self) -> Watermarks {
        Watermarks { pipeline: self.watermark, sources: self.source_watermarks.clone() }
    }

    /// The positions of one source.
    pub fn of_source(&self, source: u16) -> Vec<(u32, Position)> {
        let mine = self.positions.iter().filter(|(key, _)| key.source == source);
        mine.map(|(key, position)| (key.partition, position.clone())).collect()
    }
}
