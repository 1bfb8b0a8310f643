//! The aggregates of our own, as DataFusion asks for them: one wrapper around what each of them is.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, not_impl_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature,
    Volatility,
};

use super::approx_distinct::ApproxDistinct;
use super::approx_percentile::ApproxPercentile;
use super::distinct::Distinct;
use super::kept::Kept;
use super::moments::Moment;
use super::percentile::Percentile;
use super::written::Written;

/// How much of a key's events an aggregate keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Bound {
    /// The same for however many events.
    Fixed,
    /// At most this many values.
    Values(usize),
    /// At most this many bytes.
    Bytes(usize),
    /// Each distinct value; and what to write where that is too much.
    Distinct(&'static str),
    /// Each value; and what to write where that is too much.
    Events(&'static str),
}

/// What an aggregate of our own has to say. `arguments` are the types that it was planned with, those that
/// [`Aggregate::coerce`] gave.
pub(super) trait Aggregate {
    /// The name that `explain` shows.
    fn name(&self) -> &'static str;
    /// The types that arguments are brought to, or why they cannot be.
    fn coerce(&self, arguments: &[DataType]) -> Result<Vec<DataType>>;
    /// The type of the result.
    fn result(&self, arguments: &[DataType]) -> Result<DataType>;
    /// The types of the state columns.
    fn state(&self, arguments: &[DataType]) -> Result<Vec<DataType>>;
    /// An empty accumulator.
    fn groups(&self, arguments: &[DataType]) -> Result<Box<dyn GroupsAccumulator>>;
    /// How much it keeps.
    fn bound(&self) -> Bound;
}

/// Which aggregate it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// One that is planned and never runs: its constants have not been read.
    Written(Written),
    Kept(Kept),
    Moment(Moment),
    Distinct(Distinct),
    ApproxDistinct(ApproxDistinct),
    ApproxPercentile(ApproxPercentile),
    Percentile(Percentile),
}

impl Kind {
    fn get(&self) -> &dyn Aggregate {
        match self {
            Self::Written(one) => one,
            Self::Kept(one) => one,
            Self::Moment(one) => one,
            Self::Distinct(one) => one,
            Self::ApproxDistinct(one) => one,
            Self::ApproxPercentile(one) => one,
            Self::Percentile(one) => one,
        }
    }

    /// How much it keeps.
    pub(crate) fn bound(&self) -> Bound {
        self.get().bound()
    }
}

/// An aggregate of our own as a function of DataFusion's.
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Own {
    pub(crate) kind: Kind,
    signature: Signature,
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

/// The function of a kind.
pub(super) fn own(kind: Kind) -> Arc<AggregateUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(AggregateUDF::from(Own { kind, signature }))
}

/// Which of our own a function is, if it is one.
pub(crate) fn kind(function: &AggregateUDF) -> Option<&Kind> {
    function.inner().downcast_ref::<Own>().map(|own| &own.kind)
}

/// A list's element.
pub(super) fn item(data_type: &DataType) -> FieldRef {
    Arc::new(Field::new_list_field(data_type.clone(), true))
}

/// The type without its dictionary; NULL alone is taken as text.
pub(super) fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => plain(values),
        DataType::Null => DataType::Utf8,
        other => other.clone(),
    }
}

/// The states of an accumulator in which each row is a group of its own.
pub(super) fn each(
    mut accumulator: impl GroupsAccumulator,
    values: &[ArrayRef],
    filter: Option<&BooleanArray>,
) -> Result<Vec<ArrayRef>> {
    let rows = values.first().map_or(0, |column| column.len());
    accumulator.update_batch(values, &(0..rows).collect::<Vec<_>>(), filter, rows)?;
    accumulator.state(EmitTo::All)
}

/// Whether FILTER takes a row.
pub(super) fn taken(filter: Option<&BooleanArray>, row: usize) -> bool {
    use arrow::array::Array;
    filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
}

fn types(fields: &[FieldRef]) -> Vec<DataType> {
    fields.iter().map(|field| field.data_type().clone()).collect()
}

impl AggregateUDFImpl for Own {
    fn name(&self) -> &str {
        self.kind.get().name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.kind.get().coerce(arguments)
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.kind.get().result(arguments)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let states = self.kind.get().state(&types(args.input_fields))?;
        let field = |(number, data_type)| Field::new(format!("{}[{number}]", args.name), data_type, true);
        Ok(states.into_iter().enumerate().map(|state| Arc::new(field(state))).collect())
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        not_impl_err!("{}: computed over groups", args.name)
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        self.kind.get().groups(&types(args.expr_fields))
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn supports_null_handling_clause(&self) -> bool {
        matches!(&self.kind, Kind::Written(written) if written.handles_nulls())
    }
}
