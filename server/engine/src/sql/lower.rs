//! An optimised logical plan to a [`FeatureQuery`]: physical expressions in the order of their stages.
//!
//! ```text
//! (Projection | Filter)* → Aggregate → (Projection | Filter)* → Window → (Projection | Filter)* → TableScan
//!         after                                within                            before
//! ```

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Aggregate as LogicalAggregate, Expr, LogicalPlan, TableScan};
use datafusion::physical_expr::aggregate::LoweredAggregateBuilder;
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};

use super::Table;
use super::arithmetic::checked;
use super::error::{Code, Error};
use super::output;
use super::tokens::EXAMPLE;
use super::window::WindowNode;
use crate::query::{Aggregate, FeatureQuery, Function, Group, Source, Stage};

/// Lowers a plan over `tables`.
pub(super) fn lower(
    plan: &LogicalPlan,
    tables: &[Table<'_>],
    config: Arc<ConfigOptions>,
) -> Result<FeatureQuery, Error> {
    let mut props = ExecutionProps::new();
    props.config_options = Some(config);
    let lowering = Lowering { props, planning: PhysicalPlanningContext::default() };

    let (after, aggregate) = lowering.down_to(plan, |node| match node {
        LogicalPlan::Aggregate(aggregate) => Some(aggregate),
        _ => None,
    })?;
    let (mut within, window) = lowering.down_to(&aggregate.input, |node| match node {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<WindowNode>(),
        _ => None,
    })?;
    let (mut before, scan) = lowering.down_to(&window.input, |node| match node {
        LogicalPlan::TableScan(scan) => Some(scan),
        _ => None,
    })?;

    let width = window.input.schema().fields().len();
    hoist(&mut within, &mut before, width);
    let source = source(scan, before, window, tables)?;
    let aggregate = lowering.aggregate(aggregate, &within, width)?;
    output::finish(source, window.window, within, aggregate, after)
}

struct Lowering {
    props: ExecutionProps,
    planning: PhysicalPlanningContext,
}

impl Lowering {
    fn physical(&self, expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>, Error> {
        let physical = create_physical_expr(expr, schema, &self.props, &self.planning)?;
        Ok(checked(physical, schema.as_arrow())?)
    }

    /// The stages from `plan` down to the node that `found` accepts, in the order of the rows.
    fn down_to<'p, T>(
        &self,
        plan: &'p LogicalPlan,
        found: impl Fn(&'p LogicalPlan) -> Option<T>,
    ) -> Result<(Vec<Stage>, T), Error> {
        let mut stages = Vec::new();
        let mut node = plan;
        loop {
            if let Some(it) = found(node) {
                stages.reverse();
                return Ok((stages, it));
            }
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
                    let name = other.display().to_string();
                    return Err(Error::unsupported(name.split([':', ' ']).next().unwrap_or("this"), EXAMPLE));
                }
            };
        }
    }

    fn aggregate(
        &self,
        aggregate: &LogicalAggregate,
        within: &[Stage],
        width: usize,
    ) -> Result<Aggregate, Error> {
        let logical = aggregate.input.schema();
        let input = Arc::clone(logical.inner());
        let mut groups = Vec::new();
        for expr in &aggregate.group_expr {
            let physical = self.physical(expr, logical)?;
            let position =
                physical.downcast_ref::<Column>().and_then(|column| origin(within, column.index()));
            groups.push(match position.and_then(|position| position.checked_sub(width)) {
                Some(0) => Group::WindowStart,
                Some(1) => Group::WindowEnd,
                Some(_) => Group::WindowTime,
                None => {
                    let data_type = physical.data_type(&input).map_err(Error::from)?;
                    output::key_type(&data_type, &written(expr))?;
                    Group::Key(physical, data_type)
                }
            });
        }
        if groups.iter().all(|group| matches!(group, Group::Key(..))) {
            return Err(Error::new(Code::NoWindow, "GROUP BY", "GROUP BY names no column of the window")
                .hint("add window_end: GROUP BY key, window_end"));
        }
        let functions =
            aggregate.aggr_expr.iter().map(|e| self.function(e, logical)).collect::<Result<_, _>>()?;
        Ok(Aggregate { input, groups, functions, schema: Arc::clone(aggregate.schema.inner()) })
    }

    fn function(&self, expr: &Expr, logical: &DFSchema) -> Result<Function, Error> {
        let schema = logical.as_arrow();
        let lowered =
            LoweredAggregateBuilder::new(expr, logical, schema, &self.props, &self.planning).build()?;
        let args = lowered.aggregate.expressions();
        let args = args.into_iter().map(|arg| checked(arg, schema)).collect::<Result<Vec<_>, _>>()?;
        let aggregate = match lowered.aggregate.with_new_expressions(args, Vec::new()) {
            Some(aggregate) => Arc::new(aggregate),
            None => lowered.aggregate,
        };
        let filter = lowered.filter.map(|filter| checked(filter, schema)).transpose()?;
        Ok(Function { aggregate, filter })
    }
}

/// An expression as a person wrote it: without the relation that resolution has put before each column.
pub(super) fn written(expr: &Expr) -> String {
    use datafusion::common::tree_node::{Transformed, TreeNode};
    let bare = expr.clone().transform(|node| {
        Ok(match node {
            Expr::Column(column) => {
                Transformed::yes(Expr::Column(datafusion::common::Column::new_unqualified(column.name)))
            }
            other => Transformed::no(other),
        })
    });
    bare.map_or_else(|_| expr.to_string(), |bare| bare.data.to_string())
}

fn always_true(predicate: &Arc<dyn PhysicalExpr>) -> bool {
    predicate.downcast_ref::<Literal>().is_some_and(|l| *l.value() == ScalarValue::Boolean(Some(true)))
}

/// Filters right above the window that read none of its columns go below it: fewer rows get a window.
/// The window's schema begins with its input's, so their column positions stay as they are.
fn hoist(within: &mut Vec<Stage>, before: &mut Vec<Stage>, width: usize) {
    while let Some(Stage::Filter(predicate)) = within.first() {
        let columns = datafusion::physical_expr::utils::collect_columns(predicate);
        if columns.iter().any(|column| column.index() >= width) {
            break;
        }
        before.push(within.remove(0));
    }
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

fn source(
    scan: &TableScan,
    before: Vec<Stage>,
    window: &WindowNode,
    tables: &[Table<'_>],
) -> Result<Source, Error> {
    let stream = scan.table_name.table();
    let unknown = || Error::new(Code::UnknownTable, stream, format!("there is no stream {stream:?}"));
    let table = tables.iter().find(|table| table.name == stream).ok_or_else(unknown)?;
    let all = || (0..table.schema.fields().len()).collect();
    let columns: Vec<usize> = scan.projection.clone().unwrap_or_else(all);
    let named = |name: &str| {
        columns.iter().position(|i| table.schema.fields().get(*i).is_some_and(|f| f.name() == name))
    };

    let time = match &window.time {
        Expr::Column(column) => window.input.schema().index_of_column(column)?,
        other => return Err(not_event_time(&other.to_string(), table)),
    };
    let written = written(&window.time);
    match (named(table.event_time), origin(&before, time)) {
        (Some(event_time), Some(origin)) if event_time == origin => {
            Ok(Source { stream: stream.to_owned(), columns, event_time, before, time })
        }
        _ => Err(not_event_time(&written, table)),
    }
}

fn not_event_time(column: &str, table: &Table<'_>) -> Error {
    let message = format!("DESCRIPTOR({column}) is not the event time of stream {:?}", table.name);
    Error::new(Code::BadWindow, "DESCRIPTOR", message)
        .hint(format!("watermarks follow the event time: DESCRIPTOR({})", table.event_time))
}

/// A field with a name, a type and nothing else.
pub(super) fn bare(field: &Field, nullable: bool) -> Field {
    Field::new(field.name(), field.data_type().clone(), nullable)
}

/// The input schema of `stages`, or what the last projection gives.
pub(super) fn schema_after(stages: &[Stage], input: &Arc<Schema>) -> Arc<Schema> {
    let last = stages.iter().rev().find_map(|stage| match stage {
        Stage::Project(_, schema) => Some(schema),
        Stage::Filter(_) => None,
    });
    Arc::clone(last.unwrap_or(input))
}
