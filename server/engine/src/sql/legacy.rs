//! Windows in GROUP BY, as Flink had them before table functions: `GROUP BY k, TUMBLE(ts, size)` with
//! `TUMBLE_START(ts, size)` in the select list. They become the table function and its columns.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, Query, Select,
    SetExpr, TableWithJoins, VisitMut, VisitorMut,
};

use super::call::{Call, Kind};
use super::error::{Code, Error};
use super::from;
use super::names;
use super::scope::{Progress, Relation, Scope, WINDOW_COLUMNS, quoted};
use super::tokens;

/// Puts the window of GROUP BY, if there is one, around FROM, which is resolved and offers `scope`;
/// what FROM offers then.
pub(super) fn rewrite(select: &mut Select, scope: Scope) -> Result<Scope, Error> {
    let mut window = None;
    if let GroupByExpr::Expressions(groups, _) = &mut select.group_by {
        for group in groups.iter_mut() {
            let Some((kind, args)) = window_of(group)? else { continue };
            if window.is_some() {
                return Err(Error::unsupported(
                    "a second window in GROUP BY",
                    "one window per feature group",
                ));
            }
            window = Some((kind, args));
            *group = Expr::Identifier(quoted("window_end"));
        }
    }
    let written = window.as_ref().map(|(kind, args)| (*kind, list(args)));
    let mut bounds = Bounds { window: written.as_ref() };
    let selected = select.projection.visit(&mut bounds);
    let visited = match selected {
        ControlFlow::Continue(()) => select.having.visit(&mut bounds),
        stopped @ ControlFlow::Break(_) => stopped,
    };
    if let ControlFlow::Break(error) = visited {
        return Err(*error);
    }
    match window {
        Some((kind, args)) => around(select, scope, kind, args),
        None => Ok(scope),
    }
}

/// Puts a window call around FROM: its relations stay what they are called, the window's columns have
/// no relation.
fn around(select: &mut Select, mut scope: Scope, kind: Kind, args: Vec<Expr>) -> Result<Scope, Error> {
    from::check_input(&scope, kind)?;
    let mut args = args.into_iter();
    let (time, lengths): (Option<Expr>, Vec<Expr>) = (args.next(), args.collect());
    let Some(time) = time.filter(|_| lengths.len() == kind.lengths().len()) else {
        return Err(kind.bad(format!(
            "in GROUP BY, {} takes the event time and {}",
            kind.name(),
            kind.lengths().join(", ")
        )));
    };
    let time = names::column(&time, &scope)?.expr();
    let mut input = tokens::parse("SELECT * FROM input")?;
    let Query { body, .. } = &mut input;
    if let SetExpr::Select(all) = body.as_mut() {
        all.from = std::mem::take(&mut select.from);
    }
    let call = Call { kind, input: Expr::Subquery(Box::new(input)), time, partition: Vec::new(), lengths };
    select.from = vec![TableWithJoins { relation: call.into_relation(None), joins: Vec::new() }];
    (scope.progress, scope.is_window) = (Progress::Windowed, true);
    scope.relations.push(Relation { name: None, columns: WINDOW_COLUMNS.map(ToOwned::to_owned).into() });
    Ok(scope)
}

/// The window that a GROUP BY expression is.
fn window_of(group: &Expr) -> Result<Option<(Kind, Vec<Expr>)>, Error> {
    let Expr::Function(function) = group else { return Ok(None) };
    let Some(kind) = Kind::of(&function.name.to_string()) else { return Ok(None) };
    if kind == Kind::Cumulate {
        return Err(Error::unsupported("CUMULATE in GROUP BY", &format!("FROM {}", kind.example())));
    }
    Ok(Some((kind, arguments(function))))
}

/// The positional arguments of a call.
fn arguments(function: &Function) -> Vec<Expr> {
    let FunctionArguments::List(list) = &function.args else { return Vec::new() };
    let expr = |arg: &FunctionArg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    };
    list.args.iter().filter_map(expr).collect()
}

fn list(args: &[Expr]) -> String {
    args.iter().map(|arg| arg.to_string().to_lowercase()).collect::<Vec<_>>().join(", ")
}

/// Turns `TUMBLE_START(…)` and its like into the window's columns.
struct Bounds<'a> {
    window: Option<&'a (Kind, String)>,
}

impl Bounds<'_> {
    fn replace(&self, expr: &mut Expr) -> Result<(), Error> {
        let Expr::Function(function) = expr else { return Ok(()) };
        let name = function.name.to_string().to_uppercase();
        let Some((kind, end)) = name.rsplit_once('_').and_then(|(kind, end)| Some((Kind::of(kind)?, end)))
        else {
            return Ok(());
        };
        let column = match end {
            "START" => "window_start",
            "END" => "window_end",
            "ROWTIME" => "window_time",
            "PROCTIME" => {
                return Err(Error::unsupported(
                    &name,
                    &format!("{}_ROWTIME(…): event time decides", kind.name()),
                ));
            }
            _ => return Ok(()),
        };
        match self.window {
            Some((of, args)) if *of == kind && *args == list(&arguments(function)) => {
                *expr = Expr::Identifier(Ident::new(column));
                Ok(())
            }
            Some((of, args)) => {
                let message = format!("{expr} is not of the window in GROUP BY, {}({args})", of.name());
                Err(Error::new(Code::BadWindow, name, message).hint(format!("write {column}")))
            }
            None => Err(Error::new(
                Code::BadWindow,
                &name,
                format!("{name} belongs to GROUP BY {}(…)", kind.name()),
            )
            .hint(format!("with FROM {} it is the column {column}", kind.example()))),
        }
    }
}

impl VisitorMut for Bounds<'_> {
    type Break = Box<Error>;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        self.replace(expr).map_or_else(|e| ControlFlow::Break(Box::new(e)), ControlFlow::Continue)
    }
}
