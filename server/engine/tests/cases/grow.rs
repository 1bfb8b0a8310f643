//! Random expressions over the columns of a scope, of a wanted type.
//!
//! None of them fails, but for those that are to: these stand alone, because it is nobody's promise how much of an AND or
//! a CASE is evaluated. None is a constant: what a planner makes of constants is not what is tested here.

use super::dice::Dice;
use super::expression::{Expr, Op, call, float, int};
use super::value::{Kind, Value};

/// Columns that may be read, with their types.
#[derive(Default)]
pub struct Scope {
    pub columns: Vec<(usize, Kind)>,
    /// Those that are never NULL: whether they are is a constant.
    pub known: Vec<usize>,
}

const COMPARISONS: [Op; 6] =
    [Op::Equal, Op::NotEqual, Op::Less, Op::LessOrEqual, Op::Greater, Op::GreaterOrEqual];

/// What texts of the streams are made of, see [`super::course`].
pub const TEXTS: [&str; 6] = ["ann", "bob", "7", "-3", "x", ""];
pub const SYMBOLS: [&str; 3] = ["view", "click", "buy"];

/// Times this, all but few numbers are too large.
pub const MUCH: i64 = 4_611_686_018_427_387_904;

impl Scope {
    pub fn has(&self, kind: Kind) -> bool {
        self.columns.iter().any(|(_, of)| *of == kind)
    }

    pub fn column(&self, dice: &mut Dice, kind: Kind) -> Option<Expr> {
        let all: Vec<usize> = self.columns.iter().filter(|(_, of)| *of == kind).map(|(at, _)| *at).collect();
        (!all.is_empty()).then(|| Expr::Column(*dice.pick(&all)))
    }

    /// A condition by itself. IN stands alone: of several lists for one column DataFusion makes one, for which NULL is
    /// what it is not for them.
    pub fn condition(&self, dice: &mut Dice, depth: usize) -> Expr {
        let kind = *dice.pick(&[Kind::Int, Kind::Text, Kind::Symbol]);
        match self.column(dice, kind) {
            Some(column) if dice.chance(15) => {
                let list = (0..dice.within(1..=3)).map(|_| Self::literal(dice, kind));
                let is_in = call(Op::In, std::iter::once(column).chain(list).collect::<Vec<_>>());
                if dice.chance(30) { call(Op::Not, [is_in]) } else { is_in }
            }
            _ => self.truth(dice, depth),
        }
    }

    fn literal(dice: &mut Dice, kind: Kind) -> Expr {
        Expr::Literal(match kind {
            Kind::Text => Value::text(dice.pick::<&str>(&TEXTS)),
            Kind::Symbol => Value::text(dice.pick::<&str>(&SYMBOLS)),
            _ => Value::Int(dice.within(-3..=5)),
        })
    }

    /// A condition, or a part of one.
    pub fn truth(&self, dice: &mut Dice, depth: usize) -> Expr {
        let kind = *dice.pick(&[Kind::Int, Kind::Int, Kind::Float, Kind::Text, Kind::Symbol, Kind::Bool]);
        let Some(column) = self.column(dice, kind).or_else(|| self.column(dice, Kind::Int)) else {
            let (at, _) = *dice.pick(&self.columns);
            return call(Op::IsNotNull, [Expr::Column(at)]);
        };
        let kind = if self.has(kind) { kind } else { Kind::Int };
        match dice.below(10) {
            0 | 1 if depth > 0 => {
                let both = [self.truth(dice, depth - 1), self.truth(dice, depth - 1)];
                return call(*dice.pick(&[Op::And, Op::Or]), both);
            }
            2 if depth > 0 => return call(Op::Not, [self.truth(dice, depth - 1)]),
            3 if !matches!(&column, Expr::Column(at) if self.known.contains(at)) => {
                return call(*dice.pick(&[Op::IsNull, Op::IsNotNull]), [column]);
            }
            _ => {}
        }
        let comparison = *dice.pick(&COMPARISONS);
        match kind {
            Kind::Bool => column,
            Kind::Float => call(comparison, [column, quarters(dice)]),
            Kind::Text | Kind::Symbol => {
                let literal = Self::literal(dice, kind);
                call(*dice.pick(&[Op::Equal, Op::NotEqual]), [column, literal])
            }
            _ => match dice.below(3) {
                0 => call(Op::Between, [column, int(dice.within(-3..=1)), int(dice.within(1..=5))]),
                1 => match self.number(dice, depth) {
                    // With itself it is a constant.
                    number if number == column => call(comparison, [column, int(1)]),
                    number => call(comparison, [column, number]),
                },
                _ => call(comparison, [column, int(dice.within(-3..=5))]),
            },
        }
    }

    /// A whole number.
    pub fn number(&self, dice: &mut Dice, depth: usize) -> Expr {
        let Some(column) = self.column(dice, Kind::Int) else { return int(dice.within(-3..=5)) };
        // By one nothing is left to compute.
        let literal = |dice: &mut Dice| int(dice.within(2..=5));
        match dice.below(if depth > 0 { 8 } else { 1 }) {
            0 | 1 => column,
            2 => call(*dice.pick(&[Op::Add, Op::Subtract, Op::Multiply]), [column, literal(dice)]),
            3 => match self.number(dice, depth - 1) {
                other if other == column => column,
                other => call(
                    *dice.pick(&[Op::Add, Op::Subtract, Op::Multiply, Op::Greatest, Op::Least]),
                    [column, other],
                ),
            },
            4 => call(Op::Remainder, [column, literal(dice)]),
            5 => call(Op::Coalesce, [column, literal(dice)]),
            6 => call(Op::NullIf, [column, literal(dice)]),
            _ => call(Op::Case, [self.truth(dice, depth - 1), column, literal(dice)]),
        }
    }

    /// A float that is exact: sums of it are the same in every order.
    pub fn real(&self, dice: &mut Dice, depth: usize) -> Expr {
        let Some(column) = self.column(dice, Kind::Float) else {
            return call(Op::Multiply, [self.number(dice, depth), float(0.5)]);
        };
        match dice.below(if depth > 0 { 6 } else { 1 }) {
            0 | 1 => column,
            2 => call(Op::Multiply, [column, float(0.5)]),
            3 => call(*dice.pick(&[Op::Add, Op::Subtract]), [column, self.real(dice, depth - 1)]),
            4 => call(Op::Coalesce, [column, float(0.25)]),
            _ => call(Op::Case, [self.truth(dice, depth - 1), column, quarters(dice)]),
        }
    }

    /// A text.
    pub fn text(&self, dice: &mut Dice, depth: usize) -> Expr {
        let literal = |text: &str| Expr::Literal(Value::text(text));
        let Some(column) = self.column(dice, Kind::Text) else { return literal("none") };
        match dice.below(if depth > 0 { 6 } else { 1 }) {
            0 | 1 => column,
            2 => call(Op::Upper, [column]),
            3 => call(Op::Concat, [column, literal("!")]),
            4 => call(Op::Coalesce, [column, literal("none")]),
            _ => call(Op::Case, [self.truth(dice, depth - 1), column, literal("other")]),
        }
    }

    /// Something of a type.
    pub fn of(&self, dice: &mut Dice, kind: Kind, depth: usize) -> Expr {
        match kind {
            Kind::Int => self.number(dice, depth),
            Kind::Float => self.real(dice, depth),
            Kind::Text => self.text(dice, depth),
            Kind::Bool => self.truth(dice, depth),
            Kind::Symbol | Kind::Time | Kind::List => self.column(dice, kind).unwrap_or_else(|| int(1)),
        }
    }

    /// A whole number that cannot be computed on some rows.
    pub fn failing(&self, dice: &mut Dice) -> Option<Expr> {
        if dice.chance(40)
            && let Some(text) = self.column(dice, Kind::Text)
        {
            return Some(call(Op::ToInt, [text]));
        }
        Some(call(Op::Multiply, [self.column(dice, Kind::Int)?, int(MUCH)]))
    }
}

fn quarters(dice: &mut Dice) -> Expr {
    float(dice.within(-6..=20) as f64 * 0.25)
}
