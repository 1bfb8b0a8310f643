//! Parts of a query as SQL writes them.

use std::fmt;
use std::sync::Arc;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_expr_common::physical_expr::fmt_sql;

use crate::query::{Function, Window};
use crate::sql::functions::{By, COUNT_DISTINCT, FITS, Kept, Kind, ZERO_AS_NULL, kind};
use crate::time::Span;

/// The expression as SQL: DataFusion writes literals without quotes, and instants as numbers. The
/// rules of arithmetic hold everywhere, so what enforces them is not shown.
pub(in crate::sql) fn sql(expr: &Arc<dyn PhysicalExpr>) -> String {
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

impl fmt::Display for Function {
    /// The call as SQL writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (args, name) = (self.aggregate.expressions(), self.aggregate.fun().name());
        let constant =
            |arg: &Arc<dyn PhysicalExpr>| arg.downcast_ref::<Literal>().is_some_and(|l| !l.value().is_null());
        let rows = name == "count" && args.iter().all(constant);
        let args: Vec<String> = args.iter().map(sql).collect();
        match kind(self.aggregate.fun()) {
            _ if rows => f.write_str("count(*)")?,
            Some(Kind::Kept(kept)) => kept_call(kept, &args, f)?,
            Some(Kind::Percentile(it)) => write!(f, "{name}({}, {})", args.join(", "), it.share.get())?,
            Some(Kind::ApproxPercentile(it)) => write!(f, "{name}({}, {})", args.join(", "), it.share.get())?,
            Some(Kind::Distinct(it)) => write!(f, "{}(DISTINCT {})", it.called(), args.join(", "))?,
            _ if name == COUNT_DISTINCT => write!(f, "count(DISTINCT {})", args.join(", "))?,
            _ => write!(f, "{name}({})", args.join(", "))?,
        }
        match &self.filter {
            Some(filter) => write!(f, " FILTER (WHERE {})", sql(filter)),
            None => Ok(()),
        }
    }
}

/// A call with the constants that it was written with, and its order.
fn kept_call(kept: &Kept, args: &[String], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (value, order) = args.split_first().map_or(("", &[][..]), |(value, order)| (value.as_str(), order));
    let distinct = if kept.distinct { "DISTINCT " } else { "" };
    write!(f, "{}({distinct}{value}", kept.name)?;
    match &kept.by {
        By::Time { sort, .. } => {
            for (number, (column, options)) in order.iter().zip(sort).enumerate() {
                let before = if number == 0 { " ORDER BY " } else { ", " };
                write!(f, "{before}{column} {options}")?;
            }
        }
        By::Value { .. } => {}
    }
    if matches!(kept.name, "first_value" | "last_value") {
        return f.write_str(")");
    }
    write!(f, " LIMIT {})", kept.limit)
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

/// A length of time in its greatest whole unit, from a second on at most in seconds.
pub(in crate::sql) fn length(span: Span) -> String {
    let units = [
        (86_400_000_000, "day"),
        (3_600_000_000, "hour"),
        (60_000_000, "minute"),
        (1_000_000, "second"),
        (1_000, "millisecond"),
        (1, "microsecond"),
    ];
    let whole = |(unit, _): &&(i64, &str)| span.0 % unit == 0 && (span.0 != 0 || *unit == 1_000_000);
    match units.iter().find(whole) {
        Some((unit, name)) if *unit >= 1_000_000 || span.0.abs() < 1_000_000 => {
            let n = span.0 / unit;
            format!("{n} {name}{}", if n.abs() == 1 { "" } else { "s" })
        }
        _ => {
            let (sign, micros) = (if span.0 < 0 { "-" } else { "" }, span.0.unsigned_abs());
            let fraction = format!("{:06}", micros % 1_000_000);
            format!("{sign}{}.{} seconds", micros / 1_000_000, fraction.trim_end_matches('0'))
        }
    }
}
