//! From the outermost query inwards: WITH, UNION ALL, and the clauses around a SELECT that rows of a
//! feature group cannot have.

use datafusion::sql::sqlparser::ast::{Expr, Query, SelectItem, SetExpr, SetOperator, SetQuantifier};

use super::error::{Code, Error};
use super::functions::Functions;
use super::scope::{Progress, quoted};
use super::select::{self, no_window};
use super::tokens::EXAMPLE;
use super::{Group, Table};

/// What names are known outside of a SELECT: streams, functions and the CTEs so far.
#[derive(Clone)]
pub(super) struct Known<'a> {
    pub tables: &'a [Table<'a>],
    pub groups: &'a [Group<'a>],
    pub functions: &'a Functions,
    pub ctes: Vec<Cte>,
}

/// A query that WITH names.
#[derive(Clone)]
pub(super) struct Cte {
    pub name: String,
    pub columns: Vec<String>,
    pub progress: Progress,
}

/// Resolves a whole definition.
pub(super) fn definition(
    query: &mut Query,
    tables: &[Table<'_>],
    groups: &[Group<'_>],
    functions: &Functions,
) -> Result<(), Error> {
    let (_, progress) = resolve(query, &Known { tables, groups, functions, ctes: Vec::new() })?;
    match progress {
        Progress::Features => Ok(()),
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
            known.ctes.push(Cte { name, columns, progress });
        }
    }
    body(&mut query.body, &known)
}

fn body(body: &mut SetExpr, known: &Known<'_>) -> Result<(Vec<String>, Progress), Error> {
    match body {
        SetExpr::Select(select) => select::resolve(select, known),
        SetExpr::Query(inner) => resolve(inner, known),
        SetExpr::SetOperation { op: SetOperator::Union, set_quantifier, left, right } => {
            union(*set_quantifier)?;
            let left = self::body(left, known)?;
            name_columns(right, &left.0);
            let right = self::body(right, known)?;
            united(left, &right)
        }
        SetExpr::SetOperation { op, .. } => {
            Err(Error::unsupported(&op.to_string(), "UNION ALL of streams, and WHERE to leave events out"))
        }
        SetExpr::Values(_) => Err(Error::unsupported("VALUES", EXAMPLE)),
        other => Err(Error::unsupported(other.to_string().split(' ').next().unwrap_or("statement"), EXAMPLE)),
    }
}

fn union(quantifier: SetQuantifier) -> Result<(), Error> {
    match quantifier {
        SetQuantifier::All => Ok(()),
        SetQuantifier::None | SetQuantifier::Distinct => Err(Error::unsupported(
            "UNION",
            "UNION ALL keeps every event; COUNT(DISTINCT column) counts those that are equal once",
        )),
        _ => Err(Error::unsupported(
            "UNION … BY NAME",
            "UNION ALL of SELECTs with the same columns in the same order",
        )),
    }
}

/// Expressions of a later SELECT of a UNION ALL need no names of their own.
fn name_columns(body: &mut SetExpr, names: &[String]) {
    match body {
        SetExpr::Select(select) => {
            for (item, name) in select.projection.iter_mut().zip(names) {
                match item {
                    SelectItem::UnnamedExpr(Expr::Identifier(_) | Expr::CompoundIdentifier(_)) => {}
                    SelectItem::UnnamedExpr(expr) => {
                        *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: quoted(name) };
                    }
                    SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => return,
                    _ => {}
                }
            }
        }
        SetExpr::Query(query) => name_columns(&mut query.body, names),
        SetExpr::SetOperation { left, .. } => name_columns(left, names),
        _ => {}
    }
}

/// The columns of a UNION ALL are called as its first SELECT calls them.
fn united(
    (columns, progress): (Vec<String>, Progress),
    (others, other): &(Vec<String>, Progress),
) -> Result<(Vec<String>, Progress), Error> {
    if progress.max(*other) != Progress::Events {
        return Err(Error::unsupported(
            "UNION ALL of windows",
            "unite the streams first: FROM TUMBLE((SELECT … FROM a UNION ALL SELECT … FROM b), DESCRIPTOR(ts), …)",
        ));
    }
    if columns.len() != others.len() {
        return Err(Error::new(
            Code::Type,
            "UNION ALL",
            format!("the SELECTs of a UNION ALL have {} and {} columns", columns.len(), others.len()),
        )
        .hint(format!("one has {}; the other {}", columns.join(", "), others.join(", "))));
    }
    Ok((columns, progress))
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
