//! Sessions: for each key, stretches of events that are less than the gap apart.
//!
//! ```text
//! slices   │  s1      │  s2      │  s3      │  s4      │      each as long as the gap
//! ann      │   ·· ··· │  · ··    │          │       ·  │      [s1 s2] [s4]
//! bob      │ ·        │         ·│ ··       │          │      [s1] [s2 s3]
//! ```
//!
//! An event touches one slice, as in a tumbling window; which stretches make up a session is seen from
//! the first and last event of each. So an event that extends a session, or joins two, moves nothing, and a
//! session's value is the merge of its stretches, in their order: it does not depend on when it is asked for.

use std::collections::{BTreeMap, BTreeSet, btree_map};

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;

use super::{Directory, Error, Events, Extent, Held, Said, Stretches};
use crate::state::{Function, Merge, codec};
use crate::time::{Micros, Span};

/// How many stretches a session may have over a checkpoint; of a longer one all but the last are made one.
/// Fewer in tests, so that they see it.
const LONG: usize = if cfg!(test) { 2 } else { 16 };

/// A session of a key, as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Session {
    /// End of the slice with its first stretch.
    pub(crate) from: Micros,
    /// End of the slice with its last stretch.
    pub(crate) to: Micros,
    /// Its first event.
    pub(crate) first: Micros,
    /// Its last event.
    pub(crate) last: Micros,
}

/// The sessions of all keys.
pub(crate) struct Sessions {
    gap: Span,
    /// By the end of the slice.
    pub(crate) slices: BTreeMap<Micros, Stretches>,
    directory: Directory,
    /// Slices of which nothing is left, but entries lie in the store: until the next checkpoint.
    dropped: BTreeSet<Micros>,
    /// Keys with so many stretches that they may have a long session: all of them, at every checkpoint.
    long: BTreeSet<Vec<u8>>,
}

impl Sessions {
    pub(crate) fn new(gap: Span) -> Self {
        Self {
            gap,
            slices: BTreeMap::new(),
            directory: Directory::default(),
            dropped: BTreeSet::new(),
            long: BTreeSet::new(),
        }
    }

    /// Takes in events of one slice.
    pub(crate) fn update(
        &mut self,
        schema: &SchemaRef,
        functions: &[Function],
        slice_end: Micros,
        events: &Events<'_>,
    ) -> Result<(), Error> {
        let slice = self.slice(schema, slice_end)?;
        let begun = slice.update(functions, events)?;
        self.list(slice_end, begun);
        Ok(())
    }

    /// Puts saved stretches of one slice back.
    pub(crate) fn restore<'r>(
        &mut self,
        schema: &SchemaRef,
        state: &[codec::Column],
        slice_end: Micros,
        rows: impl Iterator<Item = (&'r [u8], &'r [u8])> + Clone,
    ) -> Result<(), Error> {
        let begun = self.slice(schema, slice_end)?.restore(schema, state, rows)?;
        self.list(slice_end, begun);
        Ok(())
    }

    fn slice(&mut self, schema: &SchemaRef, slice_end: Micros) -> Result<&mut Stretches, Error> {
        Ok(match self.slices.entry(slice_end) {
            btree_map::Entry::Occupied(slice) => slice.into_mut(),
            btree_map::Entry::Vacant(place) => place.insert(Stretches::new(schema)?),
        })
    }

    fn list(&mut self, slice_end: Micros, begun: impl Iterator<Item = u32>) {
        let Some(slice) = self.slices.get(&slice_end) else { return };
        for number in begun {
            let key = slice.key(number);
            if self.directory.insert(key, slice_end, number) > LONG {
                self.long.insert(key.to_vec());
            }
        }
    }

    /// All stretches of a key, in the order of time.
    fn held(&self, key: &[u8]) -> &[Held] {
        self.directory.within(key, Micros::MIN, Micros(i64::MAX))
    }

    fn extent(&self, held: &Held) -> Option<Extent> {
        self.slices.get(&held.slice_end)?.extent(held.group)
    }

    /// From when to when each stretch of a key reaches, in the order of time.
    pub(crate) fn extents(&self, key: &[u8]) -> impl Iterator<Item = Extent> {
        self.held(key).iter().filter_map(|held| self.extent(held))
    }

    /// Whether an event and a later one are of one session.
    pub(crate) fn joins(&self, before: Micros, after: Micros) -> bool {
        after.0.saturating_sub(before.0) < self.gap.0
    }

    /// The session of a key that a stretch lies in.
    pub(crate) fn find(&self, key: &[u8], slice_end: Micros) -> Option<Session> {
        let mut found: Option<Session> = None;
        for held in self.held(key).iter().rev() {
            let Extent { first, last } = self.extent(held)?;
            match &mut found {
                Some(session) if self.joins(last, session.first) => {
                    session.from = held.slice_end;
                    session.first = session.first.min(first);
                    session.last = session.last.max(last);
                }
                Some(session) if session.from <= slice_end => break,
                _ => found = Some(Session { from: held.slice_end, to: held.slice_end, first, last }),
            }
        }
        found.filter(|session| (session.from..=session.to).contains(&slice_end))
    }

    /// The session of a stretch, with its key.
    pub(crate) fn of(&self, slice_end: Micros, number: u32) -> Option<(&[u8], Session)> {
        let slice = self.slices.get(&slice_end)?;
        slice.extent(number)?;
        let key = slice.key(number);
        Some((key, self.find(key, slice_end)?))
    }

    /// Where a session ends, as things stand.
    pub(crate) fn end(&self, session: Session) -> Micros {
        session.last + self.gap
    }

    /// Where the session of a stretch ends, if that is its last one.
    pub(crate) fn ends_with(&self, slice_end: Micros, number: u32) -> Option<Micros> {
        let slice = self.slices.get(&slice_end)?;
        let last = slice.extent(number)?.last;
        let later = self.directory.within(slice.key(number), slice_end, Micros(i64::MAX));
        let goes_on =
            later.iter().filter_map(|held| self.extent(held)).any(|after| self.joins(last, after.first));
        (!goes_on).then(|| last + self.gap)
    }

    /// The stretches of a session of a key: end of the slice, and number.
    pub(crate) fn stretches(&self, key: &[u8], session: Session) -> impl Iterator<Item = (Micros, u32)> {
        let held = self.directory.within(key, Micros(session.from.0.saturating_sub(1)), session.to);
        held.iter().map(|held| (held.slice_end, held.group))
    }

    /// The greatest end of a session.
    pub(crate) fn greatest_end(&self) -> Option<Micros> {
        let (_, slice) = self.slices.last_key_value()?;
        slice.all().filter_map(|number| slice.extent(number)).map(|e| e.last + self.gap).max()
    }

    /// The states of sessions, a row for each.
    pub(crate) fn states(
        &mut self,
        functions: &[Function],
        sessions: &[(Vec<u8>, Session)],
    ) -> Result<Vec<ArrayRef>, Error> {
        let slices: BTreeSet<Micros> = sessions
            .iter()
            .flat_map(|(key, session)| self.stretches(key, *session).map(|(slice_end, _)| slice_end))
            .collect();
        for slice_end in slices {
            if let Some(slice) = self.slices.get_mut(&slice_end) {
                slice.states()?;
            }
        }
        let mut merge = Merge::new();
        for (target, (key, session)) in sessions.iter().enumerate() {
            for (slice_end, number) in self.stretches(key, *session) {
                let columns = || self.slices.get(&slice_end).map_or(&[][..], Stretches::saved);
                merge.add(target, slice_end, number, columns);
            }
        }
        Ok(merge.finish(functions, sessions.len())?)
    }

    /// Forgets a session.
    pub(crate) fn remove(&mut self, key: &[u8], session: Session) {
        let stretches: Vec<(Micros, u32)> = self.stretches(key, session).collect();
        for (slice_end, number) in stretches {
            self.directory.remove(key, slice_end);
            self.forget(slice_end, number);
        }
    }

    fn forget(&mut self, slice_end: Micros, number: u32) {
        let btree_map::Entry::Occupied(mut slice) = self.slices.entry(slice_end) else { return };
        slice.get_mut().remove(number);
        if slice.get().len() == 0 && slice.remove().durable {
            self.dropped.insert(slice_end);
        }
    }

    /// At a checkpoint, before it is taken: a session that goes on and on is kept as few stretches. All but the
    /// last become one, in the slice of its last event; what comes into the slices before it meanwhile lies
    /// beside it, in the same session, until the next checkpoint.
    pub(crate) fn fold(&mut self, functions: &[Function]) -> Result<(), Error> {
        let mut long = std::mem::take(&mut self.long);
        self.fold_those(functions, &long)?;
        // What are several sessions now may become one before another stretch begins.
        long.retain(|key| self.held(key).len() > LONG);
        self.long = long;
        Ok(())
    }

    fn fold_those(&mut self, functions: &[Function], keys: &BTreeSet<Vec<u8>>) -> Result<(), Error> {
        let mut folded: Vec<(Vec<u8>, Session)> = Vec::new();
        for key in keys {
            let mut to = self.held(key).last().map(|held| held.slice_end);
            while let Some(session) = to.and_then(|to| self.find(key, to)) {
                let before =
                    self.directory.within(key, Micros::MIN, Micros(session.from.0.saturating_sub(1)));
                to = before.last().map(|held| held.slice_end);
                if let Some(all_but_last) = self.all_but_last(key, session) {
                    folded.push((key.clone(), all_but_last));
                }
            }
        }
        if folded.is_empty() {
            return Ok(());
        }
        let states = self.states(functions, &folded)?;
        let mut slices: BTreeMap<Micros, Vec<u32>> = BTreeMap::new();
        for (row, (_, session)) in (0..).zip(&folded) {
            slices.entry(session.to).or_default().push(row);
        }
        for (slice_end, rows) in slices {
            for row in &rows {
                if let Some((key, session)) = folded.get(*row as usize) {
                    self.replace(key, *session);
                }
            }
            if let Some(slice) = self.slices.get_mut(&slice_end) {
                slice.append(&states, rows)?;
            }
        }
        Ok(())
    }

    /// The part of a long session that its last stretch is not in.
    fn all_but_last(&self, key: &[u8], session: Session) -> Option<Session> {
        let held = self.directory.within(key, Micros(session.from.0.saturating_sub(1)), session.to);
        let (_, rest) = held.split_last().filter(|_| held.len() > LONG)?;
        let extents = || rest.iter().filter_map(|held| self.extent(held));
        let (first, last) = (extents().map(|e| e.first).min()?, extents().map(|e| e.last).max()?);
        Some(Session { from: session.from, to: rest.last()?.slice_end, first, last })
    }

    /// Puts one stretch in the place of all of a session; its states are appended to those of the slice.
    fn replace(&mut self, key: &[u8], session: Session) {
        let stretches: Vec<(Micros, u32)> = self.stretches(key, session).collect();
        let said = |(slice_end, number): &(Micros, u32)| Some(self.slices.get(slice_end)?.said(*number));
        let reopened = stretches.iter().filter_map(said).filter_map(|said| said.reopened).max();
        for (slice_end, number) in stretches {
            if slice_end == session.to {
                let extent = Extent { first: session.first, last: session.last };
                let said = Said { closed: None, reopened };
                let slice = self.slices.get_mut(&slice_end);
                let number = slice.map(|slice| slice.replace(number, extent, said));
                if let (Some(number), Some(held)) = (number, self.directory.held_mut(key, slice_end)) {
                    held.group = number;
                }
            } else {
                self.directory.remove(key, slice_end);
                self.forget(slice_end, number);
            }
        }
    }

    /// Slices whose entries are to be removed from the store.
    pub(crate) fn take_dropped(&mut self) -> BTreeSet<Micros> {
        std::mem::take(&mut self.dropped)
    }

    /// Right after a checkpoint: lets go of the memory of what is forgotten. Returns the slices whose
    /// stretches have other numbers now.
    pub(crate) fn purge(&mut self, schema: &SchemaRef) -> Result<Vec<Micros>, Error> {
        let mut purged = Vec::new();
        for (slice_end, slice) in &mut self.slices {
            if !slice.purge(schema)? {
                continue;
            }
            for number in slice.all() {
                if let Some(held) = self.directory.held_mut(slice.key(number), *slice_end) {
                    held.group = number;
                }
            }
            purged.push(*slice_end);
        }
        Ok(purged)
    }
}
