//! Which records are late: those whose session is over, with all that this epoch brings to it.
//!
//! A record whose own session would be too old (`time + gap + allowed lateness <= watermark`) is *doubtful*: it is
//! taken if it stands less than the gap away from a session that is kept, or from a record of this epoch that
//! is taken. So it does not matter in which order the records of an epoch are.

use super::super::records::{Rows, Verdicts};
use super::super::{Error, Output, RecordId};
use super::{Arrivals, Sessionized};
use crate::key;
use crate::time::Micros;

/// A record that is late by itself.
pub(super) struct Doubtful {
    /// Number of its batch among the arrivals, and of its row.
    batch: usize,
    row: usize,
    /// Not of a row of a join: its records are accounted for.
    record: Option<RecordId>,
}

/// A record that takes part in the decision. Its key lies in the bytes of all.
struct Event {
    key: (usize, usize),
    time: Micros,
    /// Which of the doubtful ones it is; `None`: it is taken anyway.
    doubtful: Option<usize>,
}

impl Sessionized {
    /// Whether a record is late if nothing else is in its session.
    fn is_doubtful(&self, time: i64) -> bool {
        Micros(time) + self.plan.layout.slice() + self.emission.allowed_lateness <= self.watermark
    }

    /// The doubtful ones among the rows of batch number `batch`.
    pub(super) fn doubt(
        &self,
        rows: &Rows,
        verdicts: &Verdicts<'_>,
        batch: usize,
    ) -> Result<Vec<Doubtful>, Error> {
        let times = self.times_of(rows)?.iter().enumerate();
        let doubtful = times.filter(|(_, time)| self.is_doubtful(**time));
        Ok(doubtful
            .map(|(row, _)| Doubtful { batch, row, record: verdicts.alone(rows.origin(row)) })
            .collect())
    }

    /// Lets the records go that are late.
    pub(super) fn judge(&self, arrivals: &mut Arrivals, output: &mut Output) -> Result<(), Error> {
        if arrivals.doubtful.is_empty() {
            return Ok(());
        }
        let is_taken = self.taken(arrivals)?;
        let mut is_late: Vec<Vec<bool>> = arrivals.rows.iter().map(|rows| vec![false; rows.len()]).collect();
        for (doubtful, is_taken) in arrivals.doubtful.iter().zip(is_taken) {
            if let Some(record) = doubtful.record {
                let counts = output.counts_of(record.source);
                if is_taken {
                    counts.applied += 1;
                } else {
                    counts.late += 1;
                    output.late.push(record);
                }
            }
            if is_taken {
                continue;
            }
            output.lost += u64::from(doubtful.record.is_none());
            if let Some(is_late) = is_late.get_mut(doubtful.batch).and_then(|b| b.get_mut(doubtful.row)) {
                *is_late = true;
            }
        }
        for (rows, is_late) in arrivals.rows.iter_mut().zip(is_late) {
            rows.remove(|row| is_late.get(row).copied().unwrap_or_default(), |_| {})?;
        }
        Ok(())
    }

    /// Of each doubtful record, whether it is taken.
    fn taken(&self, arrivals: &Arrivals) -> Result<Vec<bool>, Error> {
        let mut bytes: Vec<u8> = Vec::new();
        let mut events = self.events(arrivals, &mut bytes)?;
        let key = |event: &Event| bytes.get(event.key.0..event.key.1).unwrap_or_default();
        events.sort_unstable_by(|a, b| key(a).cmp(key(b)).then(a.time.cmp(&b.time)));
        let mut is_taken = vec![false; arrivals.doubtful.len()];
        let mut points: Vec<(Micros, Micros, Option<usize>)> = Vec::new();
        for of_key in events.chunk_by(|a, b| key(a) == key(b)) {
            let Some(first) = of_key.first().filter(|_| of_key.iter().any(|e| e.doubtful.is_some())) else {
                continue;
            };
            points.clear();
            points.extend(of_key.iter().map(|event| (event.time, event.time, event.doubtful)));
            points.extend(self.sessions.extents(key(first)).map(|extent| (extent.first, extent.last, None)));
            points.sort_unstable_by_key(|(from, ..)| *from);
            let mut session: Vec<usize> = Vec::new();
            let (mut last, mut is_kept) = (None::<Micros>, false);
            for (from, to, doubtful) in &points {
                if last.is_some_and(|last| !self.sessions.joins(last, *from)) {
                    settle(&mut session, is_kept, &mut is_taken);
                    is_kept = false;
                    last = None;
                }
                last = last.max(Some(*to));
                is_kept |= doubtful.is_none();
                session.extend(*doubtful);
            }
            settle(&mut session, is_kept, &mut is_taken);
        }
        Ok(is_taken)
    }

    /// The doubtful records, and those that they may stand beside.
    fn events(&self, arrivals: &Arrivals, bytes: &mut Vec<u8>) -> Result<Vec<Event>, Error> {
        let mut events = Vec::new();
        let mut doubtful = arrivals.doubtful.iter().enumerate().peekable();
        // One that is taken anyway joins no doubtful one if it is this late.
        let horizon = self.watermark - self.emission.allowed_lateness;
        for (batch, rows) in arrivals.rows.iter().enumerate() {
            let keys = rows.keys.get(..self.plan.keys.len()).unwrap_or_default();
            let encoder = key::Encoder::new(keys).map_err(|e| Error::Contract(e.to_string()))?;
            for (row, time) in self.times_of(rows)?.iter().enumerate() {
                let is_next = |(_, next): &(usize, &Doubtful)| (next.batch, next.row) == (batch, row);
                let doubtful = doubtful.next_if(is_next).map(|(number, _)| number);
                if doubtful.is_none() && Micros(*time) >= horizon {
                    continue;
                }
                let start = bytes.len();
                encoder.append(row, bytes);
                events.push(Event { key: (start, bytes.len()), time: Micros(*time), doubtful });
            }
        }
        Ok(events)
    }
}

/// The doubtful records of a session share its fate.
fn settle(session: &mut Vec<usize>, is_kept: bool, is_taken: &mut [bool]) {
    for doubtful in session.drain(..) {
        if let Some(is_taken) = is_taken.get_mut(doubtful) {
            *is_taken = is_kept;
        }
    }
}
