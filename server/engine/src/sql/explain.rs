//! What a definition was lowered to, for people and programs.

use std::fmt;
use std::sync::Arc;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};

use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_expr_common::physical_expr::fmt_sql;
use serde::Serialize;

use super::functions::{COUNT_DISTINCT, FITS, ZERO_AS_NULL};
use crate::query::{FeatureQuery, Function, Shape, Stage, Window};
use crate::time::Span;

/// A feature query in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explain {
    /// The streams it reads.
    pub sources: Vec<ExplainedSource>,
    /// The window, as SQL says it.
    pub window: String,
    /// Filters and projections between the window and the aggregates.
    pub within: Vec<String>,
    /// Columns of the primary key, in GROUP BY order. Empty: one row.
    pub key: Vec<ExplainedColumn>,
    /// The aggregates with what is kept for each key and window until the window closes.
    pub aggregates: Vec<ExplainedAggregate>,
    /// HAVING and what is computed from the aggregates.
    pub after: Vec<String>,
    /// The columns of the feature group.
    pub output: Vec<ExplainedColumn>,
    /// When rows come out.
    pub emission: String,
    /// What the watermark delay adds to that.
    pub watermark_delay: String,
}

/// One stream as it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedSource {
    /// The stream.
    pub stream: String,
    /// How many of its columns are decoded; the others cost nothing.
    pub columns_read: usize,
    /// Filters and projections below the window.
    pub before: Vec<String>,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedColumn {
    /// Its name.
    pub name: String,
    /// Its Arrow type.
    pub data_type: String,
}

/// One aggregate function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedAggregate {
    /// The call.
    pub function: String,
    /// The types of the partial aggregate that is kept per key and window.
    pub state: Vec<String>,
}

impl FeatureQuery {
    /// Says what the query does, over a stream with this watermark delay and for windows that stay
    /// open for this long after the watermark has passed their end.
    pub fn explain(&self, watermark_delay: Span, allowed_lateness: Span) -> Explain {
        let (window, within, aggregates) = match &self.shape {
            Shape::Windowed(windowed) => (
                windowed.window.to_string(),
                stages(&windowed.within),
                windowed.aggregate.functions.iter().map(aggregate).collect(),
            ),
            Shape::Rolling(rolling) => {
                let frames = rolling.frames.iter().map(|frame| length(frame.preceding)).collect::<Vec<_>>();
                let functions = rolling.frames.iter().flat_map(|frame| &frame.functions);
                (
                    format!("OVER {} PRECEDING", frames.join(", ")),
                    Vec::new(),
                    functions.map(aggregate).collect(),
                )
            }
        };
        let key = self.key.iter().filter_map(|i| self.output.fields().get(*i));
        let emission = match allowed_lateness {
            Span(0) => "one row per key and window, when the watermark passes the window's end; later records are late".to_owned(),
            lateness => format!(
                "one row per key and window, when the watermark passes the window's end; a record up to {} later emits a revision",
                length(lateness)
            ),
        };
        let delay = match watermark_delay {
            Span(0) => "none: the watermark is the greatest event time seen, a window closes with the first event after its end".to_owned(),
            delay => format!(
                "{0}: the watermark is the greatest event time seen less {0}, so a row comes out when an event {0} after its window's end has come in",
                length(delay)
            ),
        };
        Explain {
            sources: self
                .sources
                .iter()
                .map(|source| ExplainedSource {
                    stream: source.stream.clone(),
                    columns_read: source.columns.len(),
                    before: stages(&self.input.stages),
                })
                .collect(),
            window,
            within,
            key: key.map(|field| column(field)).collect(),
            aggregates,
            after: stages(&self.after),
            output: self.output.fields().iter().map(|field| column(field)).collect(),
            emission,
            watermark_delay: delay,
        }
    }
}

fn column(field: &arrow::datatypes::Field) -> ExplainedColumn {
    ExplainedColumn { name: field.name().clone(), data_type: field.data_type().to_string() }
}

/// The expression as SQL: DataFusion writes literals without quotes, and instants as numbers. The
/// rules of arithmetic hold everywhere, so what enforces them is not shown.
pub(super) fn sql(expr: &Arc<dyn PhysicalExpr>) -> String {
    let quoted = Arc::clone(expr).transform_down(|node| {
        let rule = node
            .downcast_ref::<ScalarFunctionExpr>()
            .filter(|call| [ZERO_AS_NULL, FITS].contains(&call.name()));
        if let Some([inner]) = rule.map(ScalarFunctionExpr::args) {
            return Ok(Transformed::yes(Arc::clone(inner)));
        }
        let text = match node.downcast_ref::<Literal>().map(Literal::value) {
            Some(value) if value.is_null() => return Ok(Transformed::no(node)),
            Some(ScalarValue::Dictionary(_, value)) => value.to_string(),
            Some(value @ ScalarValue::Utf8(_)) => value.to_string(),
            Some(value) if value.data_type().is_temporal() => {
                let array = value.to_array()?;
                ArrayFormatter::try_new(&array, &FormatOptions::new())?.value(0).to_string()
            }
            _ => return Ok(Transformed::no(node)),
        };
        let literal = Literal::new(ScalarValue::from(format!("'{}'", text.replace('\'', "''"))));
        Ok(Transformed::new(Arc::new(literal) as _, true, TreeNodeRecursion::Jump))
    });
    let quoted = quoted.map_or_else(|_| Arc::clone(expr), |quoted| quoted.data);
    fmt_sql(quoted.as_ref()).to_string()
}

fn stages(stages: &[Stage]) -> Vec<String> {
    stages
        .iter()
        .map(|stage| match stage {
            Stage::Filter(predicate) => format!("filter {}", sql(predicate)),
            Stage::Project(exprs, schema) => {
                let columns = exprs.iter().zip(schema.fields()).map(|(expr, field)| {
                    let expr = sql(expr);
                    if expr == *field.name() { expr } else { format!("{expr} AS {}", field.name()) }
                });
                format!("project {}", columns.collect::<Vec<_>>().join(", "))
            }
        })
        .collect()
}

fn aggregate(function: &Function) -> ExplainedAggregate {
    let state = function.aggregate.state_fields().unwrap_or_default();
    let state = state.iter().map(|field| field.data_type().to_string()).collect();
    ExplainedAggregate { function: function.to_string(), state }
}

impl fmt::Display for Function {
    /// The call as SQL writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (args, name) = (self.aggregate.expressions(), self.aggregate.fun().name());
        let constant =
            |arg: &Arc<dyn PhysicalExpr>| arg.downcast_ref::<Literal>().is_some_and(|l| !l.value().is_null());
        let rows = name == "count" && args.iter().all(constant);
        let args = args.iter().map(sql).collect::<Vec<_>>().join(", ");
        let (name, distinct) = if name == COUNT_DISTINCT { ("count", "DISTINCT ") } else { (name, "") };
        write!(f, "{name}({distinct}{})", if rows { "*" } else { &args })?;
        match &self.filter {
            Some(filter) => write!(f, " FILTER (WHERE {})", sql(filter)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Window {
    /// The window as SQL says it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = match *self {
            Self::Tumble { size, offset } => {
                write!(f, "TUMBLE {}", length(size))?;
                offset
            }
            Self::Hop { slide, size, offset } => {
                write!(f, "HOP {} every {}", length(size), length(slide))?;
                offset
            }
            Self::Cumulate { step, size, offset } => {
                write!(f, "CUMULATE {} by {}", length(size), length(step))?;
                offset
            }
            Self::Session { gap } => {
                write!(f, "SESSION {} gap", length(gap))?;
                Span(0)
            }
        };
        match offset {
            Span(0) => Ok(()),
            offset => write!(f, ", offset {}", length(offset)),
        }
    }
}

/// A length of time in its greatest whole unit.
fn length(span: Span) -> String {
    let units = [
        (86_400_000_000, "day"),
        (3_600_000_000, "hour"),
        (60_000_000, "minute"),
        (1_000_000, "second"),
        (1_000, "millisecond"),
    ];
    for (unit, name) in units {
        if span.0 != 0 && span.0 % unit == 0 {
            let n = span.0 / unit;
            return format!("{n} {name}{}", if n == 1 { "" } else { "s" });
        }
    }
    format!("{} microseconds", span.0)
}

impl fmt::Display for Explain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for source in &self.sources {
            writeln!(f, "source  {} ({} columns)", source.stream, source.columns_read)?;
            source.before.iter().try_for_each(|stage| writeln!(f, "        {stage}"))?;
        }
        writeln!(f, "window  {}", self.window)?;
        self.within.iter().try_for_each(|stage| writeln!(f, "        {stage}"))?;
        let list = |columns: &[ExplainedColumn]| {
            columns.iter().map(|c| format!("{} {}", c.name, c.data_type)).collect::<Vec<_>>().join(", ")
        };
        writeln!(
            f,
            "key     {}",
            if self.key.is_empty() { "none: one row".to_owned() } else { list(&self.key) }
        )?;
        for aggregate in &self.aggregates {
            writeln!(f, "state   {}: {}", aggregate.function, aggregate.state.join(", "))?;
        }
        self.after.iter().try_for_each(|stage| writeln!(f, "after   {stage}"))?;
        writeln!(f, "output  {}", list(&self.output))?;
        writeln!(f, "rows    {}", self.emission)?;
        write!(f, "delay   {}", self.watermark_delay)
    }
}
