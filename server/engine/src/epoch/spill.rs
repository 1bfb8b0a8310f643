//! State that is larger than memory: what of it lies in the store alone, and what does not.
//!
//! At a checkpoint what is in memory and what lies in the store are the same. So once the checkpoint is durable,
//! groups may be let go of ([`Engine::evict`]), and are put back when a record comes into them: nothing
//! is merged twice, and nothing that leaves the engine depends on which they were. A restart is the same
//! with all groups let go of ([`Engine::resume`]).

use std::cmp::Reverse;
use std::collections::btree_map;
use std::sync::Arc;

use super::windowed::{Windowed, state_error};
use super::{Emission, Engine, Error, Operator};
use crate::query::{FeatureQuery, Node, Relation};
use crate::state::{AGGREGATE, JOIN, KeyGroups, OWED, StateView, view};
use crate::time::Micros;
use crate::window::{Pane, Shared};
use crate::workers::Workers;

/// What the state of an engine takes of the memory, in bytes and about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub bytes: usize,
    /// The part that [`Engine::evict`] can let go of, once it is written.
    pub evictable: usize,
}

impl Engine {
    /// An engine over the state that lies in a store, as it stood at watermark `watermark` ([`Engine::restore`]
    /// says which). What may stay there until it is wanted is not read.
    ///
    /// `state` shows what the last checkpoint left, for as long as the engine lives: the caller writes
    /// [`super::Output::state`] of an epoch before it applies the next one.
    pub fn resume(
        workers: &Arc<Workers>,
        query: Arc<FeatureQuery>,
        emission: Emission,
        watermark: Micros,
        state: Arc<dyn StateView>,
    ) -> Result<Self, Error> {
        // What is not left in the store: rows that are owed, and what is looked up.
        let joins = joins(&query.input);
        let is_read = move |operator: u16| match operator.checked_sub(JOIN) {
            None => operator == OWED,
            Some(number) => joins.get(usize::from(number / 2)).is_none_or(|is_join| !is_join),
        };
        // The operators take rows, not results: the first one that cannot be read ends the iteration.
        let mut failure = None;
        let rows =
            view::of(&*state, &is_read).map_while(|row| row.map_err(|error| failure = Some(error)).ok());
        let engine = Self::restore_on(workers, query, emission, watermark, rows);
        if let Some(error) = failure {
            return Err(error.into());
        }
        let mut engine = engine?;
        if let Operator::Derived(upstream, derived) = &mut engine.operator {
            upstream.attach(&state)?;
            derived.attach(&state)?;
        }
        Ok(engine)
    }

    /// What the state takes of the memory.
    pub fn memory(&self) -> Memory {
        match &self.operator {
            Operator::Derived(upstream, derived) => {
                let (own, rows) = (derived.memory(), upstream.memory());
                Memory { bytes: own.bytes + rows.bytes, evictable: own.evictable + rows.evictable }
            }
            Operator::Upserting(_) => Memory::default(),
        }
    }

    /// Lets go of state until no more than about `bytes` of it that could be let go of are in memory: of what
    /// has not changed for longest first. To be called right after a checkpoint, once its
    /// [`super::Output::state`] is where [`Engine::resume`]'s `state` reads it; what changed since stays.
    pub fn evict(&mut self, bytes: usize) -> Result<(), Error> {
        match &mut self.operator {
            Operator::Derived(upstream, derived) => {
                let (own, rows) = (derived.memory().evictable, upstream.memory().evictable);
                let share = bytes as u128 * rows as u128 / (own + rows).max(1) as u128;
                let share = usize::try_from(share).unwrap_or(usize::MAX);
                upstream.evict(share)?;
                derived.evict(bytes - share)
            }
            Operator::Upserting(_) => Ok(()),
        }
    }
}

/// Of each join and lookup, by its number, whether it is a join.
pub(crate) fn joins(relation: &Relation) -> Vec<bool> {
    match &relation.node {
        Node::Source(_) => Vec::new(),
        Node::Union(inputs) => inputs.iter().flat_map(joins).collect(),
        Node::Join(join) => [joins(&join.left), joins(&join.right), vec![true]].concat(),
        Node::Lookup(lookup) => [joins(&lookup.left), vec![false]].concat(),
    }
}

impl Windowed {
    /// From here on groups may be left in the store; those that lie there and are not known are.
    pub(super) fn leave_groups_in(
        &mut self,
        view: &Arc<dyn StateView>,
        key_groups: KeyGroups,
    ) -> Result<(), Error> {
        if self.shared.is_some() {
            return self.leave_keys_in(view, key_groups);
        }
        for slice_end in view::slices(&**view, AGGREGATE)? {
            if let btree_map::Entry::Vacant(place) = self.panes.entry(slice_end) {
                place.insert(Pane::cold(&self.plan.key_schema)?);
            }
        }
        self.view = Some((Arc::clone(view), key_groups));
        Ok(())
    }

    pub(super) fn taken(&self) -> Memory {
        let panes = self.panes.values().map(Pane::bytes).sum::<usize>();
        let shared = self.shared.as_ref().map_or(0, Shared::bytes);
        let in_memory = self.panes.values().filter(|pane| pane.groups.len() > 0).map(Pane::bytes);
        let evictable = match in_memory.sum() {
            0 => 0,
            groups if self.view.is_some() => groups,
            groups if self.cold.is_attached() => groups + shared,
            _ => 0,
        };
        Memory { bytes: panes + shared + self.cold.bytes(), evictable }
    }

    pub(super) fn let_go(&mut self, bytes: usize) -> Result<(), Error> {
        if self.shared.is_some() {
            return self.let_go_of_keys(bytes);
        }
        if self.view.is_none() {
            return Ok(());
        }
        let in_memory = self.panes.iter().filter(|(_, pane)| pane.groups.len() > 0);
        let mut panes: Vec<(u32, Micros, usize)> =
            in_memory.map(|(end, pane)| (pane.quiet_for(), *end, pane.bytes())).collect();
        let mut total: usize = panes.iter().map(|(.., own)| own).sum();
        // Of those that were quiet for as long, the one that closes last.
        panes.sort_unstable_by_key(|(quiet_for, end, _)| Reverse((*quiet_for, *end)));
        for (_, slice_end, own) in panes {
            if total <= bytes {
                return Ok(());
            }
            let Some(pane) = self.panes.get_mut(&slice_end) else { continue };
            let others = total - own;
            let keep = pane.groups.len() as u128 * bytes.saturating_sub(others) as u128 / own.max(1) as u128;
            let keep = usize::try_from(keep).unwrap_or(usize::MAX);
            if pane.evict(&self.plan.key_schema, keep).map_err(|e| state_error(slice_end, &e))? {
                total = others + pane.bytes();
            }
        }
        Ok(())
    }
}
