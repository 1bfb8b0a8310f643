//! The aggregate functions of a query as DataFusion's vectorised accumulators.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use datafusion::error::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::{GroupsAccumulatorAdapter, PhysicalExpr};

use super::codec::Column;
use crate::query;
pub(crate) use crate::sql::STANDING;
use crate::sql::{is_by_time, keeps_sets};

/// One aggregate function with all that is needed of it per batch.
pub(crate) struct Function {
    aggregate: Arc<AggregateFunctionExpr>,
    /// Arguments, then the ORDER BY expressions.
    pub(crate) arguments: Vec<Arc<dyn PhysicalExpr>>,
    pub(crate) filter: Option<Arc<dyn PhysicalExpr>>,
    /// After its arguments it is given where each record stands ([`STANDING`]).
    pub(crate) by_time: bool,
    /// What its saved form consists of.
    pub(crate) state: Vec<Column>,
}

impl Function {
    pub(crate) fn new(function: &query::Function) -> Result<Self> {
        let aggregate = function.aggregate.clone();
        let mut arguments = aggregate.expressions();
        arguments.extend(aggregate.order_bys().iter().map(|o| o.expr.clone()));
        // The values of a DISTINCT have no order of their own: they are a set to the codec.
        let set = aggregate.is_distinct() || keeps_sets(aggregate.fun());
        let fields = aggregate.state_fields()?;
        let state = fields.iter().map(|f| Column { data_type: f.data_type().clone(), set }).collect();
        let by_time = is_by_time(aggregate.fun());
        Ok(Self { aggregate, arguments, filter: function.filter.clone(), by_time, state })
    }

    /// How many columns it is given.
    pub(crate) fn inputs(&self) -> usize {
        self.arguments.len() + if self.by_time { STANDING.len() } else { 0 }
    }

    fn accumulator(&self) -> Result<Box<dyn GroupsAccumulator>> {
        if self.aggregate.groups_accumulator_supported() {
            return self.aggregate.create_groups_accumulator();
        }
        let aggregate = self.aggregate.clone();
        Ok(Box::new(GroupsAccumulatorAdapter::new(move || aggregate.create_accumulator())))
    }
}

/// The accumulators of all functions over the same groups.
pub(crate) struct Accumulators(Vec<Box<dyn GroupsAccumulator>>);

impl Accumulators {
    pub(crate) fn new(functions: &[Function]) -> Result<Self> {
        functions.iter().map(Function::accumulator).collect::<Result<_>>().map(Self)
    }

    /// Merges saved states: `states` are all functions' state columns in order, `groups[i]` the group of row i.
    pub(crate) fn merge(
        &mut self,
        functions: &[Function],
        states: &[ArrayRef],
        groups: &[usize],
        total: usize,
    ) -> Result<()> {
        let mut rest = states;
        for (accumulator, function) in self.0.iter_mut().zip(functions) {
            let (own, others) = rest.split_at_checked(function.state.len()).unwrap_or((rest, &[]));
            accumulator.merge_batch(own, groups, total)?;
            rest = others;
        }
        Ok(())
    }

    /// Updates function number `index` with its evaluated arguments.
    pub(crate) fn update(
        &mut self,
        index: usize,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
        groups: &[usize],
        total: usize,
    ) -> Result<()> {
        match self.0.get_mut(index) {
            Some(accumulator) => accumulator.update_batch(values, groups, filter, total),
            None => Ok(()),
        }
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.0.iter().map(|accumulator| accumulator.size()).sum()
    }

    /// The state columns of all functions; the accumulators are empty afterwards.
    pub(crate) fn take_state(&mut self) -> Result<Vec<ArrayRef>> {
        let mut columns = Vec::new();
        for accumulator in &mut self.0 {
            columns.extend(accumulator.state(EmitTo::All)?);
        }
        Ok(columns)
    }
}

/// Evaluates one function over saved states, one group per row. On its own, so that a function whose
/// result cannot be represented fails for itself.
pub(crate) fn evaluate(function: &Function, states: &[ArrayRef]) -> Result<ArrayRef> {
    let groups: Vec<usize> = (0..states.first().map_or(0, |s| s.len())).collect();
    let mut accumulator = function.accumulator()?;
    accumulator.merge_batch(states, &groups, groups.len())?;
    accumulator.evaluate(EmitTo::All)
}

/// Evaluates one function over rows: `groups[i]` is the group of row i, and every one of `total` groups has one.
pub(crate) fn over(
    function: &Function,
    values: &[ArrayRef],
    filter: Option<&BooleanArray>,
    groups: &[usize],
    total: usize,
) -> Result<ArrayRef> {
    let mut accumulator = function.accumulator()?;
    accumulator.update_batch(values, groups, filter, total)?;
    accumulator.evaluate(EmitTo::All)
}

#[cfg(test)]
mod tests;
