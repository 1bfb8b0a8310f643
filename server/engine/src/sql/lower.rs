//! An optimised logical plan to a [`FeatureQuery`]: physical expressions in the order of their stages.
//!
//! ```text
//! stages → Aggregate → stages → Window → relation        after, within: a window's features
//! stages → OVER → relation                                rolling features
//!
//! relation = stages → TableScan | Union of relations | Join of two relations
//! stages   = (Projection | Filter)*
//! ```

mod bound;
mod join;
mod lookup;
mod push;
mod relation;
mod rolling;
mod times;
mod windowed;

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, LoweredAggregateBuilder};
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};

use super::arithmetic::checked;
use super::columns::{Columns, picked};
use super::error::{Code, Error};
use super::functions;
use super::output;
use super::tokens::EXAMPLE;
use super::{Group, Table};
use crate::query::{FeatureQuery, Function, Shape, Source, Stage};

/// Lowers a plan over `tables`.
pub(super) fn lower(
    plan: &LogicalPlan,
    tables: &[Table<'_>],
    groups: &[Group<'_>],
    config: Arc<ConfigOptions>,
) -> Result<FeatureQuery, Error> {
    let mut props = ExecutionProps::new();
    props.config_options = Some(config);
    let planning = PhysicalPlanningContext::default();
    let mut lowering = Lowering { props, planning, tables, groups, sources: Vec::new() };

    let (after, top) = lowering.stages(plan)?;
    let (input, shape, columns) = match top {
        LogicalPlan::Aggregate(aggregate) => {
            let (input, windowed) = lowering.windowed(aggregate)?;
            let columns = Columns::of(&windowed.aggregate.schema);
            (input, Shape::Windowed(windowed), columns)
        }
        LogicalPlan::Window(window) => {
            let (input, rolling, columns) = lowering.rolling(window)?;
            (input, Shape::Rolling(rolling), columns)
        }
        other => return Err(unsupported(other)),
    };
    let after = over(after, columns)?;
    output::finish(lowering.sources, input, shape, after, plan.schema().as_arrow())
}

struct Lowering<'a> {
    props: ExecutionProps,
    planning: PhysicalPlanningContext,
    tables: &'a [Table<'a>],
    /// The groups that may be looked up: their changes are among the tables.
    groups: &'a [Group<'a>],
    /// The sources so far.
    sources: Vec<Source>,
}

impl Lowering<'_> {
    fn physical(&self, expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>, Error> {
        let physical = create_physical_expr(expr, schema, &self.props, &self.planning)?;
        Ok(checked(physical, schema.as_arrow())?)
    }

    /// The stages at the top of `plan`, in the order of the rows, and the node below them.
    fn stages<'p>(&self, plan: &'p LogicalPlan) -> Result<(Vec<Stage>, &'p LogicalPlan), Error> {
        let mut stages = Vec::new();
        let mut node = plan;
        loop {
            node = match node {
                LogicalPlan::Filter(filter) => {
                    let predicate = self.physical(&filter.predicate, filter.input.schema())?;
                    if !always_true(&predicate) {
                        stages.push(Stage::Filter(predicate));
                    }
                    &filter.input
                }
                LogicalPlan::Projection(projection) => {
                    let input = projection.input.schema();
                    let exprs =
                        projection.expr.iter().map(|e| self.physical(e, input)).collect::<Result<_, _>>()?;
                    stages.push(Stage::Project(exprs, Arc::clone(projection.schema.inner())));
                    &projection.input
                }
                LogicalPlan::SubqueryAlias(alias) => &alias.input,
                other => {
                    stages.reverse();
                    return Ok((stages, other));
                }
            };
        }
    }

    /// An aggregate function over rows of the schema `input`; `columns` says what the columns of the
    /// plan's schema are there.
    fn function(
        &self,
        expr: &Expr,
        logical: &DFSchema,
        columns: &Columns,
        input: &SchemaRef,
    ) -> Result<Function, Error> {
        let schema = logical.as_arrow();
        let expr = functions::read(expr)?;
        let lowered =
            LoweredAggregateBuilder::new(&expr, logical, schema, &self.props, &self.planning).build()?;
        let over_input = |expr| columns.apply(checked(expr, schema)?);
        let aggregate = lowered.aggregate;
        let args = aggregate.expressions().into_iter().map(over_input).collect::<Result<_, _>>()?;
        let aggregate = AggregateExprBuilder::new(Arc::new(aggregate.fun().clone()), args)
            .schema(Arc::clone(input))
            .alias(aggregate.name())
            .with_distinct(aggregate.is_distinct())
            .build()?;
        let filter = lowered.filter.map(over_input).transpose()?;
        Ok(Function { aggregate: Arc::new(aggregate), filter })
    }

    /// The refusal of a column in the place of an event time.
    fn not_event_time(&self, construct: &str, written: &str) -> Error {
        let is_stream = |table: &&Table<'_>| self.groups.iter().all(|group| group.changes.name != table.name);
        let read = self.tables.iter().filter(is_stream);
        let read = read.filter(|t| self.sources.iter().any(|s| s.stream == t.name));
        let times: Vec<String> =
            read.map(|table| format!("{} of {:?}", table.event_time, table.name)).collect();
        let message = match times.as_slice() {
            [_] => format!("{written} is not the event time of the stream"),
            _ => format!("{written} is not an event time"),
        };
        let hint = match times.as_slice() {
            [one] => format!("watermarks follow the event time: {one}"),
            several => format!(
                "watermarks follow the event times: {}; behind a join the two that its time bound compares, and behind a LEFT JOIN only that of the left side",
                several.join(", ")
            ),
        };
        Error::new(Code::BadWindow, construct, message).hint(hint)
    }
}

fn always_true(predicate: &Arc<dyn PhysicalExpr>) -> bool {
    predicate.downcast_ref::<Literal>().is_some_and(|l| *l.value() == ScalarValue::Boolean(Some(true)))
}

fn unsupported(node: &LogicalPlan) -> Error {
    let name = node.display().to_string();
    Error::unsupported(name.split([':', ' ']).next().unwrap_or("this"), EXAMPLE)
}

/// The stages above the shape over its columns; the last projection is kept, for it says what comes out, and so are the
/// filters above it.
fn over(mut stages: Vec<Stage>, columns: Columns) -> Result<Vec<Stage>, Error> {
    let last = stages.iter().rposition(|stage| matches!(stage, Stage::Project(..)));
    let top = last.map_or_else(Vec::new, |last| stages.split_off(last));
    let (mut stages, columns) = picked(stages, columns)?;
    for stage in top {
        stages.push(match stage {
            Stage::Project(exprs, schema) => {
                let exprs = exprs.into_iter().map(|expr| columns.apply(expr)).collect::<Result<_, _>>()?;
                Stage::Project(exprs, schema)
            }
            filter @ Stage::Filter(_) => filter,
        });
    }
    Ok(stages)
}

/// The input column that column `position` of the last stage is, if no stage computes it.
pub(super) fn origin(stages: &[Stage], position: usize) -> Option<usize> {
    stages.iter().rev().try_fold(position, |position, stage| match stage {
        Stage::Filter(_) => Some(position),
        Stage::Project(exprs, _) => {
            let expr = exprs.get(position)?;
            let expr = expr.downcast_ref::<CastExpr>().map_or(expr, |cast| cast.expr());
            expr.downcast_ref::<Column>().map(Column::index)
        }
    })
}

/// The input schema of `stages`, or what the last projection gives.
pub(super) fn schema_after(stages: &[Stage], input: &Arc<Schema>) -> Arc<Schema> {
    let last = stages.iter().rev().find_map(|stage| match stage {
        Stage::Project(_, schema) => Some(schema),
        Stage::Filter(_) => None,
    });
    Arc::clone(last.unwrap_or(input))
}
