//! Keys as numbers: the groups of one pane.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;

use super::Error;
use crate::key;
use crate::state::{common_prefix, prefix};

/// Looks keys up in the store: those that are new, with their key groups → the positions of those found.
pub(crate) type Find<'f> = &'f mut dyn FnMut(&[(u8, &[u8])]) -> Result<Vec<usize>, Error>;

/// Distinct keys. A group's number is the order of its first event; numbers never leave the engine, and
/// nothing that does depends on them.
pub(crate) struct Groups {
    /// `None` without key columns: there is one group then.
    interner: Option<Box<dyn GroupValues>>,
    /// Of each of the interner's numbers the group, where they are not the same.
    renumbered: Vec<u32>,
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
            renumbered: Vec::new(),
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
        let new = self.number(keys, rows, numbers)?;
        if !new.is_empty() {
            let encoder = key::Encoder::new(keys)?;
            let mut next = new.start;
            for (row, number) in numbers.iter().enumerate() {
                if *number == next {
                    if !self.renumbered.is_empty() {
                        self.renumbered.push(next as u32);
                    }
                    next += 1;
                    self.add(|bytes| encoder.append(row, bytes));
                }
            }
            self.order = None;
        }
        self.renumber(numbers);
        Ok(())
    }

    /// The same, where some of the new keys may lie in the store. `find` is told those that are new, each with
    /// its key group and in the order of the store, and says which of them are there, by position and in
    /// order: these become the first of the new groups, in that order. Returns how many.
    pub(crate) fn intern_stored(
        &mut self,
        keys: &[ArrayRef],
        rows: usize,
        numbers: &mut Vec<usize>,
        find: Find<'_>,
    ) -> Result<usize, Error> {
        let new = self.number(keys, rows, numbers)?;
        if new.is_empty() {
            self.renumber(numbers);
            return Ok(0);
        }
        let arrived = Arrived::new(keys, numbers, new.start)?;
        let order = arrived.order();
        let wanted: Vec<(u8, &[u8])> =
            order.iter().map(|(key_group, _, n)| (*key_group, arrived.key(*n))).collect();
        let found: Vec<u32> =
            find(&wanted)?.into_iter().filter_map(|place| order.get(place)).map(|(.., n)| *n).collect();
        let mut is_found = vec![false; new.len()];
        for number in &found {
            if let Some(is_found) = is_found.get_mut(*number as usize) {
                *is_found = true;
            }
        }
        if !found.is_empty() || !self.renumbered.is_empty() {
            let known = self.renumbered.len() as u32;
            self.renumbered.extend(known..new.end as u32);
        }
        let others = (0..).zip(&is_found).filter(|(_, is_found)| !**is_found).map(|(number, _)| number);
        for (group, number) in (new.start as u32..).zip(found.iter().copied().chain(others)) {
            self.add(|bytes| bytes.extend_from_slice(arrived.key(number)));
            if let Some(renumbered) = self.renumbered.get_mut(new.start + number as usize) {
                *renumbered = group;
            }
        }
        self.order = None;
        self.renumber(numbers);
        Ok(found.len())
    }

    /// The interner's number of each row, and which of them are new: they come in order, so the row of each
    /// new key is found while passing over them. (There is no way to read a table of keys without emptying it.)
    fn number(
        &mut self,
        keys: &[ArrayRef],
        rows: usize,
        numbers: &mut Vec<usize>,
    ) -> Result<Range<usize>, Error> {
        let known = self.len();
        match &mut self.interner {
            Some(interner) => interner.intern(keys, numbers)?,
            None => {
                numbers.clear();
                numbers.resize(rows, 0);
            }
        }
        let total = self.interner.as_ref().map_or(usize::from(rows > 0), |i| i.len()).max(known);
        Ok(known..total)
    }

    /// From the interner's numbers to groups.
    fn renumber(&self, numbers: &mut [usize]) {
        if !self.renumbered.is_empty() {
            for number in numbers {
                *number = self.renumbered.get(*number).map_or(*number, |group| *group as usize);
            }
        }
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        let order = self.order.as_ref().map_or(0, |order| order.len());
        self.interner.as_ref().map_or(0, |interner| interner.size())
            + self.bytes.capacity()
            + self.ends.capacity() * size_of::<usize>()
            + self.key_groups.capacity()
            + (self.renumbered.capacity() + order) * size_of::<u32>()
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

    /// What all keys begin with; `None` without keys.
    pub(crate) fn common(&self) -> Option<&[u8]> {
        let first = self.ends.first().and_then(|end| self.bytes.get(..*end))?;
        first.get(..self.shared.min(first.len()))
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

/// The encoded keys that are new in a batch, by the order of their first row.
struct Arrived {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Arrived {
    /// Those of the rows whose numbers are `first` and greater.
    fn new(keys: &[ArrayRef], numbers: &[usize], first: usize) -> Result<Self, Error> {
        let encoder = key::Encoder::new(keys)?;
        let mut arrived = Self { bytes: Vec::new(), ends: Vec::new() };
        for (row, number) in numbers.iter().enumerate() {
            if *number == first + arrived.ends.len() {
                encoder.append(row, &mut arrived.bytes);
                arrived.ends.push(arrived.bytes.len());
            }
        }
        Ok(arrived)
    }

    fn key(&self, number: u32) -> &[u8] {
        let number = number as usize;
        let start = number.checked_sub(1).and_then(|n| self.ends.get(n)).copied().unwrap_or(0);
        let end = self.ends.get(number).copied().unwrap_or(start);
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// All of them in the order of the store: key group, eight bytes that order as the keys do, number.
    fn order(&self) -> Vec<(u8, u64, u32)> {
        let all = 0..self.ends.len() as u32;
        let shared = all.clone().map(|n| common_prefix(self.key(0), self.key(n))).min().unwrap_or(0);
        let mut order: Vec<(u8, u64, u32)> =
            all.map(|n| (key::key_group(self.key(n)), prefix(self.key(n), shared), n)).collect();
        order.sort_unstable_by(|a, b| {
            (a.0, a.1).cmp(&(b.0, b.1)).then_with(|| self.key(a.2).cmp(self.key(b.2)))
        });
        order
    }
}
