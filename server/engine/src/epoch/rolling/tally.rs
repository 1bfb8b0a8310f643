//! Running totals: COUNT, and SUM of integers and decimals, can be taken back exactly. So a frame's value is
//! the total up to its last record less the total before its first, however many records it holds.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Decimal128Type, Int64Type};

use super::plan::{Argument, Plan};
use crate::query;
use crate::rolling::Totals;

/// Digits of decimals whose totals fit into 128 bits, of more records than can be numbered.
const DIGITS: u8 = 28;

/// What is added up along the records of a key. Columns are numbered as they are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tally {
    /// What is added; `None`: one for each record.
    value: Option<usize>,
    /// Only where this is not NULL.
    valid: Option<usize>,
    /// FILTER.
    filter: Option<usize>,
}

/// How a function is computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kernel {
    /// `COUNT(*)`: the number of records.
    Rows,
    /// COUNT by the tally of this number.
    Count(usize),
    /// SUM by two: the total, and how many were added.
    Sum(usize, usize),
    /// Whatever DataFusion's accumulator does with each record of each frame.
    General,
}

impl Kernel {
    /// Of a function with these arguments; notes the tallies that it needs.
    pub(super) fn of(
        function: &query::Function,
        arguments: &[Argument],
        filter: Option<usize>,
        tallies: &mut Vec<Tally>,
    ) -> Self {
        let aggregate = &function.aggregate;
        if aggregate.is_distinct() || !aggregate.order_bys().is_empty() {
            return Self::General;
        }
        let mut note = |tally: Tally| match tallies.iter().position(|known| *known == tally) {
            Some(known) => known,
            None => {
                tallies.push(tally);
                tallies.len() - 1
            }
        };
        match (aggregate.fun().name(), arguments) {
            ("count", [Argument::Constant(value)]) if !value.is_null() => match filter {
                None => Self::Rows,
                Some(_) => Self::Count(note(Tally { value: None, valid: None, filter })),
            },
            ("count", [Argument::Kept(column, _)]) => {
                Self::Count(note(Tally { value: None, valid: Some(*column), filter }))
            }
            ("sum", [Argument::Kept(column, data_type)])
                if adds_up(data_type, aggregate.field().data_type()) =>
            {
                let (value, valid) = (Some(*column), Some(*column));
                let total = note(Tally { value, valid, filter });
                Self::Sum(total, note(Tally { value: None, valid, filter }))
            }
            _ => Self::General,
        }
    }
}

/// Whether totals of a type are exact in 128 bits, and its sums of this type.
fn adds_up(data_type: &DataType, sum: &DataType) -> bool {
    match (data_type, sum) {
        (DataType::Int64, DataType::Int64) => true,
        (DataType::Decimal128(precision, scale), DataType::Decimal128(_, of_sum)) => {
            *precision <= DIGITS && scale == of_sum
        }
        _ => false,
    }
}

impl Tally {
    /// Whether it takes 128 bits: a sum does, for what is taken back may be beyond 64 meanwhile.
    pub(super) fn is_wide(&self) -> bool {
        self.value.is_some()
    }

    /// Adds what each of some records adds to total number `total`, to the words of one record after the other;
    /// `columns` are all that is kept of them, behind their identity.
    pub(super) fn add(&self, columns: &[ArrayRef], total: usize, totals: &Totals, added: &mut [u64]) {
        let column = |kept: usize| columns.get(Plan::place(kept));
        let valid = self.valid.and_then(column).and_then(|c| c.logical_nulls());
        let filter = self.filter.and_then(column).and_then(|f| f.as_boolean_opt());
        let filter = filter.map(|f| NullBuffer::new(f.values().clone()));
        let taken = NullBuffer::union(valid.filter(|n| n.null_count() > 0).as_ref(), filter.as_ref());
        let taken = |row: &usize| taken.as_ref().is_none_or(|taken| taken.is_valid(*row));
        let numbers = self.value.and_then(column);
        let longs = numbers.and_then(|n| n.as_primitive_opt::<Int64Type>());
        let decimals = numbers.and_then(|n| n.as_primitive_opt::<Decimal128Type>());
        for (row, words) in added.chunks_mut(totals.words().max(1)).enumerate().filter(|(row, _)| taken(row))
        {
            let number = match (longs, decimals) {
                (Some(longs), _) => longs.values().get(row).map_or(0, |n| i128::from(*n)),
                (None, Some(decimals)) => decimals.values().get(row).copied().unwrap_or_default(),
                (None, None) => i128::from(numbers.is_none()),
            };
            totals.add(total, words, number);
        }
    }
}
