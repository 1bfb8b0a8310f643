//! The aggregate over sessions: records into stretches, epoch by epoch.
//!
//! A row's way: slice (as long as the gap) → within stages → key (null: rejected) → arguments; and once all
//! rows of the epoch are there: late? → stretch → accumulators. [`judge`] decides what is late, [`close`]
//! which sessions are over, [`revise`] what becomes of rows that are out, [`checkpoint`] keeps what lasts.

mod checkpoint;
mod close;
mod ends;
mod judge;
mod revise;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::TimestampMicrosecondType;

use self::ends::Ends;
use self::judge::Doubtful;
use super::intake::by_slice;
use super::plan::Plan;
use super::records::{Rows, Verdicts};
use super::upstream::Upstream;
use super::windowed::state_error;
use super::{Emission, Error, Input, Output, stage};
use crate::query::FeatureQuery;
use crate::state::StateRow;
use crate::time::Micros;
use crate::window::{Events, Sessions};

/// The operator and its state.
pub(super) struct Sessionized {
    plan: Plan,
    emission: Emission,
    sessions: Sessions,
    /// The watermark that the previous epoch committed: it judges lateness.
    pub(super) watermark: Micros,
    /// Stretches of slices up to here stand in `open` or `closed`; not known before the first epoch.
    entered: Option<Micros>,
    /// Where sessions that are not closed may end: of each stretch that may be the last of one.
    open: Ends,
    /// Where sessions ended that are closed and kept for late records.
    closed: Ends,
    /// Sessions that are due, in order: end, key, slice of the last stretch.
    due: VecDeque<(Micros, Vec<u8>, Micros)>,
    /// Rows that are out, by key and event time, whose sessions have another end by now.
    gone: BTreeSet<(Vec<u8>, Micros)>,
}

/// The rows of an epoch, until it is known which of them are late.
#[derive(Default)]
struct Arrivals {
    /// Batch by batch; key columns, event time and arguments are in their `keys`.
    rows: Vec<Rows>,
    doubtful: Vec<Doubtful>,
}

impl Sessionized {
    pub(super) fn restore(
        query: Arc<FeatureQuery>,
        emission: Emission,
        watermark: Micros,
        rows: impl Iterator<Item = StateRow>,
    ) -> Result<Self, Error> {
        let plan = Plan::new(query, emission.on_update)?;
        let sessions = checkpoint::restore(&plan, rows)?;
        Ok(Self {
            plan,
            emission,
            sessions,
            watermark,
            entered: None,
            open: Ends::default(),
            closed: Ends::default(),
            due: VecDeque::new(),
            gone: BTreeSet::new(),
        })
    }

    pub(super) fn apply(&mut self, input: &Input<'_>, upstream: &mut Upstream) -> Result<Output, Error> {
        let mut output = Output::new(self.plan.query.sources.len());
        self.begin(input.cursor.as_ref());
        let mut arrivals = Arrivals::default();
        let reached = upstream
            .take(input, &mut output, &mut |rows, verdicts| self.receive(rows, verdicts, &mut arrivals))?;
        if input.cursor.is_some() && !arrivals.rows.is_empty() {
            // Records may come into sessions that are being closed: their rows come first. (A pipeline gives
            // no records while a close goes on.)
            self.close(usize::MAX, &mut output)?;
            self.retire();
        }
        self.judge(&mut arrivals, &mut output)?;
        for rows in &arrivals.rows {
            self.update(rows)?;
        }
        self.revise(&mut output)?;
        let mut watermark = self.watermark.max(reached);
        if input.finished
            && let Some(end) = self.sessions.greatest_end()
        {
            watermark = watermark.max(end);
        }
        self.watermark = watermark;
        output.watermark = watermark;
        self.close(input.max_rows.max(1), &mut output)?;
        self.update_rows(&mut output)?;
        self.retire();
        if input.checkpoint {
            self.checkpoint(&mut output)?;
        }
        output.sort()?;
        Ok(output)
    }

    /// Slices, and stretches in them.
    pub(super) fn open(&self) -> (usize, usize) {
        let slices = &self.sessions.slices;
        (slices.len(), slices.values().map(crate::window::Stretches::len).sum())
    }

    /// Takes rows of the input up to where it has to be known whether they are late. Those that are not,
    /// whatever else there is, count as applied.
    fn receive(
        &self,
        mut rows: Rows,
        verdicts: &mut Verdicts<'_>,
        arrivals: &mut Arrivals,
    ) -> Result<(), Error> {
        self.plan.assign(&mut rows, verdicts)?;
        stage::on_records(&self.plan.shape.within, &mut rows, verdicts)?;
        self.plan.key(&mut rows, verdicts)?;
        // Before lateness is judged: a record that fails joins no sessions.
        let Some(arguments) = self.plan.arguments(&mut rows, verdicts)? else { return Ok(()) };
        rows.keys.extend(arguments);
        let doubtful = self.doubt(&rows, verdicts, arrivals.rows.len())?;
        verdicts.counts.applied += (rows.len() - doubtful.len()) as u64;
        arrivals.doubtful.extend(doubtful);
        arrivals.rows.push(rows);
        Ok(())
    }

    /// Takes rows into the stretches of their slices.
    fn update(&mut self, rows: &Rows) -> Result<(), Error> {
        let (gap, edge, is_noted) = (self.plan.layout.slice(), self.watermark, self.emission.on_update);
        let (plan, sessions) = (&self.plan, &mut self.sessions);
        by_slice(&rows.starts, &rows.keys, &mut |start, columns, _| {
            let (keys, rest) = columns.split_at_checked(plan.keys.len()).unwrap_or((columns, &[]));
            let (time, arguments) = rest.split_at_checked(1).unwrap_or((rest, &[]));
            let events = Events { keys, arguments, times: times(time)?, edge, is_noted };
            let slice_end = Micros(start) + gap;
            sessions
                .update(&plan.key_schema, &plan.functions, slice_end, &events)
                .map_err(|e| state_error(slice_end, &e))
        })
    }

    /// The event times of rows that were received.
    fn times_of<'r>(&self, rows: &'r Rows) -> Result<&'r [i64], Error> {
        times(rows.keys.get(self.plan.keys.len()..).unwrap_or_default())
    }
}

/// The first column as event times.
fn times(columns: &[ArrayRef]) -> Result<&[i64], Error> {
    let times = columns.first().and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
    let times = times.ok_or_else(|| Error::Contract("the event time is not with the key".into()))?;
    Ok(times.values())
}
