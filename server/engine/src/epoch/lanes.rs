//! The operator of a query in lanes: as often as there are threads, each with its share of the key groups.
//!
//! ```text
//!             stages, window, key, arguments          state of key groups 0 … 31
//! batches ──▶ batch by batch, on any thread ─ split ▶ state of key groups 32 … 63 ─ merge ▶ output
//! ```
//!
//! A key lies in one lane as a whole, and its rows come there in their order: a lane computes of its keys what
//! one lane would compute of them. What concerns all keys is decided between the steps of the lanes: the
//! watermark that the end of a stream brings, and how far a large close goes ([`close`]). What leaves the
//! lanes is put together as it would leave one ([`merge`]), so their number changes nothing.
//!
//! An epoch of few rows is computed by the thread that brings it, lane after lane.

mod close;
mod merge;
mod restore;

use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) use self::close::Cut;
use super::keyed::Keyed;
use super::records::{Judged, Rows, Verdicts};
use super::upstream::{Upstream, Way};
use super::{CloseCursor, Emission, Error, Input, Memory, Output, stage};
use crate::query::FeatureQuery;
use crate::state::{KeyGroups, StateRow, StateView};
use crate::time::{Micros, Span};
use crate::workers::Workers;

/// What a query computes over the rows of its input.
pub(super) trait Derived: Send {
    /// Applies one epoch with the rows that `upstream` brings.
    fn apply(&mut self, input: &Input<'_>, upstream: &mut Upstream) -> Result<Output, Error>;

    /// From here on keys may be left in the store.
    fn attach(&mut self, view: &Arc<dyn StateView>) -> Result<(), Error>;

    /// See [`super::Engine::memory`].
    fn memory(&self) -> Memory;

    /// See [`super::Engine::evict`].
    fn evict(&mut self, bytes: usize) -> Result<(), Error>;

    /// Windows (or slices) that are open, and keys in them that are in memory.
    fn open(&self) -> (usize, usize);
}

/// What says whether a record is late: nothing that an epoch changes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Horizon {
    /// The watermark that the previous epoch committed.
    pub(super) watermark: Micros,
    pub(super) allowed_lateness: Span,
}

/// An operator over the keys of some key groups. Its steps are called in this order, once an epoch.
pub(super) trait Lane: Send + Sized + 'static {
    /// The query prepared for running, which all lanes share.
    type Plan: Send + Sync + 'static;

    /// Prepares a query.
    fn plan(query: Arc<FeatureQuery>, emission: Emission) -> Result<Self::Plan, Error>;

    /// How many columns the key has.
    fn key_columns(plan: &Self::Plan) -> usize;

    /// An operator with the state that `rows` holds, at the watermark of their checkpoint.
    fn restore(
        plan: &Arc<Self::Plan>,
        emission: Emission,
        watermark: Micros,
        rows: &mut dyn Iterator<Item = StateRow>,
    ) -> Result<Self, Error>;

    /// What becomes of rows of the input before any state is looked at. What is not rejected, late or in doubt counts as applied.
    fn key(
        plan: &Self::Plan,
        horizon: Horizon,
        rows: Rows,
        verdicts: &mut Verdicts<'_>,
    ) -> Result<Option<Keyed>, Error>;

    /// Begins an epoch: `cursor` is where the previous one left a large close.
    fn begin(&mut self, cursor: Option<&CloseCursor>) -> Result<(), Error>;

    /// Ends the close that the previous epoch left, before records come.
    fn finish(&mut self, output: &mut Output) -> Result<(), Error>;

    /// Takes rows.
    fn take(&mut self, rows: Keyed) -> Result<(), Error>;

    /// All rows of the epoch are there: what they do to what is closed.
    fn settle(&mut self, output: &mut Output) -> Result<(), Error>;

    /// The watermark that closes all there is.
    fn last_end(&self) -> Result<Option<Micros>, Error>;

    /// The watermark moves to that of the epoch.
    fn advance(&mut self, watermark: Micros) -> Result<(), Error>;

    /// No more keys than this are due; exact only as far as `enough`.
    fn due_at_most(&self, enough: usize) -> usize;

    /// The first `limit` of the keys that are due, in order.
    fn due(&mut self, limit: usize) -> Result<Vec<CloseCursor>, Error>;

    /// Lets the rows out that are due, up to the cut.
    fn close(&mut self, cut: Option<&Cut>, output: &mut Output) -> Result<(), Error>;

    /// Ends an epoch: rows that come out beside those of a close, and what is not needed any more; at a checkpoint
    /// the durable copy of what changed.
    fn conclude(&mut self, checkpoint: bool, output: &mut Output) -> Result<(), Error>;

    /// From here on keys of these key groups may be left in the store.
    fn attach(&mut self, _view: &Arc<dyn StateView>, _key_groups: KeyGroups) -> Result<(), Error> {
        Ok(())
    }

    /// What the state takes of the memory.
    fn memory(&self) -> Memory {
        Memory::default()
    }

    /// Lets go of state until it takes about so many bytes.
    fn evict(&mut self, _bytes: usize) -> Result<(), Error> {
        Ok(())
    }

    /// Ends of the windows or slices that are open.
    fn slices(&self) -> Vec<Micros>;

    /// Keys in them.
    fn keys(&self) -> usize;
}

/// All lanes of an operator.
pub(super) struct Lanes<L: Lane> {
    plan: Arc<L::Plan>,
    allowed_lateness: Span,
    sources: usize,
    workers: Arc<Workers>,
    /// Each with the key groups of its number; on their way through the workers they are not here.
    stations: Vec<Box<Station<L>>>,
    watermark: Micros,
}

/// A lane, with what came for it and what comes out of it in this epoch.
struct Station<L> {
    lane: L,
    inbox: Vec<Keyed>,
    output: Output,
}

impl<L: Lane> Derived for Lanes<L> {
    fn apply(&mut self, input: &Input<'_>, upstream: &mut Upstream) -> Result<Output, Error> {
        let rows: usize = input.batches.iter().map(|b| b.rows.num_rows()).sum();
        let is_much = self.workers.is_worthwhile(rows);
        // Records may come into what is being closed: its rows come first. (A pipeline gives no records while a
        // close goes on.)
        let (cursor, is_interrupted) = (input.cursor.clone(), input.cursor.is_some() && rows > 0);
        self.each(is_much, move |station| {
            station.lane.begin(cursor.as_ref())?;
            if is_interrupted { station.lane.finish(&mut station.output) } else { Ok(()) }
        })?;
        let mut output = Output::new(self.sources);
        let reached = self.receive(is_much, input, upstream, &mut output)?;
        self.each(is_much, |station| {
            station.inbox.drain(..).try_for_each(|rows| station.lane.take(rows))?;
            station.lane.settle(&mut station.output)
        })?;
        let mut watermark = self.watermark.max(reached);
        if input.finished {
            for station in &self.stations {
                watermark = station.lane.last_end()?.map_or(watermark, |end| watermark.max(end));
            }
        }
        self.watermark = watermark;
        self.each(is_much, move |station| station.lane.advance(watermark))?;
        output.watermark = watermark;
        let (cut, due) = self.cut(input.max_rows.max(1))?;
        output.closed_to = cut.as_ref().map_or(watermark, |cut| cut.done.window_end);
        output.cursor = cut.as_ref().map(|cut| cut.done.clone());
        let checkpoint = input.checkpoint;
        let is_much = self.workers.is_worthwhile(rows.max(due))
            || checkpoint && self.workers.is_worthwhile(self.keys());
        self.each(is_much, move |station| {
            station.lane.close(cut.as_ref(), &mut station.output)?;
            station.lane.conclude(checkpoint, &mut station.output)
        })?;
        self.gather(&mut output);
        output.sort()?;
        Ok(output)
    }

    fn attach(&mut self, view: &Arc<dyn StateView>) -> Result<(), Error> {
        let shares = self.stations.len();
        let mut stations = self.stations.iter_mut().enumerate();
        stations.try_for_each(|(share, station)| station.lane.attach(view, KeyGroups::share(share, shares)))
    }

    fn memory(&self) -> Memory {
        self.stations.iter().fold(Memory::default(), |sum, station| {
            let own = station.lane.memory();
            Memory { bytes: sum.bytes + own.bytes, evictable: sum.evictable + own.evictable }
        })
    }

    fn evict(&mut self, bytes: usize) -> Result<(), Error> {
        let share = bytes / self.stations.len();
        let is_much = self.workers.is_worthwhile(self.keys());
        self.each(is_much, move |station| station.lane.evict(share)).map(drop)
    }

    fn open(&self) -> (usize, usize) {
        let slices: BTreeSet<Micros> = self.stations.iter().flat_map(|s| s.lane.slices()).collect();
        (slices.len(), self.keys())
    }
}

impl<L: Lane> Lanes<L> {
    fn keys(&self) -> usize {
        self.stations.iter().map(|station| station.lane.keys()).sum()
    }

    /// Takes a step in every lane; where there is much to do, on several threads. What comes back is in the
    /// order of the lanes, as is the error that counts.
    fn each<R: Send + 'static>(
        &mut self,
        is_much: bool,
        step: impl Fn(&mut Station<L>) -> Result<R, Error> + Send + Sync + 'static,
    ) -> Result<Vec<R>, Error> {
        if !is_much || self.stations.len() < 2 {
            return self.stations.iter_mut().map(|station| step(station)).collect();
        }
        let step = Arc::new(step);
        let stations = std::mem::take(&mut self.stations).into_iter().map(|mut station| {
            let step = Arc::clone(&step);
            move || {
                let result = step(&mut station);
                (station, result)
            }
        });
        let (stations, results): (Vec<_>, Vec<_>) = self.workers.run(stations).into_iter().unzip();
        self.stations = stations;
        results.into_iter().collect()
    }

    /// Brings the rows of an epoch to their lanes. Returns the watermark that the epoch reaches.
    fn receive(
        &mut self,
        is_much: bool,
        input: &Input<'_>,
        upstream: &mut Upstream,
        output: &mut Output,
    ) -> Result<Micros, Error> {
        let horizon = Horizon { watermark: self.watermark, allowed_lateness: self.allowed_lateness };
        let shares = self.stations.len();
        if is_much
            && shares > 1
            && let Some(ways) = upstream.ways(input.batches)?
        {
            self.receive_at_once(horizon, input, ways, output)?;
            // Nothing waits for the watermark.
            return upstream.bring(input, &mut |_, _| Ok(()));
        }
        let (plan, stations) = (&*self.plan, &mut self.stations);
        upstream.take(input, output, &mut |rows, verdicts| {
            let Some(keyed) = L::key(plan, horizon, rows, verdicts)? else { return Ok(()) };
            if let [only] = stations.as_mut_slice() {
                return only.lane.take(keyed);
            }
            hand_out(stations, keyed.split(L::key_columns(plan), shares)?);
            Ok(())
        })
    }

    /// The same for the records, where no batch has to wait for the one before it.
    fn receive_at_once(
        &mut self,
        horizon: Horizon,
        input: &Input<'_>,
        ways: Vec<Way>,
        output: &mut Output,
    ) -> Result<(), Error> {
        let shares = self.stations.len();
        let work = input.batches.iter().zip(ways).map(|(batch, way)| {
            let (batch, plan) = (batch.clone(), Arc::clone(&self.plan));
            move || -> Result<(Vec<Option<Keyed>>, Judged), Error> {
                let (mut rows, mut verdicts) = (Rows::new(&batch.rows), Verdicts::new(&batch));
                for stages in &way {
                    stage::on_records(stages, &mut rows, &mut verdicts)?;
                }
                let parts = match L::key(&plan, horizon, rows, &mut verdicts)? {
                    Some(keyed) => keyed.split(L::key_columns(&plan), shares)?,
                    None => Vec::new(),
                };
                Ok((parts, verdicts.judged()))
            }
        });
        for (batch, received) in input.batches.iter().zip(self.workers.run(work)) {
            let (parts, judged) = received?;
            output.record(batch.source, judged);
            hand_out(&mut self.stations, parts);
        }
        Ok(())
    }
}

fn hand_out<L>(stations: &mut [Box<Station<L>>], parts: Vec<Option<Keyed>>) {
    for (station, part) in stations.iter_mut().zip(parts) {
        station.inbox.extend(part);
    }
}
