//! Keys as numbers: the groups of one pane.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;

use super::Error;
use crate::key;
use crate::state::{common_prefix, prefix};

/// Distinct keys. A group's number is the order of its first event; numbers never leave the engine, and
/// nothing that does depends on them.
pub(crate) struct Groups {
    /// `None` without key columns: there is one group then.
    interner: Option<Box<dyn GroupValues>>,
    /// Encoded keys one after the other, by group number.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    key_groups: Vec<u8>,
    /// How many bytes all keys begin with.
    shared: usize,
    /// All groups in the order of their keys, once that was asked for and until a group is new.
    order: Option<Arc<[u32]>>,
}

impl Groups {
    /// No groups yet, for keys of `schema`.
    pub(crate) fn new(schema: &SchemaRef) -> Result<Self, DataFusionError> {
        let interner = if schema.fields().is_empty() {
            None
        } else {
            Some(new_group_values(Arc::clone(schema), &GroupOrdering::None)?)
        };
        Ok(Self {
            interner,
            bytes: Vec::new(),
            ends: Vec::new(),
            key_groups: Vec::new(),
            shared: usize::MAX,
            order: None,
        })
    }

    /// Group number of each row, into `numbers`; new keys become new groups.
    pub(crate) fn intern(
        &mut self,
        keys: &[ArrayRef],
        rows: usize,
        numbers: &mut Vec<usize>,
    ) -> Result<(), Error> {
        let known = self.len();
        match &mut self.interner {
            Some(interner) => interner.intern(keys, numbers)?,
            None => {
                numbers.clear();
                numbers.resize(rows, 0);
            }
        }
        // New numbers come in order, so the row of each new key is found while passing over them.
        // (There is no way to read a table of keys without emptying it.)
        let total = self.interner.as_ref().map_or(usize::from(rows > 0), |i| i.len()).max(known);
        if total > known {
            let encoder = key::Encoder::new(keys)?;
            let mut next = known;
            for (row, number) in numbers.iter().enumerate() {
                if *number == next {
                    next += 1;
                    self.add(|bytes| encoder.append(row, bytes));
                }
            }
            self.order = None;
        }
        Ok(())
    }

    fn add(&mut self, append: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        append(&mut self.bytes);
        let first = self.ends.first().map_or(self.bytes.len(), |end| *end);
        let (first, key) = (self.bytes.get(..first), self.bytes.get(start..));
        let shared = common_prefix(first.unwrap_or_default(), key.unwrap_or_default());
        self.shared = self.shared.min(shared);
        self.key_groups.push(key::key_group(key.unwrap_or_default()));
        self.ends.push(self.bytes.len());
    }

    /// Number of groups.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Encoded key of a group.
    pub(crate) fn key(&self, group: u32) -> &[u8] {
        let group = group as usize;
        let start = group.checked_sub(1).and_then(|g| self.ends.get(g)).copied().unwrap_or(0);
        let end = self.ends.get(group).copied().unwrap_or(start);
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// Key group of a group.
    pub(crate) fn key_group(&self, group: u32) -> u8 {
        self.key_groups.get(group as usize).copied().unwrap_or_default()
    }

    /// All groups in the order of their keys.
    pub(crate) fn order(&mut self) -> Arc<[u32]> {
        if let Some(order) = &self.order {
            return Arc::clone(order);
        }
        let mut order: Vec<(u64, u32)> = (0..self.len() as u32).map(|g| (self.prefix(g), g)).collect();
        order.sort_unstable_by(|(p, a), (q, b)| p.cmp(q).then_with(|| self.key(*a).cmp(self.key(*b))));
        let order: Arc<[u32]> = order.into_iter().map(|(_, g)| g).collect();
        self.order = Some(Arc::clone(&order));
        order
    }

    /// Sorts groups by (key group, key): the order of the store.
    pub(crate) fn sort_for_store(&self, groups: &mut Vec<u32>) {
        let mut order: Vec<(u8, u64, u32)> =
            groups.iter().map(|g| (self.key_group(*g), self.prefix(*g), *g)).collect();
        order.sort_unstable_by(|a, b| {
            (a.0, a.1).cmp(&(b.0, b.1)).then_with(|| self.key(a.2).cmp(self.key(b.2)))
        });
        groups.clear();
        groups.extend(order.into_iter().map(|(_, _, group)| group));
    }

    /// Eight bytes of a group's key, as a number that orders groups as their keys do; where they are
    /// equal, the keys decide.
    fn prefix(&self, group: u32) -> u64 {
        prefix(self.key(group), self.shared)
    }
}
