//! The records of one batch on their way to the shape, and what is decided about them.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::FilterBuilder;
use datafusion::error::DataFusionError;

use super::evaluate::{Evaluate, by_halves, message};
use super::{Counts, Error, Reason, RecordId, Rejected, SourceBatch};

/// What was decided about the records of one source batch; or about rows of a join, whose records were
/// counted when the join took them.
pub(super) struct Verdicts<'b> {
    of: Of<'b>,
    pub(super) counts: Counts,
    pub(super) rejected: Vec<Rejected>,
    pub(super) late: Vec<RecordId>,
    /// Rows of a join that were to be rejected, or came late.
    pub(super) lost: u64,
}

/// The same, once all is decided.
pub(super) struct Judged {
    pub(super) counts: Counts,
    pub(super) rejected: Vec<Rejected>,
    pub(super) late: Vec<RecordId>,
}

/// What rows are made of.
enum Of<'b> {
    Batch(&'b SourceBatch),
    /// So many records a row, one row after the other; nothing where nobody asks.
    Joined(&'b [RecordId], usize),
}

impl<'b> Verdicts<'b> {
    pub(super) fn new(batch: &'b SourceBatch) -> Self {
        Self::of(Of::Batch(batch))
    }

    /// About rows of a join, made of `width` records each.
    pub(super) fn joined(records: &'b [RecordId], width: usize) -> Self {
        Self::of(Of::Joined(records, width))
    }

    fn of(of: Of<'b>) -> Self {
        Self { of, counts: Counts::default(), rejected: Vec::new(), late: Vec::new(), lost: 0 }
    }

    pub(super) fn judged(self) -> Judged {
        Judged { counts: self.counts, rejected: self.rejected, late: self.late }
    }

    /// Appends what the row at `position` of the batch is made of.
    pub(super) fn records(&self, position: usize, records: &mut Vec<RecordId>) {
        match self.of {
            Of::Batch(batch) => records.push(record(batch, position)),
            Of::Joined(all, width) => {
                records
                    .extend_from_slice(all.get(position * width..(position + 1) * width).unwrap_or_default());
            }
        }
    }

    /// The record that the row at `position` of the batch is, if it is not accounted for yet; none where it is a
    /// row of a join.
    pub(super) fn alone(&self, position: usize) -> Option<RecordId> {
        match self.of {
            Of::Batch(batch) => Some(record(batch, position)),
            Of::Joined(..) => None,
        }
    }

    /// The one record that the row at `position` of the batch is made of.
    pub(super) fn behind(&self, position: usize) -> Option<RecordId> {
        match self.of {
            Of::Batch(batch) => Some(record(batch, position)),
            Of::Joined(all, 1) => all.get(position).copied(),
            Of::Joined(..) => None,
        }
    }

    pub(super) fn reject(&mut self, position: usize, reason: Reason, detail: String) {
        let Of::Batch(batch) = self.of else {
            self.lost += 1;
            return;
        };
        self.counts.quarantined += 1;
        self.rejected.push(Rejected { record: record(batch, position), reason, detail });
    }

    pub(super) fn late(&mut self, position: usize) {
        let Of::Batch(batch) = self.of else {
            self.lost += 1;
            return;
        };
        self.counts.late += 1;
        self.late.push(record(batch, position));
    }
}

/// The record at `position` of a batch.
fn record(batch: &SourceBatch, position: usize) -> RecordId {
    let offset = batch.offsets.get(position).copied().unwrap_or(-1);
    RecordId { source: batch.source, partition: batch.partition, offset }
}

/// Rows that are still on their way. All parts have the same length; a record that is filtered or
/// rejected leaves all of them at once.
pub(super) struct Rows {
    pub(super) batch: RecordBatch,
    /// Position of each row in the batch that came; `None` while all of them are here.
    origin: Option<Vec<u32>>,
    /// Start of each row's window; empty before windows are assigned.
    pub(super) starts: Vec<i64>,
    /// Key columns; empty before keys are evaluated.
    pub(super) keys: Vec<ArrayRef>,
}

impl Rows {
    pub(super) fn new(batch: &RecordBatch) -> Self {
        Self { batch: batch.clone(), origin: None, starts: Vec::new(), keys: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// Position of a row in the batch that came.
    pub(super) fn origin(&self, row: usize) -> usize {
        match &self.origin {
            None => row,
            Some(origin) => origin.get(row).map_or(row, |o| *o as usize),
        }
    }

    /// Where each row stands ([`crate::state::STANDING`]): its event time, source and partition (as one number
    /// that orders as they do), offset. Records of a key are in this order whatever epochs they come in; rows
    /// of a join have no place in a log.
    pub(super) fn standing(&self, times: &[i64], verdicts: &Verdicts<'_>) -> [ArrayRef; 3] {
        let (mut partitions, mut offsets) = (Vec::with_capacity(self.len()), Vec::with_capacity(self.len()));
        for row in 0..self.len() {
            let record = verdicts.behind(self.origin(row));
            partitions.push(record.map_or(-1, |r| i64::from(r.source) << 32 | i64::from(r.partition)));
            offsets.push(record.map_or(-1, |r| r.offset));
        }
        [times.to_vec(), partitions, offsets].map(|column| Arc::new(Int64Array::from(column)) as ArrayRef)
    }

    /// Keeps the rows for which `keep` is true (null is not).
    pub(super) fn retain(&mut self, keep: &BooleanArray) -> Result<(), Error> {
        if keep.true_count() == self.len() {
            return Ok(());
        }
        let kept = || keep.iter().enumerate().filter(|(_, k)| *k == Some(true)).map(|(row, _)| row);
        self.origin = Some(kept().map(|row| self.origin(row) as u32).collect());
        if !self.starts.is_empty() {
            self.starts = kept().filter_map(|row| self.starts.get(row).copied()).collect();
        }
        let predicate = FilterBuilder::new(keep).optimize().build();
        self.batch = predicate.filter_record_batch(&self.batch).map_err(DataFusionError::from)?;
        for key in &mut self.keys {
            *key = predicate.filter(key).map_err(DataFusionError::from)?;
        }
        Ok(())
    }

    /// Removes the rows for which `gone` is true, after `verdict` was told each.
    pub(super) fn remove(
        &mut self,
        gone: impl Fn(usize) -> bool,
        mut verdict: impl FnMut(usize),
    ) -> Result<(), Error> {
        let mut any = false;
        let keep: BooleanArray = (0..self.len())
            .map(|row| {
                let gone = gone(row);
                if gone {
                    any = true;
                    verdict(self.origin(row));
                }
                Some(!gone)
            })
            .collect();
        if any { self.retain(&keep) } else { Ok(()) }
    }

    /// Evaluates columns over the rows. Rows on which that fails are rejected and leave; the columns
    /// are those of the rows that stay. `None`: no row is left.
    pub(super) fn evaluate(
        &mut self,
        verdicts: &mut Verdicts<'_>,
        evaluate: Evaluate<'_>,
    ) -> Result<Option<Vec<ArrayRef>>, Error> {
        let mut failed: Vec<usize> = Vec::new();
        let columns = by_halves(&self.batch, evaluate, &mut |row, error| {
            verdicts.reject(self.origin(row), Reason::Expression, message(error));
            failed.push(row);
            None
        })?;
        if !failed.is_empty() {
            // Ascending, as the halves were taken in order.
            let keep: BooleanArray =
                (0..self.len()).map(|row| Some(failed.binary_search(&row).is_err())).collect();
            self.retain(&keep)?;
        }
        Ok(columns)
    }
}

impl RecordId {
    /// Length of a record as bytes.
    pub(super) const BYTES: usize = 14;

    /// Writes source, partition and offset, so that bytes order as they do.
    pub(super) fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.source.to_be_bytes());
        out.extend_from_slice(&self.partition.to_be_bytes());
        out.extend_from_slice(&(self.offset ^ i64::MIN).to_be_bytes());
    }

    /// Reads what [`Self::put`] wrote.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (source, rest) = bytes.split_first_chunk()?;
        let (partition, rest) = rest.split_first_chunk()?;
        let (offset, _) = rest.split_first_chunk()?;
        Some(Self {
            source: u16::from_be_bytes(*source),
            partition: u32::from_be_bytes(*partition),
            offset: i64::from_be_bytes(*offset) ^ i64::MIN,
        })
    }
}
