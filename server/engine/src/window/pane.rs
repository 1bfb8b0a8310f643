//! One window's groups: their keys, and the saved form of their aggregates.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;

use crate::key;
use crate::state::{common_prefix, prefix};

/// A group that the current epoch has not touched.
pub(crate) const UNTOUCHED: u32 = u32::MAX;

/// The groups of one window. A group's number is the order of its first event; numbers never leave
/// the engine, and nothing that does depends on them.
pub(crate) struct Pane {
    /// `None` without key columns: there is one group then.
    interner: Option<Box<dyn GroupValues>>,
    /// Encoded keys one after the other, by group number.
    key_bytes: Vec<u8>,
    key_ends: Vec<usize>,
    key_groups: Vec<u8>,
    /// How many bytes all keys begin with.
    shared: usize,
    /// The saved form of each group, empty until its first epoch ends.
    saved: Vec<Box<[u8]>>,
    /// The group's number among those touched in the current epoch, or [`UNTOUCHED`].
    numbers: Vec<u32>,
    /// True once entries of this pane lie in the store.
    pub(crate) durable: bool,
    /// Set while the pane is closed in chunks: all groups in the order of their keys.
    closing: Option<Vec<u32>>,
}

impl Pane {
    /// An empty pane for keys of `schema`.
    pub(crate) fn new(schema: &SchemaRef) -> Result<Self, DataFusionError> {
        let interner = if schema.fields().is_empty() {
            None
        } else {
            Some(new_group_values(Arc::clone(schema), &GroupOrdering::None)?)
        };
        Ok(Self {
            interner,
            key_bytes: Vec::new(),
            key_ends: Vec::new(),
            key_groups: Vec::new(),
            shared: usize::MAX,
            saved: Vec::new(),
            numbers: Vec::new(),
            durable: false,
            closing: None,
        })
    }

    /// Group number of each row, into `groups`; new keys become new groups.
    pub(crate) fn intern(
        &mut self,
        keys: &[ArrayRef],
        rows: usize,
        groups: &mut Vec<usize>,
    ) -> Result<(), Error> {
        let known = self.len();
        match &mut self.interner {
            Some(interner) => interner.intern(keys, groups)?,
            None => {
                groups.clear();
                groups.resize(rows, 0);
            }
        }
        // New numbers come in order, so the row of each new key is found while passing over them.
        // (There is no way to read a table of keys without emptying it.)
        let total = self.interner.as_ref().map_or(usize::from(rows > 0), |i| i.len()).max(known);
        if total > known {
            let encoder = key::Encoder::new(keys)?;
            let mut next = known;
            for (row, group) in groups.iter().enumerate() {
                if *group == next {
                    next += 1;
                    self.add(|bytes| encoder.append(row, bytes));
                }
            }
            self.closing = None;
        }
        Ok(())
    }

    fn add(&mut self, append: impl FnOnce(&mut Vec<u8>)) {
        let start = self.key_bytes.len();
        append(&mut self.key_bytes);
        let first = self.key_ends.first().map_or(self.key_bytes.len(), |end| *end);
        let (first, key) = (self.key_bytes.get(..first), self.key_bytes.get(start..));
        let shared = common_prefix(first.unwrap_or_default(), key.unwrap_or_default());
        self.shared = self.shared.min(shared);
        self.key_groups.push(key::key_group(self.key_bytes.get(start..).unwrap_or_default()));
        self.key_ends.push(self.key_bytes.len());
        self.saved.push(Box::default());
        self.numbers.push(UNTOUCHED);
    }

    /// Puts saved groups back. `keys` are distinct.
    pub(crate) fn restore<'r>(
        &mut self,
        schema: &SchemaRef,
        rows: impl Iterator<Item = (&'r [u8], &'r [u8])> + Clone,
    ) -> Result<(), Error> {
        let columns = key::decode(rows.clone().map(|(k, _)| k), schema)?;
        let mut groups = Vec::new();
        self.intern(&columns, rows.clone().count(), &mut groups)?;
        for (group, (_, value)) in groups.into_iter().zip(rows) {
            self.save(group as u32, value);
        }
        self.durable = true;
        Ok(())
    }

    /// Number of groups.
    pub(crate) fn len(&self) -> usize {
        self.key_ends.len()
    }

    /// The group's number among those of the current epoch, or [`UNTOUCHED`].
    pub(crate) fn number(&self, group: usize) -> u32 {
        self.numbers.get(group).copied().unwrap_or(UNTOUCHED)
    }

    /// Sets [`Self::number`].
    pub(crate) fn set_number(&mut self, group: usize, number: u32) {
        if let Some(slot) = self.numbers.get_mut(group) {
            *slot = number;
        }
    }

    /// Encoded key of a group.
    pub(crate) fn key(&self, group: u32) -> &[u8] {
        let group = group as usize;
        let start = group.checked_sub(1).and_then(|g| self.key_ends.get(g)).copied().unwrap_or(0);
        let end = self.key_ends.get(group).copied().unwrap_or(start);
        self.key_bytes.get(start..end).unwrap_or_default()
    }

    /// Key group of a group.
    pub(crate) fn key_group(&self, group: u32) -> u8 {
        self.key_groups.get(group as usize).copied().unwrap_or_default()
    }

    /// Eight bytes of a group's key, as a number that orders groups of this pane as their keys do;
    /// where they are equal, the keys decide.
    pub(crate) fn prefix(&self, group: u32) -> u64 {
        prefix(self.key(group), self.shared)
    }

    /// Saved form of a group; empty where it has none yet.
    pub(crate) fn saved(&self, group: u32) -> &[u8] {
        self.saved.get(group as usize).map_or(&[], |s| s)
    }

    /// Replaces the saved form: in place where the length stays, which for counts and sums is always.
    pub(crate) fn save(&mut self, group: u32, value: &[u8]) {
        if let Some(slot) = self.saved.get_mut(group as usize) {
            if slot.len() == value.len() {
                slot.copy_from_slice(value);
            } else {
                *slot = value.into();
            }
        }
    }

    /// The groups after `after` in the order of their keys, at most `limit`; and whether these are the last.
    pub(crate) fn next_in_order(&mut self, after: Option<&[u8]>, limit: usize) -> (Vec<u32>, bool) {
        let order = self.closing.take().unwrap_or_else(|| self.sorted());
        let from = after.map_or(0, |key| order.partition_point(|g| self.key(*g) <= key));
        let to = order.len().min(from.saturating_add(limit));
        let chunk = order.get(from..to).unwrap_or_default().to_vec();
        let last = to == order.len();
        self.closing = Some(order);
        (chunk, last)
    }

    fn sorted(&self) -> Vec<u32> {
        let mut order: Vec<(u64, u32)> = (0..self.len() as u32).map(|g| (self.prefix(g), g)).collect();
        order.sort_unstable_by(|(p, a), (q, b)| p.cmp(q).then_with(|| self.key(*a).cmp(self.key(*b))));
        order.into_iter().map(|(_, g)| g).collect()
    }
}

/// Why groups cannot be formed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Key(#[from] key::Error),
    #[error(transparent)]
    DataFusion(#[from] DataFusionError),
}
