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

use super::{Directory, Error, Events, Extent, Held, Stretches};
use crate::state::{Function, Merge, codec};
use crate::time::{Micros, Span};

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
}

impl Sessions {
    pub(crate) fn new(gap: Span) -> Self {
        Self { gap, slices: BTreeMap::new(), directory: Directory::default(), dropped: BTreeSet::new() }
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
            self.directory.insert(slice.key(number), slice_end, number);
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
        let held = self.held(key);
        let at = held.binary_search_by_key(&slice_end, |h| h.slice_end).ok()?;
        let Extent { first, last } = self.extent(held.get(at)?)?;
        let mut session = Session { from: slice_end, to: slice_end, first, last };
        for before in held.get(..at)?.iter().rev() {
            let extent = self.extent(before)?;
            if !self.joins(extent.last, session.first) {
                break;
            }
            (session.from, session.first) = (before.slice_end, extent.first);
        }
        for after in held.get(at + 1..)? {
            let extent = self.extent(after)?;
            if !self.joins(session.last, extent.first) {
                break;
            }
            (session.to, session.last) = (after.slice_end, extent.last);
        }
        Some(session)
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
        let next = slice_end + self.gap;
        let goes_on = self
            .directory
            .within(slice.key(number), slice_end, next)
            .first()
            .and_then(|held| self.extent(held))
            .is_some_and(|after| self.joins(last, after.first));
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
            let btree_map::Entry::Occupied(mut slice) = self.slices.entry(slice_end) else { continue };
            slice.get_mut().remove(number);
            if slice.get().len() == 0 && slice.remove().durable {
                self.dropped.insert(slice_end);
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
