//! The window as a node of DataFusion's logical plan, and what makes it of a `TUMBLE(…)` call.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::{DFSchema, DFSchemaRef, Result, ScalarValue, TableReference};
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{Expr, ExprSchemable, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::sql::sqlparser::ast::{self, FunctionArg, FunctionArgExpr, TableFactor};

use super::error::{Code, Error};
use super::scope::WINDOW_COLUMNS;
use crate::query::Window;
use crate::time::Span;

const DAY: i64 = 86_400_000_000;

/// A hundred years: the ends of longer windows leave the calendar.
const LONGEST: i64 = 36_525 * DAY;

/// `TUMBLE`: the input's columns, then [`WINDOW_COLUMNS`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct WindowNode {
    pub input: LogicalPlan,
    pub window: Window,
    pub time: Expr,
    schema: DFSchemaRef,
}

impl PartialOrd for WindowNode {
    fn partial_cmp(&self, _: &Self) -> Option<Ordering> {
        None // required by DataFusion, used by none of our rules
    }
}

impl WindowNode {
    fn new(input: LogicalPlan, window: Window, time: Expr) -> Result<Self> {
        let mut fields: Vec<(Option<TableReference>, FieldRef)> =
            input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
        let (_, field) = time.to_field(input.schema())?;
        for name in WINDOW_COLUMNS {
            fields.push((None, Arc::new(Field::new(name, field.data_type().clone(), false))));
        }
        let schema = Arc::new(DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?);
        Ok(Self { input, window, time, schema })
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
        vec![self.time.clone()]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Window: {:?} on {}", self.window, self.time)
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (exprs.pop(), inputs.pop()) {
            (Some(time), Some(input)) => Self::new(input, self.window, time),
            _ => datafusion::common::internal_err!("a window has one time column and one input"),
        }
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        WINDOW_COLUMNS.map(ToOwned::to_owned).into()
    }

    /// What a parent reads of the input, and the time column: the rest need not be decoded.
    fn necessary_children_exprs(&self, output: &[usize]) -> Option<Vec<Vec<usize>>> {
        let input = self.input.schema();
        let width = input.fields().len();
        let mut columns: Vec<usize> = output.iter().copied().filter(|i| *i < width).collect();
        for column in self.time.column_refs() {
            columns.push(input.index_of_column(column).ok()?);
        }
        columns.sort_unstable();
        columns.dedup();
        Some(vec![columns])
    }
}

/// Plans the `TUMBLE` calls that [`super::from`] has put into their positional form.
#[derive(Debug)]
pub(super) struct WindowPlanner;

impl RelationPlanner for WindowPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        cx: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::Table { args: Some(args), alias, .. } = relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let mut args = args.args.into_iter().filter_map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
            _ => None,
        });
        let (Some(input), Some(ast::Expr::Identifier(time)), Some(size)) =
            (args.next(), args.next(), args.next())
        else {
            return datafusion::common::internal_err!(
                "a window call that was not put into its positional form"
            );
        };
        let input = match input {
            ast::Expr::Identifier(name) => cx.plan(table(name))?,
            ast::Expr::Subquery(subquery) => {
                cx.plan(TableFactor::Derived { lateral: false, subquery, alias: None, sample: None })?
            }
            other => return datafusion::common::internal_err!("a window over {other}"),
        };
        let size = span(size, cx)?;
        if size.0 > LONGEST {
            return Err(bad(format!(
                "{} days are too long for a window; the longest is 36525 days",
                size.0 / DAY
            ))
            .into());
        }
        if size.0 <= 0 {
            return Err(bad(format!("the size of a window is positive, not {} µs", size.0)).into());
        }
        let offset = args.next().map_or(Ok(Span(0)), |offset| span(offset, cx))?;
        let offset = Span(offset.0.rem_euclid(size.0)); // the same windows, one spelling
        let (qualifier, field) = input.schema().qualified_field_with_unqualified_name(&time.value)?;
        if !matches!(field.data_type(), DataType::Timestamp(TimeUnit::Microsecond, Some(_))) {
            let message = format!(
                "the time column {} is {}, not the event time of a stream",
                time.value,
                field.data_type()
            );
            return Err(bad(message).into());
        }
        let time = Expr::Column((qualifier, field).into());
        let node = WindowNode::new(input, Window::Tumble { size, offset }, time)?;
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

fn table(name: ast::Ident) -> TableFactor {
    TableFactor::Table {
        name: ast::ObjectName::from(vec![name]),
        alias: None,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    }
}

/// The length that an INTERVAL literal says, in whole microseconds.
fn span(expr: ast::Expr, cx: &mut dyn RelationPlannerContext) -> Result<Span> {
    let written = expr.to_string();
    let not_an_interval =
        || bad(format!("a window's size is an interval like INTERVAL '5' MINUTES, not {written}"));
    let planned = cx.sql_to_expr(expr, &DFSchema::empty()).map_err(|_| not_an_interval())?;
    let (months, days, nanos) = match planned {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(v)), _) => (v.months, v.days, v.nanoseconds),
        Expr::Literal(ScalarValue::IntervalDayTime(Some(v)), _) => {
            (0, v.days, i64::from(v.milliseconds) * 1_000_000)
        }
        Expr::Literal(ScalarValue::IntervalYearMonth(Some(months)), _) => (months, 0, 0),
        _ => return Err(not_an_interval().into()),
    };
    if months != 0 {
        return Err(bad(format!("{written} has months, which differ in length; write days")).into());
    }
    if nanos % 1_000 != 0 {
        return Err(bad(format!("{written} is finer than a microsecond")).into());
    }
    let span = i64::from(days).checked_mul(DAY).and_then(|days| days.checked_add(nanos / 1_000));
    Ok(Span(span.ok_or_else(|| bad(format!("{written} is too long")))?))
}

fn bad(message: String) -> Error {
    Error::new(Code::BadWindow, "TUMBLE", message)
        .hint("TUMBLE(stream, DESCRIPTOR(event time), INTERVAL '5' MINUTES)")
}
