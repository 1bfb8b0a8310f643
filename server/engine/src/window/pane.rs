//! One slice's groups with their aggregates, from the first event to the drop of the slice.

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;

use super::{Aggregates, Error, Groups, Marks};
use crate::key;
use crate::state::{Function, codec};

/// The groups of one slice. Their aggregates live as long as the pane.
pub(crate) struct Pane {
    pub(crate) groups: Groups,
    aggregates: Aggregates,
    /// Groups that changed since the last checkpoint.
    changed: Marks,
    /// True once entries of this pane lie in the store.
    pub(crate) durable: bool,
    /// Group number of each row of a batch.
    numbers: Vec<usize>,
}

impl Pane {
    /// An empty pane for keys of `schema`.
    pub(crate) fn new(schema: &SchemaRef) -> Result<Self, DataFusionError> {
        Ok(Self {
            groups: Groups::new(schema)?,
            aggregates: Aggregates::new(),
            changed: Marks::default(),
            durable: false,
            numbers: Vec::new(),
        })
    }

    /// Takes rows in, with their [`Aggregates::update`] arguments. Every group that is new to the aggregates
    /// occurs in the rows, for what is interned here is what they are told of.
    pub(crate) fn update(
        &mut self,
        functions: &[Function],
        keys: &[ArrayRef],
        arguments: &[ArrayRef],
        rows: usize,
    ) -> Result<(), Error> {
        let known = self.groups.len();
        self.groups.intern(keys, rows, &mut self.numbers)?;
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

    /// The groups that changed since this was last asked.
    pub(crate) fn take_changed(&mut self) -> Vec<u32> {
        self.changed.take()
    }

    /// Puts saved groups back, which have not been here yet. `keys` are distinct.
    pub(crate) fn restore<'r>(
        &mut self,
        schema: &SchemaRef,
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
        self.aggregates.append(columns)
    }
}
