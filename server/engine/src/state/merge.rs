//! Merging saved states, many keys at a time.

use std::collections::HashMap;
use std::hash::Hash;

use arrow::array::ArrayRef;
use datafusion::error::Result;
use foldhash::fast::FixedState;

use super::{Accumulators, Function};

/// What is to be merged: for each target, in order, rows of state columns.
///
/// All rows go through one call: DataFusion's accumulators take it that every group that is new to a call
/// occurs in its rows.
pub(crate) struct Merge<'s, S> {
    sources: Vec<&'s [ArrayRef]>,
    known: HashMap<S, usize, FixedState>,
    rows: Vec<(usize, usize)>,
    targets: Vec<usize>,
}

impl<'s, S: Eq + Hash> Merge<'s, S> {
    pub(crate) fn new() -> Self {
        Self::with_capacity(0)
    }

    /// With room for so many rows.
    pub(crate) fn with_capacity(rows: usize) -> Self {
        Self {
            sources: Vec::new(),
            known: HashMap::default(),
            rows: Vec::with_capacity(rows),
            targets: Vec::with_capacity(rows),
        }
    }

    /// Adds a row of a source, whose columns are asked for once. Targets are numbered from 0, and none is
    /// left out.
    pub(crate) fn add(
        &mut self,
        target: usize,
        source: S,
        row: u32,
        columns: impl FnOnce() -> &'s [ArrayRef],
    ) {
        let sources = &mut self.sources;
        let source = *self.known.entry(source).or_insert_with(|| {
            sources.push(columns());
            sources.len() - 1
        });
        self.rows.push((source, row as usize));
        self.targets.push(target);
    }

    /// The merged states, a row for each of `total` targets.
    pub(crate) fn finish(self, functions: &[Function], total: usize) -> Result<Vec<ArrayRef>> {
        let width: usize = functions.iter().map(|f| f.state.len()).sum();
        let mut columns = Vec::with_capacity(width);
        for column in 0..width {
            let parts: Vec<&dyn arrow::array::Array> =
                self.sources.iter().filter_map(|s| s.get(column)).map(AsRef::as_ref).collect();
            columns.push(arrow::compute::interleave(&parts, &self.rows)?);
        }
        let alone = self.rows.len() == total && self.targets.iter().enumerate().all(|(i, t)| i == *t);
        if alone {
            return Ok(columns);
        }
        let mut accumulators = Accumulators::new(functions)?;
        accumulators.merge(functions, &columns, &self.targets, total)?;
        accumulators.take_state()
    }
}
