//! One slice's groups with their aggregates, from the first event to the drop of the slice.

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;

use super::{Aggregates, Error, Groups, Marks, Stored};
use crate::key;
use crate::state::{Function, codec};

/// The groups of one slice. Their aggregates live as long as the pane, or until they are cold.
pub(crate) struct Pane {
    pub(crate) groups: Groups,
    pub(super) aggregates: Aggregates,
    /// Groups that changed since the last checkpoint.
    pub(super) changed: Marks,
    /// True once entries of this pane lie in the store.
    pub(crate) durable: bool,
    /// True where keys that are not among the groups may have entries in the store.
    pub(crate) is_cold: bool,
    /// Checkpoints since the pane was made.
    pub(super) checkpoints: u32,
    /// The checkpoint at which any group had changed last …
    pub(super) touched: u32,
    /// … and of each group the one at which it had; none yet of those that are new since.
    pub(super) last_change: Vec<u32>,
    /// Group number of each row of a batch.
    pub(super) numbers: Vec<usize>,
}

impl Pane {
    /// An empty pane for keys of `schema`.
    pub(crate) fn new(schema: &SchemaRef) -> Result<Self, DataFusionError> {
        Ok(Self {
            groups: Groups::new(schema)?,
            aggregates: Aggregates::new(),
            changed: Marks::default(),
            durable: false,
            is_cold: false,
            checkpoints: 0,
            touched: 0,
            last_change: Vec::new(),
            numbers: Vec::new(),
        })
    }

    /// Takes rows in, with their [`Aggregates::update`] arguments. Every group that is new to the aggregates
    /// occurs in the rows, for what is interned here is what they are told of. `stored` is where groups
    /// lie that are not in memory.
    pub(crate) fn update(
        &mut self,
        functions: &[Function],
        keys: &[ArrayRef],
        arguments: &[ArrayRef],
        rows: usize,
        stored: Option<Stored<'_>>,
    ) -> Result<(), Error> {
        let mut known = self.groups.len();
        match stored.filter(|_| self.is_cold) {
            Some(stored) => known += self.recall(functions, keys, rows, stored)?,
            None => self.groups.intern(keys, rows, &mut self.numbers)?,
        }
        let total = self.groups.len();
        self.changed.mark_all(self.numbers.iter().copied(), total);
        self.aggregates.update(functions, arguments, &self.numbers, known, total)
    }

    /// The state columns of all functions in order, a row for each group.
    pub(crate) fn states(&mut self) -> Result<&[ArrayRef], Error> {
        self.aggregates.states(self.groups.len())
    }

    /// As [`Self::states`], where they were asked for since the last record.
    pub(crate) fn saved(&self) -> &[ArrayRef] {
        self.aggregates.saved()
    }

    /// Group number of each row of the last update.
    pub(crate) fn numbers(&self) -> &[usize] {
        &self.numbers
    }

    /// For a checkpoint: the groups that changed since the last one.
    pub(crate) fn take_changed(&mut self) -> Vec<u32> {
        self.checkpoints += 1;
        let changed = self.changed.take();
        if !changed.is_empty() {
            self.touched = self.checkpoints;
            self.last_change.resize(self.groups.len(), self.checkpoints);
            for group in &changed {
                if let Some(last) = self.last_change.get_mut(*group as usize) {
                    *last = self.checkpoints;
                }
            }
        }
        changed
    }

    /// Puts saved groups back, which have not been here yet. `keys` are distinct.
    pub(crate) fn restore<'r>(
        &mut self,
        schema: &SchemaRef,
        functions: &[Function],
        state: &[codec::Column],
        rows: impl Iterator<Item = (&'r [u8], &'r [u8])> + Clone,
    ) -> Result<(), Error> {
        let keys = key::decode(rows.clone().map(|(k, _)| k), schema)?;
        let columns = codec::decode(state, rows.clone().map(|(_, value)| value))?;
        let known = self.groups.len();
        let count = rows.count();
        self.groups.intern(&keys, count, &mut self.numbers)?;
        if self.groups.len() != known + count {
            return Err(Error::Twice);
        }
        self.durable = true;
        self.aggregates.add(functions, columns, known, count)
    }
}
