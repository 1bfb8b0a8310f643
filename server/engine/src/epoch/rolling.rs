//! Rolling features: a row for each key and event time, over the records before it.
//!
//! A row's way: event time → key (null: rejected) → late? → what is kept of it ([`incoming`]) → its
//! slice and its key. Which rows come out is decided in [`due`], what is in them in [`rows`] and [`frames`].
//!
//! With W the watermark of the previous epoch, a record at `t` is late if and only if `t + 1 µs + allowed lateness <= W`, as it would be for a window that ends right after `t`;
//! and the row at `t` comes out once `t + 1 µs <= W`, for then no other record of that time is on time.

mod checkpoint;
mod cold;
mod due;
mod frames;
mod incoming;
mod plan;
mod rows;
mod tally;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, UInt32Array};
use arrow::datatypes::{DataType, Int64Type, UInt32Type};
use datafusion::physical_expr::PhysicalExpr;

use self::due::Due;
use self::plan::Plan;
use self::tally::Tally;
use super::intake::by_slice;
use super::keyed::Keyed;
use super::lanes::{Cut, Horizon, Lane};
use super::records::{Rows, Verdicts};
use super::{CloseCursor, Emission, Error, Memory, Output, RecordId};
use crate::key;
use crate::query::FeatureQuery;
use crate::rolling::{Entry, Keys, Marks, Slices, Timers, Totals, identity_columns};
use crate::runs::Runs;
use crate::state::{Ages, Cold, EMPTIED, KeyGroups, ROLLING, StateRow, StateView};
use crate::time::{Micros, Span};

/// Slices in the time for which a record is kept: so much more is kept than needed, at most.
const SLICES: i64 = 8;

/// Bytes that a key takes besides its records, about: itself, its places in tables, its timers.
const KEY: usize = 192;

/// No slice is shorter, so that a batch does not fall into many.
const SHORTEST_SLICE: Span = Span(1_000_000);

/// What is kept of each record besides its time and where it stands, with the types.
pub(crate) fn kept(query: &FeatureQuery) -> Result<Vec<(Arc<dyn PhysicalExpr>, DataType)>, Error> {
    let plan = Plan::new(Arc::new(query.clone()))?;
    Ok(plan.kept.into_iter().map(|kept| (kept.expr, kept.data_type)).collect())
}

/// The operator and its state.
pub(super) struct Rolling {
    plan: Arc<Plan>,
    emission: Emission,
    keys: Keys,
    slices: Slices,
    marks: Marks,
    /// Instant and key of rows that wait for the watermark, some of them twice; none with `on_update`, where
    /// they are out.
    pending: Runs<(i64, u32)>,
    timers: Timers,
    /// Rows that the watermark has passed, in order, as far as they are not out: a large close goes on.
    left: Vec<Due>,
    /// Rows that come out in this epoch.
    due: Vec<Due>,
    /// Key and time of those of this epoch's records that bring rows about at once.
    fresh: Vec<(u32, i64)>,
    /// The greatest event time among the records.
    latest: Micros,
    /// The watermark that the previous epoch committed, from [`Lane::advance`] on that of this one.
    watermark: Micros,
    /// Rows before this instant are out, whatever their key.
    reached: Micros,
    /// Those that are due before this instant are out, or left.
    collected: Micros,
    /// What stands up to here in the order (instant, key) is out, too: where a large close stood when `pending` became
    /// known.
    resumed: Option<CloseCursor>,
    /// Whether an epoch was applied since the engine was made, or since keys were let go of: `pending` and `timers` are
    /// known.
    begun: bool,
    /// Keys that are not in memory, by their records …
    cold: Cold,
    /// … and by their marks.
    cold_marks: Cold,
    /// By the number of the key.
    ages: Ages,
    /// Bytes that were not let go of the last time because they will be wanted soon.
    kept_back: usize,
    /// Slices (operator, end) that are gone, but whose entries still lie in the store: until the next
    /// checkpoint.
    dropped: BTreeSet<(u16, Micros)>,
}

impl Lane for Rolling {
    type Plan = Plan;

    fn plan(query: Arc<FeatureQuery>, _emission: Emission) -> Result<Plan, Error> {
        Plan::new(query)
    }

    fn key_columns(plan: &Plan) -> usize {
        plan.shape.keys.len()
    }

    fn restore(
        plan: &Arc<Plan>,
        emission: Emission,
        watermark: Micros,
        rows: &mut dyn Iterator<Item = StateRow>,
    ) -> Result<Self, Error> {
        let kept_for = plan.longest.0.saturating_add(emission.allowed_lateness.0);
        let length = Span((kept_for / SLICES).max(SHORTEST_SLICE.0));
        let totals = Totals::new(plan.tallies.iter().map(Tally::is_wide));
        let (keys, timers) = (Keys::new(totals), Timers::new(plan.frames.len()));
        let mut rolling = Self {
            plan: Arc::clone(plan),
            emission,
            keys,
            slices: Slices::new(length, plan.others_column()),
            marks: Marks::new(length),
            pending: Runs::default(),
            timers,
            left: Vec::new(),
            due: Vec::new(),
            fresh: Vec::new(),
            latest: Micros::MIN,
            watermark,
            reached: Micros::MIN,
            collected: Micros::MIN,
            resumed: None,
            begun: false,
            cold: Cold::new(ROLLING, checkpoint::PLACE + plan.others * RecordId::BYTES),
            cold_marks: Cold::new(EMPTIED, checkpoint::INSTANT),
            ages: Ages::default(),
            kept_back: 0,
            dropped: BTreeSet::new(),
        };
        rolling.load(rows)?;
        Ok(rolling)
    }

    fn key(
        plan: &Plan,
        horizon: Horizon,
        mut rows: Rows,
        verdicts: &mut Verdicts<'_>,
    ) -> Result<Option<Keyed>, Error> {
        plan.date(&mut rows, verdicts)?;
        plan.judge(horizon, &mut rows, verdicts)?;
        if rows.len() == 0 {
            return Ok(None);
        }
        let Some(kept) = plan.columns(&mut rows, verdicts)? else { return Ok(None) };
        let (first, others) = plan.identities(&rows, verdicts)?;
        verdicts.counts.applied += rows.len() as u64;
        let mut columns = rows.keys;
        columns.extend(identity_columns(&rows.starts, &first));
        columns.extend(kept);
        columns.extend(others);
        Ok(Some(Keyed { starts: rows.starts, columns, doubtful: Vec::new() }))
    }

    fn begin(&mut self, cursor: Option<&CloseCursor>) -> Result<(), Error> {
        self.know_closed(cursor);
        Ok(())
    }

    fn finish(&mut self, _output: &mut Output) -> Result<(), Error> {
        self.close_to(None)
    }

    fn take(&mut self, rows: Keyed) -> Result<(), Error> {
        self.recall(&rows)?;
        self.keep(&rows)
    }

    fn settle(&mut self, _output: &mut Output) -> Result<(), Error> {
        self.touched();
        Ok(())
    }

    fn last_end(&self) -> Result<Option<Micros>, Error> {
        let latest = self.latest_cold()?.max(Some(self.latest));
        Ok(latest.filter(|latest| *latest > Micros::MIN).map(Micros::next))
    }

    fn advance(&mut self, watermark: Micros) -> Result<(), Error> {
        self.watermark = watermark;
        self.collect_due(0)
    }

    fn due_at_most(&self, _enough: usize) -> usize {
        if self.collected < self.watermark { usize::MAX } else { self.left.len() }
    }

    fn due(&mut self, limit: usize) -> Result<Vec<CloseCursor>, Error> {
        self.collect_due(limit)?;
        let cursor = |row: &Due| {
            let key = self.keys.bytes(row.key).to_vec();
            CloseCursor { window_end: Micros(row.at), key }
        };
        Ok(self.left.iter().take(limit).map(cursor).collect())
    }

    fn close(&mut self, cut: Option<&Cut>, _output: &mut Output) -> Result<(), Error> {
        self.close_to(cut)
    }

    fn conclude(&mut self, checkpoint: bool, output: &mut Output) -> Result<(), Error> {
        let due = std::mem::take(&mut self.due);
        self.emit(due, output)?;
        self.retire();
        if checkpoint { self.checkpoint(output) } else { Ok(()) }
    }

    fn attach(&mut self, view: &Arc<dyn StateView>, key_groups: KeyGroups) -> Result<(), Error> {
        self.cold.attach(view, key_groups)?;
        Ok(self.cold_marks.attach(view, key_groups)?)
    }

    fn memory(&self) -> Memory {
        let bytes = self.bytes();
        let evictable = if self.cold.is_attached() { bytes.saturating_sub(self.kept_back) } else { 0 };
        Memory { bytes: bytes + self.cold.bytes() + self.cold_marks.bytes(), evictable }
    }

    fn evict(&mut self, bytes: usize) -> Result<(), Error> {
        self.let_go(bytes)
    }

    fn slices(&self) -> Vec<Micros> {
        self.slices.iter().map(|(end, _)| *end).chain(self.cold.ends()).collect()
    }

    fn keys(&self) -> usize {
        self.keys.len()
    }
}

impl Rolling {
    /// What keys and records take of the memory.
    fn bytes(&self) -> usize {
        let (rows, columns) = self.slices.bytes();
        let record = size_of::<Entry>() + self.plan.tallies.len() * size_of::<i128>();
        columns + rows * record + self.keys.len() * KEY
    }

    /// Puts rows into their slices, and among the records of their keys.
    fn keep(&mut self, rows: &Keyed) -> Result<(), Error> {
        let (keys, columns) = rows.columns.split_at_checked(self.plan.shape.keys.len()).unwrap_or_default();
        let encoder = key::Encoder::new(keys).map_err(|e| Error::Contract(e.to_string()))?;
        let mut all = columns.to_vec();
        let ends: Vec<i64> = rows.starts.iter().map(|time| self.slices.end_of(*time).0).collect();
        all.push(Arc::new(UInt32Array::from_iter_values(0..rows.len() as u32)));
        by_slice(&ends, &all, &mut |end, columns, _| self.arrive(Micros(end), columns, &encoder))
    }

    /// Adds records of one slice that just came in; the last column is their place among the rows.
    fn arrive(&mut self, end: Micros, columns: &[ArrayRef], encoder: &key::Encoder<'_>) -> Result<(), Error> {
        let (members, columns) = match columns.split_last() {
            Some((members, columns)) => (members.as_primitive_opt::<UInt32Type>(), columns),
            None => (None, columns),
        };
        let times = columns.first().and_then(|times| times.as_primitive_opt::<Int64Type>());
        let (Some(members), Some(times)) = (members, times) else {
            return Err(Error::Contract("records without a place or a time".into()));
        };
        let mut bytes = Vec::new();
        let owners = self.append(end, columns.to_vec(), false, |keys, record| {
            bytes.clear();
            encoder.append(members.value(record) as usize, &mut bytes);
            keys.intern(&bytes)
        })?;
        for (owner, time) in owners.into_iter().zip(times.values().iter().copied()) {
            if self.emission.on_update || time < self.watermark.0 {
                self.fresh.push((owner, time));
                continue;
            }
            self.pending.push((time, owner));
            for (frame, of) in (0..).zip(&self.plan.frames) {
                self.timers.arm(owner, frame, time.saturating_add(of.preceding.0).saturating_add(1));
            }
        }
        Ok(())
    }

    /// Adds records of one slice, which lie in the store or do not; `owner` says of each, in order, which key it is of.
    /// Returns these.
    fn append(
        &mut self,
        end: Micros,
        columns: Vec<ArrayRef>,
        is_saved: bool,
        mut owner: impl FnMut(&mut Keys, usize) -> u32,
    ) -> Result<Vec<u32>, Error> {
        let times = columns.first().and_then(|times| times.as_primitive_opt::<Int64Type>()).cloned();
        let Some(times) = times else { return Err(Error::Contract("records without a time".into())) };
        // What each record adds to the totals, one record after the other.
        let width = self.keys.totals().words();
        let mut added = vec![0; times.len() * width];
        for (number, tally) in self.plan.tallies.iter().enumerate() {
            tally.add(&columns, number, self.keys.totals(), &mut added);
        }
        let first = self.slices.append(end, columns, times.len())?;
        let Self { keys, slices, latest, .. } = self;
        let owners: Vec<u32> = (0..times.len()).map(|record| owner(keys, record)).collect();
        // By key: memory is gone through once, from front to back.
        for (number, record) in by_number(owners.iter().copied()) {
            let Some(time) = times.values().get(record).copied() else { continue };
            let entry = Entry { time, row: first + record as u32 };
            let added = added.get(record * width..(record + 1) * width).unwrap_or_default();
            keys.insert(number, entry, added, |peer| slices.identity(peer) <= slices.identity(entry));
            *latest = (*latest).max(Micros(time));
        }
        slices.own(end, &owners, is_saved);
        Ok(owners)
    }

    /// Lets go of what no row looks back on any more.
    fn retire(&mut self) {
        let reached = self.reached.0;
        let lateness = self.emission.allowed_lateness;
        let gone = Micros(reached) - lateness - self.plan.longest;
        while let Some((end, slice)) = self.slices.pop_before(gone) {
            self.keys.forget(end.0);
            for owner in &slice.owners {
                self.keys.release(*owner);
            }
            if slice.durable {
                self.dropped.insert((ROLLING, end));
            }
        }
        self.dropped.extend(self.cold.retire(gone).map(|end| (ROLLING, end)));
        while let Some((end, marked)) = self.marks.pop_before(Micros(reached) - lateness) {
            for (owner, _) in &marked.rows {
                self.keys.unmark(*owner, end.0);
                self.keys.release(*owner);
            }
            if marked.durable {
                self.dropped.insert((EMPTIED, end));
            }
        }
        let gone = self.cold_marks.retire(Micros(reached) - lateness);
        self.dropped.extend(gone.map(|end| (EMPTIED, end)));
    }

    /// What the first epoch after a restart, or after keys were let go of, needs to know: which rows wait, and when to look
    /// at which key.
    fn know_closed(&mut self, cursor: Option<&CloseCursor>) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        self.collected = cursor.map_or(self.watermark, |cursor| cursor.window_end);
        self.resumed = cursor.cloned();
        self.sleep();
        let numbers: Vec<u32> = self.keys.iter().collect();
        for number in numbers {
            self.watch(number);
        }
    }

    /// Notes which rows of a key wait, and when to look at it.
    fn watch(&mut self, number: u32) {
        let from = self.is_out_to(self.keys.bytes(number));
        let records = self.keys.records(number);
        if !self.emission.on_update {
            self.pending.extend(records.times(from).map(|time| (time, number)));
        }
        for (frame, of) in (0..).zip(&self.plan.frames) {
            if let Some(at) = records.emptied(of.preceding.0, from, from, |_| {}) {
                self.timers.arm(number, frame, at);
            }
        }
    }

    /// Rows of a key before this instant are out, or left.
    fn is_out_to(&self, key: &[u8]) -> i64 {
        let resumed = self.resumed.as_ref().filter(|cursor| *key <= *cursor.key);
        resumed.map_or(self.collected, |cursor| self.collected.max(cursor.window_end.next())).0
    }
}

/// Numbers in their order, each with its place among those given.
fn by_number(numbers: impl Iterator<Item = u32>) -> impl Iterator<Item = (u32, usize)> {
    let mut order: Vec<u64> = numbers.zip(0_u64..).map(|(number, at)| u64::from(number) << 32 | at).collect();
    order.sort_unstable();
    order.into_iter().map(|both| ((both >> 32) as u32, (both & u64::from(u32::MAX)) as usize))
}
