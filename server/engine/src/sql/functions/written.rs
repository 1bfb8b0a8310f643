//! Aggregates with constants among their arguments, as they are written: `last_k(x, 3)`. They are planned
//! like this; when a plan is lowered the constants are read, and what runs has them inside.

use std::borrow::Cow;

use arrow::compute::SortOptions;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams, NullTreatment};
use datafusion::logical_expr::{Expr, GroupsAccumulator};

use super::approx_percentile::ApproxPercentile;
use super::kept::{By, Give, Kept};
use super::own::{Aggregate, Bound, Kind, item, kind, own, plain};
use super::percentile::{Percentile, Share};
use crate::sql::error::{Code, Error};

/// Values that an aggregate may keep of a key.
const MOST: i64 = 10_000;

/// Which aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Written {
    FirstValue,
    LastValue,
    NthValue,
    FirstK,
    LastK,
    TopK,
    BottomK,
    CollectSet,
    BoundedUniqueCount,
    ArrayAgg,
    StringAgg,
    Median,
    PercentileCont,
    ApproxMedian,
    ApproxPercentileCont,
    ApproxPercentileContWithWeight,
}

impl Written {
    /// All of them, each with its names and how it is called.
    const ALL: [(Self, &'static [&'static str], &'static str); 16] = [
        (Self::FirstValue, &["first_value"], "first_value(x)"),
        (Self::LastValue, &["last_value"], "last_value(x)"),
        (Self::NthValue, &["nth_value"], "nth_value(x, 2)"),
        (Self::FirstK, &["first_k"], "first_k(x, 3)"),
        (Self::LastK, &["last_k"], "last_k(x, 3)"),
        (Self::TopK, &["top_k"], "top_k(x, 3)"),
        (Self::BottomK, &["bottom_k"], "bottom_k(x, 3)"),
        (Self::CollectSet, &["collect_set"], "collect_set(x, 100)"),
        (Self::BoundedUniqueCount, &["bounded_unique_count"], "bounded_unique_count(x, 100)"),
        (Self::ArrayAgg, &["array_agg"], "array_agg(x LIMIT 100)"),
        (Self::StringAgg, &["string_agg"], "string_agg(x, ',' LIMIT 100)"),
        (Self::Median, &["median"], "median(x)"),
        (Self::PercentileCont, &["percentile_cont", "quantile_cont"], "percentile_cont(x, 0.9)"),
        (Self::ApproxMedian, &["approx_median"], "approx_median(x)"),
        (Self::ApproxPercentileCont, &["approx_percentile_cont"], "approx_percentile_cont(x, 0.9)"),
        (
            Self::ApproxPercentileContWithWeight,
            &["approx_percentile_cont_with_weight"],
            "approx_percentile_cont_with_weight(x, weight, 0.9)",
        ),
    ];

    /// All of them by name.
    pub(super) fn names() -> impl Iterator<Item = (&'static str, Self)> {
        Self::ALL.iter().flat_map(|(written, names, _)| names.iter().map(|name| (*name, *written)))
    }

    /// The aggregate of a name.
    pub(in crate::sql) fn of(name: &str) -> Option<Self> {
        Self::names().find(|(known, _)| *known == name).map(|(_, written)| written)
    }

    /// As it is called.
    fn called(self) -> &'static str {
        let names = Self::ALL.iter().find(|(written, ..)| *written == self).map(|(_, names, _)| *names);
        names.and_then(<[_]>::first).copied().unwrap_or_default()
    }

    fn example(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(written, ..)| *written == self)
            .map(|(.., example)| *example)
            .unwrap_or_default()
    }

    /// Whether ORDER BY inside the call decides which values are kept; without it the event time does.
    pub(in crate::sql) fn is_by_time(self) -> bool {
        use Written::{ArrayAgg, FirstK, FirstValue, LastK, LastValue, NthValue, StringAgg};
        matches!(self, FirstValue | LastValue | NthValue | FirstK | LastK | ArrayAgg | StringAgg)
    }

    /// Whether NULL is a value to it, unless IGNORE NULLS says otherwise.
    pub(in crate::sql) fn handles_nulls(self) -> bool {
        matches!(self, Self::FirstValue | Self::LastValue | Self::NthValue | Self::ArrayAgg)
    }

    /// Whether LIMIT says how much is kept.
    pub(in crate::sql) fn takes_limit(self) -> bool {
        matches!(self, Self::ArrayAgg | Self::StringAgg)
    }

    /// Whether DISTINCT has a meaning.
    pub(in crate::sql) fn takes_distinct(self) -> bool {
        use Written::{ArrayAgg, BottomK, FirstK, LastK, StringAgg, TopK};
        matches!(self, FirstK | LastK | TopK | BottomK | ArrayAgg | StringAgg)
    }

    /// Whether WITHIN GROUP (ORDER BY x) gives the values.
    pub(in crate::sql) fn takes_within_group(self) -> bool {
        use Written::{ApproxPercentileCont, ApproxPercentileContWithWeight, PercentileCont};
        matches!(self, PercentileCont | ApproxPercentileCont | ApproxPercentileContWithWeight)
    }

    /// How many arguments it takes, LIMIT among them.
    pub(in crate::sql) fn arguments(self) -> usize {
        match self {
            Self::FirstValue | Self::LastValue | Self::Median | Self::ApproxMedian => 1,
            Self::StringAgg | Self::ApproxPercentileContWithWeight => 3,
            _ => 2,
        }
    }

    /// The refusal of another number of them.
    pub(in crate::sql) fn miscalled(self) -> Error {
        self.bad(format!("it is called as in {}", self.example()))
    }

    fn is_percentile(self) -> bool {
        self.takes_within_group() || matches!(self, Self::Median | Self::ApproxMedian)
    }

    /// The call as what runs.
    fn read(self, params: &AggregateFunctionParams) -> Result<Expr, Error> {
        let (kind, args) = if self.is_percentile() {
            (self.percentile(params)?, self.columns(params))
        } else {
            let kept = self.kept(params)?;
            let mut args = self.columns(params);
            if kept.is_by_time() {
                args.extend(params.order_by.iter().map(|sort| sort.expr.clone()));
            }
            (Kind::Kept(kept), args)
        };
        let filter = params.filter.clone();
        Ok(Expr::AggregateFunction(AggregateFunction::new_udf(
            own(kind),
            args,
            false,
            filter,
            Vec::new(),
            None,
        )))
    }

    /// The arguments that are no constants.
    fn columns(self, params: &AggregateFunctionParams) -> Vec<Expr> {
        let columns = if self == Self::ApproxPercentileContWithWeight { 2 } else { 1 };
        params.args.iter().take(columns).cloned().collect()
    }

    fn percentile(self, params: &AggregateFunctionParams) -> Result<Kind, Error> {
        let weighted = self == Self::ApproxPercentileContWithWeight;
        let share = match self {
            Self::Median | Self::ApproxMedian => Share::HALF,
            _ => {
                let given = params.args.last();
                let number = match given {
                    Some(Expr::Literal(ScalarValue::Float64(number), _)) => *number,
                    _ => None,
                };
                let bad = || self.bad(format!("the percentile is a number from 0 to 1{}", not(given)));
                number.and_then(Share::new).ok_or_else(bad)?
            }
        };
        Ok(match self {
            Self::Median | Self::PercentileCont => Kind::Percentile(Percentile { share }),
            _ => Kind::ApproxPercentile(ApproxPercentile { share, weighted }),
        })
    }

    fn kept(self, params: &AggregateFunctionParams) -> Result<Kept, Error> {
        let nulls = self.handles_nulls() && params.null_treatment != Some(NullTreatment::IgnoreNulls);
        let by_time = |last: bool| By::Time {
            last,
            sort: params
                .order_by
                .iter()
                .map(|sort| SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first })
                .collect(),
        };
        let of_list = || if params.distinct { self.by_value(params) } else { Ok(by_time(false)) };
        let list = Give::List { empty: true };
        let (by, limit, give) = match self {
            Self::FirstValue => (by_time(false), 1, Give::One(0)),
            Self::LastValue => (by_time(true), 1, Give::One(0)),
            Self::NthValue => {
                let n = self.number(params, -MOST..=MOST)?;
                if n == 0 {
                    return Err(self.bad("the first value has the number 1, the last one -1".to_owned()));
                }
                let limit = n.unsigned_abs() as usize;
                (by_time(n < 0), limit, Give::One(limit - 1))
            }
            Self::FirstK => (by_time(false), self.limit(params)?, list),
            Self::LastK => (by_time(true), self.limit(params)?, list),
            Self::TopK => (By::Value { greatest: true }, self.limit(params)?, list),
            Self::BottomK | Self::CollectSet => (By::Value { greatest: false }, self.limit(params)?, list),
            Self::BoundedUniqueCount => (By::Value { greatest: false }, self.limit(params)?, Give::Count),
            Self::ArrayAgg => (of_list()?, self.limit(params)?, Give::List { empty: false }),
            _ => {
                let between = params.args.get(1);
                let Some(Expr::Literal(ScalarValue::Utf8(Some(text)), _)) = between else {
                    return Err(self.bad(format!("what stands between the values is a text{}", not(between))));
                };
                (of_list()?, self.limit(params)?, Give::Text(text.clone()))
            }
        };
        let is_set = matches!(self, Self::CollectSet | Self::BoundedUniqueCount);
        Ok(Kept { name: self.called(), by, limit, nulls, distinct: params.distinct || is_set, give })
    }

    /// DISTINCT values are kept by their own order; ORDER BY may turn it round.
    fn by_value(self, params: &AggregateFunctionParams) -> Result<By, Error> {
        let value = params.args.first().map(uncast);
        match params.order_by.as_slice() {
            [] => Ok(By::Value { greatest: false }),
            [sort] if Some(uncast(&sort.expr)) == value => Ok(By::Value { greatest: !sort.asc }),
            _ => Err(Error::unsupported(
                &format!("ORDER BY another expression than the one after DISTINCT in {}", self.called()),
                "first_k(DISTINCT x, 10 ORDER BY y) keeps distinct values in another order",
            )),
        }
    }

    /// How many values are kept.
    fn limit(self, params: &AggregateFunctionParams) -> Result<usize, Error> {
        Ok(self.number(params, 1..=MOST)?.unsigned_abs() as usize)
    }

    /// The last argument, a whole number.
    fn number(
        self,
        params: &AggregateFunctionParams,
        range: std::ops::RangeInclusive<i64>,
    ) -> Result<i64, Error> {
        let given = params.args.last();
        match given {
            Some(Expr::Literal(ScalarValue::Int64(Some(number)), _)) if range.contains(number) => Ok(*number),
            _ => {
                let (least, most) = (range.start(), range.end());
                let message =
                    format!("how many values is a whole number from {least} to {most}{}", not(given));
                Err(self.bad(message))
            }
        }
    }

    fn bad(self, message: String) -> Error {
        let construct = format!("{}()", self.called());
        Error::new(Code::Type, &construct, format!("{construct}: {message}")).hint(self.example())
    }

    fn takes<T>(self) -> Result<T> {
        plan_err!("{}() is called as in {}", self.called(), self.example())
    }
}

fn not(given: Option<&Expr>) -> String {
    given.map(|given| format!(", not {given}")).unwrap_or_default()
}

fn uncast(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(cast) => &cast.expr,
        other => other,
    }
}

/// An aggregate of a plan with its constants read.
pub(in crate::sql) fn read(expr: &Expr) -> Result<Cow<'_, Expr>, Error> {
    match expr {
        Expr::Alias(alias) => read(&alias.expr),
        Expr::AggregateFunction(call) => match kind(&call.func) {
            Some(Kind::Written(written)) => written.read(&call.params).map(Cow::Owned),
            _ => Ok(Cow::Borrowed(expr)),
        },
        _ => Ok(Cow::Borrowed(expr)),
    }
}

/// Numbers as percentiles are computed over them: whole ones stay so.
fn number(data_type: &DataType) -> Result<DataType> {
    match plain(data_type) {
        DataType::UInt64 => Ok(DataType::Float64),
        integer if integer.is_integer() => Ok(DataType::Int64),
        other if other.is_numeric() || data_type.is_null() => Ok(DataType::Float64),
        other => plan_err!("a percentile is one of numbers, not of {other}"),
    }
}

impl Aggregate for Written {
    /// In a plan. DataFusion takes three of these names, where OVER follows, for functions of its own.
    fn name(&self) -> &'static str {
        match self {
            Self::FirstValue => "first_by_time",
            Self::LastValue => "last_by_time",
            Self::NthValue => "nth_by_time",
            other => other.called(),
        }
    }

    fn coerce(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let value = |data_type: &DataType| -> Result<DataType> {
            let value = plain(data_type);
            if !RowConverter::supports_fields(&[SortField::new(value.clone())]) {
                return plan_err!("{}() cannot keep {value}", self.called());
            }
            Ok(value)
        };
        match (self, arguments) {
            (Self::Median | Self::ApproxMedian, [x]) => Ok(vec![number(x)?]),
            (Self::PercentileCont | Self::ApproxPercentileCont, [x, p]) if p.is_numeric() => {
                Ok(vec![number(x)?, DataType::Float64])
            }
            (Self::ApproxPercentileContWithWeight, [x, w, p]) if w.is_numeric() && p.is_numeric() => {
                Ok(vec![number(x)?, DataType::Float64, DataType::Float64])
            }
            (Self::FirstValue | Self::LastValue, [x]) => Ok(vec![value(x)?]),
            (Self::StringAgg, [_, between, k]) if k.is_integer() && between.is_string() => {
                Ok(vec![DataType::Utf8, DataType::Utf8, DataType::Int64])
            }
            (kept, [x, k]) if !kept.is_percentile() && *kept != Self::StringAgg && k.is_integer() => {
                Ok(vec![value(x)?, DataType::Int64])
            }
            _ => self.takes(),
        }
    }

    fn result(&self, arguments: &[DataType]) -> Result<DataType> {
        let Some(value) = arguments.first() else { return self.takes() };
        Ok(match self {
            Self::FirstValue | Self::LastValue | Self::NthValue => value.clone(),
            Self::BoundedUniqueCount => DataType::Int64,
            Self::StringAgg => DataType::Utf8,
            percentile if percentile.is_percentile() => DataType::Float64,
            _ => DataType::List(item(value)),
        })
    }

    fn state(&self, _: &[DataType]) -> Result<Vec<DataType>> {
        internal_err!("the constants of {}() have not been read", self.called())
    }

    fn groups(&self, _: &[DataType]) -> Result<Box<dyn GroupsAccumulator>> {
        internal_err!("the constants of {}() have not been read", self.called())
    }

    fn bound(&self) -> Bound {
        Bound::Fixed
    }
}
