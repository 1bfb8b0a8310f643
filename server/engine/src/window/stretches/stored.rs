//! The durable form of stretches: what a checkpoint writes of them, and how they come back.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};

use super::super::Error;
use super::{Extent, Said, Stretches};
use crate::key;
use crate::state::{Function, codec};
use crate::time::Micros;

impl Stretches {
    /// For a checkpoint: stretches whose entries are to be removed, and those whose entries are to be
    /// written, both in the order of the store.
    pub(crate) fn take_changes(&mut self) -> (Vec<u32>, Vec<u32>) {
        let removed = std::mem::take(&mut self.removed);
        // Where a key has another stretch by now, its entry is overwritten.
        let mut removed: Vec<u32> = removed.into_iter().map(|number| self.group_of(number)).collect();
        removed.retain(|group| self.current.get(*group as usize).is_none_or(|now| self.is_gone(*now)));
        let mut changed = self.changed.take();
        changed.retain(|number| !self.is_gone(*number));
        for number in &mut changed {
            if let Some(is_stored) = self.is_stored.get_mut(*number as usize) {
                *is_stored = true;
            }
            *number = self.group_of(*number);
        }
        self.durable |= !changed.is_empty();
        let current = |groups: &mut Vec<u32>| {
            self.groups.sort_for_store(groups);
            groups
                .iter()
                .map(|group| self.current.get(*group as usize).copied().unwrap_or_default())
                .collect()
        };
        (current(&mut removed), current(&mut changed))
    }

    /// The columns that are stored behind the states of the functions.
    pub(crate) fn columns() -> [codec::Column; 4] {
        [(); 4].map(|()| codec::Column::plain(DataType::Int64))
    }

    /// Those columns, of some stretches.
    pub(crate) fn times(&self, numbers: &[u32]) -> [ArrayRef; 4] {
        let column = |of: &dyn Fn(u32) -> Option<Micros>| -> ArrayRef {
            Arc::new(numbers.iter().map(|number| of(*number).map(|time| time.0)).collect::<Int64Array>())
        };
        [
            column(&|number| self.extent(number).map(|e| e.first)),
            column(&|number| self.extent(number).map(|e| e.last)),
            column(&|number| self.said(number).closed),
            column(&|number| self.said(number).reopened),
        ]
    }

    /// From when to when each of some saved stretches reaches; `state` are the columns of the functions.
    pub(crate) fn extents<'r>(
        state: &[codec::Column],
        values: impl Iterator<Item = &'r [u8]>,
    ) -> Result<Vec<Extent>, Error> {
        let all: Vec<codec::Column> = state.iter().cloned().chain(Self::columns()).collect();
        let columns = codec::decode(&all, values)?;
        let time = |column: usize| {
            let column = columns.get(state.len() + column)?.as_primitive_opt::<Int64Type>()?;
            (column.null_count() == 0).then(|| column.values())
        };
        let (Some(first), Some(last)) = (time(0), time(1)) else { return Err(Error::States) };
        let extent = |(first, last): (&i64, &i64)| Extent { first: Micros(*first), last: Micros(*last) };
        Ok(first.iter().zip(last.iter()).map(extent).collect())
    }

    /// Puts saved stretches back, which have not been here yet; `state` are the columns of the functions.
    /// Returns their numbers.
    pub(crate) fn restore<'r>(
        &mut self,
        schema: &SchemaRef,
        functions: &[Function],
        state: &[codec::Column],
        rows: impl Iterator<Item = (&'r [u8], &'r [u8])> + Clone,
    ) -> Result<Range<u32>, Error> {
        let keys = key::decode(rows.clone().map(|(k, _)| k), schema)?;
        let all: Vec<codec::Column> = state.iter().cloned().chain(Self::columns()).collect();
        let mut columns = codec::decode(&all, rows.clone().map(|(_, value)| value))?;
        let times = columns.split_off(state.len());
        let (first, known, count) = (self.group.len(), self.groups.len(), rows.count());
        self.groups.intern(&keys, count, &mut self.numbers)?;
        if self.groups.len() != known + count {
            return Err(Error::Twice);
        }
        self.aggregates.add(functions, columns, first, count)?;
        let time = |column: usize, row: usize| {
            let column = times.get(column)?.as_primitive_opt::<Int64Type>()?;
            column.is_valid(row).then(|| Micros(column.value(row)))
        };
        for row in 0..count {
            let number = self.begin((known + row) as u32);
            let (Some(first), Some(last)) = (time(0, row), time(1, row)) else { return Err(Error::States) };
            if let Some(extent) = self.extents.get_mut(number as usize) {
                *extent = Extent { first, last };
            }
            if let Some(is_stored) = self.is_stored.get_mut(number as usize) {
                *is_stored = true;
            }
            let said = Said { closed: time(2, row), reopened: time(3, row) };
            if said != Said::default() {
                self.said.insert(number, said);
            }
        }
        self.durable = true;
        Ok(first as u32..self.group.len() as u32)
    }
}
