//! From the outermost query inwards: refuses what is not a SELECT over one window, and gives names
//! their meaning, clause by clause.

use std::collections::BTreeSet;

use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, Query, Select, SelectFlavor, SelectItem, SelectItemQualifiedWildcardKind, SetExpr,
    Value, WildcardAdditionalOptions,
};

use super::Table;
use super::error::{Code, Error};
use super::from;
use super::functions::Functions;
use super::limits;
use super::names::Names;
use super::scope::{Alias, Aliases, Progress, Scope, quoted};
use super::tokens::EXAMPLE;

/// What names are known outside of a SELECT: streams, functions and the CTEs so far.
#[derive(Clone)]
pub(super) struct Known<'a> {
    pub tables: &'a [Table<'a>],
    pub functions: &'a Functions,
    pub ctes: Vec<Scope>,
}

/// Resolves a whole definition.
pub(super) fn definition(
    query: &mut Query,
    tables: &[Table<'_>],
    functions: &Functions,
) -> Result<(), Error> {
    let (_, progress) = resolve(query, &Known { tables, functions, ctes: Vec::new() })?;
    match progress {
        Progress::Aggregated => Ok(()),
        Progress::Windowed => {
            Err(Error::new(Code::NoWindow, "GROUP BY", "the query has a window but no GROUP BY")
                .hint(EXAMPLE))
        }
        Progress::Events => Err(no_window()),
    }
}

/// Resolves one query in place; its output columns and how far its rows have come.
pub(super) fn resolve(query: &mut Query, known: &Known<'_>) -> Result<(Vec<String>, Progress), Error> {
    refuse_around(query)?;
    let mut known = known.clone();
    if let Some(with) = &mut query.with {
        if with.recursive {
            return Err(Error::unsupported("WITH RECURSIVE", "WITH without RECURSIVE"));
        }
        for cte in &mut with.cte_tables {
            if !cte.alias.columns.is_empty() {
                return Err(Error::unsupported(
                    "a column list after a CTE's name",
                    "name the columns inside with AS",
                ));
            }
            let (columns, progress) = resolve(&mut cte.query, &known)?;
            let name = cte.alias.name.value.clone();
            cte.alias.name = quoted(&name);
            known.ctes.push(Scope::new(name, columns, progress)?);
        }
    }
    match query.body.as_mut() {
        SetExpr::Select(select) => resolve_select(select, &known),
        SetExpr::Query(inner) => resolve(inner, &known),
        SetExpr::SetOperation { op, .. } => Err(Error::unsupported(
            &op.to_string(),
            "one SELECT over one stream; create a feature group for each stream",
        )),
        SetExpr::Values(_) => Err(Error::unsupported("VALUES", EXAMPLE)),
        other => Err(Error::unsupported(other.to_string().split(' ').next().unwrap_or("statement"), EXAMPLE)),
    }
}

/// Refuses the clauses around a SELECT: rows of a feature group have no order and no end.
fn refuse_around(query: &Query) -> Result<(), Error> {
    let Query {
        with: _,
        body: _,
        order_by,
        limit_clause,
        fetch,
        locks,
        for_clause,
        settings,
        format_clause,
        pipe_operators,
    } = query;
    if order_by.is_some() {
        return Err(Error::unsupported(
            "ORDER BY",
            "leave it out: online there is one row per key; sort what you read",
        ));
    }
    if limit_clause.is_some() || fetch.is_some() {
        return Err(Error::unsupported("LIMIT", "leave it out, or drop groups with HAVING"));
    }
    if !locks.is_empty() || for_clause.is_some() || settings.is_some() || format_clause.is_some() {
        return Err(Error::unsupported("a clause after the query", EXAMPLE));
    }
    if !pipe_operators.is_empty() {
        return Err(Error::unsupported("|>", EXAMPLE));
    }
    Ok(())
}

/// Refuses the clauses of a SELECT that have no meaning over windows of events.
fn refuse_inside(select: &Select) -> Result<(), Error> {
    if select.distinct.is_some() {
        return Err(Error::unsupported("SELECT DISTINCT", "GROUP BY the columns, or COUNT(DISTINCT column)"));
    }
    if select.qualify.is_some() || !select.named_window.is_empty() {
        return Err(Error::unsupported("WINDOW and QUALIFY", "FROM TUMBLE(…) with GROUP BY and HAVING"));
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

fn resolve_select(select: &mut Select, known: &Known<'_>) -> Result<(Vec<String>, Progress), Error> {
    refuse_inside(select)?;
    let scope = from::resolve(&mut select.from, known)?;
    let grouping = std::mem::replace(&mut select.group_by, GroupByExpr::Expressions(Vec::new(), Vec::new()));
    let (grouping, modifiers) = match grouping {
        GroupByExpr::Expressions(list, modifiers) => (list, modifiers),
        GroupByExpr::All(_) => {
            return Err(Error::unsupported("GROUP BY ALL", "GROUP BY the key columns and window_end"));
        }
    };
    if !modifiers.is_empty() {
        return Err(Error::unsupported(
            "GROUP BY … WITH",
            "one GROUP BY; create a feature group for each key",
        ));
    }

    let grouped = grouped_columns(&scope, &grouping)?;
    let rows_are_groups = !grouping.is_empty() || select.having.is_some();
    let keys = rows_are_groups.then_some(&grouped);
    let (items, aggregate) =
        select_list(std::mem::take(&mut select.projection), &scope, known.functions, keys)?;
    let aggregated = rows_are_groups || aggregate;
    let anywhere = Names { scope: &scope, functions: known.functions, aliases: &items, grouped: None };

    if let Some(predicate) = &mut select.selection
        && anywhere.resolve(predicate)?
    {
        return Err(Error::unsupported(
            "an aggregate in WHERE",
            "filter groups with HAVING, or the aggregate with FILTER",
        ));
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
    if let Some(predicate) = &mut select.having {
        Names { grouped: keys, ..anywhere }.resolve(predicate)?;
    }
    let progress = match (aggregated, scope.progress) {
        (false, progress) => progress,
        (true, Progress::Windowed) => Progress::Aggregated,
        (true, Progress::Events) => return Err(no_window()),
        (true, Progress::Aggregated) => {
            return Err(Error::unsupported(
                "a second aggregation",
                "aggregate once per window, over the stream itself",
            ));
        }
    };
    let names = items.iter().map(|item| item.name.clone()).collect();
    select.group_by = GroupByExpr::Expressions(groups, Vec::new());
    select.projection = items
        .into_iter()
        .map(|item| SelectItem::ExprWithAlias { expr: item.expr, alias: quoted(&item.name) })
        .collect();
    Ok((names, progress))
}

fn no_window() -> Error {
    Error::new(Code::NoWindow, "GROUP BY without a window", "the query aggregates no window of event time")
        .hint(EXAMPLE)
}

/// The input columns that GROUP BY names directly.
fn grouped_columns(scope: &Scope, grouping: &[Expr]) -> Result<BTreeSet<String>, Error> {
    let mut columns = BTreeSet::new();
    for expr in grouping {
        let ident = match expr {
            Expr::Identifier(ident) => ident,
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [relation, column] if relation.value.eq_ignore_ascii_case(&scope.relation) => column,
                _ => continue,
            },
            _ => continue,
        };
        columns.extend(scope.column(ident)?.map(ToOwned::to_owned));
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
    if names.resolve(&mut expr)? {
        return Err(Error::unsupported(
            "an aggregate in GROUP BY",
            "GROUP BY columns of the stream and window_end",
        ));
    }
    Ok(expr)
}

/// The select list with its names resolved, `*` written out and every column named; whether it aggregates.
fn select_list(
    list: Vec<SelectItem>,
    scope: &Scope,
    functions: &Functions,
    grouped: Option<&BTreeSet<String>>,
) -> Result<(Aliases, bool), Error> {
    let mut items = Aliases::new();
    let mut any = false;
    for item in list {
        let (mut expr, name) = match item {
            SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias.value)),
            SelectItem::UnnamedExpr(expr) => (expr, None),
            SelectItem::ExprWithAliases { .. } => {
                return Err(Error::unsupported("several aliases for one expression", "one alias: … AS name"));
            }
            SelectItem::Wildcard(options) => {
                wildcard(&options, scope, &mut items)?;
                continue;
            }
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(relation), options)
                if relation.to_string().trim_matches('"').eq_ignore_ascii_case(&scope.relation) =>
            {
                wildcard(&options, scope, &mut items)?;
                continue;
            }
            SelectItem::QualifiedWildcard(kind, _) => {
                return Err(Error::new(
                    Code::UnknownTable,
                    kind.to_string(),
                    format!("{kind} names no relation of FROM"),
                ));
            }
        };
        let name = match (name, &expr) {
            (Some(name), _) => name,
            (None, plain) => plain_name(plain, scope)?.ok_or_else(|| missing_alias(plain, items.len()))?,
        };
        let aggregate = Names { scope, functions, aliases: &items, grouped }.resolve(&mut expr)?;
        any |= aggregate;
        let parts = limits::measure(&expr)?;
        push(&mut items, Alias { name, expr, aggregate, parts })?;
    }
    Ok((items, any))
}

/// Writes `*` out.
fn wildcard(options: &WildcardAdditionalOptions, scope: &Scope, items: &mut Aliases) -> Result<(), Error> {
    let WildcardAdditionalOptions {
        wildcard_token: _,
        opt_ilike,
        opt_exclude,
        opt_except,
        opt_replace,
        opt_rename,
        opt_alias,
    } = options;
    let plain = opt_ilike.is_none()
        && opt_exclude.is_none()
        && opt_except.is_none()
        && opt_replace.is_none()
        && opt_rename.is_none()
        && opt_alias.is_none();
    if !plain {
        return Err(Error::unsupported("* with options", "list the columns"));
    }
    scope.columns.iter().try_for_each(|column| {
        push(items, Alias { name: column.clone(), expr: scope.qualified(column), aggregate: false, parts: 1 })
    })
}

/// Adds a column to the select list: unique whatever the case, and not one of ours.
fn push(items: &mut Aliases, item: Alias) -> Result<(), Error> {
    let name = &item.name;
    if name.starts_with('_') {
        return Err(Error::new(
            Code::ReservedName,
            name,
            format!("column names that begin with _ are reserved: {name}"),
        )
        .hint(format!("write AS {}", name.trim_start_matches('_'))));
    }
    if let Some(other) = items.iter().find(|other| other.name.eq_ignore_ascii_case(name)) {
        let message = if other.name == *name {
            format!("there are two columns named {name:?}")
        } else {
            format!("the columns {:?} and {name:?} differ only in case", other.name)
        };
        return Err(Error::new(Code::DuplicateColumn, name, message).hint(format!("write AS {name}_2")));
    }
    items.push(item);
    Ok(())
}

/// The name that a plain column brings along, in the case of its schema.
fn plain_name(expr: &Expr, scope: &Scope) -> Result<Option<String>, Error> {
    let ident = match expr {
        Expr::Identifier(ident) => ident,
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [relation, column] if relation.value.eq_ignore_ascii_case(&scope.relation) => column,
            _ => return Ok(None),
        },
        _ => return Ok(None),
    };
    match scope.column(ident)? {
        Some(column) => Ok(Some(column.to_owned())),
        None => Ok(Some(ident.value.clone())), // an alias again, or unknown: resolving it tells
    }
}

fn missing_alias(expr: &Expr, position: usize) -> Error {
    Error::new(Code::MissingAlias, expr.to_string(), format!("the expression {expr} has no name"))
        .hint(format!("write {expr} AS {}", suggestion(expr, position)))
}

/// A name for an expression: `sum_clicks` for `SUM(clicks)`.
fn suggestion(expr: &Expr, position: usize) -> String {
    let words: Vec<String> = expr
        .to_string()
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with(|c: char| c.is_ascii_alphabetic()))
        .map(str::to_lowercase)
        .collect();
    match words.as_slice() {
        [] => format!("column_{}", position + 1),
        [one] => format!("{one}_{}", position + 1),
        several => several.iter().take(3).map(String::as_str).collect::<Vec<_>>().join("_"),
    }
}
