//! The lengths of time of a window: INTERVAL literals to microseconds, and which windows they make.

use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::sql::sqlparser::ast;

use super::call::Kind;
use super::error::Error;
use crate::query::Window;
use crate::time::Span;

const DAY: i64 = 86_400_000_000;

/// A hundred years: the ends of longer windows leave the calendar.
pub(super) const LONGEST: i64 = 36_525 * DAY;

/// The most slices that a window may be made of: each is merged when the window closes.
const SLICES: i64 = 100_000;

/// The window of a kind with these lengths: those that it must have, then perhaps an offset.
pub(super) fn window(
    kind: Kind,
    lengths: Vec<ast::Expr>,
    cx: &mut dyn RelationPlannerContext,
) -> Result<Window> {
    let mut spans = Vec::new();
    for (length, name) in lengths.into_iter().zip(kind.lengths().iter().chain(&["OFFSET"])) {
        let span = span(kind, length, name, cx)?;
        if *name != "OFFSET" {
            check(kind, span, name)?;
        }
        spans.push(span);
    }
    let window = match (kind, spans.as_slice()) {
        (Kind::Tumble, [size, offset @ ..]) => Window::Tumble { size: *size, offset: aligned(offset, *size) },
        (Kind::Hop, [slide, size, offset @ ..]) => hop(*slide, *size, offset)?,
        (Kind::Cumulate, [step, size, offset @ ..]) => cumulate(*step, *size, offset)?,
        (Kind::Session, [gap]) => Window::Session { gap: *gap },
        _ => return datafusion::common::internal_err!("a window call that was not put into its one form"),
    };
    Ok(window)
}

/// The same windows, one spelling.
fn aligned(offset: &[Span], period: Span) -> Span {
    offset.first().map_or(Span(0), |offset| Span(offset.0.rem_euclid(period.0)))
}

fn hop(slide: Span, size: Span, offset: &[Span]) -> Result<Window, Error> {
    if slide > size {
        return Err(Kind::Hop.bad(
            "the SLIDE of HOP is longer than its SIZE, so events between two windows would count in none",
        ));
    }
    let slice = gcd(slide.0, size.0);
    if size.0 / slice > SLICES {
        return Err(Kind::Hop.bad(format!(
            "a window of {} slices is too fine; the most is {SLICES} (SIZE divided by the greatest length that divides SIZE and SLIDE)",
            size.0 / slice
        )));
    }
    Ok(Window::Hop { slide, size, offset: aligned(offset, slide) })
}

fn cumulate(step: Span, size: Span, offset: &[Span]) -> Result<Window, Error> {
    if size.0 % step.0 != 0 {
        return Err(Kind::Cumulate.bad("the SIZE of CUMULATE is a multiple of its STEP"));
    }
    if size.0 / step.0 > SLICES {
        return Err(Kind::Cumulate
            .bad(format!("{} steps are too many for a window; the most is {SLICES}", size.0 / step.0)));
    }
    Ok(Window::Cumulate { step, size, offset: aligned(offset, size) })
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn check(kind: Kind, span: Span, name: &str) -> Result<(), Error> {
    let name = name.to_lowercase();
    if span.0 > LONGEST {
        return Err(kind.bad(format!(
            "{} days are too long for the {name} of a window; the longest is 36525 days",
            span.0 / DAY
        )));
    }
    if span.0 <= 0 {
        return Err(kind.bad(format!("the {name} of a window is positive, not {} µs", span.0)));
    }
    Ok(())
}

/// The length that an INTERVAL literal says.
fn span(kind: Kind, expr: ast::Expr, name: &str, cx: &mut dyn RelationPlannerContext) -> Result<Span> {
    let written = expr.to_string();
    let not_an_interval = || {
        kind.bad(format!(
            "the {} of a window is an interval like INTERVAL '5' MINUTES, not {written}",
            name.to_lowercase()
        ))
    };
    let planned = cx.sql_to_expr(expr, &DFSchema::empty()).map_err(|_| not_an_interval())?;
    let Expr::Literal(value, _) = planned else { return Err(not_an_interval().into()) };
    match micros(&value, &written) {
        None => Err(not_an_interval().into()),
        Some(span) => Ok(span.map_err(|message| kind.bad(message))?),
    }
}

/// The whole microseconds of an interval, or what is wrong with `what` it is; nothing if it is none.
pub(super) fn micros(value: &ScalarValue, what: &str) -> Option<Result<Span, String>> {
    let (months, days, nanos) = match value {
        ScalarValue::IntervalMonthDayNano(Some(v)) => (v.months, v.days, v.nanoseconds),
        ScalarValue::IntervalDayTime(Some(v)) => (0, v.days, i64::from(v.milliseconds) * 1_000_000),
        ScalarValue::IntervalYearMonth(Some(months)) => (*months, 0, 0),
        _ => return None,
    };
    if months != 0 {
        return Some(Err(format!("{what} has months, which differ in length; write days")));
    }
    if nanos % 1_000 != 0 {
        return Some(Err(format!("{what} is finer than a microsecond")));
    }
    let span = i64::from(days).checked_mul(DAY).and_then(|days| days.checked_add(nanos / 1_000));
    Some(span.map(Span).ok_or_else(|| format!("{what} is too long")))
}
