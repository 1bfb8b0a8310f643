//! What stands inside and behind the parentheses of an aggregate besides its arguments: DISTINCT, ORDER BY,
//! LIMIT, IGNORE NULLS, WITHIN GROUP, OVER.

use datafusion::sql::sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArgumentList, FunctionArguments, Value,
};

use super::error::Error;
use super::functions::Written;
use super::over;

/// The calls that WITHIN GROUP belongs to.
const PERCENTILES: &str = "percentile_cont(0.9) WITHIN GROUP (ORDER BY x), and approx_percentile_cont";

/// Refuses the clauses that have no meaning in a call, and makes arguments of those that stand for one:
/// `LIMIT n`, and `WITHIN GROUP (ORDER BY x)`. `name` in lower case.
pub(super) fn settle(name: &str, function: &mut Function) -> Result<(), Error> {
    let written = Written::of(name);
    let call = format!("{}()", name.to_uppercase());
    if let Some(window) = &function.over {
        over::check(window)?;
        if is_ordered(&function.args) {
            return Err(Error::unsupported(
                &format!("ORDER BY inside {call} OVER"),
                "over a window: FROM TUMBLE(…), HOP(…) and GROUP BY key, window_end",
            ));
        }
    }
    within_group(written, function)?;
    let nulls = written.is_some_and(Written::handles_nulls);
    let of_window = !matches!(function.parameters, FunctionArguments::None);
    if of_window || (function.null_treatment.is_some() && !nulls) {
        return Err(Error::unsupported("IGNORE NULLS", "aggregates skip NULL by themselves"));
    }
    let FunctionArguments::List(list) = &mut function.args else { return Ok(()) };
    if list.duplicate_treatment == Some(DuplicateTreatment::Distinct) {
        distinct(name, written, list)?;
    }
    let mut limit = None;
    for clause in std::mem::take(&mut list.clauses) {
        match clause {
            FunctionArgumentClause::Limit(number) if written.is_some_and(Written::takes_limit) => {
                limit = Some(number);
            }
            FunctionArgumentClause::OrderBy(order) if written.is_some_and(Written::is_by_time) => {
                list.clauses.push(FunctionArgumentClause::OrderBy(order));
            }
            FunctionArgumentClause::IgnoreOrRespectNulls(treatment) if nulls => {
                list.clauses.push(FunctionArgumentClause::IgnoreOrRespectNulls(treatment));
            }
            FunctionArgumentClause::OrderBy(_) => {
                return Err(Error::unsupported(
                    &format!("ORDER BY inside {call}"),
                    "its result does not depend on an order; last_value(x ORDER BY y) does",
                ));
            }
            FunctionArgumentClause::Limit(_) => {
                return Err(Error::unsupported(
                    &format!("LIMIT inside {call}"),
                    "array_agg(x LIMIT 100), last_k(x, 100)",
                ));
            }
            _ => {
                return Err(inside());
            }
        }
    }
    match (written.filter(|written| written.takes_limit()), limit) {
        (Some(_), Some(limit)) => list.args.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(limit))),
        (Some(_), None) => {
            return Err(Error::unsupported(
                &format!("{call} without LIMIT"),
                "what is kept of a key must be bounded: array_agg(x ORDER BY y LIMIT 100), string_agg(x, ',' LIMIT 100), last_k(x, 100)",
            ));
        }
        (None, _) => {}
    }
    match written {
        Some(written) if list.args.len() != written.arguments() => Err(written.miscalled()),
        _ => Ok(()),
    }
}

/// Refuses all of them in the call of a scalar function.
pub(super) fn none(name: &str, function: &Function) -> Result<(), Error> {
    if function.over.is_some() {
        return Err(Error::unsupported(&format!("{}() OVER", name.to_uppercase()), over::EXAMPLE));
    }
    if !function.within_group.is_empty() {
        return Err(Error::unsupported("WITHIN GROUP here", PERCENTILES));
    }
    if function.null_treatment.is_some() || !matches!(function.parameters, FunctionArguments::None) {
        return Err(Error::unsupported("IGNORE NULLS", "aggregates skip NULL by themselves"));
    }
    let FunctionArguments::List(list) = &function.args else { return Ok(()) };
    if !list.clauses.is_empty() {
        return Err(inside());
    }
    if list.duplicate_treatment == Some(DuplicateTreatment::Distinct) {
        return distinct(name, None, list);
    }
    Ok(())
}

fn inside() -> Error {
    Error::unsupported("a clause inside a function call", "use FILTER (WHERE …) after the call")
}

fn distinct(name: &str, written: Option<Written>, list: &FunctionArgumentList) -> Result<(), Error> {
    let takes = match name {
        "count" => list.args.len() == 1,
        "sum" | "avg" | "mean" | "min" | "max" => true,
        _ => written.is_some_and(Written::takes_distinct),
    };
    if takes {
        return Ok(());
    }
    Err(Error::unsupported(
        &format!("DISTINCT inside {}()", name.to_uppercase()),
        "COUNT(DISTINCT expression) is supported, and DISTINCT in SUM, AVG, array_agg, first_k, last_k, top_k, bottom_k",
    ))
}

/// `percentile_cont(p) WITHIN GROUP (ORDER BY x)` is `percentile_cont(x, p)`; from the other end it is the
/// rest of one.
fn within_group(written: Option<Written>, function: &mut Function) -> Result<(), Error> {
    if function.within_group.is_empty() {
        return Ok(());
    }
    let refused = || Error::unsupported("WITHIN GROUP here", PERCENTILES);
    if !written.is_some_and(Written::takes_within_group) {
        return Err(refused());
    }
    let (FunctionArguments::List(list), [order]) = (&mut function.args, function.within_group.as_slice())
    else {
        return Err(refused());
    };
    if order.options.asc == Some(false) {
        let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(share))) = list.args.last_mut() else {
            return Err(refused());
        };
        *share = rest_of(share).ok_or_else(refused)?;
    }
    list.args.insert(0, FunctionArg::Unnamed(FunctionArgExpr::Expr(order.expr.clone())));
    function.within_group.clear();
    Ok(())
}

/// Whether an order is given among the arguments.
fn is_ordered(args: &FunctionArguments) -> bool {
    let FunctionArguments::List(list) = args else { return false };
    list.clauses.iter().any(|clause| matches!(clause, FunctionArgumentClause::OrderBy(_)))
}

/// 1 less a share, with as many digits as it is written with.
fn rest_of(share: &Expr) -> Option<Expr> {
    let Expr::Value(value) = share else { return None };
    let Value::Number(number, _) = &value.value else { return None };
    let written = number.to_string();
    if written.contains(['e', 'E']) {
        return None;
    }
    let digits = written.split_once('.').map_or(0, |(_, digits)| digits.len());
    let rest = 1.0 - written.parse::<f64>().ok()?;
    Some(Expr::Value(Value::Number(format!("{rest:.digits$}"), false).into()))
}
