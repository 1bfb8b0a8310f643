//! The functions a definition may call, by name: DataFusion's, less those that would make a replay
//! differ, with our own in the place of those whose arithmetic wraps.

mod approx_distinct;
mod approx_percentile;
mod average;
mod count_distinct;
mod distinct;
mod extreme;
mod fits;
mod kept;
mod moments;
mod own;
mod percentile;
mod sum;
mod written;
mod zero_as_null;

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::config::ConfigOptions;
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{AggregateUDF, Expr, ScalarUDF, Volatility};

pub(crate) use count_distinct::COUNT_DISTINCT;
pub(super) use count_distinct::count_distinct;
pub(super) use fits::{FITS, fits};
pub(crate) use kept::STANDING;
pub(super) use kept::{By, Kept};
pub(super) use own::{Bound, Kind, kind};
pub(super) use written::{Written, read};
pub(super) use zero_as_null::{ZERO_AS_NULL, zero_as_null};

use self::distinct::Distinct;
use self::moments::Moment;
use self::own::own;
use super::error::{Code, Error, nearest};

/// DataFusion's aggregates that run as they are: vectorised, and saved, merged and saved again the same. All
/// others that run are our own.
const PLAIN: [&str; 6] = ["bit_and", "bit_or", "bit_xor", "bool_and", "bool_or", "count"];

/// Aggregates of DataFusion that do not run, and names that others give to ours: what to write instead.
const INSTEAD: [(&str, &str); 17] = [
    ("any_value", "which value it gives is left open: first_value(x), MIN(x)"),
    ("grouping", "one GROUP BY; create a feature group for each key"),
    ("approx_percentile", "approx_percentile_cont(x, 0.9)"),
    ("approx_quantile", "approx_percentile_cont(x, 0.9)"),
    (
        "approx_top_k",
        "top_k(x, 3) gives the greatest values; how often one comes: COUNT(*) FILTER (WHERE x = …)",
    ),
    ("arg_max", "first_value(x ORDER BY y DESC)"),
    ("arg_min", "first_value(x ORDER BY y)"),
    ("max_by", "first_value(x ORDER BY y DESC)"),
    ("min_by", "first_value(x ORDER BY y)"),
    ("collect_list", "array_agg(x LIMIT 100)"),
    ("count_if", "COUNT(*) FILTER (WHERE …)"),
    ("first", "first_value(x)"),
    ("group_concat", "string_agg(x, ',' LIMIT 100)"),
    ("last", "last_value(x)"),
    ("listagg", "string_agg(x, ',' LIMIT 100)"),
    ("mode", "approx_distinct, top_k and percentiles are supported; the most frequent value is not"),
    ("quantile", "percentile_cont(x, 0.9)"),
];

/// All that a name in front of a parenthesis can mean.
pub(super) struct Functions {
    /// Scalar functions by name and alias.
    pub scalar: BTreeMap<String, Arc<ScalarUDF>>,
    /// Aggregate functions by name and alias.
    pub aggregate: BTreeMap<String, Arc<AggregateUDF>>,
}

/// What a function is in a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Scalar,
    Aggregate,
}

impl Functions {
    /// DataFusion's defaults with our replacements.
    pub fn new(config: &ConfigOptions) -> Self {
        let mut scalar = BTreeMap::new();
        for function in SessionStateDefaults::default_scalar_functions() {
            // Some take the zone from the configuration, once and for all.
            let function = function.inner().with_updated_config(config).map_or(function, Arc::new);
            for name in std::iter::once(function.name()).chain(function.aliases().iter().map(String::as_str))
            {
                scalar.insert(name.to_owned(), Arc::clone(&function));
            }
        }
        Self { scalar, aggregate: aggregates() }
    }

    /// What `name` (lower case) is; refuses what is unknown or volatile, and aggregates that do not run.
    pub fn role(&self, name: &str) -> Result<Role, Error> {
        if name == "version" {
            return Err(not_immutable(name)); // of DataFusion: another one with each of our releases
        }
        if let Some(function) = self.scalar.get(name) {
            return match function.signature().volatility {
                Volatility::Immutable => Ok(Role::Scalar),
                Volatility::Stable | Volatility::Volatile => Err(not_immutable(name)),
            };
        }
        if self.aggregate.contains_key(name) {
            return Ok(Role::Aggregate);
        }
        if let Some((_, instead)) = INSTEAD.iter().find(|(known, _)| *known == name) {
            return Err(Error::unsupported(&format!("{}()", name.to_uppercase()), instead));
        }
        if SessionStateDefaults::default_window_functions().iter().any(|f| f.name() == name) {
            return Err(Error::unsupported(
                &format!("window function {name}()"),
                "over windows and with OVER: aggregates, as in COUNT(*), SUM(x), MAX(x)",
            ));
        }
        let candidates = self.scalar.keys().chain(self.aggregate.keys()).map(String::as_str);
        let error =
            Error::new(Code::UnknownFunction, format!("{name}()"), format!("there is no function {name}()"));
        Err(match nearest(name, candidates) {
            Some(near) => error.hint(format!("did you mean {near}()?")),
            None => error.hint("the scalar functions are those of Apache DataFusion"),
        })
    }
}

/// The aggregates that run, by name and alias.
fn aggregates() -> BTreeMap<String, Arc<AggregateUDF>> {
    let mut aggregates = BTreeMap::new();
    let plain = SessionStateDefaults::default_aggregate_functions().into_iter();
    let plain = plain.filter(|function| PLAIN.contains(&function.name()));
    aggregates.extend(plain.map(|function| (function.name().to_owned(), function)));
    for (name, function) in [("sum", sum::sum()), ("min", extreme::min()), ("max", extreme::max())] {
        aggregates.insert(name.to_owned(), function);
    }
    for name in ["avg", "mean"] {
        aggregates.insert(name.to_owned(), average::average());
    }
    for name in ["approx_distinct", "approx_count_distinct"] {
        aggregates.insert(name.to_owned(), own(Kind::ApproxDistinct(approx_distinct::ApproxDistinct)));
    }
    for (moment, names) in Moment::ALL {
        aggregates.extend(names.iter().map(|name| ((*name).to_owned(), own(Kind::Moment(moment)))));
    }
    aggregates.extend(Written::names().map(|(name, call)| (name.to_owned(), own(Kind::Written(call)))));
    aggregates
}

/// `function(DISTINCT args) FILTER (WHERE filter)`, where that is another function than it says.
pub(super) fn distinct(function: &Arc<AggregateUDF>, args: &[Expr], filter: Option<&Expr>) -> Option<Expr> {
    let (args, filter) = (args.to_vec(), filter.cloned().map(Box::new));
    let function = match function.name() {
        "count" => return Some(count_distinct(args, filter)),
        "sum" => own(Kind::Distinct(Distinct::Sum)),
        "avg" => own(Kind::Distinct(Distinct::Avg)),
        // Among equal values there is no greater one.
        "min" | "max" => Arc::clone(function),
        _ => return None,
    };
    Some(Expr::AggregateFunction(AggregateFunction::new_udf(function, args, false, filter, Vec::new(), None)))
}

/// How much of a key's events an aggregate keeps.
pub(super) fn bound(function: &AggregateUDF) -> Bound {
    match kind(function) {
        Some(kind) => kind.bound(),
        None if function.name() == COUNT_DISTINCT => {
            Bound::Distinct("approx_distinct(x) or bounded_unique_count(x, 1000)")
        }
        None => Bound::Fixed,
    }
}

/// Whether the lists in an aggregate's state are sets, whose order says nothing.
pub(crate) fn keeps_sets(function: &AggregateUDF) -> bool {
    function.name() == COUNT_DISTINCT || matches!(kind(function), Some(Kind::Distinct(_)))
}

/// Whether an aggregate's arguments go on with where each event stands: event time, source and partition
/// (as one number), offset.
pub(crate) fn is_by_time(function: &AggregateUDF) -> bool {
    matches!(kind(function), Some(Kind::Kept(kept)) if kept.is_by_time())
}

fn not_immutable(name: &str) -> Error {
    Error::new(
        Code::NotImmutable,
        format!("{name}()"),
        format!("{name}() gives different values at different times, so the history could not be recomputed"),
    )
    .hint("use the event time column or window_start, window_end; only immutable functions are supported")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each aggregate of DataFusion runs or is refused by name: a new one is seen when DataFusion is raised.
    #[test]
    fn every_aggregate_of_datafusion_is_decided_on() {
        let functions = Functions::new(&ConfigOptions::new());
        for function in SessionStateDefaults::default_aggregate_functions() {
            for name in std::iter::once(function.name()).chain(function.aliases().iter().map(String::as_str))
            {
                let runs = functions.aggregate.contains_key(name);
                let refused = INSTEAD.iter().any(|(known, _)| *known == name);
                assert!(runs != refused, "{name}: runs {runs}, refused {refused}");
            }
        }
    }
}
