//! FROM: one stream, CTE or subquery, with or without a window around it.

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName,
    TableAlias, TableFactor, TableFunctionArgs, TableWithJoins,
};

use super::error::{Code, Error, nearest};
use super::scope::{Progress, Scope, WINDOW_COLUMNS, find, quoted};
use super::select::{self, Known};
use super::tokens::EXAMPLE;

/// What a hint shows for a window.
const TUMBLE: &str = "FROM TUMBLE(stream, DESCRIPTOR(event time), INTERVAL '5' MINUTES)";

/// Resolves FROM in place: names exact and quoted, the window in its positional form, an alias on everything.
pub(super) fn resolve(from: &mut [TableWithJoins], known: &Known<'_>) -> Result<Scope, Error> {
    match from {
        [] => Err(Error::new(Code::NoWindow, "FROM", "the query reads no stream").hint(EXAMPLE)),
        [one] if one.joins.is_empty() => relation(&mut one.relation, known),
        [one] => {
            let join = one.joins.first().map(ToString::to_string).unwrap_or_default();
            let kind: Vec<&str> = join.split_whitespace().take_while(|word| *word != "JOIN").collect();
            Err(Error::unsupported(
                format!("{} JOIN", kind.join(" ")).trim(),
                "one stream per feature group; join feature groups in a feature view",
            ))
        }
        _ => Err(Error::unsupported(
            "a second relation after FROM",
            "one stream per feature group; join feature groups in a feature view",
        )),
    }
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
            let scope = named(name, known)?;
            *name = ObjectName::from(vec![quoted(&scope.relation)]);
            aliased(scope, alias)
        }
        TableFactor::Table { name, alias, args: Some(args), .. } => {
            let (name, alias, args) = (name.clone(), alias.take(), std::mem::take(&mut args.args));
            *factor = window(&name, args, alias)?;
            windowed(factor, known)
        }
        TableFactor::TableFunction { expr: Expr::Function(function), alias } => {
            let FunctionArguments::List(FunctionArgumentList { args, .. }) = &mut function.args else {
                return Err(Error::unsupported("TABLE(…)", TUMBLE));
            };
            let (name, alias, args) = (function.name.clone(), alias.take(), std::mem::take(args));
            *factor = window(&name, args, alias)?;
            windowed(factor, known)
        }
        TableFactor::Derived { lateral: false, subquery, alias, sample: None } => {
            let (columns, progress) = select::resolve(subquery, known)?;
            aliased(Scope::new("subquery".to_owned(), columns, progress)?, alias)
        }
        TableFactor::NestedJoin { table_with_joins, alias: None } => {
            resolve(std::slice::from_mut(table_with_joins.as_mut()), known)
        }
        TableFactor::UNNEST { .. } => Err(Error::unsupported("UNNEST", TUMBLE)),
        TableFactor::MatchRecognize { .. } => Err(Error::unsupported("MATCH_RECOGNIZE", TUMBLE)),
        TableFactor::Pivot { .. } | TableFactor::Unpivot { .. } => {
            Err(Error::unsupported("PIVOT", "one aggregate per column, each with FILTER (WHERE …)"))
        }
        TableFactor::Derived { .. } => Err(Error::unsupported("LATERAL", TUMBLE)),
        _ => Err(Error::unsupported("this relation after FROM", TUMBLE)),
    }
}

/// The CTE or stream of a name.
fn named(name: &ObjectName, known: &Known<'_>) -> Result<Scope, Error> {
    let [part] = name.0.as_slice() else {
        return Err(Error::unsupported(
            &format!("the qualified name {name}"),
            "a stream's name stands alone",
        ));
    };
    let ident = part.as_ident().cloned().unwrap_or_else(|| Ident::new(part.to_string()));
    let ctes = known.ctes.iter().rev();
    if let Some(found) = find(&ident.value, ctes.clone().map(|cte| cte.relation.as_str()))?
        && let Some(cte) = ctes.clone().find(|cte| cte.relation == found)
    {
        return Ok(cte.clone());
    }
    let tables = known.tables.iter().map(|table| table.name);
    let Some(found) = find(&ident.value, tables.clone())? else {
        let error =
            Error::new(Code::UnknownTable, &ident.value, format!("there is no stream {:?}", ident.value));
        let candidates = tables.chain(ctes.map(|cte| cte.relation.as_str()));
        return Err(match nearest(&ident.value, candidates) {
            Some(near) => error.hint(format!("did you mean {near:?}?")),
            None => error.hint("create the stream first"),
        });
    };
    let columns = known.tables.iter().find(|table| table.name == found);
    let columns =
        columns.map(|t| t.schema.fields().iter().map(|f| f.name().clone()).collect()).unwrap_or_default();
    Scope::new(found.to_owned(), columns, Progress::Events)
}

/// Gives a relation the name that qualifies its columns, and writes it down.
fn aliased(mut scope: Scope, alias: &mut Option<TableAlias>) -> Result<Scope, Error> {
    if let Some(alias) = alias {
        if !alias.columns.is_empty() || alias.at.is_some() {
            return Err(Error::unsupported(
                "a column list after an alias",
                "name the columns in a CTE with AS",
            ));
        }
        scope.relation.clone_from(&alias.name.value);
    }
    *alias =
        Some(TableAlias { explicit: true, name: quoted(&scope.relation), columns: Vec::new(), at: None });
    Ok(scope)
}

/// The scope of a window call in its positional form.
fn windowed(factor: &mut TableFactor, known: &Known<'_>) -> Result<Scope, Error> {
    let TableFactor::Table { alias, args: Some(args), .. } = factor else {
        return Err(Error::unsupported("this relation after FROM", TUMBLE));
    };
    let input = match args.args.first_mut() {
        Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(name)))) => {
            let scope = named(&ObjectName::from(vec![name.clone()]), known)?;
            *name = quoted(&scope.relation);
            scope
        }
        Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Subquery(query)))) => {
            let (columns, progress) = select::resolve(query, known)?;
            Scope::new("subquery".to_owned(), columns, progress)?
        }
        other => {
            let what = other.map(|arg| arg.to_string()).unwrap_or_default();
            return Err(bad(
                "TUMBLE",
                format!("the first argument of TUMBLE is a stream, a CTE or a subquery, not {what}"),
            ));
        }
    };
    if input.progress != Progress::Events {
        return Err(Error::unsupported(
            "a window over a window",
            "one window over a stream, or over a CTE that filters and projects it",
        ));
    }
    if let Some(taken) =
        input.columns.iter().find(|c| WINDOW_COLUMNS.iter().any(|w| w.eq_ignore_ascii_case(c)))
    {
        return Err(Error::new(
            Code::AmbiguousColumn,
            taken,
            format!(
                "TUMBLE adds window_start, window_end and window_time, and {:?} has a column {taken:?}",
                input.relation
            ),
        )
        .hint(format!("rename it in a CTE: SELECT {taken} AS event_{taken}, …")));
    }
    if let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(time)))) = args.args.get_mut(1) {
        *time = match input.column(time)? {
            Some(column) => quoted(column),
            None => return Err(input.unknown(&time.value, &Vec::new())),
        };
    }
    let mut columns = input.columns;
    columns.extend(WINDOW_COLUMNS.map(ToOwned::to_owned));
    aliased(Scope::new(input.relation, columns, Progress::Windowed)?, alias)
}

/// A window call with its arguments in order: relation, time column, size, offset.
fn window(
    name: &ObjectName,
    args: Vec<FunctionArg>,
    alias: Option<TableAlias>,
) -> Result<TableFactor, Error> {
    let function = name.to_string().to_uppercase();
    if function != "TUMBLE" {
        return Err(Error::unsupported(&format!("the table function {function}"), TUMBLE));
    }
    let mut slots: [Option<Expr>; 4] = [None, None, None, None];
    for (position, arg) in args.into_iter().enumerate() {
        let (slot, expr) = match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => (position, expr),
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), .. } => (slot(&name.value)?, expr),
            FunctionArg::ExprNamed {
                name: Expr::Identifier(name), arg: FunctionArgExpr::Expr(expr), ..
            } => (slot(&name.value)?, expr),
            other => return Err(bad("TUMBLE", format!("TUMBLE cannot take the argument {other}"))),
        };
        match slots.get_mut(slot) {
            Some(free @ None) => *free = Some(expr),
            Some(Some(_)) => return Err(bad("TUMBLE", "TUMBLE has the same argument twice")),
            None => {
                return Err(bad(
                    "TUMBLE",
                    "TUMBLE takes a stream, DESCRIPTOR(event time), a size and at most an offset",
                ));
            }
        }
    }
    let [Some(input), Some(time), Some(size), offset] = slots else {
        return Err(bad("TUMBLE", "TUMBLE takes a stream, DESCRIPTOR(event time) and a size"));
    };
    let mut args = vec![input, Expr::Identifier(descriptor(time)?), size];
    args.extend(offset);
    Ok(TableFactor::Table {
        name: ObjectName::from(vec![Ident::new("TUMBLE")]),
        alias,
        args: Some(TableFunctionArgs {
            args: args.into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect(),
            settings: None,
        }),
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    })
}

fn slot(name: &str) -> Result<usize, Error> {
    match name.to_uppercase().as_str() {
        "DATA" => Ok(0),
        "TIMECOL" => Ok(1),
        "SIZE" => Ok(2),
        "OFFSET" => Ok(3),
        _ => Err(bad(
            "TUMBLE",
            format!("TUMBLE has no argument {name}; it has DATA, TIMECOL, SIZE and OFFSET"),
        )),
    }
}

/// The column in `DESCRIPTOR(column)`.
fn descriptor(expr: Expr) -> Result<Ident, Error> {
    if let Expr::Function(function) = &expr
        && function.name.to_string().eq_ignore_ascii_case("DESCRIPTOR")
        && let FunctionArguments::List(list) = &function.args
        && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(column)))] = list.args.as_slice()
    {
        return Ok(column.clone());
    }
    Err(bad(
        "DESCRIPTOR",
        format!("the second argument of TUMBLE is DESCRIPTOR(event time column), not {expr}"),
    ))
}

fn bad(construct: &str, message: impl Into<String>) -> Error {
    Error::new(Code::BadWindow, construct, message).hint(TUMBLE)
}
