//! Which streams a definition reads, before their schemas are known.

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Query, SetExpr, TableFactor, TableWithJoins,
};

use super::error::Error;
use super::{limits, tokens};

/// The streams that the SQL reads, in the order and as often as it reads them: one for each of
/// [`crate::query::FeatureQuery::sources`].
///
/// Names of streams are lower case, so however a name is written it comes back in lower case.
pub fn tables(sql: &str) -> Result<Vec<String>, Error> {
    mentioned(&tokens::parse(sql)?)
}

/// Refuses a query that reads too many streams.
pub(super) fn check(query: &Query) -> Result<(), Error> {
    mentioned(query).map(|_| ())
}

fn mentioned(query: &Query) -> Result<Vec<String>, Error> {
    let mut mentioned = Mentioned::default();
    mentioned.query(query);
    if mentioned.streams.len() > limits::SOURCES {
        return Err(limits::too_many_sources());
    }
    Ok(mentioned.streams)
}

#[derive(Default)]
struct Mentioned {
    streams: Vec<String>,
    /// The streams that each CTE reads.
    ctes: Vec<(String, Vec<String>)>,
}

impl Mentioned {
    fn query(&mut self, query: &Query) {
        let outside = self.ctes.len();
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            let before = std::mem::take(&mut self.streams);
            self.query(&cte.query);
            let read = std::mem::replace(&mut self.streams, before);
            self.ctes.push((cte.alias.name.value.to_lowercase(), read));
        }
        self.body(&query.body);
        self.ctes.truncate(outside);
    }

    fn body(&mut self, body: &SetExpr) {
        match body {
            SetExpr::Select(select) => select.from.iter().for_each(|from| self.joined(from)),
            SetExpr::Query(query) => self.query(query),
            SetExpr::SetOperation { left, right, .. } => {
                self.body(left);
                self.body(right);
            }
            _ => {}
        }
    }

    fn joined(&mut self, from: &TableWithJoins) {
        self.relation(&from.relation);
        from.joins.iter().for_each(|join| self.relation(&join.relation));
    }

    fn relation(&mut self, factor: &TableFactor) {
        match factor {
            TableFactor::Table { name, args: None, .. } => self.name(&name.to_string()),
            TableFactor::Table { args: Some(args), .. } => self.arguments(&args.args),
            TableFactor::TableFunction { expr: Expr::Function(function), .. } => {
                if let FunctionArguments::List(list) = &function.args {
                    self.arguments(&list.args);
                }
            }
            TableFactor::Derived { subquery, .. } => self.query(subquery),
            TableFactor::NestedJoin { table_with_joins, .. } => self.joined(table_with_joins),
            _ => {}
        }
    }

    /// A window call: its input is `DATA => …`, else the first argument.
    fn arguments(&mut self, args: &[FunctionArg]) {
        let data = args.iter().find(|arg| match arg {
            FunctionArg::Named { name, .. } => name.value.eq_ignore_ascii_case("data"),
            FunctionArg::ExprNamed { name: Expr::Identifier(name), .. } => {
                name.value.eq_ignore_ascii_case("data")
            }
            _ => false,
        });
        let Some(input) = data.or(args.first()) else { return };
        let (FunctionArg::Unnamed(arg) | FunctionArg::Named { arg, .. } | FunctionArg::ExprNamed { arg, .. }) =
            input;
        match arg {
            FunctionArgExpr::Expr(Expr::Identifier(name)) => self.name(&name.value),
            FunctionArgExpr::Expr(Expr::Subquery(query)) => self.query(query),
            _ => {}
        }
    }

    fn name(&mut self, name: &str) {
        let name = name.trim_matches('"').to_lowercase();
        let room = (limits::SOURCES + 1).saturating_sub(self.streams.len());
        match self.ctes.iter().rev().find(|(cte, _)| *cte == name) {
            Some((_, read)) => self.streams.extend(read.iter().take(room).cloned()),
            None if room > 0 => self.streams.push(name),
            None => {}
        }
    }
}
