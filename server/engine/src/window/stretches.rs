//! What lies under sessions in one slice of the time line.
//!
//! The slice is as long as the gap, so the events of a key in it are less than the gap apart: they are a
//! *stretch*, which lies in one session as a whole. A session that is over is forgotten, and what comes
//! for its key into the same slice later begins another stretch.

mod stored;

use std::collections::HashMap;
use std::ops::Range;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;

use super::{Aggregates, Error, Groups, Marks};
use crate::key;
use crate::state::Function;
use crate::time::Micros;

/// Forgotten stretches that are worth being cleared away.
const PURGE: usize = 1024;

/// The first and the last event of a stretch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) first: Micros,
    pub(crate) last: Micros,
}

/// What was said of the session that a stretch lies in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// The session ended with this stretch, and its row stands at this event time.
    pub(crate) closed: Option<Micros>,
    /// The session went on after that: its rows do not come to stand before this event time.
    pub(crate) reopened: Option<Micros>,
}

/// Events of one slice, a row of each column for each.
pub(crate) struct Events<'e> {
    /// Columns of the key.
    pub(crate) keys: &'e [ArrayRef],
    /// As [`Aggregates::update`] takes them.
    pub(crate) arguments: &'e [ArrayRef],
    pub(crate) times: &'e [i64],
    /// How far the watermark has come: what is before it came from behind.
    pub(crate) edge: Micros,
    /// What they touch is asked for at the end of the epoch.
    pub(crate) is_noted: bool,
}

/// The stretches of all keys in one slice, by number.
pub(crate) struct Stretches {
    groups: Groups,
    /// Of each key's group the stretch that takes its records.
    current: Vec<u32>,
    /// Of each stretch its key's group.
    group: Vec<u32>,
    /// Of each stretch its key's number among all keys.
    chain: Vec<u32>,
    aggregates: Aggregates,
    extents: Vec<Extent>,
    is_gone: Vec<bool>,
    /// How many are not gone.
    live: usize,
    said: HashMap<u32, Said>,
    /// Those that changed since the last checkpoint.
    changed: Marks,
    /// Those that records of this epoch came into.
    touched: Marks,
    /// Those that records from behind the watermark came into.
    behind: Marks,
    /// Which of them lie in the store.
    is_stored: Vec<bool>,
    /// Those that lie in the store, but are gone.
    removed: Vec<u32>,
    /// True once entries of this slice lie in the store.
    pub(crate) durable: bool,
    /// Number of each row of a batch.
    numbers: Vec<usize>,
}

impl Stretches {
    /// None yet, for keys of `schema`.
    pub(crate) fn new(schema: &SchemaRef) -> Result<Self, DataFusionError> {
        Ok(Self {
            groups: Groups::new(schema)?,
            current: Vec::new(),
            group: Vec::new(),
            chain: Vec::new(),
            aggregates: Aggregates::new(),
            extents: Vec::new(),
            is_gone: Vec::new(),
            live: 0,
            said: HashMap::new(),
            changed: Marks::default(),
            touched: Marks::default(),
            behind: Marks::default(),
            is_stored: Vec::new(),
            removed: Vec::new(),
            durable: false,
            numbers: Vec::new(),
        })
    }

    /// Takes events in. Returns the numbers of the stretches that began.
    pub(crate) fn update(
        &mut self,
        functions: &[Function],
        events: &Events<'_>,
    ) -> Result<Range<u32>, Error> {
        let Events { keys, arguments, times, edge, is_noted } = *events;
        let known = self.group.len();
        let mut numbers = std::mem::take(&mut self.numbers);
        self.groups.intern(keys, times.len(), &mut numbers)?;
        for group in self.current.len()..self.groups.len() {
            self.begin(group as u32);
        }
        // Where no key ever came back the numbers are those of the groups.
        if self.live < self.groups.len() || self.group.len() > self.groups.len() {
            for number in &mut numbers {
                *number = self.taking(*number as u32) as usize;
            }
        }
        let total = self.group.len();
        for (number, time) in numbers.iter().zip(times) {
            if let Some(extent) = self.extents.get_mut(*number) {
                extent.first = extent.first.min(Micros(*time));
                extent.last = extent.last.max(Micros(*time));
            }
        }
        self.changed.mark_all(numbers.iter().copied(), total);
        if is_noted {
            self.touched.mark_all(numbers.iter().copied(), total);
        }
        if times.iter().any(|time| *time < edge.0) {
            let behind = numbers.iter().zip(times).filter(|(_, time)| **time < edge.0);
            self.behind.mark_all(behind.map(|(number, _)| *number), total);
        }
        self.aggregates.update(functions, arguments, &numbers, known, total)?;
        self.numbers = numbers;
        Ok(known as u32..total as u32)
    }

    /// The stretch that takes records of a group.
    fn taking(&mut self, group: u32) -> u32 {
        let number = self.current.get(group as usize).copied().unwrap_or_default();
        if self.is_gone(number) { self.begin(group) } else { number }
    }

    fn begin(&mut self, group: u32) -> u32 {
        let number = self.group.len() as u32;
        match self.current.get_mut(group as usize) {
            Some(current) => *current = number,
            None => self.current.push(number),
        }
        self.group.push(group);
        self.chain.push(u32::MAX);
        self.extents.push(Extent { first: Micros(i64::MAX), last: Micros::MIN });
        self.is_gone.push(false);
        self.is_stored.push(false);
        self.live += 1;
        number
    }

    fn is_gone(&self, number: u32) -> bool {
        self.is_gone.get(number as usize).copied().unwrap_or(true)
    }

    /// How many stretches there are.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        // Three numbers, two times, two flags.
        let stretch = 3 * size_of::<u32>() + size_of::<Extent>() + 2 * size_of::<bool>();
        let marks = [&self.changed, &self.touched, &self.behind].into_iter().map(Marks::bytes).sum::<usize>();
        self.groups.bytes()
            + self.aggregates.bytes()
            + self.extents.capacity() * stretch
            + self.said.capacity() * size_of::<(u32, Said)>()
            + marks
    }

    /// The numbers of all stretches that are there.
    pub(crate) fn all(&self) -> impl Iterator<Item = u32> {
        (0..self.group.len() as u32).filter(|number| !self.is_gone(*number))
    }

    /// From when to when a stretch reaches, if it is there.
    pub(crate) fn extent(&self, number: u32) -> Option<Extent> {
        if self.is_gone(number) { None } else { self.extents.get(number as usize).copied() }
    }

    /// The number of a stretch's key among all keys.
    pub(crate) fn chain(&self, number: u32) -> u32 {
        self.chain.get(number as usize).copied().unwrap_or(u32::MAX)
    }

    /// Says which number that is.
    pub(crate) fn set_chain(&mut self, number: u32, chain: u32) {
        if let Some(known) = self.chain.get_mut(number as usize) {
            *known = chain;
        }
    }

    /// Encoded key of a stretch.
    pub(crate) fn key(&self, number: u32) -> &[u8] {
        self.groups.key(self.group_of(number))
    }

    /// Key group of a stretch.
    pub(crate) fn key_group(&self, number: u32) -> u8 {
        self.groups.key_group(self.group_of(number))
    }

    fn group_of(&self, number: u32) -> u32 {
        self.group.get(number as usize).copied().unwrap_or(u32::MAX)
    }

    /// What was said of a stretch's session.
    pub(crate) fn said(&self, number: u32) -> Said {
        if self.said.is_empty() {
            Said::default()
        } else {
            self.said.get(&number).copied().unwrap_or_default()
        }
    }

    /// Notes what was said of a stretch's session.
    pub(crate) fn say(&mut self, number: u32, said: Said) {
        if said != self.said(number) {
            self.said.insert(number, said);
            self.changed.mark(number);
        }
    }

    /// Forgets a stretch: its session is over.
    pub(crate) fn remove(&mut self, number: u32) {
        if let Some(is_gone) = self.is_gone.get_mut(number as usize)
            && !*is_gone
        {
            *is_gone = true;
            self.live -= 1;
            if !self.said.is_empty() {
                self.said.remove(&number);
            }
            if self.is_stored(number) {
                self.removed.push(number);
            }
        }
    }

    /// Whether a stretch lies in the store.
    pub(crate) fn is_stored(&self, number: u32) -> bool {
        self.is_stored.get(number as usize).copied().unwrap_or_default()
    }

    /// Puts a stretch in the place of another one of its key; its states are still to be appended.
    pub(crate) fn replace(&mut self, number: u32, extent: Extent, said: Said) -> u32 {
        let chain = self.chain(number);
        self.remove(number);
        let number = self.begin(self.group_of(number));
        self.set_chain(number, chain);
        if let Some(known) = self.extents.get_mut(number as usize) {
            *known = extent;
        }
        self.say(number, said);
        self.changed.mark(number);
        number
    }

    /// Appends the states of stretches that took the place of others: some rows of the columns given.
    pub(crate) fn append(&mut self, states: &[ArrayRef], rows: Vec<u32>) -> Result<(), Error> {
        let rows = UInt32Array::from(rows);
        let states = states.iter().map(|s| arrow::compute::take(s, &rows, None));
        self.aggregates.append(states.collect::<Result<_, _>>().map_err(DataFusionError::from)?)
    }

    /// The state columns of all functions in order, a row for each stretch that was ever here.
    pub(crate) fn states(&mut self) -> Result<&[ArrayRef], Error> {
        self.aggregates.states(self.group.len())
    }

    /// As [`Self::states`], where they were asked for since the last record.
    pub(crate) fn saved(&self) -> &[ArrayRef] {
        self.aggregates.saved()
    }

    /// What the records of this epoch touched, where it was noted.
    pub(crate) fn take_touched(&mut self) -> Vec<u32> {
        self.touched.take()
    }

    /// What the records of this epoch from behind the watermark touched.
    pub(crate) fn take_behind(&mut self) -> Vec<u32> {
        self.behind.take()
    }

    /// Right after a checkpoint: where most stretches are gone, the others are numbered anew (true).
    /// Nothing that leaves the engine depends on it; a long session keeps its slices, not what else was in them.
    pub(crate) fn purge(&mut self, schema: &SchemaRef) -> Result<bool, Error> {
        if self.group.len() - self.live < self.live.max(PURGE) {
            return Ok(false);
        }
        let left: Vec<u32> = self.all().collect();
        self.keep(schema, &left)?;
        Ok(true)
    }

    /// Right after a checkpoint: lets go of all stretches but these, which are ascending and numbered anew. Nothing is said
    /// of the entries of the others.
    pub(crate) fn keep(&mut self, schema: &SchemaRef, left: &[u32]) -> Result<(), Error> {
        let keys = key::decode(left.iter().map(|number| self.key(*number)), schema)?;
        let mut groups = Groups::new(schema)?;
        groups.intern(&keys, left.len(), &mut self.numbers)?;
        if groups.len() != left.len() {
            return Err(Error::Twice);
        }
        self.aggregates.keep(&UInt32Array::from(left.to_vec()), self.group.len())?;
        self.extents = left.iter().filter_map(|number| self.extent(*number)).collect();
        let of = |(new, old): (u32, &u32)| Some((new, self.said.get(old).copied()?));
        self.said = (0..).zip(left).filter_map(of).collect();
        self.groups = groups;
        self.chain = left.iter().map(|number| self.chain(*number)).collect();
        self.group = (0..left.len() as u32).collect();
        self.current = self.group.clone();
        self.is_gone = vec![false; left.len()];
        self.is_stored = vec![true; left.len()];
        self.live = left.len();
        Ok(())
    }
}
