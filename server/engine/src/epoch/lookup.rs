//! A lookup join: each row of a relation with the row that a feature group has for its key at its time.
//!
//! What the group has at an instant is known once its changes up to there have been read: rows of a later time
//! wait. All else is joined as it comes, and goes on as the records that it is. Since a row is joined
//! with what was *available* at its time, a change that becomes available later never alters it: there is nothing
//! to revise.

mod checkpoint;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use datafusion::error::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;

use super::evaluate::column;
use super::join::Half;
use super::records::{Rows, Verdicts};
use super::upstream::Sink;
use super::{Error, stage};
use crate::join::{Arrivals, Keys, Pair};
use crate::lookup::{Version, Versions};
use crate::query::{JoinKind, LookupJoin, StampColumns};
use crate::state::{JOIN, StateChange, StateRow, codec};
use crate::time::{Micros, Span};

/// Rows that waited go on in batches of at most this many.
const CHUNK: usize = 8192;

/// How long the slices of rows that wait are. Stored rows lie in such slices: another length needs a migration.
const SLICES_OF: Span = Span(240_000_000);

/// The operator and its state.
pub(super) struct Lookup {
    /// Number of the stored versions in [`crate::state::StateKey::operator`].
    operator: u16,
    /// The source of the changes.
    changes: usize,
    /// Rows that wait.
    left: Half,
    /// Their times, the least first.
    waiting: BinaryHeap<Reverse<i64>>,
    /// The key, over the changes.
    on_changes: Vec<Arc<dyn PhysicalExpr>>,
    stamp: StampColumns,
    /// The columns that are looked up.
    columns: SchemaRef,
    versions: Versions,
    /// How versions are stored: a list of them for each key.
    state: codec::Column,
    is_inner: bool,
    schema: SchemaRef,
    /// A row is taken while the watermark is not further than this past its time.
    reach: Span,
    /// The changes up to here are all there.
    complete: Micros,
    /// The same, when rows that wait were last let go.
    released: Micros,
    /// Rows that did not come through: see [`super::Output::lost`].
    lost: u64,
}

impl Lookup {
    /// The lookup of this number in its query, for rows that are taken while the watermark is not further than
    /// `reach` past their time. `width`: how many records a left row is made of.
    pub(super) fn new(lookup: &LookupJoin, number: u16, width: usize, reach: Span) -> Result<Self, Error> {
        let (on_left, on_changes): (Vec<_>, Vec<_>) = lookup.on.iter().cloned().unzip();
        let mut left = Half::new(&lookup.left, on_left, lookup.time.column, SLICES_OF, width)?;
        // It waits until it is joined, and not a moment longer.
        left.reach = Span(0);
        left.operator = JOIN + 2 * number;
        left.keeps_all = true;
        left.waits_once = true;
        let looked_up = lookup.schema.fields().iter().skip(lookup.left.schema.fields().len()).cloned();
        let columns: SchemaRef = Arc::new(Schema::new(looked_up.collect::<Vec<_>>()));
        let nullable = stage::nullable(&columns);
        Ok(Self {
            operator: JOIN + 2 * number + 1,
            changes: lookup.changes,
            left,
            waiting: BinaryHeap::new(),
            on_changes,
            stamp: lookup.stamp,
            versions: Versions::new(Arc::clone(&nullable), lookup.ttl),
            state: checkpoint::column(&nullable)?,
            columns: nullable,
            is_inner: lookup.kind == JoinKind::Inner,
            schema: Arc::clone(&lookup.schema),
            reach: Span(reach.0.saturating_add(lookup.time.hold.0)),
            complete: Micros::MIN,
            released: Micros::MIN,
            lost: 0,
        })
    }

    /// Whether the changes come from this source.
    pub(super) fn reads(&self, source: usize) -> bool {
        self.changes == source
    }

    /// How many records a row is made of.
    pub(super) fn width(&self) -> usize {
        self.left.width
    }

    /// The changes up to here are all there, or will be with this epoch's.
    pub(super) fn complete_to(&mut self, sources: &[Micros], otherwise: Micros) {
        self.complete = self.complete.max(sources.get(self.changes).copied().unwrap_or(otherwise));
    }

    /// Whether rows wait that would not have to, were the sources as far as this.
    pub(super) fn is_due(&self, sources: &[Micros]) -> bool {
        let least = self.waiting.peek().map(|Reverse(time)| *time);
        sources.get(self.changes).zip(least).is_some_and(|(complete, least)| least <= complete.0)
    }

    /// Takes changes of the group.
    pub(super) fn take_changes(&mut self, rows: Rows, verdicts: &mut Verdicts<'_>) -> Result<(), Error> {
        let batch = rows.batch;
        verdicts.counts.applied += batch.num_rows() as u64;
        let keys = self.on_changes.iter().map(|key| column(key.as_ref(), &batch));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let keys = Keys::new(&keys, batch.num_rows()).map_err(|e| Error::Contract(e.to_string()))?;
        let stamps = Stamps::of(&batch, self.stamp)?;
        let width = self.columns.fields().len();
        let looked_up = batch.columns().get(..width).unwrap_or_default().to_vec();
        let looked_up = stage::batch(&self.columns, looked_up, batch.num_rows())?;
        let versions = (0..batch.num_rows()).map(|row| (keys.key(row), stamps.version(row)));
        Ok(self.versions.insert(looked_up, versions).map_err(DataFusionError::from)?)
    }

    /// Takes rows in that look a row up; `watermark` is that of the previous epoch.
    pub(super) fn take(
        &mut self,
        mut rows: Rows,
        verdicts: &mut Verdicts<'_>,
        watermark: Micros,
        sink: Sink<'_>,
    ) -> Result<(), Error> {
        self.left.judge_from(&mut rows, verdicts, watermark - self.reach)?;
        if rows.len() == 0 {
            return Ok(());
        }
        let times = self.left.times(&rows.batch)?;
        if arrow::compute::max(&times).is_some_and(|last| last > self.complete.0) {
            let now: BooleanArray =
                times.values().iter().map(|time| Some(*time <= self.complete.0)).collect();
            self.wait(&rows, &now, times.values(), verdicts)?;
            rows.retain(&now)?;
        }
        self.join(rows, verdicts, sink)
    }

    /// Lets rows wait: those for which `now` is false.
    fn wait(
        &mut self,
        rows: &Rows,
        now: &BooleanArray,
        times: &[i64],
        verdicts: &mut Verdicts<'_>,
    ) -> Result<(), Error> {
        let later: Vec<u32> = (0..).zip(now.values()).filter(|(_, now)| !now).map(|(row, _)| row).collect();
        let mut records = Vec::with_capacity(later.len() * self.left.width);
        for (number, row) in later.iter().enumerate() {
            verdicts.records(rows.origin(*row as usize), &mut records);
            records.resize((number + 1) * self.left.width, crate::join::NO_RECORD);
        }
        verdicts.counts.applied += later.len() as u64;
        let places = UInt32Array::from(later);
        let taken = |column: &ArrayRef| arrow::compute::take(column, &places, None);
        let keys =
            rows.keys.iter().map(taken).collect::<Result<Vec<_>, _>>().map_err(DataFusionError::from)?;
        let keys = Keys::new(&keys, places.len()).map_err(|e| Error::Contract(e.to_string()))?;
        let times: Vec<i64> =
            places.values().iter().filter_map(|row| times.get(*row as usize).copied()).collect();
        let batch = arrow::compute::take_record_batch(&rows.batch, &places).map_err(DataFusionError::from)?;
        self.waiting.extend(times.iter().map(|time| Reverse(*time)));
        let arrivals = Arrivals { batch, keys: &keys, times: &times, matched: &[], records };
        Ok(self.left.buffer.push(arrivals).map_err(DataFusionError::from)?)
    }

    /// Joins rows, whose keys are with them, and passes them on.
    fn join(&mut self, mut rows: Rows, verdicts: &mut Verdicts<'_>, sink: Sink<'_>) -> Result<(), Error> {
        if rows.len() == 0 {
            return Ok(());
        }
        let times = self.left.times(&rows.batch)?;
        let keys = Keys::new(&rows.keys, rows.len()).map_err(|e| Error::Contract(e.to_string()))?;
        let found =
            times.values().iter().enumerate().map(|(row, time)| {
                if keys.is_null(row) { None } else { self.versions.at(keys.key(row), *time) }
            });
        let mut found: Vec<Option<u32>> = found.collect();
        if self.is_inner && found.contains(&None) {
            let keep: BooleanArray = found.iter().map(|row| Some(row.is_some())).collect();
            verdicts.counts.applied += (keep.len() - keep.true_count()) as u64;
            rows.retain(&keep)?;
            found.retain(Option::is_some);
        }
        let looked_up = self.versions.columns(found.into_iter()).map_err(DataFusionError::from)?;
        let columns = [rows.batch.columns(), &looked_up].concat();
        rows.batch = stage::batch(&self.schema, columns, rows.len())?;
        rows.keys.clear();
        sink(rows, verdicts)
    }

    /// Joins the rows that waited for changes that are there now.
    pub(super) fn release(&mut self, sink: Sink<'_>) -> Result<(), Error> {
        if self.complete <= self.released {
            return Ok(());
        }
        let (from, to) = (self.released.next(), self.complete.next());
        self.released = self.complete;
        while self.waiting.peek().is_some_and(|Reverse(time)| *time < to.0) {
            self.waiting.pop();
        }
        let due = self.left.buffer.alone(from, to);
        for part in due.chunks(CHUNK) {
            let given = part.iter().copied();
            let columns =
                self.left.buffer.columns(given, self.left.columns()).map_err(DataFusionError::from)?;
            let batch = stage::batch(self.left.schema(), columns, part.len())?;
            let mut records = Vec::with_capacity(part.len() * self.left.width);
            for (slice, row) in part {
                let pair = Pair { row: 0, slice: *slice, partner: *row };
                records.extend_from_slice(self.left.buffer.records(pair));
                self.left.buffer.mark(*slice, *row);
            }
            let mut rows = Rows::new(&batch);
            rows.keys = self.left.evaluate(&batch)?;
            let mut verdicts = Verdicts::joined(&records, self.left.width);
            self.join(rows, &mut verdicts, sink)?;
            self.lost += verdicts.lost;
        }
        Ok(())
    }

    /// How many rows did not come through since this was last asked.
    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Lets go of what was joined, and of versions that nobody looks up any more.
    pub(super) fn retire(&mut self, watermark: Micros) -> Result<(), Error> {
        self.left.retire(self.released.next());
        Ok(self.versions.forget((watermark - self.reach).0).map_err(DataFusionError::from)?)
    }

    /// Slices of rows that wait; these rows, and keys that have versions.
    pub(super) fn len(&self) -> (usize, usize) {
        let (slices, rows) = self.left.buffer.len();
        (slices, rows + self.versions.len())
    }

    /// Bytes of these rows and versions in memory.
    pub(super) fn bytes(&self) -> usize {
        self.left.buffer.bytes() + self.versions.bytes()
    }

    /// What changed since the last checkpoint.
    pub(super) fn save(
        &mut self,
        gone: &mut Vec<StateChange>,
        put: &mut Vec<StateChange>,
    ) -> Result<(), Error> {
        // A restart does not know what was let go but from the rows themselves.
        self.left.save(Micros::MIN, gone, put)?;
        self.save_versions(gone, put)
    }

    /// Puts stored entries of one slice back; false: they are not of this lookup.
    pub(super) fn restore(&mut self, operator: u16, end: Micros, rows: &[StateRow]) -> Result<bool, Error> {
        if operator == self.operator {
            return self.restore_versions(rows).map(|()| true);
        }
        if operator != self.left.operator {
            return Ok(false);
        }
        self.left.restore(end, rows)?;
        self.waiting = self.left.buffer.unmatched_times().map(Reverse).collect();
        Ok(true)
    }
}

/// The stamps of a batch of changes.
struct Stamps<'b> {
    event_times: &'b [i64],
    available: &'b [i64],
    commits: &'b [i64],
    ops: ArrayRef,
}

impl<'b> Stamps<'b> {
    fn of(batch: &'b RecordBatch, at: StampColumns) -> Result<Self, Error> {
        let missing = || Error::Contract("changes without their stamps".into());
        let column = |at: usize| batch.columns().get(at);
        let instants = |at: usize| {
            let times = column(at).and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
            times.map(|times| &**times.values()).ok_or_else(missing)
        };
        let commits = column(at.commit).and_then(|c| c.as_primitive_opt::<Int64Type>());
        let ops = column(at.op).filter(|c| *c.data_type() == DataType::Utf8);
        Ok(Self {
            event_times: instants(at.event_time)?,
            available: instants(at.available_at)?,
            commits: commits.map(|commits| &**commits.values()).ok_or_else(missing)?,
            ops: ops.cloned().ok_or_else(missing)?,
        })
    }

    fn version(&self, row: usize) -> Version {
        let at = |values: &[i64]| values.get(row).copied().unwrap_or_default();
        let (event_time, available_at) = (at(self.event_times), at(self.available));
        Version {
            from: event_time.max(available_at),
            event_time,
            commit: at(self.commits),
            is_delete: self.ops.as_string::<i32>().value(row) == "delete",
        }
    }
}
