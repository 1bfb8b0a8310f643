//! One SELECT: refuses the clauses that have no meaning over events, and gives names their meaning,
//! clause by clause.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, Select, SelectFlavor, SelectItem, Value, visit_expressions,
};

use super::definition::Known;
use super::error::{Code, Error};
use super::names::Names;
use super::scope::{Place, Progress, Scope, quoted};
use super::tokens::EXAMPLE;
use super::{from, legacy, list, over};

/// Resolves one SELECT in place; its output columns and how far its rows have come.
pub(super) fn resolve(select: &mut Select, known: &Known<'_>) -> Result<(Vec<String>, Progress), Error> {
    refuse_inside(select)?;
    over::write_out(select)?;
    let scope = from::resolve(select, known)?;
    let scope = legacy::rewrite(select, scope)?;
    let grouping = grouping(select)?;
    let grouped = grouped_columns(&scope, &grouping)?;
    let rows_are_groups = !grouping.is_empty() || select.having.is_some();
    let keys = rows_are_groups.then_some(&grouped);
    let (items, holds) =
        list::resolve(std::mem::take(&mut select.projection), &scope, known.functions, keys)?;
    let aggregated = rows_are_groups || holds.aggregate;
    let anywhere = Names { scope: &scope, functions: known.functions, aliases: &items, grouped: None };

    if let Some(predicate) = &mut select.selection {
        let holds = anywhere.resolve(predicate)?;
        if holds.over {
            return Err(Error::unsupported(
                "OVER in WHERE",
                "QUALIFY …, or SELECT … FROM (SELECT … OVER …) WHERE …",
            ));
        }
        if holds.aggregate {
            return Err(Error::unsupported(
                "an aggregate in WHERE",
                "filter groups with HAVING, or the aggregate with FILTER",
            ));
        }
    }
    let mut groups = Vec::new();
    for expr in grouping {
        let mut expr = group(expr, &anywhere)?;
        while let Expr::Nested(inner) = expr {
            expr = *inner; // what an alias stands for
        }
        if !groups.contains(&expr) {
            groups.push(expr);
        }
    }
    let mut over = holds.over;
    if let Some(predicate) = &mut select.qualify {
        if !anywhere.resolve(predicate)?.over {
            let hint = if over {
                "SELECT … FROM (SELECT … OVER …) WHERE …, or WHERE, which keeps records out of the frames"
            } else {
                "WHERE, or HAVING for groups"
            };
            return Err(Error::unsupported("QUALIFY without OVER", hint));
        }
        over = true;
    }
    if let Some(predicate) = &mut select.having {
        over |= Names { grouped: keys, ..anywhere }.resolve(predicate)?.over;
    }
    if over && aggregated {
        return Err(Error::unsupported("OVER beside GROUP BY", over::EXAMPLE));
    }
    window_columns(&scope, &mut groups, items.iter().map(|item| &item.expr).chain(&select.having));
    let progress = progress(scope.progress, aggregated, over)?;
    let names = items.iter().map(|item| item.name.clone()).collect();
    select.group_by = GroupByExpr::Expressions(groups, Vec::new());
    select.projection = items
        .into_iter()
        .map(|item| SelectItem::ExprWithAlias { expr: item.expr, alias: quoted(&item.name) })
        .collect();
    Ok((names, progress))
}

/// Takes the expressions of GROUP BY out of a SELECT.
fn grouping(select: &mut Select) -> Result<Vec<Expr>, Error> {
    match std::mem::replace(&mut select.group_by, GroupByExpr::Expressions(Vec::new(), Vec::new())) {
        GroupByExpr::Expressions(list, modifiers) if modifiers.is_empty() => Ok(list),
        GroupByExpr::Expressions(..) => {
            Err(Error::unsupported("GROUP BY … WITH", "one GROUP BY; create a feature group for each key"))
        }
        GroupByExpr::All(_) => {
            Err(Error::unsupported("GROUP BY ALL", "GROUP BY the key columns and window_end"))
        }
    }
}

/// Adds the window's columns that `used` reads to the groups, if another one of them is there: a
/// group's window has one start and one end.
fn window_columns<'a>(scope: &Scope, groups: &mut Vec<Expr>, used: impl Iterator<Item = &'a Expr>) {
    let window: Vec<Expr> = scope.window_columns().map(|place| place.expr()).collect();
    if !groups.iter().any(|group| window.contains(group)) {
        return;
    }
    for expr in used {
        let _: ControlFlow<()> = visit_expressions(expr, |part| {
            if window.contains(part) && !groups.contains(part) {
                groups.push(part.clone());
            }
            ControlFlow::Continue(())
        });
    }
}

/// How far the rows of a SELECT have come.
fn progress(from: Progress, aggregated: bool, over: bool) -> Result<Progress, Error> {
    match (from, aggregated, over) {
        (from, false, false) => Ok(from),
        (Progress::Events, false, true) | (Progress::Windowed, true, _) => Ok(Progress::Features),
        (Progress::Events, true, _) => Err(no_window()),
        (Progress::Windowed, false, true) => Err(Error::unsupported(
            "OVER over a window",
            "GROUP BY over the window, or OVER over the stream itself",
        )),
        (Progress::Features, ..) => {
            Err(Error::unsupported("a second aggregation", "aggregate once, over the stream itself"))
        }
    }
}

/// Refuses the clauses of a SELECT that have no meaning over windows of events.
fn refuse_inside(select: &Select) -> Result<(), Error> {
    if select.distinct.is_some() {
        return Err(Error::unsupported("SELECT DISTINCT", "GROUP BY the columns, or COUNT(DISTINCT column)"));
    }
    if !select.lateral_views.is_empty() {
        return Err(Error::unsupported("LATERAL VIEW", EXAMPLE));
    }
    if select.into.is_some() {
        return Err(Error::unsupported("INTO", "the feature group is where the result goes"));
    }
    let other = select.top.is_some()
        || select.exclude.is_some()
        || select.prewhere.is_some()
        || select.value_table_mode.is_some()
        || select.select_modifiers.is_some()
        || select.flavor != SelectFlavor::Standard
        || !(select.optimizer_hints.is_empty()
            && select.connect_by.is_empty()
            && select.cluster_by.is_empty()
            && select.distribute_by.is_empty()
            && select.sort_by.is_empty());
    if other {
        return Err(Error::unsupported("this form of SELECT", EXAMPLE));
    }
    Ok(())
}

pub(super) fn no_window() -> Error {
    Error::new(Code::NoWindow, "GROUP BY without a window", "the query aggregates no window of event time")
        .hint(EXAMPLE)
}

/// The input columns that GROUP BY names directly.
fn grouped_columns(scope: &Scope, grouping: &[Expr]) -> Result<BTreeSet<Place>, Error> {
    let mut columns = BTreeSet::new();
    for expr in grouping {
        match expr {
            Expr::Identifier(ident) => columns.extend(scope.column(ident)?),
            Expr::CompoundIdentifier(parts) => {
                if let [relation, column] = parts.as_slice() {
                    columns.extend(scope.column_of(relation, column)?);
                }
            }
            _ => {}
        }
    }
    // A window's columns are one thing: with one of them, all are the same for a group.
    let window: Vec<Place> = scope.window_columns().collect();
    if window.iter().any(|place| columns.contains(place)) {
        columns.extend(window);
    }
    Ok(columns)
}

/// A GROUP BY expression: a position in the select list, a column, an alias, or an expression.
fn group(mut expr: Expr, names: &Names<'_>) -> Result<Expr, Error> {
    if let Expr::Value(value) = &expr
        && let Value::Number(number, _) = &value.value
    {
        let position = number.to_string().parse::<usize>().ok().and_then(|n| n.checked_sub(1));
        let item = position.and_then(|i| names.aliases.get(i));
        expr = item.map(|item| item.expr.clone()).ok_or_else(|| {
            Error::new(
                Code::UnknownColumn,
                number.to_string(),
                format!("GROUP BY {number}: there is no such column in the select list"),
            )
        })?;
        return Ok(expr);
    }
    if names.resolve(&mut expr)?.any() {
        return Err(Error::unsupported(
            "an aggregate in GROUP BY",
            "GROUP BY columns of the stream and window_end",
        ));
    }
    Ok(expr)
}
