//! The window of a query as a node of the logical plan, made from its one form ([`super::call`]).

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::{DFSchema, DFSchemaRef, Result, TableReference};
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{Expr, ExprSchemable, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::sql::sqlparser::ast::{self, TableFactor};

use super::call::{Call, Kind, relation};
use super::lengths;
use super::scope::WINDOW_COLUMNS;
use crate::query::Window;

/// A window: the input's columns, then [`WINDOW_COLUMNS`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct WindowNode {
    pub input: LogicalPlan,
    pub window: Window,
    pub time: Expr,
    /// The columns after PARTITION BY inside the call.
    pub partition: Vec<Expr>,
    schema: DFSchemaRef,
}

impl PartialOrd for WindowNode {
    fn partial_cmp(&self, _: &Self) -> Option<Ordering> {
        None // required by DataFusion, used by none of our rules
    }
}

impl WindowNode {
    fn new(input: LogicalPlan, window: Window, time: Expr, partition: Vec<Expr>) -> Result<Self> {
        let mut fields: Vec<(Option<TableReference>, FieldRef)> =
            input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
        let (_, field) = time.to_field(input.schema())?;
        for name in WINDOW_COLUMNS {
            fields.push((None, Arc::new(Field::new(name, field.data_type().clone(), false))));
        }
        let schema = DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?;
        Ok(Self { input, window, time, partition, schema: Arc::new(schema) })
    }
}

impl UserDefinedLogicalNodeCore for WindowNode {
    fn name(&self) -> &'static str {
        "Window"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        std::iter::once(&self.time).chain(&self.partition).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Window: {:?} on {}", self.window, self.time)
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let mut exprs = exprs.into_iter();
        match (exprs.next(), inputs.pop()) {
            (Some(time), Some(input)) => Self::new(input, self.window, time, exprs.collect()),
            _ => datafusion::common::internal_err!("a window has one time column and one input"),
        }
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        WINDOW_COLUMNS.map(ToOwned::to_owned).into()
    }

    /// What a parent reads of the input, and the window's own columns: the rest need not be decoded.
    fn necessary_children_exprs(&self, output: &[usize]) -> Option<Vec<Vec<usize>>> {
        let input = self.input.schema();
        let width = input.fields().len();
        let mut columns: Vec<usize> = output.iter().copied().filter(|i| *i < width).collect();
        for column in self.expressions().iter().flat_map(Expr::column_refs) {
            columns.push(input.index_of_column(column).ok()?);
        }
        columns.sort_unstable();
        columns.dedup();
        Some(vec![columns])
    }
}

/// Plans window calls.
#[derive(Debug)]
pub(super) struct WindowPlanner;

impl RelationPlanner for WindowPlanner {
    fn plan_relation(
        &self,
        factor: TableFactor,
        cx: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let Some(call) = Call::of(&factor) else { return Ok(RelationPlanning::Original(Box::new(factor))) };
        let TableFactor::Table { alias, .. } = factor else {
            return datafusion::common::internal_err!("a window call that is no relation");
        };
        let input = match call.input {
            ast::Expr::Identifier(name) => cx.plan(relation(name, None, None))?,
            ast::Expr::Subquery(subquery) => {
                cx.plan(TableFactor::Derived { lateral: false, subquery, alias: None, sample: None })?
            }
            other => return datafusion::common::internal_err!("a window over {other}"),
        };
        let window = lengths::window(call.kind, call.lengths, cx)?;
        let time = column(&call.time, &input)?;
        let partition = call.partition.iter().map(|expr| column(expr, &input)).collect::<Result<_>>()?;
        check_time(call.kind, &time, &input)?;
        let node = WindowNode::new(input, window, time, partition)?;
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

/// The input's column that a resolved name means.
fn column(name: &ast::Expr, input: &LogicalPlan) -> Result<Expr> {
    let schema = input.schema();
    let (qualifier, field) = match name {
        ast::Expr::Identifier(column) => schema.qualified_field_with_unqualified_name(&column.value)?,
        ast::Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [relation, column] => {
                let relation = TableReference::bare(relation.value.as_str());
                schema.qualified_field_with_name(Some(&relation), &column.value)?
            }
            _ => return datafusion::common::internal_err!("{name} is no column of a window's input"),
        },
        _ => return datafusion::common::internal_err!("{name} is no column of a window's input"),
    };
    Ok(Expr::Column((qualifier, field).into()))
}

fn check_time(kind: Kind, time: &Expr, input: &LogicalPlan) -> Result<()> {
    let (_, field) = time.to_field(input.schema())?;
    match field.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => Ok(()),
        other => {
            let message =
                format!("the time column {} is {other}, not the event time of a stream", field.name());
            Err(kind.bad(message).into())
        }
    }
}
