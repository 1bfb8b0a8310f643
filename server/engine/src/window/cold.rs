//! Groups of a pane that are not in memory: their state lies in the store as the last checkpoint left it.
//!
//! A group is in memory or cold, never both in parts: before a record comes into a cold group its saved state
//! is put back, and goes on from there as after a restart. So nothing that leaves the engine tells whether a
//! group ever was cold.

use arrow::array::{ArrayRef, UInt32Array};
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;

use super::{Aggregates, Error, Pane};
use crate::key;
use crate::state::view::ByKey;
use crate::state::{AGGREGATE, Function, KeyGroups, StateView, codec};
use crate::time::Micros;

/// Where the cold groups of a pane lie.
#[derive(Clone, Copy)]
pub(crate) struct Stored<'v> {
    pub(crate) view: &'v dyn StateView,
    /// Others are not read.
    pub(crate) key_groups: KeyGroups,
    pub(crate) slice_end: Micros,
    /// State columns of all functions in order.
    pub(crate) state: &'v [codec::Column],
}

/// Saved states, one after the other.
#[derive(Default)]
struct Values {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// Some groups of a pane in the order of their keys.
pub(crate) struct Ordered {
    pub(crate) keys: Vec<Vec<u8>>,
    /// State columns of all functions in order.
    pub(crate) states: Vec<ArrayRef>,
}

impl Values {
    fn push(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.ends.push(self.bytes.len());
    }

    fn decode(&self, state: &[codec::Column]) -> Result<Vec<ArrayRef>, Error> {
        let starts = std::iter::once(&0).chain(&self.ends);
        let values = starts.zip(&self.ends).map(|(from, to)| self.bytes.get(*from..*to).unwrap_or_default());
        Ok(codec::decode(state, values)?)
    }
}

impl Pane {
    /// A pane of a slice that has entries in the store, all of them cold.
    pub(crate) fn cold(schema: &SchemaRef) -> Result<Self, DataFusionError> {
        Ok(Self { durable: true, is_cold: true, ..Self::new(schema)? })
    }

    /// Numbers the groups of rows as [`super::Groups::intern`] does, into `numbers`, and puts those of them back that
    /// are cold. Returns how many: they come before those that are new.
    pub(super) fn recall(
        &mut self,
        functions: &[Function],
        keys: &[ArrayRef],
        rows: usize,
        stored: Stored<'_>,
    ) -> Result<usize, Error> {
        let Stored { view, slice_end, state, .. } = stored;
        let (known, mut values) = (self.groups.len(), Values::default());
        let recalled = self.groups.intern_stored(keys, rows, &mut self.numbers, &mut |wanted| {
            let mut found = Vec::new();
            view.get(AGGREGATE, slice_end, wanted, &mut |place, value| {
                found.push(place);
                values.push(value);
            })?;
            Ok(found)
        })?;
        if recalled > 0 {
            self.aggregates.load(functions, &values.decode(state)?, known, recalled)?;
        }
        Ok(recalled)
    }

    /// Right after a checkpoint that is durable: keeps so many groups in memory, those that were changed last.
    /// Returns whether any was let go.
    pub(crate) fn evict(&mut self, schema: &SchemaRef, keep: usize) -> Result<bool, Error> {
        let total = self.groups.len();
        if keep >= total || !self.changed.is_empty() {
            return Ok(false);
        }
        let last_change = |group: &u32| self.last_change.get(*group as usize).copied().unwrap_or_default();
        let mut kept: Vec<u32> = (0..total as u32).collect();
        if let Some(last) = keep.checked_sub(1) {
            kept.select_nth_unstable_by_key(last, |group| std::cmp::Reverse(last_change(group)));
        }
        kept.truncate(keep);
        self.keep(schema, kept)?;
        Ok(true)
    }

    /// Right after a checkpoint that is durable: keeps these groups in memory.
    pub(crate) fn keep(&mut self, schema: &SchemaRef, kept: Vec<u32>) -> Result<(), Error> {
        let (total, keep) = (self.groups.len(), kept.len());
        let last_change = |group: &u32| self.last_change.get(*group as usize).copied().unwrap_or_default();
        let mut left = Self { checkpoints: self.checkpoints, touched: self.touched, ..Self::cold(schema)? };
        if keep > 0 {
            let keys = key::decode(kept.iter().map(|group| self.groups.key(*group)), schema)?;
            left.groups.intern(&keys, keep, &mut left.numbers)?;
            if left.groups.len() != keep {
                return Err(Error::Twice);
            }
            left.last_change = kept.iter().map(last_change).collect();
            self.aggregates.keep(&UInt32Array::from(kept), total)?;
            left.aggregates = std::mem::replace(&mut self.aggregates, Aggregates::new());
        }
        *self = left;
        Ok(())
    }

    /// Groups after a key (`None`: from the first on) in the order of their keys, at most `limit`, with their states:
    /// those in memory, and those in the store that are not.
    pub(crate) fn ordered(
        &mut self,
        after: Option<&[u8]>,
        limit: usize,
        stored: Stored<'_>,
    ) -> Result<Ordered, Error> {
        let Stored { view, key_groups, slice_end, state } = stored;
        let order = self.groups.order();
        let from = after.map_or(0, |after| order.partition_point(|g| self.groups.key(*g) <= after));
        let mut live = order.get(from..).unwrap_or_default().iter().copied().peekable();
        let mut entries = ByKey::new(view, AGGREGATE, slice_end, key_groups, after)?;
        let (mut keys, mut values) = (Vec::new(), Values::default());
        // Of each key the column that its state is taken from (0: in memory, 1: cold), and the row there.
        let (mut places, mut taken): (Vec<(usize, usize)>, Vec<u32>) = (Vec::new(), Vec::new());
        loop {
            let group = live.peek().map(|group| self.groups.key(*group));
            let is_live = match (group, entries.peek()) {
                (None, None) => break,
                _ if keys.len() >= limit => break,
                (None, Some(_)) => false,
                (Some(_), None) => true,
                // What lies in the store of a group that is in memory is as old as the checkpoint.
                (Some(group), Some(entry)) => {
                    if group == entry {
                        entries.next()?;
                        continue;
                    }
                    group < entry
                }
            };
            if is_live {
                places.push((0, taken.len()));
                taken.extend(live.next());
                keys.extend(taken.last().map(|group| self.groups.key(*group).to_vec()));
            } else if let Some((key, value)) = entries.next()? {
                places.push((1, values.ends.len()));
                values.push(&value);
                keys.push(key);
            }
        }
        let cold = values.decode(state)?;
        if taken.is_empty() {
            return Ok(Ordered { keys, states: cold });
        }
        let taken = UInt32Array::from(taken);
        let mut states = Vec::with_capacity(cold.len());
        for (live, cold) in self.states()?.iter().zip(cold) {
            let live = arrow::compute::take(live, &taken, None).map_err(DataFusionError::from)?;
            let parts: [&dyn arrow::array::Array; 2] = [&live, &cold];
            states.push(match cold.len() {
                0 => live,
                _ => arrow::compute::interleave(&parts, &places).map_err(DataFusionError::from)?,
            });
        }
        Ok(Ordered { keys, states })
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.groups.bytes()
            + self.aggregates.bytes()
            + self.changed.bytes()
            + self.last_change.capacity() * size_of::<u32>()
    }

    /// How many checkpoints ago the pane was changed.
    pub(crate) fn quiet_for(&self) -> u32 {
        self.checkpoints - self.touched
    }
}
