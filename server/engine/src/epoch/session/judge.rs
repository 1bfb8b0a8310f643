//! Which records are late: those whose session is over, with all that this epoch brings to it.
//!
//! A record whose own session would be too old (`time + gap + allowed lateness <= watermark`) is *doubtful*: it is
//! taken if it stands less than the gap away from a session that is kept, or from a record of this epoch that
//! is taken. So it does not matter in which order the records of an epoch are.

use arrow::array::BooleanArray;

use super::super::keyed::{Doubtful, Keyed};
use super::super::lanes::Horizon;
use super::super::plan::Plan;
use super::super::records::{Rows, Verdicts};
use super::super::{Error, Output};
use super::{Sessionized, times_of};
use crate::key;
use crate::time::Micros;

/// A record that takes part in the decision. Its key lies in the bytes of all.
struct Event {
    key: (usize, usize),
    time: Micros,
    /// Which of the doubtful ones it is; `None`: it is taken anyway.
    doubtful: Option<usize>,
}

/// The doubtful ones among rows.
pub(super) fn doubtful(
    plan: &Plan,
    horizon: Horizon,
    rows: &Rows,
    verdicts: &Verdicts<'_>,
) -> Result<Vec<Doubtful>, Error> {
    let alone = |time: i64| Micros(time) + plan.layout.slice() + horizon.allowed_lateness;
    let times = (0..).zip(times_of(plan, &rows.keys)?);
    let doubtful = times.filter(|(_, time)| alone(**time) <= horizon.watermark).map(|(row, _)| row);
    Ok(doubtful.map(|row: u32| Doubtful { row, record: verdicts.alone(rows.origin(row as usize)) }).collect())
}

impl Sessionized {
    /// Lets the records go that are late.
    pub(super) fn judge(&self, arrivals: &mut [Keyed], output: &mut Output) -> Result<(), Error> {
        if arrivals.iter().all(|rows| rows.doubtful.is_empty()) {
            return Ok(());
        }
        let is_taken = self.taken(arrivals)?;
        let mut is_taken = is_taken.into_iter();
        for rows in arrivals {
            let mut keep = vec![true; rows.len()];
            for doubtful in &rows.doubtful {
                let is_taken = is_taken.next().unwrap_or_default();
                if let Some(record) = doubtful.record {
                    let counts = output.counts_of(record.source);
                    if is_taken {
                        counts.applied += 1;
                    } else {
                        counts.late += 1;
                        output.late.push(record);
                    }
                }
                output.lost += u64::from(!is_taken && doubtful.record.is_none());
                if let Some(keep) = keep.get_mut(doubtful.row as usize) {
                    *keep = is_taken;
                }
            }
            if keep.contains(&false) {
                rows.retain(&BooleanArray::from(keep))?;
            }
        }
        Ok(())
    }

    /// Of each doubtful record, whether it is taken.
    fn taken(&self, arrivals: &[Keyed]) -> Result<Vec<bool>, Error> {
        let mut bytes: Vec<u8> = Vec::new();
        let mut events = self.events(arrivals, &mut bytes)?;
        let key = |event: &Event| bytes.get(event.key.0..event.key.1).unwrap_or_default();
        events.sort_unstable_by(|a, b| key(a).cmp(key(b)).then(a.time.cmp(&b.time)));
        let mut is_taken = vec![false; arrivals.iter().map(|rows| rows.doubtful.len()).sum()];
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
    fn events(&self, arrivals: &[Keyed], bytes: &mut Vec<u8>) -> Result<Vec<Event>, Error> {
        let mut events = Vec::new();
        let mut number = 0;
        // One that is taken anyway joins no doubtful one if it is this late.
        let horizon = self.watermark - self.emission.allowed_lateness;
        for rows in arrivals {
            let keys = rows.columns.get(..self.plan.keys.len()).unwrap_or_default();
            let encoder = key::Encoder::new(keys).map_err(|e| Error::Contract(e.to_string()))?;
            let mut doubtful = rows.doubtful.iter().map(|doubtful| doubtful.row as usize).peekable();
            for (row, time) in times_of(&self.plan, &rows.columns)?.iter().enumerate() {
                let doubtful = doubtful.next_if_eq(&row).map(|_| number);
                number += usize::from(doubtful.is_some());
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
