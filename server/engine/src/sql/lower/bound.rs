//! The time bound of a join: from comparisons of the two event times to how far apart they may be.

use datafusion::common::Column;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

use crate::query::EventTime;
use crate::sql::error::{Code, Error};
use crate::sql::join::EXAMPLE;
use crate::sql::lengths;
use crate::time::Span;

/// A side of a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// What the comparisons so far say of `right.t - left.t`.
#[derive(Debug, Default)]
pub(super) struct Bound {
    /// It is at least this.
    pub lower: Option<i128>,
    /// It is at most this.
    pub upper: Option<i128>,
    /// The event time of each side that they compare.
    pub left: Option<EventTime>,
    pub right: Option<EventTime>,
}

/// A sum of event times and a length: `left * left.t + right * right.t + constant`.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    left: i32,
    right: i32,
    constant: i128,
    left_time: Option<EventTime>,
    right_time: Option<EventTime>,
}

impl Bound {
    /// Takes a condition into the bound, if it compares the event times of both sides.
    pub fn take(
        &mut self,
        condition: &Expr,
        time: &impl Fn(&Column) -> Option<(Side, EventTime)>,
    ) -> Result<bool, Error> {
        match condition {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => self.compare(left, *op, right, time),
            Expr::Between(between) if !between.negated => {
                let mut both = Self { left: self.left, right: self.right, ..Self::default() };
                let taken = both.compare(&between.expr, Operator::GtEq, &between.low, time)?
                    && both.compare(&between.expr, Operator::LtEq, &between.high, time)?;
                if taken {
                    self.narrow(both.lower, both.upper);
                    (self.left, self.right) = (both.left, both.right);
                }
                Ok(taken)
            }
            _ => Ok(false),
        }
    }

    fn compare(
        &mut self,
        a: &Expr,
        op: Operator,
        b: &Expr,
        time: &impl Fn(&Column) -> Option<(Side, EventTime)>,
    ) -> Result<bool, Error> {
        let (Some(a), Some(b)) = (sum(a, time)?, sum(b, time)?) else { return Ok(false) };
        let Some(difference) = a.plus(b, -1) else { return Ok(false) };
        // difference op 0, turned so that it is right.t - left.t - at
        let (op, at) = match (difference.left, difference.right) {
            (-1, 1) => (op, -difference.constant),
            (1, -1) => (op.swap().unwrap_or(op), difference.constant),
            _ => return Ok(false),
        };
        match op {
            Operator::Eq => self.narrow(Some(at), Some(at)),
            Operator::Lt => self.narrow(None, Some(at - 1)),
            Operator::LtEq => self.narrow(None, Some(at)),
            Operator::Gt => self.narrow(Some(at + 1), None),
            Operator::GtEq => self.narrow(Some(at), None),
            _ => return Ok(false),
        }
        for (known, found) in
            [(&mut self.left, difference.left_time), (&mut self.right, difference.right_time)]
        {
            if known.is_some_and(|known| Some(known) != found) {
                return Err(Error::unsupported(
                    "a time bound over several event times of one side",
                    "compare the same two columns in each condition",
                ));
            }
            *known = found;
        }
        Ok(true)
    }

    fn narrow(&mut self, lower: Option<i128>, upper: Option<i128>) {
        self.lower = self.lower.max(lower);
        self.upper = match (self.upper, upper) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
}

impl Sum {
    fn plus(self, other: Self, sign: i32) -> Option<Self> {
        let one = |a: Option<EventTime>, b: Option<EventTime>| match (a, b) {
            (Some(a), Some(b)) if a != b => None,
            (a, b) => Some(a.or(b)),
        };
        Some(Self {
            left: self.left.checked_add(sign.checked_mul(other.left)?)?,
            right: self.right.checked_add(sign.checked_mul(other.right)?)?,
            constant: self.constant.checked_add(i128::from(sign).checked_mul(other.constant)?)?,
            left_time: one(self.left_time, other.left_time)?,
            right_time: one(self.right_time, other.right_time)?,
        })
    }
}

/// The sum that an expression is, if it is one.
fn sum(expr: &Expr, time: &impl Fn(&Column) -> Option<(Side, EventTime)>) -> Result<Option<Sum>, Error> {
    Ok(match expr {
        Expr::Column(column) => match time(column) {
            Some((Side::Left, found)) => Some(Sum { left: 1, left_time: Some(found), ..Sum::default() }),
            Some((Side::Right, found)) => Some(Sum { right: 1, right_time: Some(found), ..Sum::default() }),
            None => None,
        },
        Expr::Literal(value, _) => match lengths::micros(value, "the time bound of the JOIN") {
            None => None,
            Some(Ok(Span(span))) => Some(Sum { constant: i128::from(span), ..Sum::default() }),
            Some(Err(message)) => return Err(Error::new(Code::BadWindow, "JOIN", message).hint(EXAMPLE)),
        },
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Plus | Operator::Minus), right }) => {
            let sign = if *op == Operator::Plus { 1 } else { -1 };
            match (sum(left, time)?, sum(right, time)?) {
                (Some(left), Some(right)) => left.plus(right, sign),
                _ => None,
            }
        }
        // Lengths of time become intervals or durations of one another; none of that changes them.
        Expr::Cast(cast) if cast.field.data_type().is_temporal() => sum(&cast.expr, time)?,
        Expr::Alias(alias) => sum(&alias.expr, time)?,
        _ => None,
    })
}
