//! Keys at rest: what an enum is grouped by is its symbol, not the number that a batch gives it.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, ExprSchema, Result};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, Projection, cast};

/// Puts a projection below each aggregate that turns dictionary-encoded GROUP BY columns into plain
/// ones. It runs before types are coerced, so what stands above is planned against the plain type.
pub(super) fn plain(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up(|node| match node {
        LogicalPlan::Aggregate(aggregate) => Ok(Transformed::yes(LogicalPlan::Aggregate(below(aggregate)?))),
        other => Ok(Transformed::yes(other.recompute_schema()?)),
    })?;
    Ok(plan.data)
}

fn below(aggregate: Aggregate) -> Result<Aggregate> {
    let Aggregate { input, group_expr, aggr_expr, .. } = aggregate;
    let encoded = |column: &Column| match input.schema().field_from_column(column) {
        Ok(field) => match field.data_type() {
            DataType::Dictionary(_, values) => Some(values.as_ref().clone()),
            _ => None,
        },
        Err(_) => None,
    };
    let is_key = |column: &Column| group_expr.iter().any(|e| matches!(e, Expr::Column(key) if key == column));
    let mut any = false;
    let mut columns = Vec::new();
    for column in input.schema().columns() {
        columns.push(match encoded(&column) {
            Some(values) if is_key(&column) => {
                any = true;
                let plain = cast(Expr::Column(column.clone()), values);
                plain.alias_qualified(column.relation.clone(), column.name.clone())
            }
            _ => Expr::Column(column),
        });
    }
    let input =
        if any { Arc::new(LogicalPlan::Projection(Projection::try_new(columns, input)?)) } else { input };
    Aggregate::try_new(input, group_expr, aggr_expr)
}
