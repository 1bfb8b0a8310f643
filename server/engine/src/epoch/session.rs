//! The aggregate over sessions: records into stretches, epoch by epoch.
//!
//! A row's way: slice (as long as the gap) → within stages → key (null: rejected) → arguments; and once all
//! rows of the epoch are there: late? → stretch → accumulators. [`judge`] decides what is late, [`close`]
//! which sessions are over, [`revise`] what becomes of rows that are out, [`checkpoint`] keeps what lasts.

mod checkpoint;
mod close;
mod cold;
mod ends;
mod judge;
mod revise;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::TimestampMicrosecondType;

use self::ends::{End, Ends};
use self::judge::doubtful;
use super::intake::by_slice;
use super::keyed::Keyed;
use super::lanes::{Cut, Horizon, Lane};
use super::plan::Plan;
use super::records::{Rows, Verdicts};
use super::windowed::state_error;
use super::{CloseCursor, Emission, Error, Memory, Output, stage};
use crate::query::FeatureQuery;
use crate::state::{KeyGroups, StateRow, StateView};
use crate::time::Micros;
use crate::window::{Events, Session, Sessions, Stretches};

/// Bytes that a stretch takes beside its slice, about: its key, its place among the stretches of that, its end.
const LISTED: usize = 128;

/// The operator and its state.
pub(super) struct Sessionized {
    plan: Arc<Plan>,
    emission: Emission,
    sessions: Sessions,
    /// The watermark that the previous epoch committed, from [`Lane::advance`] on that of this one.
    watermark: Micros,
    /// Stretches of slices up to here stand in `open` or `closed`; not known before the first epoch.
    entered: Option<Micros>,
    /// Sessions that end up to here are due, or closed.
    reached: Micros,
    /// Those up to here are closed, too: where a large close stood when `entered` became known.
    resumed: Option<CloseCursor>,
    /// All sessions that end up to here are closed.
    closed_to: Micros,
    /// Where sessions that are not closed may end: of each stretch that may be the last of one.
    open: Ends,
    /// Where sessions ended that are closed and kept for late records.
    closed: Ends,
    /// Sessions that are due, in order. No record comes into one of them before it is closed.
    due: VecDeque<Session>,
    /// Sessions that are closed to late records, too, at the end of the epoch.
    over: Vec<Session>,
    /// Ends that are looked at, between epochs only room for them.
    taken: Vec<End>,
    /// Rows that are out, by key and event time, whose sessions have another end by now.
    gone: BTreeSet<(Vec<u8>, Micros)>,
    /// The rows of an epoch, until it is known which of them are late.
    arrivals: Vec<Keyed>,
    /// Bytes that were not let go of the last time because they will be wanted soon.
    kept_back: usize,
}

impl Lane for Sessionized {
    type Plan = Plan;

    fn plan(query: Arc<FeatureQuery>, emission: Emission) -> Result<Plan, Error> {
        Plan::new(query, emission.on_update)
    }

    fn key_columns(plan: &Plan) -> usize {
        plan.keys.len()
    }

    fn restore(
        plan: &Arc<Plan>,
        emission: Emission,
        watermark: Micros,
        rows: &mut dyn Iterator<Item = StateRow>,
    ) -> Result<Self, Error> {
        let sessions = checkpoint::restore(plan, rows)?;
        Ok(Self {
            plan: Arc::clone(plan),
            emission,
            sessions,
            watermark,
            entered: None,
            reached: Micros::MIN,
            resumed: None,
            closed_to: Micros::MIN,
            open: Ends::default(),
            closed: Ends::default(),
            due: VecDeque::new(),
            over: Vec::new(),
            taken: Vec::new(),
            gone: BTreeSet::new(),
            arrivals: Vec::new(),
            kept_back: 0,
        })
    }

    /// Up to where it has to be known whether rows are late.
    fn key(
        plan: &Plan,
        horizon: Horizon,
        mut rows: Rows,
        verdicts: &mut Verdicts<'_>,
    ) -> Result<Option<Keyed>, Error> {
        plan.assign(&mut rows, verdicts)?;
        stage::on_records(&plan.shape.within, &mut rows, verdicts)?;
        plan.key(&mut rows, verdicts)?;
        // Before lateness is judged: a record that fails joins no sessions.
        let Some(arguments) = plan.arguments(&mut rows, verdicts)? else { return Ok(None) };
        rows.keys.extend(arguments);
        let doubtful = doubtful(plan, horizon, &rows, verdicts)?;
        verdicts.counts.applied += (rows.len() - doubtful.len()) as u64;
        Ok(Some(Keyed { starts: rows.starts, columns: rows.keys, doubtful }))
    }

    fn begin(&mut self, cursor: Option<&CloseCursor>) -> Result<(), Error> {
        self.know_closed(cursor);
        Ok(())
    }

    fn finish(&mut self, output: &mut Output) -> Result<(), Error> {
        self.close_to(None, output)?;
        self.retire();
        Ok(())
    }

    fn take(&mut self, rows: Keyed) -> Result<(), Error> {
        self.arrivals.push(rows);
        Ok(())
    }

    fn settle(&mut self, output: &mut Output) -> Result<(), Error> {
        let mut arrivals = std::mem::take(&mut self.arrivals);
        self.recall(&arrivals)?;
        self.judge(&mut arrivals, output)?;
        for rows in &arrivals {
            self.update(rows)?;
        }
        self.revise(output)
    }

    fn last_end(&self) -> Result<Option<Micros>, Error> {
        self.greatest_end()
    }

    fn advance(&mut self, watermark: Micros) -> Result<(), Error> {
        self.watermark = watermark;
        self.collect_due(0)
    }

    fn due_at_most(&self, _enough: usize) -> usize {
        if self.reached < self.watermark { usize::MAX } else { self.due.len() }
    }

    fn due(&mut self, limit: usize) -> Result<Vec<CloseCursor>, Error> {
        self.collect_due(limit)?;
        let due = self.due.iter().take(limit);
        let cursor = |session: &Session| {
            let key = self.sessions.key(*session).to_vec();
            CloseCursor { window_end: self.sessions.end(*session), key }
        };
        Ok(due.map(cursor).collect())
    }

    fn close(&mut self, cut: Option<&Cut>, output: &mut Output) -> Result<(), Error> {
        self.close_to(cut, output)
    }

    fn conclude(&mut self, checkpoint: bool, output: &mut Output) -> Result<(), Error> {
        self.update_rows(output)?;
        self.retire();
        if checkpoint { self.checkpoint(output) } else { Ok(()) }
    }

    fn attach(&mut self, view: &Arc<dyn StateView>, key_groups: KeyGroups) -> Result<(), Error> {
        Ok(self.sessions.cold.attach(view, key_groups)?)
    }

    fn memory(&self) -> Memory {
        let bytes = self.bytes();
        let is_attached = self.sessions.cold.is_attached();
        let evictable = if is_attached { bytes.saturating_sub(self.kept_back) } else { 0 };
        Memory { bytes: bytes + self.sessions.cold.bytes(), evictable }
    }

    fn evict(&mut self, bytes: usize) -> Result<(), Error> {
        self.let_go(bytes)
    }

    fn slices(&self) -> Vec<Micros> {
        self.sessions.slices.keys().copied().chain(self.sessions.cold.ends()).collect()
    }

    /// Stretches in memory.
    fn keys(&self) -> usize {
        self.sessions.slices.values().map(Stretches::len).sum()
    }
}

impl Sessionized {
    /// What the stretches take of the memory.
    fn bytes(&self) -> usize {
        let stretches: usize = self.sessions.slices.values().map(Stretches::bytes).sum();
        stretches + self.keys() * LISTED
    }

    /// Takes rows into the stretches of their slices.
    fn update(&mut self, rows: &Keyed) -> Result<(), Error> {
        let (gap, edge, is_noted) = (self.plan.layout.slice(), self.watermark, self.emission.on_update);
        let (plan, sessions) = (&self.plan, &mut self.sessions);
        by_slice(&rows.starts, &rows.columns, &mut |start, columns, _| {
            let (keys, rest) = columns.split_at_checked(plan.keys.len()).unwrap_or((columns, &[]));
            let (time, arguments) = rest.split_at_checked(1).unwrap_or((rest, &[]));
            let events = Events { keys, arguments, times: times(time)?, edge, is_noted };
            let slice_end = Micros(start) + gap;
            sessions
                .update(&plan.key_schema, &plan.functions, slice_end, &events)
                .map_err(|e| state_error(slice_end, &e))
        })
    }
}

/// The event times of rows: they lie behind the key.
fn times_of<'r>(plan: &Plan, columns: &'r [ArrayRef]) -> Result<&'r [i64], Error> {
    times(columns.get(plan.keys.len()..).unwrap_or_default())
}

/// The first column as event times.
fn times(columns: &[ArrayRef]) -> Result<&[i64], Error> {
    let times = columns.first().and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
    let times = times.ok_or_else(|| Error::Contract("the event time is not with the key".into()))?;
    Ok(times.values())
}
