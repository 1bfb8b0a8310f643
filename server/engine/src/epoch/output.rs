//! What an epoch does, put together.

use super::records::Judged;
use super::{Counts, Emitted, Error, Output};
use crate::time::Micros;

impl Counts {
    pub(super) fn add(&mut self, other: Self) {
        self.applied += other.applied;
        self.filtered += other.filtered;
        self.late += other.late;
        self.quarantined += other.quarantined;
        self.superseded += other.superseded;
    }
}

impl Output {
    pub(super) fn new(sources: usize) -> Self {
        Self {
            rows: Vec::new(),
            counts: vec![Counts::default(); sources],
            rejected: Vec::new(),
            late: Vec::new(),
            state: Vec::new(),
            watermark: Micros::MIN,
            closed_to: Micros::MIN,
            cursor: None,
            nulled: 0,
            lost: 0,
        }
    }

    pub(super) fn counts_of(&mut self, source: u16) -> &mut Counts {
        let at = usize::from(source);
        if self.counts.len() <= at {
            self.counts.resize(at + 1, Counts::default());
        }
        #[allow(clippy::indexing_slicing)] // just made long enough
        &mut self.counts[at]
    }

    pub(super) fn record(&mut self, source: u16, judged: Judged) {
        self.counts_of(source).add(judged.counts);
        self.rejected.extend(judged.rejected);
        self.late.extend(judged.late);
    }

    /// Verdicts fall stage by stage, and rows of several kinds one kind after the other; they are reported
    /// in the order of the records, and of (event time, key).
    pub(super) fn sort(&mut self) -> Result<(), Error> {
        self.rejected.sort_unstable_by_key(|r| r.record);
        self.late.sort_unstable();
        let rows = || self.rows.iter().flat_map(|r| r.event_times.iter().zip(&r.keys));
        if !rows().is_sorted() {
            self.rows = vec![Emitted::sorted(&self.rows)?];
        }
        Ok(())
    }
}
