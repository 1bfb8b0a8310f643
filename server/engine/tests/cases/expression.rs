//! Scalar expressions: printed as SQL, and evaluated on one row at a time by what `docs/sql.md` says of them.

use std::cmp::Ordering;

use super::grow::MUCH;
use super::value::Value;

#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// By its position in the scope.
    Column(usize),
    Literal(Value),
    Call(Op, Vec<Expr>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
    Not,
    IsNull,
    IsNotNull,
    In,
    Between,
    /// `CASE WHEN … THEN … ELSE … END`
    Case,
    Coalesce,
    NullIf,
    Least,
    Greatest,
    Upper,
    Concat,
    /// `CAST(… AS BIGINT)` of a text.
    ToInt,
}

/// The expression cannot be computed on this row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed;

pub fn call(op: Op, arguments: impl Into<Vec<Expr>>) -> Expr {
    Expr::Call(op, arguments.into())
}

pub fn int(value: i64) -> Expr {
    Expr::Literal(Value::Int(value))
}

pub fn float(value: f64) -> Expr {
    Expr::Literal(Value::Float(value))
}

impl Expr {
    /// The SQL; `names` are what the columns of the scope are called.
    pub fn sql(&self, names: &[String]) -> String {
        let (op, arguments) = match self {
            Self::Column(at) => return names[*at].clone(),
            Self::Literal(value) => return literal(value),
            Self::Call(op, arguments) => (*op, arguments),
        };
        let given: Vec<String> = arguments.iter().map(|argument| argument.sql(names)).collect();
        let function = |name: &str| format!("{name}({})", given.join(", "));
        let infix = |sign: &str| format!("({})", given.join(&format!(" {sign} ")));
        match op {
            Op::Add => infix("+"),
            Op::Subtract => infix("-"),
            Op::Multiply => infix("*"),
            Op::Divide => infix("/"),
            Op::Remainder => infix("%"),
            Op::Equal => infix("="),
            Op::NotEqual => infix("<>"),
            Op::Less => infix("<"),
            Op::LessOrEqual => infix("<="),
            Op::Greater => infix(">"),
            Op::GreaterOrEqual => infix(">="),
            Op::And => infix("AND"),
            Op::Or => infix("OR"),
            Op::Concat => infix("||"),
            Op::Not => format!("(NOT {})", given[0]),
            Op::IsNull => format!("({} IS NULL)", given[0]),
            Op::IsNotNull => format!("({} IS NOT NULL)", given[0]),
            Op::In => format!("({} IN ({}))", given[0], given[1..].join(", ")),
            Op::Between => format!("({} BETWEEN {} AND {})", given[0], given[1], given[2]),
            Op::Case => format!("CASE WHEN {} THEN {} ELSE {} END", given[0], given[1], given[2]),
            Op::ToInt => format!("CAST({} AS BIGINT)", given[0]),
            Op::Coalesce => function("COALESCE"),
            Op::NullIf => function("NULLIF"),
            Op::Least => function("LEAST"),
            Op::Greatest => function("GREATEST"),
            Op::Upper => function("upper"),
        }
    }

    /// The value on a row.
    pub fn on(&self, row: &[Value]) -> Result<Value, Failed> {
        match self {
            Self::Column(at) => Ok(row[*at].clone()),
            Self::Literal(value) => Ok(value.clone()),
            Self::Call(op, arguments) => {
                let values = arguments.iter().map(|argument| argument.on(row));
                apply(*op, &values.collect::<Result<Vec<_>, _>>()?)
            }
        }
    }

    /// As a condition: NULL is not true.
    pub fn holds(&self, row: &[Value]) -> Result<bool, Failed> {
        Ok(self.on(row)? == Value::Bool(true))
    }

    /// Whether it is a product that hardly fits its type.
    pub fn is_huge(&self) -> bool {
        matches!(self, Self::Call(Op::Multiply, factors) if factors.contains(&int(MUCH)))
    }

    /// The columns that it reads.
    pub fn reads(&self) -> Vec<usize> {
        match self {
            Self::Column(at) => vec![*at],
            Self::Literal(_) => Vec::new(),
            Self::Call(_, arguments) => arguments.iter().flat_map(Self::reads).collect(),
        }
    }
}

fn literal(value: &Value) -> String {
    match value {
        Value::Null => "NULL".into(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) if *value < 0 => format!("({value})"),
        Value::Int(value) => value.to_string(),
        Value::Float(value) if *value < 0.0 => format!("({value:?})"),
        Value::Float(value) => format!("{value:?}"),
        Value::Text(text) => format!("'{}'", text.replace('\'', "''")),
        other => unreachable!("no literal: {other:?}"),
    }
}

fn apply(op: Op, values: &[Value]) -> Result<Value, Failed> {
    let (first, second) = (&values[0], values.get(1));
    Ok(match op {
        Op::Add | Op::Subtract | Op::Multiply | Op::Divide | Op::Remainder => {
            return arithmetic(op, first, second.unwrap());
        }
        Op::Equal | Op::NotEqual | Op::Less | Op::LessOrEqual | Op::Greater | Op::GreaterOrEqual => {
            compared(op, first, second.unwrap())
        }
        Op::And | Op::Or => {
            // NULL unless one of the two decides it.
            let decides = Value::Bool(op == Op::Or);
            match second.unwrap() {
                second if *first == decides || *second == decides => decides,
                second if first.is_null() || second.is_null() => Value::Null,
                _ => Value::Bool(op == Op::And),
            }
        }
        Op::Not => match first {
            Value::Bool(value) => Value::Bool(!value),
            _ => Value::Null,
        },
        Op::IsNull => Value::Bool(first.is_null()),
        Op::IsNotNull => Value::Bool(!first.is_null()),
        Op::In if first.is_null() => Value::Null,
        Op::In => Value::Bool(values[1..].contains(first)),
        Op::Between => {
            let above = compared(Op::GreaterOrEqual, first, &values[1]);
            let below = compared(Op::LessOrEqual, first, &values[2]);
            return apply(Op::And, &[above, below]);
        }
        Op::Case => values[if *first == Value::Bool(true) { 1 } else { 2 }].clone(),
        Op::Coalesce => values.iter().find(|value| !value.is_null()).cloned().unwrap_or(Value::Null),
        Op::NullIf if compared(Op::Equal, first, second.unwrap()) == Value::Bool(true) => Value::Null,
        Op::NullIf => first.clone(),
        Op::Least => extreme(values, Ordering::Less),
        Op::Greatest => extreme(values, Ordering::Greater),
        Op::Upper => match first {
            Value::Text(text) => Value::Text(text.to_uppercase()),
            _ => Value::Null,
        },
        Op::Concat => match (first, second.unwrap()) {
            (Value::Text(one), Value::Text(other)) => Value::Text(format!("{one}{other}")),
            _ => Value::Null,
        },
        Op::ToInt => match first {
            Value::Text(text) => Value::Int(text.parse().map_err(|_| Failed)?),
            _ => Value::Null,
        },
    })
}

/// NULL is passed over; whole numbers among others are floats.
fn extreme(values: &[Value], wanted: Ordering) -> Value {
    let is_float = values.iter().any(|value| matches!(value, Value::Float(_) | Value::About(_)));
    let known = values.iter().filter(|value| !value.is_null()).map(|value| match value.as_float() {
        Some(number) if is_float => Value::float(number),
        _ => value.clone(),
    });
    known.reduce(|one, other| if other.cmp(&one) == wanted { other } else { one }).unwrap_or(Value::Null)
}

fn arithmetic(op: Op, one: &Value, other: &Value) -> Result<Value, Failed> {
    if one.is_null() || other.is_null() {
        return Ok(Value::Null);
    }
    if let (Value::Int(one), Value::Int(other), true) = (one, other, op != Op::Divide) {
        let done = match op {
            Op::Add => one.checked_add(*other),
            Op::Subtract => one.checked_sub(*other),
            Op::Multiply => one.checked_mul(*other),
            Op::Remainder if *other == 0 => return Ok(Value::Null),
            Op::Remainder => one.checked_rem(*other),
            _ => unreachable!(),
        };
        return done.map(Value::Int).ok_or(Failed);
    }
    let (one, other) = (one.as_float().unwrap(), other.as_float().unwrap());
    Ok(match op {
        Op::Add => Value::float(one + other),
        Op::Subtract => Value::float(one - other),
        Op::Multiply => Value::float(one * other),
        Op::Divide | Op::Remainder if other == 0.0 => Value::Null,
        Op::Divide => Value::float(one / other),
        Op::Remainder => Value::float(one % other),
        _ => unreachable!(),
    })
}

fn compared(op: Op, one: &Value, other: &Value) -> Value {
    if one.is_null() || other.is_null() {
        return Value::Null;
    }
    let order = match (one.as_float(), other.as_float()) {
        (Some(one), Some(other)) => one.total_cmp(&other),
        _ => one.cmp(other),
    };
    Value::Bool(match op {
        Op::Equal => order.is_eq(),
        Op::NotEqual => order.is_ne(),
        Op::Less => order.is_lt(),
        Op::LessOrEqual => order.is_le(),
        Op::Greater => order.is_gt(),
        Op::GreaterOrEqual => order.is_ge(),
        _ => unreachable!(),
    })
}
