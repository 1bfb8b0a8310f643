//! Keys that are not in memory: in which slices they lie, and when to look for them.
//!
//! A key of an operator is in memory with all of its state, or *cold* with all of it, as the last checkpoint left it. It is put
//! back before a record comes into it, and before it has something to do of its own accord: a session ends, a row
//! falls due, a frame becomes empty. When that is nobody keeps by key. An entry says itself when its key may have something to
//! do, from the times of its events; of each slice it is known before which instant none of its entries says so. Once that
//! instant has come the slice is read, and what has something to do soon is put back.
//!
//! So what is kept in memory of cold keys is as much as there are slices, however many keys there are.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use super::view::{self, StateView, Unreadable};
use super::{KeyGroups, StateKey, StateRow};
use crate::key;
use crate::time::Micros;

/// Entries that are looked at together.
const CHUNK: usize = 4096;

/// The cold keys of an operator.
#[derive(Default)]
pub(crate) struct Cold {
    operator: u16,
    /// How many bytes follow the key in that of an entry.
    suffix: usize,
    /// Where they lie, and which keys there are this operator's.
    place: Option<(Arc<dyn StateView>, KeyGroups)>,
    /// Slices that may have entries of cold keys.
    slices: BTreeMap<Micros, Slice>,
    /// By slice, keys whose entries are gone and still lie in the store: until the next checkpoint.
    buried: BTreeMap<Micros, HashSet<Box<[u8]>>>,
}

/// What is known of a slice.
struct Slice {
    /// No cold key has anything to do before this, as far as the entries of the slice say.
    wakes: Micros,
    /// How many entries of cold keys there are, if that is known.
    entries: Option<usize>,
}

/// Keys that are to be put back, each as often as it was asked for.
#[derive(Default)]
pub(crate) struct Wanted {
    bytes: Vec<u8>,
    keys: Vec<(u8, Range<usize>)>,
}

impl Wanted {
    /// Asks for a key.
    pub(crate) fn push(&mut self, key: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.keys.push((key::key_group(key), start..self.bytes.len()));
    }

    /// Whether no key was asked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys in the order of the store, each once.
    pub(crate) fn sorted(&self) -> Vec<(u8, &[u8])> {
        let key =
            |(group, place): &(u8, Range<usize>)| (*group, self.bytes.get(place.clone()).unwrap_or_default());
        let mut keys: Vec<(u8, &[u8])> = self.keys.iter().map(key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

impl Cold {
    /// No cold keys, and no place where they could lie. `suffix`: how many bytes follow the key in that of an entry.
    pub(crate) fn new(operator: u16, suffix: usize) -> Self {
        Self { operator, suffix, place: None, slices: BTreeMap::new(), buried: BTreeMap::new() }
    }

    /// From here on keys may be cold; those are that have entries in the store.
    pub(crate) fn attach(
        &mut self,
        view: &Arc<dyn StateView>,
        key_groups: KeyGroups,
    ) -> Result<(), Unreadable> {
        for slice_end in view::slices(&**view, self.operator)? {
            self.slices.insert(slice_end, Slice { wakes: Micros::MIN, entries: None });
        }
        self.place = Some((Arc::clone(view), key_groups));
        Ok(())
    }

    /// Whether keys may be cold.
    pub(crate) fn is_attached(&self) -> bool {
        self.place.is_some()
    }

    /// Whether none is.
    pub(crate) fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    /// Whether entries of a slice may be those of cold keys.
    pub(crate) fn has(&self, slice_end: Micros) -> bool {
        self.slices.contains_key(&slice_end)
    }

    /// Ends of the slices of which that is so.
    pub(crate) fn ends(&self) -> impl Iterator<Item = Micros> {
        self.slices.keys().copied()
    }

    /// Before this instant no cold key has anything to do.
    pub(crate) fn wakes(&self) -> Option<Micros> {
        self.slices.values().map(|slice| slice.wakes).min().filter(|at| at.0 < i64::MAX)
    }

    /// Of each slice an instant before which none of its entries says that its key has something to do.
    pub(crate) fn sleep(&mut self, until: impl Fn(Micros) -> Micros) {
        for (slice_end, slice) in &mut self.slices {
            slice.wakes = slice.wakes.max(until(*slice_end));
        }
    }

    /// Keys with so many entries in a slice are cold from here on (`None`: nobody has counted).
    pub(crate) fn let_go(&mut self, slice_end: Micros, entries: Option<usize>) {
        let none = || Slice { wakes: Micros(i64::MAX), entries: Some(0) };
        let slice = self.slices.entry(slice_end).or_insert_with(none);
        slice.entries = slice.entries.zip(entries).map(|(known, more)| known + more);
    }

    /// A cold key has something to do at an instant, as an entry of this slice says.
    pub(crate) fn wake(&mut self, slice_end: Micros, at: Micros) {
        if let Some(slice) = self.slices.get_mut(&slice_end) {
            slice.wakes = slice.wakes.min(at);
        }
    }

    /// An entry of a slice is gone, and lies in the store until the next checkpoint.
    pub(crate) fn bury(&mut self, slice_end: Micros, key: &[u8]) {
        if self.has(slice_end) {
            self.buried.entry(slice_end).or_default().insert(key.into());
        }
    }

    /// Right after a checkpoint: what is gone does not lie in the store any more.
    pub(crate) fn saved(&mut self) {
        self.buried.clear();
    }

    /// Forgets the slices that end before `end`. Returns them.
    pub(crate) fn retire(&mut self, end: Micros) -> impl Iterator<Item = Micros> {
        let kept = self.slices.split_off(&end);
        std::mem::replace(&mut self.slices, kept).into_keys()
    }

    /// The entries of keys, by slice, in their order; from here on these keys are not cold.
    pub(crate) fn fetch(&mut self, wanted: &Wanted) -> Result<Vec<(Micros, Vec<StateRow>)>, Unreadable> {
        let Some((view, _)) = &self.place else { return Ok(Vec::new()) };
        let (operator, keys) = (self.operator, wanted.sorted());
        let mut fetched = Vec::new();
        for (slice_end, slice) in &mut self.slices {
            let slice_end = *slice_end;
            let buried = self.buried.get(&slice_end);
            let mut rows: Vec<StateRow> = Vec::new();
            let mut found = |place: usize, suffix: &[u8], value: &[u8]| {
                if let Some((key_group, key)) = keys.get(place)
                    && buried.is_none_or(|buried| !buried.contains(*key))
                {
                    let (key_group, key) = (*key_group, [*key, suffix].concat());
                    let key = StateKey { operator, slice_end, key_group, key };
                    rows.push(StateRow { key, value: value.to_vec() });
                }
            };
            if self.suffix == 0 {
                view.get(operator, slice_end, &keys, &mut |place, value| found(place, &[], value))?;
            } else {
                view.below(operator, slice_end, &keys, &mut found)?;
            }
            if !rows.is_empty() {
                slice.entries = slice.entries.map(|known| known.saturating_sub(rows.len()));
                fetched.push((slice_end, rows));
            }
        }
        self.slices.retain(|_, slice| slice.entries != Some(0));
        Ok(fetched)
    }

    /// The keys that may have something to do up to `until`, once one has up to `now`. `is_known` says of a key whether
    /// it is in memory; `wakes` of entries of one slice, when each says that its key has something to do next.
    pub(crate) fn due<E: From<Unreadable>>(
        &mut self,
        now: Micros,
        until: Micros,
        is_known: &dyn Fn(&[u8]) -> bool,
        wakes: &dyn Fn(Micros, &[StateRow]) -> Result<Vec<Micros>, E>,
    ) -> Result<Wanted, E> {
        let mut wanted = Wanted::default();
        let awake = self.slices.iter().filter(|(_, slice)| slice.wakes <= now);
        let awake: Vec<Micros> = awake.map(|(slice_end, _)| *slice_end).collect();
        for slice_end in awake {
            let (mut next, mut entries) = (Micros(i64::MAX), 0);
            self.read(slice_end, is_known, &mut |rows| {
                entries += rows.len();
                for (row, at) in rows.iter().zip(wakes(slice_end, rows)?) {
                    if at <= until {
                        wanted.push(self.key(row));
                    } else {
                        next = next.min(at);
                    }
                }
                Ok::<(), E>(())
            })?;
            if entries == 0 {
                self.slices.remove(&slice_end);
            } else {
                self.slices.insert(slice_end, Slice { wakes: next, entries: Some(entries) });
            }
        }
        Ok(wanted)
    }

    /// Asks for all cold keys that have entries in a slice.
    pub(crate) fn within(
        &mut self,
        slice_end: Micros,
        is_known: &dyn Fn(&[u8]) -> bool,
        wanted: &mut Wanted,
    ) -> Result<(), Unreadable> {
        let mut entries = 0;
        self.read(slice_end, is_known, &mut |rows| {
            entries += rows.len();
            for row in rows {
                wanted.push(self.key(row));
            }
            Ok::<(), Unreadable>(())
        })?;
        match self.slices.get_mut(&slice_end) {
            Some(slice) if entries > 0 => slice.entries = Some(entries),
            _ => drop(self.slices.remove(&slice_end)),
        }
        Ok(())
    }

    /// The greatest of what `of` says of entries of cold keys, in the last slice that has any.
    pub(crate) fn last<E: From<Unreadable>>(
        &self,
        is_known: &dyn Fn(&[u8]) -> bool,
        of: &dyn Fn(Micros, &[StateRow]) -> Result<Vec<Micros>, E>,
    ) -> Result<Option<Micros>, E> {
        for slice_end in self.slices.keys().rev() {
            let mut last = None;
            self.read(*slice_end, is_known, &mut |rows| {
                last = last.max(of(*slice_end, rows)?.into_iter().max());
                Ok::<(), E>(())
            })?;
            if last.is_some() {
                return Ok(last);
            }
        }
        Ok(None)
    }

    /// Goes through the entries of cold keys in a slice.
    fn read<E: From<Unreadable>>(
        &self,
        slice_end: Micros,
        is_known: &dyn Fn(&[u8]) -> bool,
        each: &mut dyn FnMut(&[StateRow]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some((view, groups)) = &self.place else { return Ok(()) };
        let (operator, key_group) = (self.operator, groups.first);
        let from = StateKey { operator, slice_end, key_group, key: Vec::new() };
        let buried = self.buried.get(&slice_end);
        let mut rows: Vec<StateRow> = Vec::new();
        for row in view.scan(&from)? {
            let row = row?;
            let is_of = (row.key.operator, row.key.slice_end) == (operator, slice_end);
            if !is_of || row.key.key_group > groups.last {
                break;
            }
            let key = self.key(&row);
            if is_known(key) || buried.is_some_and(|buried| buried.contains(key)) {
                continue;
            }
            rows.push(row);
            if rows.len() == CHUNK {
                each(&rows)?;
                rows.clear();
            }
        }
        if rows.is_empty() { Ok(()) } else { each(&rows) }
    }

    /// The key of an entry.
    fn key<'r>(&self, row: &'r StateRow) -> &'r [u8] {
        let length = row.key.key.len().saturating_sub(self.suffix);
        row.key.key.get(..length).unwrap_or_default()
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        let buried = self.buried.values().flatten().map(|key| key.len() + size_of::<Box<[u8]>>());
        self.slices.len() * size_of::<(Micros, Slice)>() + buried.sum::<usize>()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::view::tests::Stored;
    use super::*;

    /// Entries with a byte behind the key, and the time of their event as their value.
    fn stored(entries: &[(i64, &[u8], i64)]) -> (Cold, Stored) {
        let stored = Stored::default();
        for (slice_end, key, time) in entries {
            let key_group = key::key_group(key);
            let key = StateKey {
                operator: 3,
                slice_end: Micros(*slice_end),
                key_group,
                key: [key, &b"."[..]].concat(),
            };
            stored.change(|rows| rows.insert(key, time.to_be_bytes().to_vec()));
        }
        let mut cold = Cold::new(3, 1);
        let view: Arc<dyn StateView> = Arc::new(stored.clone());
        cold.attach(&view, KeyGroups::ALL).unwrap();
        (cold, stored)
    }

    fn due(cold: &mut Cold, now: i64, until: i64, known: &[u8]) -> Vec<Vec<u8>> {
        let wakes = |_: Micros, rows: &[StateRow]| {
            let time = |row: &StateRow| Micros(i64::from_be_bytes(row.value.as_slice().try_into().unwrap()));
            Ok::<_, Unreadable>(rows.iter().map(time).collect())
        };
        let wanted = cold.due(Micros(now), Micros(until), &|key| key == known, &wakes).unwrap();
        let mut keys: Vec<Vec<u8>> = wanted.sorted().into_iter().map(|(_, key)| key.to_vec()).collect();
        cold.fetch(&wanted).unwrap();
        keys.sort();
        keys
    }

    #[test]
    fn keys_come_back_as_their_time_does() {
        let (mut cold, _) = stored(&[(10, b"ann", 4), (10, b"bob", 9), (20, b"ann", 15), (20, b"cat", 12)]);
        assert_eq!(cold.wakes(), Some(Micros::MIN), "nothing is known of what lies there");
        cold.sleep(|slice_end| Micros(slice_end.0 - 10));
        assert_eq!(cold.wakes(), Some(Micros(0)));
        assert_eq!(due(&mut cold, 3, 5, b""), [b"ann"], "with all of its entries");
        assert_eq!(cold.wakes(), Some(Micros(9)));
        assert_eq!(due(&mut cold, 8, 30, b"ann"), Vec::<Vec<u8>>::new(), "no slice is read before its time");
        assert_eq!(due(&mut cold, 10, 12, b"ann"), [b"bob".to_vec(), b"cat".to_vec()]);
        assert!(cold.is_empty());
        cold.let_go(Micros(20), Some(1));
        cold.wake(Micros(20), Micros(17));
        assert_eq!((cold.wakes(), cold.has(Micros(10))), (Some(Micros(17)), false));
    }

    #[test]
    fn what_is_gone_does_not_come_back() {
        let (mut cold, stored) = stored(&[(10, b"ann", 4), (10, b"bob", 4)]);
        cold.bury(Micros(10), b"ann");
        let mut wanted = Wanted::default();
        for key in [&b"bob"[..], b"ann", b"bob", b"nobody"] {
            wanted.push(key);
        }
        let fetched = cold.fetch(&wanted).unwrap();
        assert_eq!(fetched.len(), 1);
        assert_eq!(fetched.iter().map(|(_, rows)| rows.len()).sum::<usize>(), 1);
        assert_eq!(due(&mut cold, 10, 20, b"bob"), Vec::<Vec<u8>>::new());
        assert!(cold.is_empty(), "nothing that lies there is cold");
        stored.change(std::collections::BTreeMap::clear);
        cold.saved();
        cold.let_go(Micros(10), None);
        assert_eq!(cold.retire(Micros(11)).collect::<Vec<_>>(), [Micros(10)]);
    }
}
