//! One slice's groups with their aggregates, from the first event to the drop of the slice.

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;

use super::{Error, Groups};
use crate::key;
use crate::state::{Accumulators, Function, codec};

/// The groups of one slice. Records go into accumulators that live as long as the pane; where states are
/// read (a window closes, a checkpoint is taken) they become columns, and stay so until the next record.
pub(crate) struct Pane {
    pub(crate) groups: Groups,
    aggregates: Aggregates,
    /// Groups that changed since the last checkpoint, each once.
    changed: Vec<u32>,
    is_changed: Vec<bool>,
    /// True once entries of this pane lie in the store.
    pub(crate) durable: bool,
    /// Group number of each row of a batch.
    numbers: Vec<usize>,
}

/// The partial aggregates of all groups.
enum Aggregates {
    /// Taking records in.
    Live(Accumulators),
    /// The state columns of all functions in order, a row for each group.
    Saved(Vec<ArrayRef>),
}

impl Pane {
    /// An empty pane for keys of `schema`.
    pub(crate) fn new(schema: &SchemaRef) -> Result<Self, DataFusionError> {
        Ok(Self {
            groups: Groups::new(schema)?,
            aggregates: Aggregates::Saved(Vec::new()),
            changed: Vec::new(),
            is_changed: Vec::new(),
            durable: false,
            numbers: Vec::new(),
        })
    }

    /// Takes rows in. `arguments` are those of all functions in order, each function's followed by its
    /// FILTER's column if it has one.
    ///
    /// DataFusion's accumulators take it that every group that is new to a call occurs in its rows (their
    /// null masks are wrong otherwise): so it is, for what is interned here is what they are told of.
    pub(crate) fn update(
        &mut self,
        functions: &[Function],
        keys: &[ArrayRef],
        arguments: &[ArrayRef],
        rows: usize,
    ) -> Result<(), Error> {
        self.thaw(functions)?;
        self.groups.intern(keys, rows, &mut self.numbers)?;
        let total = self.groups.len();
        self.is_changed.resize(total, false);
        for number in &self.numbers {
            if let Some(changed) = self.is_changed.get_mut(*number)
                && !*changed
            {
                *changed = true;
                self.changed.push(*number as u32);
            }
        }
        let Aggregates::Live(accumulators) = &mut self.aggregates else { return Ok(()) };
        let mut rest = arguments;
        for (index, function) in functions.iter().enumerate() {
            let (values, others) = rest.split_at_checked(function.arguments.len()).unwrap_or((rest, &[]));
            rest = others;
            let mut filter = None;
            if function.filter.is_some()
                && let Some((mask, others)) = rest.split_first()
            {
                filter = mask.as_boolean_opt();
                rest = others;
            }
            accumulators.update(index, values, filter, &self.numbers, total)?;
        }
        Ok(())
    }

    fn thaw(&mut self, functions: &[Function]) -> Result<(), Error> {
        if let Aggregates::Saved(columns) = &self.aggregates {
            let mut accumulators = Accumulators::new(functions)?;
            let all: Vec<usize> = (0..self.groups.len()).collect();
            if !all.is_empty() {
                accumulators.merge(functions, columns, &all, all.len())?;
            }
            self.aggregates = Aggregates::Live(accumulators);
        }
        Ok(())
    }

    /// The state columns of all functions in order, a row for each group.
    pub(crate) fn states(&mut self) -> Result<&[ArrayRef], Error> {
        if let Aggregates::Live(accumulators) = &mut self.aggregates {
            let columns = accumulators.take_state()?;
            if columns.iter().any(|c| c.len() != self.groups.len()) {
                return Err(Error::States);
            }
            self.aggregates = Aggregates::Saved(columns);
        }
        Ok(self.saved())
    }

    /// As [`Self::states`], where they were asked for since the last record.
    pub(crate) fn saved(&self) -> &[ArrayRef] {
        match &self.aggregates {
            Aggregates::Saved(columns) => columns,
            Aggregates::Live(_) => &[],
        }
    }

    /// Group number of each row of the last update.
    pub(crate) fn numbers(&self) -> &[usize] {
        &self.numbers
    }

    /// The groups that changed since this was last asked.
    pub(crate) fn take_changed(&mut self) -> Vec<u32> {
        let changed = std::mem::take(&mut self.changed);
        for group in &changed {
            if let Some(flag) = self.is_changed.get_mut(*group as usize) {
                *flag = false;
            }
        }
        changed
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
        let Aggregates::Saved(saved) = &mut self.aggregates else { return Err(Error::States) };
        if known == 0 {
            *saved = columns;
            return Ok(());
        }
        for (saved, more) in saved.iter_mut().zip(columns) {
            *saved =
                arrow::compute::concat(&[saved.as_ref(), more.as_ref()]).map_err(DataFusionError::from)?;
        }
        Ok(())
    }
}
