//! The stored state of a pipeline, as its engine sees it, and reading it in the order of the keys.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{KeyGroups, StateKey, StateRow};
use crate::time::Micros;

/// Entries in the order of the store.
pub type Entries<'v> = Box<dyn Iterator<Item = Result<StateRow, Unreadable>> + 'v>;

/// Why the store does not give its entries.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

/// What lies in the store for one pipeline: always what its last checkpoint left there. Nothing else may
/// show, for the engine adds to it what came since.
pub trait StateView: Send + Sync {
    /// Looks up keys of one slice of an operator, each with its key group: in the order of the store, and each
    /// once. `found` is told which of them are there, by position and in order, and their values.
    fn get(
        &self,
        operator: u16,
        slice_end: Micros,
        keys: &[(u8, &[u8])],
        found: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), Unreadable>;

    /// Looks up what lies below keys of one slice of an operator, each with its key group: in the order of the
    /// store, and each once. No key is the beginning of another one. `found` is told of each entry that begins with a key,
    /// in order: the key's position, what follows the key, and the value.
    fn below(
        &self,
        operator: u16,
        slice_end: Micros,
        keys: &[(u8, &[u8])],
        found: &mut dyn FnMut(usize, &[u8], &[u8]),
    ) -> Result<(), Unreadable>;

    /// The entries from a key on, itself included, of all operators.
    fn scan(&self, from: &StateKey) -> Result<Entries<'_>, Unreadable>;
}

/// The entries of some operators; those of others are not gone through.
pub(crate) fn of<'v>(
    view: &'v dyn StateView,
    is_of: &'v dyn Fn(u16) -> bool,
) -> impl Iterator<Item = Result<StateRow, Unreadable>> + 'v {
    let from = |operator| StateKey { operator, slice_end: Micros::MIN, key_group: 0, key: Vec::new() };
    let mut entries = Some(view.scan(&from(0)));
    std::iter::from_fn(move || {
        loop {
            let rows = match entries.as_mut()? {
                Ok(rows) => rows,
                Err(error) => return Some(Err(error.clone())),
            };
            match rows.next()? {
                Ok(row) if !is_of(row.key.operator) => {
                    entries = row.key.operator.checked_add(1).map(|next| view.scan(&from(next)));
                }
                row => return Some(row),
            }
        }
    })
}

/// The slices of an operator that have entries.
pub(crate) fn slices(view: &dyn StateView, operator: u16) -> Result<Vec<Micros>, Unreadable> {
    let mut slices: Vec<Micros> = Vec::new();
    loop {
        let slice_end = slices.last().map_or(Micros::MIN, |last| last.next());
        let from = StateKey { operator, slice_end, key_group: 0, key: Vec::new() };
        match view.scan(&from)?.next().transpose()? {
            // The last instant there is has none after it.
            Some(row) if row.key.operator == operator && slices.last() != Some(&row.key.slice_end) => {
                slices.push(row.key.slice_end);
            }
            _ => return Ok(slices),
        }
    }
}

/// The entries of one slice, of keys in some key groups, in the order of their keys: the store has them by key group first.
pub(crate) struct ByKey<'v> {
    operator: u16,
    slice_end: Micros,
    /// The first key group.
    first: usize,
    key_groups: Vec<Entries<'v>>,
    /// The next entry of each key group that has one.
    heads: BinaryHeap<Reverse<Head>>,
}

/// Key, which of the key groups, value: no key is in two groups, so values are never compared.
type Head = (Vec<u8>, usize, Vec<u8>);

impl<'v> ByKey<'v> {
    /// From the first key after `after` on; `None`: from the first one.
    pub(crate) fn new(
        view: &'v dyn StateView,
        operator: u16,
        slice_end: Micros,
        key_groups: KeyGroups,
        after: Option<&[u8]>,
    ) -> Result<Self, Unreadable> {
        // The least key that is greater than another one is that one and a zero.
        let key = after.map_or_else(Vec::new, |after| [after, &[0]].concat());
        let groups = (key_groups.first..=key_groups.last)
            .map(|key_group| view.scan(&StateKey { operator, slice_end, key_group, key: key.clone() }));
        let (first, heads) = (usize::from(key_groups.first), BinaryHeap::new());
        let key_groups = groups.collect::<Result<Vec<_>, _>>()?;
        let mut entries = Self { operator, slice_end, first, key_groups, heads };
        for group in 0..entries.key_groups.len() {
            entries.advance(group)?;
        }
        Ok(entries)
    }

    fn advance(&mut self, group: usize) -> Result<(), Unreadable> {
        let Some(row) = self.key_groups.get_mut(group).and_then(Iterator::next).transpose()? else {
            return Ok(());
        };
        let StateKey { operator, slice_end, key_group, key } = row.key;
        let is_of = (operator, slice_end) == (self.operator, self.slice_end);
        if is_of && usize::from(key_group) == self.first + group {
            self.heads.push(Reverse((key, group, row.value)));
        }
        Ok(())
    }

    /// The key of the next entry.
    pub(crate) fn peek(&self) -> Option<&[u8]> {
        self.heads.peek().map(|Reverse((key, ..))| key.as_slice())
    }

    /// The next entry.
    pub(crate) fn next(&mut self) -> Result<Option<(Vec<u8>, Vec<u8>)>, Unreadable> {
        let Some(Reverse((key, group, value))) = self.heads.pop() else { return Ok(None) };
        self.advance(group)?;
        Ok(Some((key, value)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, RwLock};

    use super::*;
    use crate::key::key_group;
    use crate::state::StateChange;

    /// A store in memory.
    #[derive(Debug, Clone, Default)]
    pub(crate) struct Stored(Arc<RwLock<BTreeMap<StateKey, Vec<u8>>>>);

    impl Stored {
        pub(crate) fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<StateKey, Vec<u8>>) -> T) -> T {
            change(&mut self.0.write().unwrap())
        }

        pub(crate) fn rows(&self) -> Vec<StateRow> {
            let row =
                |(key, value): (&StateKey, &Vec<u8>)| StateRow { key: key.clone(), value: value.clone() };
            self.0.read().unwrap().iter().map(row).collect()
        }

        pub(crate) fn apply(&self, changes: &[StateChange]) {
            self.change(|rows| {
                for change in changes {
                    match change {
                        StateChange::Put(row) => drop(rows.insert(row.key.clone(), row.value.clone())),
                        StateChange::Delete(key) => drop(rows.remove(key)),
                        StateChange::DropSlice { operator, slice_end, key_groups } => {
                            let is_of = |k: &StateKey| (k.operator, k.slice_end) == (*operator, *slice_end);
                            rows.retain(|k, _| !is_of(k) || !key_groups.contains(k.key_group));
                        }
                    }
                }
            });
        }
    }

    impl StateView for Stored {
        fn get(
            &self,
            operator: u16,
            slice_end: Micros,
            keys: &[(u8, &[u8])],
            found: &mut dyn FnMut(usize, &[u8]),
        ) -> Result<(), Unreadable> {
            assert!(keys.is_sorted_by(|a, b| a < b), "keys come in order, each once");
            let rows = self.0.read().unwrap();
            for (place, (key_group, key)) in keys.iter().enumerate() {
                let key = StateKey { operator, slice_end, key_group: *key_group, key: key.to_vec() };
                if let Some(value) = rows.get(&key) {
                    found(place, value);
                }
            }
            Ok(())
        }

        fn below(
            &self,
            operator: u16,
            slice_end: Micros,
            keys: &[(u8, &[u8])],
            found: &mut dyn FnMut(usize, &[u8], &[u8]),
        ) -> Result<(), Unreadable> {
            assert!(keys.is_sorted_by(|a, b| a < b), "keys come in order, each once");
            let rows = self.0.read().unwrap();
            for (place, (key_group, key)) in keys.iter().enumerate() {
                let from = StateKey { operator, slice_end, key_group: *key_group, key: key.to_vec() };
                let is_of = |known: &StateKey| {
                    (known.operator, known.slice_end, known.key_group) == (operator, slice_end, *key_group)
                };
                for (known, value) in rows.range(from..).take_while(|(known, _)| is_of(known)) {
                    let Some(suffix) = known.key.strip_prefix(*key) else { break };
                    found(place, suffix, value);
                }
            }
            Ok(())
        }

        fn scan(&self, from: &StateKey) -> Result<Entries<'_>, Unreadable> {
            let rows = self.0.read().unwrap();
            let rows: Vec<StateRow> = rows
                .range(from.clone()..)
                .map(|(key, value)| StateRow { key: key.clone(), value: value.clone() })
                .collect();
            Ok(Box::new(rows.into_iter().map(Ok)))
        }
    }

    #[test]
    fn the_entries_of_a_slice_come_in_the_order_of_their_keys() {
        let stored = Stored::default();
        let put = |operator, slice_end, key: &[u8]| {
            let key = StateKey {
                operator,
                slice_end: Micros(slice_end),
                key_group: key_group(key),
                key: key.to_vec(),
            };
            stored.change(|rows| rows.insert(key, vec![7]));
        };
        let keys: Vec<Vec<u8>> = (0..200_u32).map(|n| format!("{n}").into_bytes()).collect();
        for key in &keys {
            put(0, 10, key);
        }
        put(0, 5, b"before");
        put(0, i64::MAX, b"last");
        put(1, 10, b"another operator's");
        let read = |slice_end, after: Option<&[u8]>| {
            let mut entries = ByKey::new(&stored, 0, Micros(slice_end), KeyGroups::ALL, after).unwrap();
            let mut found = Vec::new();
            while let Some(next) = entries.peek().map(<[u8]>::to_vec) {
                let (key, value) = entries.next().unwrap().unwrap();
                assert_eq!((&key, value), (&next, vec![7]));
                found.push(key);
            }
            found
        };
        let mut sorted = keys.clone();
        sorted.sort();
        assert_eq!(read(10, None), sorted);
        for share in 0..3 {
            let groups = KeyGroups::share(share, 3);
            let mut entries = ByKey::new(&stored, 0, Micros(10), groups, None).unwrap();
            let mut of_share = sorted.iter().filter(|key| groups.contains(key_group(key)));
            while let Some((key, _)) = entries.next().unwrap() {
                assert_eq!(Some(&key), of_share.next());
            }
            assert_eq!(of_share.next(), None);
        }
        assert_eq!(read(10, Some(&sorted[50])), sorted[51..]);
        assert_eq!(read(10, Some(b"~")), Vec::<Vec<u8>>::new());
        assert_eq!(read(7, None), Vec::<Vec<u8>>::new());
        assert_eq!(slices(&stored, 0).unwrap(), [Micros(5), Micros(10), Micros(i64::MAX)]);
        assert_eq!(slices(&stored, 2).unwrap(), []);
    }
}
