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

mod cold;

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::ops::Range;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;

use super::{Chains, Error, Events, Extent, Link, Said, Stretches};
use crate::state::{AGGREGATE, Ages, Cold, Function, Merge, StateRow, codec};
use crate::time::{Micros, Span};

/// How many stretches a session may have over a checkpoint; of a longer one all but the last are made one.
/// Fewer in tests, so that they see it.
const LONG: usize = if cfg!(test) { 2 } else { 16 };

/// A session of a key, as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Session {
    /// Number of its key.
    pub(crate) chain: u32,
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
    chains: Chains,
    /// Slices of which nothing is left, but entries lie in the store: until the next checkpoint.
    dropped: BTreeSet<Micros>,
    /// Numbers of keys with so many stretches that they may have a long session: all of them, at every checkpoint.
    long: BTreeSet<u32>,
    /// Keys that are not in memory: with none of their stretches.
    pub(crate) cold: Cold,
    /// By the number of the key.
    pub(crate) ages: Ages,
}

impl Sessions {
    pub(crate) fn new(gap: Span) -> Self {
        Self {
            gap,
            slices: BTreeMap::new(),
            chains: Chains::default(),
            dropped: BTreeSet::new(),
            long: BTreeSet::new(),
            cold: Cold::new(AGGREGATE, 0),
            ages: Ages::default(),
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

    /// Puts saved stretches of one slice back. Returns their numbers.
    pub(crate) fn restore(
        &mut self,
        schema: &SchemaRef,
        functions: &[Function],
        state: &[codec::Column],
        slice_end: Micros,
        rows: &[StateRow],
    ) -> Result<Range<u32>, Error> {
        let rows = rows.iter().map(|row| (row.key.key.as_slice(), row.value.as_slice()));
        let begun = self.slice(schema, slice_end)?.restore(schema, functions, state, rows)?;
        self.list(slice_end, begun.clone());
        Ok(begun)
    }

    fn slice(&mut self, schema: &SchemaRef, slice_end: Micros) -> Result<&mut Stretches, Error> {
        Ok(match self.slices.entry(slice_end) {
            btree_map::Entry::Occupied(slice) => slice.into_mut(),
            btree_map::Entry::Vacant(place) => place.insert(Stretches::new(schema)?),
        })
    }

    fn list(&mut self, slice_end: Micros, begun: impl Iterator<Item = u32>) {
        let Some(slice) = self.slices.get_mut(&slice_end) else { return };
        for number in begun {
            let chain = self.chains.add(slice.key(number), Link { slice_end, number });
            slice.set_chain(number, chain);
            if self.chains.links(chain).len() > LONG {
                self.long.insert(chain);
            }
            self.ages.note(chain);
        }
    }

    fn extent(&self, link: &Link) -> Option<Extent> {
        self.slices.get(&link.slice_end)?.extent(link.number)
    }

    /// From when to when each stretch of a key reaches, in the order of time.
    pub(crate) fn extents(&self, key: &[u8]) -> impl Iterator<Item = Extent> {
        let links = self.chains.find(key).map_or(&[][..], |chain| self.chains.links(chain));
        links.iter().filter_map(|link| self.extent(link))
    }

    /// The sessions of a key, the last one first.
    pub(crate) fn of_key(&self, chain: u32) -> impl Iterator<Item = Session> {
        let mut to = self.chains.links(chain).last().map(|link| link.slice_end);
        std::iter::from_fn(move || {
            let session = self.find(chain, to?)?;
            let before = self.chains.links(chain).iter().rev();
            to = before.map(|link| link.slice_end).find(|slice_end| *slice_end < session.from);
            Some(session)
        })
    }

    /// The key of a session.
    pub(crate) fn key(&self, session: Session) -> &[u8] {
        self.chains.key(session.chain)
    }

    /// Whether an event and a later one are of one session.
    pub(crate) fn joins(&self, before: Micros, after: Micros) -> bool {
        after.0.saturating_sub(before.0) < self.gap.0
    }

    /// The session of a key that a stretch lies in.
    pub(crate) fn find(&self, chain: u32, slice_end: Micros) -> Option<Session> {
        let mut found: Option<Session> = None;
        for link in self.chains.links(chain).iter().rev() {
            let Extent { first, last } = self.extent(link)?;
            match &mut found {
                Some(session) if self.joins(last, session.first) => {
                    session.from = link.slice_end;
                    session.first = session.first.min(first);
                    session.last = session.last.max(last);
                }
                Some(session) if session.from <= slice_end => break,
                _ => {
                    found = Some(Session { chain, from: link.slice_end, to: link.slice_end, first, last });
                }
            }
        }
        found.filter(|session| (session.from..=session.to).contains(&slice_end))
    }

    /// The session of a stretch.
    pub(crate) fn of(&self, slice_end: Micros, number: u32) -> Option<Session> {
        let slice = self.slices.get(&slice_end)?;
        slice.extent(number)?;
        self.find(slice.chain(number), slice_end)
    }

    /// Where a session ends, as things stand.
    pub(crate) fn end(&self, session: Session) -> Micros {
        session.last + self.gap
    }

    /// Where the session of a stretch ends, if that is its last one; and the number of its key.
    pub(crate) fn ends_with(&self, slice_end: Micros, number: u32) -> Option<(Micros, u32)> {
        let slice = self.slices.get(&slice_end)?;
        let (last, chain) = (slice.extent(number)?.last, slice.chain(number));
        let later = self.chains.links(chain).iter().rev().take_while(|link| link.slice_end > slice_end);
        let goes_on = later.filter_map(|link| self.extent(link)).any(|after| self.joins(last, after.first));
        (!goes_on).then(|| (last + self.gap, chain))
    }

    /// The stretches of a session: end of the slice, and number.
    pub(crate) fn stretches(&self, session: Session) -> impl Iterator<Item = (Micros, u32)> {
        let links = self.chains.between(session.chain, session.from, session.to);
        links.iter().map(|link| (link.slice_end, link.number))
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
        sessions: &[Session],
    ) -> Result<Vec<ArrayRef>, Error> {
        let links = |session: &Session| self.chains.between(session.chain, session.from, session.to);
        let rows: usize = sessions.iter().map(|session| links(session).len()).sum();
        let mut wanted: Vec<Micros> = Vec::new();
        for link in sessions.iter().flat_map(links) {
            if let Err(place) = wanted.binary_search(&link.slice_end) {
                wanted.insert(place, link.slice_end);
            }
        }
        for (slice_end, slice) in &mut self.slices {
            if wanted.binary_search(slice_end).is_ok() {
                slice.states()?;
            }
        }
        let mut merge = Merge::with_capacity(rows);
        for (target, session) in sessions.iter().enumerate() {
            for (slice_end, number) in self.stretches(*session) {
                let columns = || self.slices.get(&slice_end).map_or(&[][..], Stretches::saved);
                merge.add(target, slice_end, number, columns);
            }
        }
        Ok(merge.finish(functions, sessions.len())?)
    }

    /// Forgets a session.
    pub(crate) fn remove(&mut self, session: Session) {
        let stretches: Vec<(Micros, u32)> = self.stretches(session).collect();
        for (slice_end, number) in stretches {
            self.chains.remove(session.chain, slice_end);
            self.forget(slice_end, number);
        }
    }

    fn forget(&mut self, slice_end: Micros, number: u32) {
        let btree_map::Entry::Occupied(mut slice) = self.slices.entry(slice_end) else { return };
        if slice.get().is_stored(number) {
            self.cold.bury(slice_end, slice.get().key(number));
        }
        slice.get_mut().remove(number);
        // Entries of keys that are not in memory stay: what is gone is removed one by one at the next checkpoint.
        if slice.get().len() == 0 && !self.cold.has(slice_end) && slice.remove().durable {
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
        long.retain(|chain| self.chains.links(*chain).len() > LONG);
        self.long = long;
        Ok(())
    }

    fn fold_those(&mut self, functions: &[Function], chains: &BTreeSet<u32>) -> Result<(), Error> {
        let mut folded: Vec<Session> = Vec::new();
        for chain in chains.iter().copied() {
            folded.extend(self.of_key(chain).filter_map(|session| self.all_but_last(session)));
        }
        if folded.is_empty() {
            return Ok(());
        }
        let states = self.states(functions, &folded)?;
        let mut slices: BTreeMap<Micros, Vec<u32>> = BTreeMap::new();
        for (row, session) in (0..).zip(&folded) {
            slices.entry(session.to).or_default().push(row);
        }
        for (slice_end, rows) in slices {
            for row in &rows {
                if let Some(session) = folded.get(*row as usize) {
                    self.replace(*session);
                }
            }
            if let Some(slice) = self.slices.get_mut(&slice_end) {
                slice.append(&states, rows)?;
            }
        }
        Ok(())
    }

    /// The part of a long session that its last stretch is not in.
    fn all_but_last(&self, session: Session) -> Option<Session> {
        let links = self.chains.between(session.chain, session.from, session.to);
        let (_, rest) = links.split_last().filter(|_| links.len() > LONG)?;
        let extents = || rest.iter().filter_map(|link| self.extent(link));
        let (first, last) = (extents().map(|e| e.first).min()?, extents().map(|e| e.last).max()?);
        Some(Session { to: rest.last()?.slice_end, first, last, ..session })
    }

    /// Puts one stretch in the place of all of a session; its states are appended to those of the slice.
    fn replace(&mut self, session: Session) {
        let stretches: Vec<(Micros, u32)> = self.stretches(session).collect();
        let said = |(slice_end, number): &(Micros, u32)| Some(self.slices.get(slice_end)?.said(*number));
        let reopened = stretches.iter().filter_map(said).filter_map(|said| said.reopened).max();
        for (slice_end, number) in stretches {
            if slice_end == session.to {
                let extent = Extent { first: session.first, last: session.last };
                let said = Said { closed: None, reopened };
                if let Some(slice) = self.slices.get_mut(&slice_end) {
                    let number = slice.replace(number, extent, said);
                    self.chains.renumber(session.chain, Link { slice_end, number });
                }
            } else {
                self.chains.remove(session.chain, slice_end);
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
                self.chains.renumber(slice.chain(number), Link { slice_end: *slice_end, number });
            }
            purged.push(*slice_end);
        }
        Ok(purged)
    }
}
