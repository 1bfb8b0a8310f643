//! The windowed aggregate: records into panes, epoch by epoch.
//!
//! A row's way: window → within stages → key (null: rejected) → late? → arguments → pane of its slice →
//! group → accumulators, which live as long as the pane.

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::sync::Arc;

use arrow::array::ArrayRef;

use super::intake::by_slice;
use super::keyed::Keyed;
use super::lanes::{Cut, Horizon, Lane};
use super::plan::Plan;
use super::records::{Rows, Verdicts};
use super::revise::{Owed, Touches};
use super::{CloseCursor, Emission, Error, Memory, Output, checkpoint, stage};
use crate::query::FeatureQuery;
use crate::state::{AGGREGATE, Ages, Cold, KeyGroups, StateRow, StateView, codec};
use crate::time::Micros;
use crate::window::{Ordered, Pane, Shared, Stored};

/// The operator and its state.
pub(super) struct Windowed {
    pub(super) plan: Arc<Plan>,
    pub(super) emission: Emission,
    /// By the end of their slice.
    pub(super) panes: BTreeMap<Micros, Pane>,
    /// What windows that share slices need besides; nothing where a slice is a window.
    pub(super) shared: Option<Shared>,
    /// The watermark that the previous epoch committed, from [`Lane::advance`] on that of this one.
    pub(super) watermark: Micros,
    /// Windows up to here are closed; not known before the first epoch.
    pub(super) closed: Option<Micros>,
    /// Where the previous epoch left a large close.
    pub(super) left: Option<CloseCursor>,
    /// Keys of windows that are being closed, in order, by their numbers in the directory.
    pub(super) closing: BTreeMap<Micros, Vec<u32>>,
    /// Keys that get a row when a window closes, besides those that its slices name.
    pub(super) owed: Owed,
    /// What this epoch's records touched.
    pub(super) touched: Touches,
    /// Slices (operator, end) that are gone, but whose entries still lie in the store: until the next
    /// checkpoint.
    pub(super) dropped: BTreeSet<(u16, Micros)>,
    /// Where groups may lie that are not in memory, and the key groups that they are of.
    pub(super) view: Option<(Arc<dyn StateView>, KeyGroups)>,
    /// Rows of windows that are being closed, some of which lay in the store alone.
    pub(super) recalled: BTreeMap<Micros, Ordered>,
    /// Where windows share slices: keys that are not in memory.
    pub(super) cold: Cold,
    /// By the number of the key.
    pub(super) ages: Ages,
}

impl Lane for Windowed {
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
        let restored = checkpoint::restore(plan, rows)?;
        Ok(Self {
            shared: plan.layout.is_shared().then(|| Shared::of(&restored.panes)),
            plan: Arc::clone(plan),
            emission,
            panes: restored.panes,
            watermark,
            closed: None,
            left: None,
            closing: BTreeMap::new(),
            owed: restored.owed,
            touched: Touches::default(),
            dropped: BTreeSet::new(),
            view: None,
            recalled: BTreeMap::new(),
            cold: Cold::new(AGGREGATE, 0),
            ages: Ages::default(),
        })
    }

    fn key(
        plan: &Plan,
        horizon: Horizon,
        mut rows: Rows,
        verdicts: &mut Verdicts<'_>,
    ) -> Result<Option<Keyed>, Error> {
        plan.assign(&mut rows, verdicts)?;
        stage::on_records(&plan.shape.within, &mut rows, verdicts)?;
        plan.key(&mut rows, verdicts)?;
        judge(plan, horizon, &mut rows, verdicts)?;
        let Some(arguments) = plan.arguments(&mut rows, verdicts)? else { return Ok(None) };
        verdicts.counts.applied += rows.len() as u64;
        // Arguments lie behind the key, and the event time behind those of the query.
        let (keys, time) = rows.keys.split_at_checked(plan.keys.len()).unwrap_or((&rows.keys, &[]));
        let columns = [keys, &arguments, time].concat();
        Ok(Some(Keyed { starts: rows.starts, columns, doubtful: Vec::new() }))
    }

    fn begin(&mut self, cursor: Option<&CloseCursor>) -> Result<(), Error> {
        self.left = cursor.cloned();
        self.know_closed()
    }

    fn finish(&mut self, output: &mut Output) -> Result<(), Error> {
        self.close_to(None, output)
    }

    fn take(&mut self, rows: Keyed) -> Result<(), Error> {
        self.closing.clear();
        self.recall(&rows)?;
        let slice = self.plan.layout.slice();
        by_slice(&rows.starts, &rows.columns, &mut |start, columns, rows| {
            self.update_slice(Micros(start) + slice, columns, rows)
        })
    }

    fn settle(&mut self, output: &mut Output) -> Result<(), Error> {
        self.revise(output)
    }

    fn last_end(&self) -> Result<Option<Micros>, Error> {
        Ok(self.panes.last_key_value().map(|(last, _)| self.plan.layout.last_end(*last)))
    }

    fn advance(&mut self, watermark: Micros) -> Result<(), Error> {
        self.watermark = watermark;
        Ok(())
    }

    fn due_at_most(&self, enough: usize) -> usize {
        self.count_due(enough)
    }

    fn due(&mut self, limit: usize) -> Result<Vec<CloseCursor>, Error> {
        self.find_due(limit)
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
        self.leave_groups_in(view, key_groups)
    }

    fn memory(&self) -> Memory {
        self.taken()
    }

    fn evict(&mut self, bytes: usize) -> Result<(), Error> {
        self.let_go(bytes)
    }

    fn slices(&self) -> Vec<Micros> {
        self.panes.keys().copied().collect()
    }

    /// Those in memory.
    fn keys(&self) -> usize {
        self.panes.values().map(|p| p.groups.len()).sum()
    }
}

/// Lets records go that no window takes any more.
fn judge(plan: &Plan, horizon: Horizon, rows: &mut Rows, verdicts: &mut Verdicts<'_>) -> Result<(), Error> {
    let layout = plan.layout;
    let late = |start: i64| {
        let last = layout.last_end(Micros(start) + layout.slice());
        last + horizon.allowed_lateness <= horizon.watermark
    };
    // Where the earliest is not late, none is.
    if rows.starts.iter().min().is_some_and(|s| late(*s)) {
        let starts = rows.starts.clone();
        rows.remove(|row| starts.get(row).is_some_and(|s| late(*s)), |at| verdicts.late(at))?;
    }
    Ok(())
}

impl Windowed {
    /// Takes rows into the pane of their slice: the columns of the key, then those of the functions.
    fn update_slice(&mut self, slice_end: Micros, columns: &[ArrayRef], rows: usize) -> Result<(), Error> {
        let pane = match self.panes.entry(slice_end) {
            btree_map::Entry::Occupied(pane) => pane.into_mut(),
            btree_map::Entry::Vacant(place) => place.insert(Pane::new(&self.plan.key_schema)?),
        };
        let known = pane.groups.len() as u32;
        let (keys, arguments) = columns.split_at_checked(self.plan.keys.len()).unwrap_or((columns, &[]));
        let stored = stored(self.view.as_ref(), &self.plan.state, slice_end);
        pane.update(&self.plan.functions, keys, arguments, rows, stored)
            .map_err(|e| state_error(slice_end, &e))?;
        if let Some(shared) = &mut self.shared {
            shared.directory.insert(slice_end, &pane.groups);
        }
        let is_closed = self.closed.is_some_and(|closed| self.plan.layout.first_end(slice_end) <= closed);
        if is_closed || self.emission.on_update {
            self.touched.note(slice_end, pane.numbers(), known);
        }
        Ok(())
    }
}

/// Where the groups of a slice lie that are not in memory.
pub(super) fn stored<'v>(
    view: Option<&'v (Arc<dyn StateView>, KeyGroups)>,
    state: &'v [codec::Column],
    slice_end: Micros,
) -> Option<Stored<'v>> {
    view.map(|(view, key_groups)| Stored { view: &**view, key_groups: *key_groups, slice_end, state })
}

pub(super) fn state_error(window_end: Micros, error: &dyn std::error::Error) -> Error {
    Error::State { window_end, detail: error.to_string() }
}
