//! FROM: a stream, CTE or subquery, a join of them, with or without a window around it.

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgumentList, FunctionArguments, Ident, ObjectName, Query, Select, TableAlias,
    TableFactor, TableWithJoins,
};

use super::call::{Call, Kind, is_as_of};
use super::definition::{self, Known};
use super::error::{Code, Error, nearest};
use super::join;
use super::lookup;
use super::names;
use super::scope::{Progress, Relation, Scope, WINDOW_COLUMNS, find, quoted};
use super::tokens::EXAMPLE;

/// What a hint shows for a window.
const TUMBLE: &str = "FROM TUMBLE(stream, DESCRIPTOR(event time), INTERVAL '5' MINUTES)";

/// Resolves FROM in place: names exact and quoted, windows in their one form, an alias on everything.
pub(super) fn resolve(select: &mut Select, known: &Known<'_>) -> Result<Scope, Error> {
    let mut scope: Option<Scope> = None;
    let mut items = Vec::new(); // the relations between two commas
    for from in &mut select.from {
        let item = joined(from, known)?;
        items.push(item.relations.iter().filter_map(|relation| relation.name.clone()).collect());
        scope = Some(match scope {
            None => item,
            Some(left) => join::both(left, item)?,
        });
    }
    let Some(scope) = scope else {
        return Err(Error::new(Code::NoWindow, "FROM", "the query reads no stream").hint(EXAMPLE));
    };
    if items.len() > 1 {
        join::of_where(select, &scope, &items, known.functions)?;
    }
    Ok(scope)
}

fn joined(from: &mut TableWithJoins, known: &Known<'_>) -> Result<Scope, Error> {
    let mut scope = relation(&mut from.relation, known)?;
    for join in &mut from.joins {
        if lookup::is_lookup(join) {
            scope = lookup::resolve(join, scope, known)?;
            continue;
        }
        let right = relation(&mut join.relation, known)?;
        scope = join::resolve(join, scope, right, known.functions)?;
    }
    Ok(scope)
}

fn relation(factor: &mut TableFactor, known: &Known<'_>) -> Result<Scope, Error> {
    match factor {
        TableFactor::Table {
            name,
            alias,
            args: None,
            with_hints,
            version,
            with_ordinality,
            partitions,
            json_path,
            sample,
            index_hints,
        } => {
            let plain = with_hints.is_empty()
                && version.is_none()
                && !*with_ordinality
                && partitions.is_empty()
                && json_path.is_none()
                && index_hints.is_empty();
            if !plain || sample.is_some() {
                return Err(Error::unsupported("an option after a stream's name", TUMBLE));
            }
            let found = named(name, known)?;
            *name = ObjectName::from(vec![quoted(&found.name)]);
            aliased(found, alias)
        }
        TableFactor::Table { name, args: Some(_), .. } if is_as_of(name) => Err(lookup::misplaced()),
        TableFactor::Table { name, alias, args: Some(args), .. } => {
            let call = call(name, std::mem::take(&mut args.args))?;
            let (window, scope) = windowed(call, alias.take(), known)?;
            *factor = window;
            Ok(scope)
        }
        TableFactor::TableFunction { expr: Expr::Function(function), alias } => {
            let FunctionArguments::List(FunctionArgumentList { args, .. }) = &mut function.args else {
                return Err(Error::unsupported("TABLE(…)", TUMBLE));
            };
            let call = call(&function.name, std::mem::take(args))?;
            let (window, scope) = windowed(call, alias.take(), known)?;
            *factor = window;
            Ok(scope)
        }
        TableFactor::Derived { lateral: false, subquery, alias, sample: None } => {
            aliased(nested(subquery, known)?, alias)
        }
        TableFactor::NestedJoin { table_with_joins, alias: None } => joined(table_with_joins, known),
        TableFactor::NestedJoin { .. } => Err(Error::unsupported(
            "an alias on a join in parentheses",
            "write it as a subquery: (SELECT … FROM a JOIN b ON …) AS t",
        )),
        TableFactor::UNNEST { .. } => Err(Error::unsupported("UNNEST", TUMBLE)),
        TableFactor::MatchRecognize { .. } => Err(Error::unsupported("MATCH_RECOGNIZE", TUMBLE)),
        TableFactor::Pivot { .. } | TableFactor::Unpivot { .. } => {
            Err(Error::unsupported("PIVOT", "one aggregate per column, each with FILTER (WHERE …)"))
        }
        TableFactor::Derived { .. } => Err(Error::unsupported("LATERAL", TUMBLE)),
        _ => Err(Error::unsupported("this relation after FROM", TUMBLE)),
    }
}

/// A relation by the name under which the planner knows it.
pub(super) struct Found {
    pub name: String,
    pub columns: Vec<String>,
    pub progress: Progress,
}

/// The CTE or stream of a name.
fn named(name: &ObjectName, known: &Known<'_>) -> Result<Found, Error> {
    let [part] = name.0.as_slice() else {
        return Err(Error::unsupported(
            &format!("the qualified name {name}"),
            "a stream's name stands alone",
        ));
    };
    let ident = part.as_ident().cloned().unwrap_or_else(|| Ident::new(part.to_string()));
    let ctes = known.ctes.iter().rev();
    if let Some(found) = find(&ident.value, ctes.clone().map(|cte| cte.name.as_str()))?
        && let Some(cte) = ctes.clone().find(|cte| cte.name == found)
    {
        return Ok(Found { name: cte.name.clone(), columns: cte.columns.clone(), progress: cte.progress });
    }
    let tables = known.tables.iter().map(|table| table.name);
    let Some(found) = find(&ident.value, tables.clone())? else {
        let error =
            Error::new(Code::UnknownTable, &ident.value, format!("there is no stream {:?}", ident.value));
        let candidates = tables.chain(ctes.map(|cte| cte.name.as_str()));
        return Err(match nearest(&ident.value, candidates) {
            Some(near) => error.hint(format!("did you mean {near:?}?")),
            None => error.hint("create the stream first"),
        });
    };
    let columns = known.tables.iter().find(|table| table.name == found);
    let columns =
        columns.map(|t| t.schema.fields().iter().map(|f| f.name().clone()).collect()).unwrap_or_default();
    Ok(Found { name: found.to_owned(), columns, progress: Progress::Events })
}

/// A subquery, which has no name of its own.
fn nested(subquery: &mut Query, known: &Known<'_>) -> Result<Found, Error> {
    let (columns, progress) = definition::resolve(subquery, known)?;
    Ok(Found { name: "subquery".to_owned(), columns, progress })
}

/// Gives a relation the name that qualifies its columns, and writes it down.
pub(super) fn aliased(mut found: Found, alias: &mut Option<TableAlias>) -> Result<Scope, Error> {
    if let Some(alias) = alias {
        if !alias.columns.is_empty() || alias.at.is_some() {
            return Err(Error::unsupported(
                "a column list after an alias",
                "name the columns in a CTE with AS",
            ));
        }
        found.name.clone_from(&alias.name.value);
    }
    *alias = Some(TableAlias { explicit: true, name: quoted(&found.name), columns: Vec::new(), at: None });
    Ok(Scope::of(Relation::new(&found.name, found.columns)?, found.progress))
}

fn call(name: &ObjectName, args: Vec<FunctionArg>) -> Result<Call, Error> {
    let name = name.to_string();
    let Some(kind) = Kind::of(&name) else {
        return Err(Error::unsupported(&format!("the table function {}", name.to_uppercase()), TUMBLE));
    };
    Call::new(kind, args)
}

/// A window call with its names resolved, and what it offers.
fn windowed(
    mut call: Call,
    mut alias: Option<TableAlias>,
    known: &Known<'_>,
) -> Result<(TableFactor, Scope), Error> {
    let kind = call.kind;
    let found = match &mut call.input {
        Expr::Identifier(name) => {
            let found = named(&ObjectName::from(vec![name.clone()]), known)?;
            *name = quoted(&found.name);
            found
        }
        Expr::Subquery(subquery) => nested(subquery, known)?,
        other => {
            return Err(kind.bad(format!(
                "the first argument of {} is a stream, a CTE or a subquery, not {other}",
                kind.name()
            )));
        }
    };
    let input = Scope::of(Relation::new(&found.name, found.columns.clone())?, found.progress);
    check_input(&input, kind)?;
    // The planner knows the columns of a subquery without a relation in front.
    let column = |expr: &Expr| -> Result<Expr, Error> {
        Ok(Expr::Identifier(quoted(&names::column(expr, &input)?.column)))
    };
    call.time = column(&call.time)?;
    call.partition = call.partition.iter().map(column).collect::<Result<_, _>>()?;
    let mut columns = found.columns;
    columns.extend(WINDOW_COLUMNS.map(ToOwned::to_owned));
    let mut scope = aliased(Found { columns, progress: Progress::Windowed, ..found }, &mut alias)?;
    scope.is_window = true;
    Ok((call.into_relation(alias), scope))
}

/// Refuses to put a window over what has one, or over columns that are called like its own.
pub(super) fn check_input(input: &Scope, kind: Kind) -> Result<(), Error> {
    if input.progress != Progress::Events {
        return Err(Error::unsupported(
            "a window over a window",
            "one window over a stream, or over a CTE that filters, projects or joins streams",
        ));
    }
    match input.all().find(|place| WINDOW_COLUMNS.iter().any(|w| w.eq_ignore_ascii_case(&place.column))) {
        Some(taken) => {
            let column = &taken.column;
            Err(Error::new(
                Code::AmbiguousColumn,
                column,
                format!(
                    "{} adds window_start, window_end and window_time, and {} has a column {column:?}",
                    kind.name(),
                    input.names(),
                ),
            )
            .hint(format!("rename it in a CTE: SELECT {column} AS event_{column}, …")))
        }
        None => Ok(()),
    }
}
