//! An optimised logical plan to a [`FeatureQuery`]: physical expressions in the order of their stages.
//!
//! ```text
//! (Projection | Filter)* → Aggregate → (Projection | Filter)* → Window → (Projection | Filter)* → TableScan
//!         after                                within                            before
//! ```

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{
    Aggregate as LogicalAggregate, Expr, LogicalPlan, TableScan, UserDefinedLogicalNodeCore,
};
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, LoweredAggregateBuilder};
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};

use super::Table;
use super::arithmetic::checked;
use super::columns::{Columns, picked};
use super::error::{Code, Error};
use super::explain::sql;
use super::output;
use super::scope::WINDOW_COLUMNS;
use super::tokens::EXAMPLE;
use super::window::WindowNode;
use crate::query::{
    Aggregate, EventTime, FeatureQuery, Function, Group, Node, Relation, Source, Stage, Windowed,
};
use crate::time::Span;

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
    let (within, window) = lowering.down_to(&aggregate.input, |node| match node {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<WindowNode>(),
        _ => None,
    })?;
    let (before, scan) = lowering.down_to(&window.input, |node| match node {
        LogicalPlan::TableScan(scan) => Some(scan),
        _ => None,
    })?;

    let scanned = Arc::clone(scan.projected_schema.inner());
    let (mut before, events) = picked(before, Columns::of(&scanned))?;
    let below = schema_after(&before, &scanned);
    let width = below.fields().len();
    let mut columns = events.clone();
    columns.0.extend(Columns::at(WINDOW_COLUMNS.map(ToOwned::to_owned).into_iter().zip(width..)).0);
    let (mut within, columns) = picked(within, columns)?;
    hoist(&mut within, &mut before, width);

    let (source, time) = source(scan, &before, &events, window, tables)?;
    let input = schema_after(&within, &with_window(&below, window));
    let aggregate = lowering.aggregate(aggregate, &within, &columns, width, input)?;
    let after = over(after, &aggregate.schema)?;
    let windowed = Windowed { time, window: window.window, within, aggregate };
    let input = Relation { node: Node::Source(0), stages: before, schema: below };
    output::finish(vec![source], input, windowed, after, plan.schema().as_arrow())
}

/// The window's output: its input and its own columns.
fn with_window(below: &SchemaRef, window: &WindowNode) -> SchemaRef {
    let mut fields = below.fields().to_vec();
    for name in WINDOW_COLUMNS {
        fields.extend(window.schema().field_with_unqualified_name(name).ok().map(Arc::clone));
    }
    Arc::new(Schema::new(fields))
}

/// The stages above the aggregate over its columns; the last one is kept, for it names the output.
fn over(mut stages: Vec<Stage>, schema: &Schema) -> Result<Vec<Stage>, Error> {
    let last = stages.pop();
    let (mut stages, columns) = picked(stages, Columns::of(schema))?;
    stages.extend(match last {
        Some(Stage::Filter(predicate)) => Some(Stage::Filter(columns.apply(predicate)?)),
        Some(Stage::Project(exprs, schema)) => {
            let exprs = exprs.into_iter().map(|expr| columns.apply(expr)).collect::<Result<_, _>>()?;
            Some(Stage::Project(exprs, schema))
        }
        None => None,
    });
    Ok(stages)
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
        columns: &Columns,
        width: usize,
        input: SchemaRef,
    ) -> Result<Aggregate, Error> {
        let logical = aggregate.input.schema();
        let (mut groups, mut fields) = (Vec::new(), Vec::new());
        for (expr, field) in aggregate.group_expr.iter().zip(aggregate.schema.fields()) {
            let physical = self.physical(expr, logical)?;
            let name = sql(&columns.apply(Arc::clone(&physical))?);
            let picked =
                physical.downcast_ref::<Column>().and_then(|column| columns.position(column.index()));
            let position = picked.and_then(|position| origin(within, position));
            groups.push(match position.and_then(|position| position.checked_sub(width)) {
                Some(0) => Group::WindowStart,
                Some(1) => Group::WindowEnd,
                Some(_) => Group::WindowTime,
                None => {
                    output::key_type(field.data_type(), &name)?;
                    Group::Key(columns.apply(physical)?, field.data_type().clone())
                }
            });
            fields.push(Field::new(name, field.data_type().clone(), field.is_nullable()));
        }
        if groups.iter().all(|group| matches!(group, Group::Key(..))) {
            return Err(Error::new(Code::NoWindow, "GROUP BY", "GROUP BY names no column of the window")
                .hint("add window_end: GROUP BY key, window_end"));
        }
        let mut functions = Vec::new();
        for expr in &aggregate.aggr_expr {
            let function = self.function(expr, logical, columns, &input)?;
            fields.push(Field::new(
                function.to_string(),
                function.aggregate.field().data_type().clone(),
                true,
            ));
            functions.push(function);
        }
        Ok(Aggregate { input, groups, functions, schema: Arc::new(Schema::new(fields)) })
    }

    fn function(
        &self,
        expr: &Expr,
        logical: &DFSchema,
        columns: &Columns,
        input: &SchemaRef,
    ) -> Result<Function, Error> {
        let schema = logical.as_arrow();
        let lowered =
            LoweredAggregateBuilder::new(expr, logical, schema, &self.props, &self.planning).build()?;
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
    before: &[Stage],
    events: &Columns,
    window: &WindowNode,
    tables: &[Table<'_>],
) -> Result<(Source, EventTime), Error> {
    let stream = scan.table_name.table();
    let unknown = || Error::new(Code::UnknownTable, stream, format!("there is no stream {stream:?}"));
    let table = tables.iter().find(|table| table.name == stream).ok_or_else(unknown)?;
    let all = || (0..table.schema.fields().len()).collect();
    let columns: Vec<usize> = scan.projection.clone().unwrap_or_else(all);
    let named = |name: &str| {
        columns.iter().position(|i| table.schema.fields().get(*i).is_some_and(|f| f.name() == name))
    };
    let (written, time) = match &window.time {
        Expr::Column(column) => {
            (&column.name, events.position(window.input.schema().index_of_column(column)?))
        }
        other => return Err(not_event_time(&other.to_string(), table)),
    };
    match (named(table.event_time), time, time.and_then(|time| origin(before, time))) {
        (Some(event_time), Some(time), Some(origin)) if event_time == origin => {
            let schema = Arc::clone(scan.projected_schema.inner());
            let source = Source { stream: stream.to_owned(), columns, event_time, schema };
            Ok((source, EventTime { column: time, hold: Span(0) }))
        }
        _ => Err(not_event_time(written, table)),
    }
}

fn not_event_time(column: &str, table: &Table<'_>) -> Error {
    let message = format!("DESCRIPTOR({column}) is not the event time of stream {:?}", table.name);
    Error::new(Code::BadWindow, "DESCRIPTOR", message)
        .hint(format!("watermarks follow the event time: DESCRIPTOR({})", table.event_time))
}

/// The input schema of `stages`, or what the last projection gives.
pub(super) fn schema_after(stages: &[Stage], input: &Arc<Schema>) -> Arc<Schema> {
    let last = stages.iter().rev().find_map(|stage| match stage {
        Stage::Project(_, schema) => Some(schema),
        Stage::Filter(_) => None,
    });
    Arc::clone(last.unwrap_or(input))
}
