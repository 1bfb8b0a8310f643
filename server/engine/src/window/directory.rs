//! The slices that each key occurs in.

use std::cmp::Ordering::Equal;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::Groups;
use super::chains::{Chains, Linked};
use crate::state::{common_prefix, prefix};
use crate::time::Micros;

/// One key in one slice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) slice_end: Micros,
    pub(crate) group: u32,
}

impl Linked for Held {
    fn slice_end(&self) -> Micros {
        self.slice_end
    }
}

/// Key → its slices, and slice → its keys. A key's bytes are looked up once for each slice that it comes into;
/// from there on it goes by its number.
#[derive(Default)]
pub(crate) struct Directory {
    chains: Chains<Held>,
    /// Of each slice the key of each group.
    slices: BTreeMap<Micros, Vec<u32>>,
}

impl Directory {
    /// Notes the groups of a slice that were not known.
    pub(crate) fn insert(&mut self, slice_end: Micros, groups: &Groups) {
        let keys = self.slices.entry(slice_end).or_default();
        for group in keys.len() as u32..groups.len() as u32 {
            keys.push(self.chains.add(groups.key(group), Held { slice_end, group }));
        }
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        let slices: usize = self.slices.values().map(Vec::len).sum();
        self.chains.bytes(slices) + slices * size_of::<u32>()
    }

    /// Forgets a slice.
    pub(crate) fn forget(&mut self, slice_end: Micros) {
        for key in self.slices.remove(&slice_end).unwrap_or_default() {
            self.chains.remove(key, slice_end);
        }
    }

    /// The number of a key that occurs in a slice.
    pub(crate) fn find(&self, key: &[u8]) -> Option<u32> {
        self.chains.find(key)
    }

    /// The numbers of all keys.
    pub(crate) fn keys(&self) -> impl Iterator<Item = u32> {
        self.chains.iter()
    }

    /// A key, encoded.
    pub(crate) fn key(&self, number: u32) -> &[u8] {
        self.chains.key(number)
    }

    /// The key of each group of a slice.
    pub(crate) fn keys_of(&self, slice_end: Micros) -> &[u32] {
        self.slices.get(&slice_end).map_or(&[], Vec::as_slice)
    }

    /// A key's slices that end after `after` and not after `to`.
    pub(crate) fn within(&self, key: u32, after: Micros, to: Micros) -> &[Held] {
        self.chains.between(key, after.next(), to)
    }

    /// The same of a key that may be in no slice.
    pub(crate) fn found_within(&self, key: &[u8], after: Micros, to: Micros) -> &[Held] {
        self.find(key).map_or(&[], |key| self.within(key, after, to))
    }

    /// The keys of slices, with the order of their groups, and others besides: each once and in order.
    pub(crate) fn in_order(&self, slices: &[(Micros, Arc<[u32]>, &Groups)], others: &[u32]) -> Vec<u32> {
        let starts = slices.iter().filter_map(|(.., groups)| groups.common());
        let skip = common(starts.chain(others.iter().map(|key| self.key(*key))));
        let all = slices.iter().map(|(_, order, _)| order.len()).sum::<usize>() + others.len();
        let mut keys: Vec<(u64, u32)> = Vec::with_capacity(all);
        for (slice_end, order, groups) in slices {
            let numbers = self.keys_of(*slice_end);
            let known = order.iter().filter_map(|group| numbers.get(*group as usize).map(|key| (group, key)));
            keys.extend(known.map(|(group, key)| (prefix(groups.key(*group), skip), *key)));
        }
        keys.extend(others.iter().map(|key| (prefix(self.key(*key), skip), *key)));
        // Each slice comes in order: to sort them all is to merge them.
        keys.sort_by(|(p, a), (q, b)| {
            p.cmp(q).then_with(|| if a == b { Equal } else { self.key(*a).cmp(self.key(*b)) })
        });
        keys.dedup_by_key(|(_, key)| *key);
        keys.into_iter().map(|(_, key)| key).collect()
    }
}

/// How many bytes all of them begin with.
fn common<'k>(mut keys: impl Iterator<Item = &'k [u8]>) -> usize {
    let Some(first) = keys.next() else { return 0 };
    keys.fold(first.len(), |common, key| common.min(common_prefix(first, key)))
}
