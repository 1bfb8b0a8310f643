//! Aggregates: printed as SQL, and computed from all records of a window or frame at once.

use std::collections::BTreeSet;

use super::expression::{Expr, Failed};
use super::value::{Kind, Value};

/// What is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    CountAll,
    Count,
    CountDistinct,
    Sum,
    SumDistinct,
    Avg,
    AvgDistinct,
    Min,
    Max,
    BoolAnd,
    BoolOr,
    BitAnd,
    BitOr,
    BitXor,
    First,
    Last,
    LastKnown,
    Nth(i64),
    FirstK(usize),
    LastK(usize),
    TopK(usize),
    BottomK(usize),
    CollectSet(usize),
    UniqueCount(usize),
    ArrayAgg(usize),
    StringAgg(usize),
    Median,
    VarPop,
    Stddev,
}

/// Every one of them, and the types of what it takes.
pub const ALL: [(What, &[Kind]); 29] = {
    use Kind::{Bool, Float, Int, Symbol, Text, Time};
    const ANY: &[Kind] = &[Bool, Int, Float, Text, Symbol, Time];
    const ORDERED: &[Kind] = &[Int, Float, Text, Time];
    [
        (What::CountAll, ANY),
        (What::Count, ANY),
        (What::CountDistinct, &[Int, Float, Text, Symbol, Bool]),
        (What::Sum, &[Int, Float]),
        (What::SumDistinct, &[Int]),
        (What::Avg, &[Int, Float]),
        (What::AvgDistinct, &[Float]),
        (What::Min, ORDERED),
        (What::Max, ORDERED),
        (What::BoolAnd, &[Bool]),
        (What::BoolOr, &[Bool]),
        (What::BitAnd, &[Int]),
        (What::BitOr, &[Int]),
        (What::BitXor, &[Int]),
        (What::First, &[Int, Float, Text, Symbol, Bool]),
        (What::Last, &[Int, Float, Text, Symbol, Bool]),
        (What::LastKnown, &[Int, Text, Symbol]),
        (What::Nth(2), &[Int, Text]),
        (What::FirstK(2), &[Int, Text, Symbol]),
        (What::LastK(3), &[Int, Text, Symbol]),
        (What::TopK(3), &[Int, Float, Text]),
        (What::BottomK(2), &[Int, Float, Text]),
        (What::CollectSet(3), &[Int, Text, Symbol]),
        (What::UniqueCount(3), &[Int, Text, Symbol]),
        (What::ArrayAgg(4), &[Int, Text]),
        (What::StringAgg(3), &[Text]),
        (What::Median, &[Float, Int]),
        (What::VarPop, &[Float]),
        (What::Stddev, &[Int]),
    ]
};

impl What {
    /// What it is called where cases are counted.
    pub fn name(self) -> &'static str {
        match self {
            Self::CountAll => "COUNT(*)",
            Self::Count => "COUNT",
            Self::CountDistinct => "COUNT(DISTINCT)",
            Self::Sum => "SUM",
            Self::SumDistinct => "SUM(DISTINCT)",
            Self::Avg => "AVG",
            Self::AvgDistinct => "AVG(DISTINCT)",
            Self::Min => "MIN",
            Self::Max => "MAX",
            Self::BoolAnd => "bool_and",
            Self::BoolOr => "bool_or",
            Self::BitAnd => "bit_and",
            Self::BitOr => "bit_or",
            Self::BitXor => "bit_xor",
            Self::First => "first_value",
            Self::Last => "last_value",
            Self::LastKnown => "last_value IGNORE NULLS",
            Self::Nth(_) => "nth_value",
            Self::FirstK(_) => "first_k",
            Self::LastK(_) => "last_k",
            Self::TopK(_) => "top_k",
            Self::BottomK(_) => "bottom_k",
            Self::CollectSet(_) => "collect_set",
            Self::UniqueCount(_) => "bounded_unique_count",
            Self::ArrayAgg(_) => "array_agg",
            Self::StringAgg(_) => "string_agg",
            Self::Median => "median",
            Self::VarPop => "var_pop",
            Self::Stddev => "stddev",
        }
    }

    /// Whether the order of the records decides.
    pub fn is_by_time(self) -> bool {
        use What::{ArrayAgg, First, FirstK, Last, LastK, LastKnown, Nth, StringAgg};
        matches!(self, First | Last | LastKnown | Nth(_) | FirstK(_) | LastK(_) | ArrayAgg(_) | StringAgg(_))
    }

    /// The type of the result.
    pub fn kind(self, argument: Kind) -> Kind {
        match self {
            Self::CountAll | Self::Count | Self::CountDistinct | Self::UniqueCount(_) => Kind::Int,
            Self::Avg | Self::AvgDistinct | Self::Median | Self::VarPop | Self::Stddev => Kind::Float,
            Self::FirstK(_)
            | Self::LastK(_)
            | Self::TopK(_)
            | Self::BottomK(_)
            | Self::CollectSet(_)
            | Self::ArrayAgg(_) => Kind::List,
            Self::StringAgg(_) => Kind::Text,
            _ => argument,
        }
    }

    /// Whether the result may differ by rounding, so that no condition may look at it.
    pub fn is_rounded(self) -> bool {
        matches!(self, Self::VarPop | Self::Stddev)
    }
}

/// One call.
#[derive(Debug, Clone)]
pub struct Aggregate {
    pub what: What,
    pub argument: Expr,
    pub filter: Option<Expr>,
}

impl Aggregate {
    /// The SQL; `over` is what follows the call.
    pub fn sql(&self, names: &[String], over: &str) -> String {
        let x = self.argument.sql(names);
        let call = match self.what {
            What::CountAll => "COUNT(*)".to_owned(),
            What::CountDistinct => format!("COUNT(DISTINCT {x})"),
            What::SumDistinct => format!("SUM(DISTINCT {x})"),
            What::AvgDistinct => format!("AVG(DISTINCT {x})"),
            What::LastKnown => format!("last_value({x}) IGNORE NULLS"),
            What::Nth(n) => format!("nth_value({x}, {n})"),
            What::ArrayAgg(k) => format!("array_agg({x} LIMIT {k})"),
            What::StringAgg(k) => format!("string_agg({x}, '; ' LIMIT {k})"),
            What::FirstK(k)
            | What::LastK(k)
            | What::TopK(k)
            | What::BottomK(k)
            | What::CollectSet(k)
            | What::UniqueCount(k) => format!("{}({x}, {k})", self.what.name()),
            what => format!("{}({x})", what.name()),
        };
        // What is asked of the values stands before the filter, as in SQL's grammar.
        let filter = self.filter.as_ref().map(|filter| format!(" FILTER (WHERE {})", filter.sql(names)));
        match call.strip_suffix(" IGNORE NULLS") {
            Some(call) => format!("{call}{} IGNORE NULLS{over}", filter.unwrap_or_default()),
            None => format!("{call}{}{over}", filter.unwrap_or_default()),
        }
    }

    /// Whether a row's record can be taken: what fails only where FILTER leaves it out does not fail.
    pub fn check(&self, row: &[Value]) -> Result<(), Failed> {
        let is_in = self.filter.as_ref().map_or(Ok(true), |filter| filter.holds(row))?;
        if is_in { self.argument.on(row).map(drop) } else { Ok(()) }
    }

    /// The value over rows, in the order of (event time, source, partition, offset).
    pub fn over(&self, rows: &[&[Value]]) -> Value {
        let is_in = |row: &&&[Value]| self.filter.as_ref().is_none_or(|f| f.holds(row) == Ok(true));
        let all: Vec<Value> = rows
            .iter()
            .filter(is_in)
            .map(|row| self.argument.on(row).expect("records that fail are not taken"))
            .collect();
        let known: Vec<Value> = all.iter().filter(|value| !value.is_null()).cloned().collect();
        let distinct = || known.iter().cloned().collect::<BTreeSet<_>>();
        let floats = || known.iter().filter_map(Value::as_float).collect::<Vec<_>>();
        let or_null = |value: Option<Value>| value.unwrap_or(Value::Null);
        let first = |values: Vec<Value>, k: usize| Value::List(values.into_iter().take(k).collect());
        match self.what {
            What::CountAll => Value::Int(all.len() as i64),
            What::Count => Value::Int(known.len() as i64),
            What::CountDistinct => Value::Int(distinct().len() as i64),
            What::Sum => sum(&known),
            What::SumDistinct => sum(&distinct().into_iter().collect::<Vec<_>>()),
            What::Avg => mean(&floats()),
            What::AvgDistinct => mean(&distinct().iter().filter_map(Value::as_float).collect::<Vec<_>>()),
            What::Min => or_null(known.into_iter().min()),
            What::Max => or_null(known.into_iter().max()),
            What::BoolAnd => or_null(known.into_iter().min()),
            What::BoolOr => or_null(known.into_iter().max()),
            What::BitAnd => bits(&known, |a, b| a & b),
            What::BitOr => bits(&known, |a, b| a | b),
            What::BitXor => bits(&known, |a, b| a ^ b),
            What::First => or_null(all.into_iter().next()),
            What::Last => or_null(all.into_iter().next_back()),
            What::LastKnown => or_null(known.into_iter().next_back()),
            What::Nth(n) => or_null(all.into_iter().nth(n as usize - 1)),
            What::FirstK(k) => first(known, k),
            What::LastK(k) => first(known.into_iter().rev().collect(), k),
            What::TopK(k) => {
                let mut values = known;
                values.sort_by(|a, b| b.cmp(a));
                first(values, k)
            }
            What::BottomK(k) => {
                let mut values = known;
                values.sort();
                first(values, k)
            }
            What::CollectSet(k) => first(distinct().into_iter().collect(), k),
            What::UniqueCount(k) => Value::Int(distinct().len().min(k) as i64),
            What::ArrayAgg(_) if all.is_empty() => Value::Null,
            What::ArrayAgg(k) => first(all, k),
            What::StringAgg(_) if known.is_empty() => Value::Null,
            What::StringAgg(k) => {
                let texts = known.iter().take(k).map(|value| match value {
                    Value::Text(text) => text.as_str(),
                    other => unreachable!("{other:?}"),
                });
                Value::Text(texts.collect::<Vec<_>>().join("; "))
            }
            What::Median => {
                let mut values = floats();
                values.sort_by(f64::total_cmp);
                match values.len() {
                    0 => Value::Null,
                    n => Value::float(f64::midpoint(values[(n - 1) / 2], values[n / 2])),
                }
            }
            What::VarPop => spread(&floats(), 0).map_or(Value::Null, Value::About),
            What::Stddev => spread(&floats(), 1).map_or(Value::Null, |s| Value::About(s.sqrt())),
        }
    }
}

fn sum(values: &[Value]) -> Value {
    let add = |one: Value, other: Value| match (&one, &other) {
        (Value::Int(a), Value::Int(b)) => Value::Int(a + b),
        _ => Value::float(one.as_float().unwrap() + other.as_float().unwrap()),
    };
    values.iter().cloned().reduce(add).unwrap_or(Value::Null)
}

fn mean(values: &[f64]) -> Value {
    if values.is_empty() {
        Value::Null
    } else {
        Value::float(values.iter().sum::<f64>() / values.len() as f64)
    }
}

fn bits(values: &[Value], of: impl Fn(i64, i64) -> i64) -> Value {
    let ints = values.iter().map(|value| if let Value::Int(value) = value { *value } else { unreachable!() });
    ints.reduce(of).map_or(Value::Null, Value::Int)
}

/// The sum of the squared distances from the mean, by the number of values less `lost`.
fn spread(values: &[f64], lost: usize) -> Option<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > lost).then(|| squares / (values.len() - lost) as f64)
}
