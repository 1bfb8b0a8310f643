//! The functions a definition may call, by name: DataFusion's, less those that would make a replay
//! differ, with our own in the place of those whose arithmetic wraps.

mod average;
mod count_distinct;
mod extreme;
mod fits;
mod sum;
mod zero_as_null;

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::config::ConfigOptions;
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, Volatility};

pub(crate) use count_distinct::COUNT_DISTINCT;
pub(super) use count_distinct::count_distinct;
pub(super) use fits::{FITS, fits};
pub(super) use zero_as_null::{ZERO_AS_NULL, zero_as_null};

use super::error::{Code, Error, nearest};

/// Aggregates whose saved and merged state equals the live one, bit for bit, and that have been tested so.
const AGGREGATES: [&str; 6] = ["avg", "count", "max", "mean", "min", "sum"];

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
        let mut aggregate = BTreeMap::new();
        for function in SessionStateDefaults::default_aggregate_functions() {
            for name in std::iter::once(function.name()).chain(function.aliases().iter().map(String::as_str))
            {
                aggregate.insert(name.to_owned(), Arc::clone(&function));
            }
        }
        aggregate.insert("sum".to_owned(), sum::sum());
        aggregate.insert("min".to_owned(), extreme::min());
        aggregate.insert("max".to_owned(), extreme::max());
        for name in ["avg", "mean"] {
            aggregate.insert(name.to_owned(), average::average());
        }
        Self { scalar, aggregate }
    }

    /// What `name` (lower case) is; refuses what is unknown, volatile or not yet an aggregate of ours.
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
        if AGGREGATES.contains(&name) {
            return Ok(Role::Aggregate);
        }
        if self.aggregate.contains_key(name) {
            return Err(Error::unsupported(
                &format!("{}()", name.to_uppercase()),
                "supported aggregates: COUNT, COUNT(DISTINCT), SUM, MIN, MAX, AVG",
            ));
        }
        if SessionStateDefaults::default_window_functions().iter().any(|f| f.name() == name) {
            return Err(Error::unsupported(
                &format!("window function {name}()"),
                "over windows and with OVER: COUNT, COUNT(DISTINCT), SUM, MIN, MAX, AVG",
            ));
        }
        let candidates = self.scalar.keys().map(String::as_str).chain(AGGREGATES);
        let error =
            Error::new(Code::UnknownFunction, format!("{name}()"), format!("there is no function {name}()"));
        Err(match nearest(name, candidates) {
            Some(near) => error.hint(format!("did you mean {near}()?")),
            None => error.hint("the scalar functions are those of Apache DataFusion"),
        })
    }
}

fn not_immutable(name: &str) -> Error {
    Error::new(
        Code::NotImmutable,
        format!("{name}()"),
        format!("{name}() gives different values at different times, so the history could not be recomputed"),
    )
    .hint("use the event time column or window_start, window_end; only immutable functions are supported")
}
