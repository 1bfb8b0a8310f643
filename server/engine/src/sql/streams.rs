//! Which streams and groups a definition reads, before their schemas are known.

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Query, SetExpr, TableFactor, TableWithJoins,
};

use super::call::is_as_of;
use super::error::Error;
use super::{limits, tokens};

/// What a definition reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mention {
    /// The events of a stream.
    Stream(String),
    /// The rows of a feature group, as of the time of an event: what SQL calls it.
    Group(String),
}

/// The streams that the SQL reads and the groups that it looks up, in the order and as often as it does: one for
/// each of [`crate::query::FeatureQuery::sources`].
///
/// Names are lower case, so however a name is written it comes back in lower case.
pub fn tables(sql: &str) -> Result<Vec<Mention>, Error> {
    mentioned(&tokens::parse(sql)?)
}

/// Refuses a query that reads too many streams.
pub(super) fn check(query: &Query) -> Result<(), Error> {
    mentioned(query).map(|_| ())
}

fn mentioned(query: &Query) -> Result<Vec<Mention>, Error> {
    let mut mentioned = Mentioned::default();
    mentioned.query(query);
    if mentioned.read.len() > limits::SOURCES {
        return Err(limits::too_many_sources());
    }
    Ok(mentioned.read)
}

#[derive(Default)]
struct Mentioned {
    read: Vec<Mention>,
    /// What each CTE reads.
    ctes: Vec<(String, Vec<Mention>)>,
}

impl Mentioned {
    fn query(&mut self, query: &Query) {
        let outside = self.ctes.len();
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            let before = std::mem::take(&mut self.read);
            self.query(&cte.query);
            let read = std::mem::replace(&mut self.read, before);
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
            TableFactor::Table { name, args: Some(args), .. } if is_as_of(name) => {
                if let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(group)))) =
                    args.args.first()
                {
                    self.mention(Mention::Group(group.value.to_lowercase()));
                }
            }
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
        match self.ctes.iter().rev().find(|(cte, _)| *cte == name) {
            Some((_, read)) => self.read.extend(read.iter().take(self.room()).cloned()),
            None => self.mention(Mention::Stream(name)),
        }
    }

    fn mention(&mut self, mention: Mention) {
        if self.room() > 0 {
            self.read.push(mention);
        }
    }

    fn room(&self) -> usize {
        (limits::SOURCES + 1).saturating_sub(self.read.len())
    }
}
