//! Aggregates that keep some of a key's values: the first, the last, the greatest, the least, in an order
//! that the values and the log alone decide.
//!
//! ```text
//! by time    ORDER BY of the call, event time, place in the log     first_value, last_value, nth_value,
//!                                                                   first_k, last_k, array_agg, string_agg
//! by value   the value itself                                       top_k, bottom_k, collect_set,
//!                                                                   bounded_unique_count
//! ```
//!
//! The place in the log is (source, partition, offset): events at one instant are in the order in which
//! their partition has them. The rows of a join have none; there the value decides. So what is kept of
//! some events is a function of these events, whatever epochs, slices or restarts divide them.

mod entries;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Fields};
use arrow::row::SortField;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::GroupsAccumulator;

use self::entries::Entries;
use super::own::{Aggregate, Bound, item, plain};

/// Which values of a key are kept, and what comes out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Kept {
    /// As it is called.
    pub(crate) name: &'static str,
    pub(crate) by: By,
    /// How many.
    pub(crate) limit: usize,
    /// NULL is a value like others.
    pub(crate) nulls: bool,
    /// Of equal values only the best is kept.
    pub(crate) distinct: bool,
    pub(super) give: Give,
}

/// What decides.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum By {
    /// The ORDER BY of the call (its columns are arguments, after the value), then the event time, then the
    /// place in the log.
    Time {
        /// The last are kept, the last of all first.
        last: bool,
        /// How the columns of ORDER BY are sorted.
        sort: Vec<SortOptions>,
    },
    /// The value.
    Value {
        /// The greatest are kept, the greatest of all first.
        greatest: bool,
    },
}

/// What comes out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Give {
    /// The value at a place, from 0.
    One(usize),
    /// All of them; without any an empty list, or NULL.
    List { empty: bool },
    /// All of them as one text, with this in between.
    Text(String),
    /// How many there are.
    Count,
}

/// Types of what stands behind the arguments of a function by time: event time in microseconds, source and
/// partition (as one number), offset.
pub(crate) const STANDING: [DataType; 3] = [DataType::Int64, DataType::Int64, DataType::Int64];

impl Kept {
    /// Whether its arguments go on with where each event stands.
    pub(super) fn is_by_time(&self) -> bool {
        matches!(self.by, By::Time { .. })
    }

    /// The columns of an entry: the value, then what its order depends on besides.
    fn columns(&self, arguments: &[DataType]) -> Vec<DataType> {
        let mut columns: Vec<DataType> = arguments.iter().map(plain).collect();
        if self.is_by_time() {
            columns.extend(STANDING);
        }
        columns
    }

    /// How entries are sorted so that the best come first; `columns` are those of an entry.
    fn order(&self, columns: &[DataType]) -> Vec<SortField> {
        match &self.by {
            By::Value { greatest } => {
                let options = SortOptions { descending: *greatest, nulls_first: false };
                columns.iter().take(1).map(|t| SortField::new_with_options(t.clone(), options)).collect()
            }
            By::Time { last, sort } => {
                let rest = std::iter::repeat(SortOptions { descending: false, nulls_first: false });
                let options = sort.iter().copied().chain(rest).map(|options| SortOptions {
                    descending: options.descending != *last,
                    nulls_first: options.nulls_first != *last,
                });
                let columns = columns.iter().skip(1).zip(options);
                columns.map(|(t, options)| SortField::new_with_options(t.clone(), options)).collect()
            }
        }
    }
}

/// An entry as it is saved.
fn fields(columns: &[DataType]) -> Fields {
    let columns = columns.iter().enumerate();
    columns.map(|(number, data_type)| Field::new(format!("c{number}"), data_type.clone(), true)).collect()
}

impl Aggregate for Kept {
    fn name(&self) -> &'static str {
        self.name
    }

    fn coerce(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        Ok(arguments.to_vec())
    }

    fn result(&self, arguments: &[DataType]) -> Result<DataType> {
        let Some(value) = arguments.first().map(plain) else {
            return plan_err!("{}() takes a column", self.name);
        };
        Ok(match &self.give {
            Give::One(_) => value,
            Give::List { .. } => DataType::List(item(&value)),
            Give::Text(_) => DataType::Utf8,
            Give::Count => DataType::Int64,
        })
    }

    fn state(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        Ok(vec![DataType::List(item(&DataType::Struct(fields(&self.columns(arguments)))))])
    }

    fn groups(&self, arguments: &[DataType]) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Entries::new(self.clone(), self.columns(arguments))?))
    }

    fn bound(&self) -> Bound {
        Bound::Values(self.limit)
    }
}
