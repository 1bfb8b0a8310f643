//! The partial aggregates of the groups of one slice.

use arrow::array::{ArrayRef, AsArray, UInt32Array};
use datafusion::error::DataFusionError;

use super::Error;
use crate::state::{Accumulators, Function};

/// Partial aggregates, by the number of the group. Records go into accumulators; where states are read (a
/// window closes, a checkpoint is taken) they become columns, and stay so until the next record.
pub(crate) enum Aggregates {
    /// Taking records in.
    Live(Accumulators),
    /// The state columns of all functions in order, a row for each group.
    Saved(Vec<ArrayRef>),
}

impl Aggregates {
    /// Those of no groups.
    pub(crate) fn new() -> Self {
        Self::Saved(Vec::new())
    }

    /// Takes rows in. `arguments` are those of all functions in order, each function's followed by where the
    /// rows stand if it asks for that, and by its FILTER's column if it has one; `numbers` are the groups of the rows, `known` of which were there
    /// before, out of now `total`.
    ///
    /// DataFusion's accumulators take it that every group that is new to a call occurs in its rows (their
    /// null masks are wrong otherwise).
    pub(crate) fn update(
        &mut self,
        functions: &[Function],
        arguments: &[ArrayRef],
        numbers: &[usize],
        known: usize,
        total: usize,
    ) -> Result<(), Error> {
        self.thaw(functions, known)?;
        let Self::Live(accumulators) = self else { return Ok(()) };
        let mut rest = arguments;
        for (index, function) in functions.iter().enumerate() {
            let (values, others) = rest.split_at_checked(function.inputs()).unwrap_or((rest, &[]));
            rest = others;
            let mut filter = None;
            if function.filter.is_some()
                && let Some((mask, others)) = rest.split_first()
            {
                filter = mask.as_boolean_opt();
                rest = others;
            }
            accumulators.update(index, values, filter, numbers, total)?;
        }
        Ok(())
    }

    fn thaw(&mut self, functions: &[Function], groups: usize) -> Result<(), Error> {
        if let Self::Saved(columns) = self {
            let mut accumulators = Accumulators::new(functions)?;
            if groups > 0 {
                let all: Vec<usize> = (0..groups).collect();
                accumulators.merge(functions, columns, &all, groups)?;
            }
            *self = Self::Live(accumulators);
        }
        Ok(())
    }

    /// The state columns of all functions in order, a row for each of `groups` groups.
    pub(crate) fn states(&mut self, groups: usize) -> Result<&[ArrayRef], Error> {
        if let Self::Live(accumulators) = self {
            let columns = accumulators.take_state()?;
            if columns.iter().any(|c| c.len() != groups) {
                return Err(Error::States);
            }
            *self = Self::Saved(columns);
        }
        Ok(self.saved())
    }

    /// As [`Self::states`], where they were asked for since the last record.
    pub(crate) fn saved(&self) -> &[ArrayRef] {
        match self {
            Self::Saved(columns) => columns,
            Self::Live(_) => &[],
        }
    }

    /// Adds `more` groups with these states behind the `known` others, which may be taking records in.
    pub(crate) fn load(
        &mut self,
        functions: &[Function],
        columns: &[ArrayRef],
        known: usize,
        more: usize,
    ) -> Result<(), Error> {
        self.thaw(functions, known)?;
        let Self::Live(accumulators) = self else { return Ok(()) };
        let total = known + more;
        let groups: Vec<usize> = (known..total).collect();
        Ok(accumulators.merge(functions, columns, &groups, total)?)
    }

    /// The same, and what is saved stays so if all are.
    pub(crate) fn add(
        &mut self,
        functions: &[Function],
        columns: Vec<ArrayRef>,
        known: usize,
        more: usize,
    ) -> Result<(), Error> {
        match self {
            Self::Saved(_) => self.append(columns),
            Self::Live(_) => self.load(functions, &columns, known, more),
        }
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Live(accumulators) => accumulators.bytes(),
            Self::Saved(columns) => columns.iter().map(|c| c.get_array_memory_size()).sum(),
        }
    }

    /// Adds groups with these states behind the others.
    pub(crate) fn append(&mut self, columns: Vec<ArrayRef>) -> Result<(), Error> {
        let Self::Saved(saved) = self else { return Err(Error::States) };
        if saved.is_empty() {
            *saved = columns;
            return Ok(());
        }
        for (saved, more) in saved.iter_mut().zip(columns) {
            *saved =
                arrow::compute::concat(&[saved.as_ref(), more.as_ref()]).map_err(DataFusionError::from)?;
        }
        Ok(())
    }

    /// Keeps these groups, of `total`, and numbers them anew in this order.
    pub(crate) fn keep(&mut self, groups: &UInt32Array, total: usize) -> Result<(), Error> {
        let states = self.states(total)?.iter().map(|s| arrow::compute::take(s, groups, None));
        let states = states.collect::<Result<_, _>>().map_err(DataFusionError::from)?;
        *self = Self::Saved(states);
        Ok(())
    }
}
