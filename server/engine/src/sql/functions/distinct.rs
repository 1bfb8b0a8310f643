//! SUM(DISTINCT x) and AVG(DISTINCT x): the sets of COUNT(DISTINCT x), added up.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array, new_null_array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::{AggregateUDF, EmitTo, GroupsAccumulator};
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::expressions::Column;

use super::count_distinct::Sets;
use super::own::{Aggregate, Bound, each, item};
use super::{average, sum};

/// What the distinct values are taken together to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Distinct {
    Sum,
    Avg,
}

impl Distinct {
    /// The function as it is called.
    pub(crate) fn called(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
        }
    }

    fn function(self) -> Arc<AggregateUDF> {
        match self {
            Self::Sum => sum::sum(),
            Self::Avg => average::average(),
        }
    }
}

impl Aggregate for Distinct {
    /// Not the one of the function without DISTINCT, so that a plan can have both.
    fn name(&self) -> &'static str {
        match self {
            Self::Sum => "sum_distinct",
            Self::Avg => "avg_distinct",
        }
    }

    fn coerce(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.function().coerce_types(arguments)
    }

    fn result(&self, arguments: &[DataType]) -> Result<DataType> {
        self.function().return_type(arguments)
    }

    fn state(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        Ok(arguments.iter().map(|values| DataType::List(item(values))).collect())
    }

    fn groups(&self, arguments: &[DataType]) -> Result<Box<dyn GroupsAccumulator>> {
        let [values] = arguments else { return internal_err!("{}() takes one argument", self.name()) };
        let schema = Schema::new(vec![Field::new("value", values.clone(), true)]);
        let over = AggregateExprBuilder::new(self.function(), vec![Arc::new(Column::new("value", 0))])
            .schema(Arc::new(schema))
            .alias(self.name())
            .build()?;
        Ok(Box::new(Reduced { sets: Sets::new(values.clone())?, data_type: values.clone(), over }))
    }

    fn bound(&self) -> Bound {
        Bound::Distinct("SUM or AVG of a value that comes once for each event")
    }
}

/// Sets, and what is computed over them in the end.
struct Reduced {
    sets: Sets,
    data_type: DataType,
    over: AggregateFunctionExpr,
}

impl GroupsAccumulator for Reduced {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.sets.update_batch(values, groups, filter, total_groups)
    }

    /// Adds each group's values in their own order: a sum of floats depends on it.
    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let lists = self.sets.lists(emit)?;
        let groups = lists.len();
        let lengths = lists.offsets().lengths().enumerate();
        let mut owners: Vec<usize> =
            lengths.flat_map(|(group, length)| std::iter::repeat_n(group, length)).collect();
        let rows = RowConverter::new(vec![SortField::new(self.data_type.clone())])?
            .convert_columns(&[Arc::clone(lists.values())])?;
        let mut order: Vec<(usize, u32)> = owners.iter().copied().zip(0..).collect();
        order.sort_by(|(a, i), (b, j)| {
            a.cmp(b).then_with(|| rows.row(*i as usize).cmp(&rows.row(*j as usize)))
        });
        let order = UInt32Array::from_iter_values(order.into_iter().map(|(_, row)| row));
        let values = arrow::compute::take(lists.values(), &order, None)?;
        // DataFusion takes it that every group occurs in the rows: each has a NULL that adds nothing.
        let nulls = new_null_array(&self.data_type, groups);
        let values = arrow::compute::concat(&[values.as_ref(), nulls.as_ref()])?;
        owners.extend(0..groups);
        let mut over = self.over.create_groups_accumulator()?;
        over.update_batch(&[values], &owners, None, groups)?;
        over.evaluate(EmitTo::All)
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        self.sets.state(emit)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        self.sets.merge_batch(states, groups, total_groups)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        each(Sets::new(self.data_type.clone())?, values, filter)
    }

    fn size(&self) -> usize {
        self.sets.size()
    }
}
