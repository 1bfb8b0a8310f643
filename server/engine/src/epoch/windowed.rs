//! The windowed aggregate: records into panes, epoch by epoch.
//!
//! A row's way: window → within stages → key (null: rejected) → late? → arguments → pane of its slice →
//! group → accumulators, which live as long as the pane.

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::sync::Arc;

use arrow::array::ArrayRef;

use super::intake::by_slice;
use super::plan::Plan;
use super::records::{Rows, Verdicts};
use super::revise::{Owed, Touches};
use super::upstream::Upstream;
use super::{Emission, Error, Input, Output, checkpoint, stage};
use crate::query::FeatureQuery;
use crate::state::{StateRow, StateView};
use crate::time::Micros;
use crate::window::{Pane, Shared, Stored};

/// The operator and its state.
pub(super) struct Windowed {
    pub(super) plan: Plan,
    pub(super) emission: Emission,
    /// By the end of their slice.
    pub(super) panes: BTreeMap<Micros, Pane>,
    /// What windows that share slices need besides; nothing where a slice is a window.
    pub(super) shared: Option<Shared>,
    /// The watermark that the previous epoch committed: it judges lateness.
    pub(super) watermark: Micros,
    /// Windows up to here are closed; not known before the first epoch.
    pub(super) closed: Option<Micros>,
    /// Keys of the window that is being closed, in order.
    pub(super) closing: Option<(Micros, Vec<Vec<u8>>)>,
    /// Keys that get a row when a window closes, besides those that its slices name.
    pub(super) owed: Owed,
    /// What this epoch's records touched.
    pub(super) touched: Touches,
    /// Slices (operator, end) that are gone, but whose entries still lie in the store: until the next
    /// checkpoint.
    pub(super) dropped: BTreeSet<(u16, Micros)>,
    /// Where groups may lie that are not in memory.
    pub(super) view: Option<Arc<dyn StateView>>,
}

impl Windowed {
    pub(super) fn restore(
        query: Arc<FeatureQuery>,
        emission: Emission,
        watermark: Micros,
        rows: impl Iterator<Item = StateRow>,
    ) -> Result<Self, Error> {
        let plan = Plan::new(query, emission.on_update)?;
        let restored = checkpoint::restore(&plan, rows)?;
        Ok(Self {
            shared: plan.layout.is_shared().then(|| Shared::of(&restored.panes)),
            plan,
            emission,
            panes: restored.panes,
            watermark,
            closed: None,
            closing: None,
            owed: restored.owed,
            touched: Touches::default(),
            dropped: BTreeSet::new(),
            view: None,
        })
    }

    pub(super) fn apply(&mut self, input: &Input<'_>, upstream: &mut Upstream) -> Result<Output, Error> {
        let mut output = Output::new(self.plan.query.sources.len());
        let mut cursor = input.cursor.clone();
        self.begin(cursor.as_ref())?;
        if cursor.is_some() && input.batches.iter().any(|b| b.rows.num_rows() > 0) {
            // Records may come into the window that is being closed: its rows come first. (A pipeline
            // gives no records while a close goes on.)
            self.close(cursor.take().as_ref(), usize::MAX, &mut output)?;
        }
        let reached = upstream.take(input, &mut output, &mut |rows, verdicts| self.absorb(rows, verdicts))?;
        self.revise(&mut output)?;
        let mut watermark = self.watermark.max(reached);
        if input.finished
            && let Some((last, _)) = self.panes.last_key_value()
        {
            watermark = watermark.max(self.plan.layout.last_end(*last));
        }
        self.watermark = watermark;
        output.watermark = watermark;
        self.close(cursor.as_ref(), input.max_rows.max(1), &mut output)?;
        self.update_rows(&mut output)?;
        self.retire();
        if input.checkpoint {
            self.checkpoint(&mut output)?;
        }
        output.sort()?;
        Ok(output)
    }

    /// Open windows, and groups in them that are in memory.
    pub(super) fn open(&self) -> (usize, usize) {
        (self.panes.len(), self.panes.values().map(|p| p.groups.len()).sum())
    }

    /// Takes rows of the input into the accumulators.
    fn absorb(&mut self, mut rows: Rows, verdicts: &mut Verdicts<'_>) -> Result<(), Error> {
        self.plan.assign(&mut rows, verdicts)?;
        stage::on_records(&self.plan.shape.within, &mut rows, verdicts)?;
        self.plan.key(&mut rows, verdicts)?;
        self.judge(&mut rows, verdicts)?;
        let Some(arguments) = self.plan.arguments(&mut rows, verdicts)? else { return Ok(()) };
        // Arguments lie behind the key, and the event time behind those of the query.
        let (keys, time) = rows.keys.split_at_checked(self.plan.keys.len()).unwrap_or((&rows.keys, &[]));
        let columns = [keys, &arguments, time].concat();
        let slice = self.plan.layout.slice();
        by_slice(&rows.starts, &columns, &mut |start, columns, rows| {
            self.update_slice(Micros(start) + slice, columns, rows)
        })?;
        verdicts.counts.applied += rows.len() as u64;
        Ok(())
    }

    /// Lets records go that no window takes any more.
    fn judge(&self, rows: &mut Rows, verdicts: &mut Verdicts<'_>) -> Result<(), Error> {
        let layout = self.plan.layout;
        let late = |start: i64| {
            let last = layout.last_end(Micros(start) + layout.slice());
            last + self.emission.allowed_lateness <= self.watermark
        };
        // Where the earliest is not late, none is.
        if rows.starts.iter().min().is_some_and(|s| late(*s)) {
            let starts = rows.starts.clone();
            rows.remove(|row| starts.get(row).is_some_and(|s| late(*s)), |at| verdicts.late(at))?;
        }
        Ok(())
    }

    /// Takes rows into the pane of their slice: the columns of the key, then those of the functions.
    fn update_slice(&mut self, slice_end: Micros, columns: &[ArrayRef], rows: usize) -> Result<(), Error> {
        let pane = match self.panes.entry(slice_end) {
            btree_map::Entry::Occupied(pane) => pane.into_mut(),
            btree_map::Entry::Vacant(place) => place.insert(Pane::new(&self.plan.key_schema)?),
        };
        let known = pane.groups.len() as u32;
        let (keys, arguments) = columns.split_at_checked(self.plan.keys.len()).unwrap_or((columns, &[]));
        let stored = self.view.as_deref().map(|view| Stored { view, slice_end, state: &self.plan.state });
        pane.update(&self.plan.functions, keys, arguments, rows, stored)
            .map_err(|e| state_error(slice_end, &e))?;
        if let Some(shared) = &mut self.shared {
            for group in known..pane.groups.len() as u32 {
                shared.directory.insert(pane.groups.key(group), slice_end, group);
            }
        }
        let is_closed = self.closed.is_some_and(|closed| self.plan.layout.first_end(slice_end) <= closed);
        if is_closed || self.emission.on_update {
            self.touched.note(slice_end, pane.numbers(), known);
        }
        Ok(())
    }
}

pub(super) fn state_error(window_end: Micros, error: &dyn std::error::Error) -> Error {
    Error::State { window_end, detail: error.to_string() }
}
