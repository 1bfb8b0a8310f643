//! Gives every name of an expression its one meaning, and refuses what expressions may not hold.
//!
//! After this pass columns are qualified and quoted, aliases of the same SELECT are replaced by what
//! they stand for, and every function is known and immutable: DataFusion resolves nothing by itself.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Function, Ident, Value, VisitMut, VisitorMut};

use super::clauses;
use super::error::{Code, Error};
use super::functions::{Functions, Role};
use super::limits;
use super::scope::{Alias, Aliases, Holds, Place, Scope, find, quoted};

/// Resolves the names of one clause.
pub(super) struct Names<'a> {
    /// What FROM offers.
    pub scope: &'a Scope,
    /// Functions by name.
    pub functions: &'a Functions,
    /// Aliases that may be used here: earlier ones in the select list, all of them after it.
    pub aliases: &'a Aliases,
    /// The columns of GROUP BY where rows are groups. Outside of an aggregate's argument a name
    /// means, in this order, one of these, an alias, another column of the input.
    pub grouped: Option<&'a BTreeSet<Place>>,
}

impl Names<'_> {
    /// Rewrites `expr` in place; which functions over several rows it holds.
    pub fn resolve(&self, expr: &mut Expr) -> Result<Holds, Error> {
        let mut walk = Walk { names: self, depth: 0, holds: Holds::default(), parts: 0 };
        match expr.visit(&mut walk) {
            ControlFlow::Continue(()) => Ok(walk.holds),
            ControlFlow::Break(error) => Err(*error),
        }
    }

    /// What a bare name stands for, and what that holds; `parts` have been added by names before it.
    fn identifier(&self, ident: &Ident, in_aggregate: bool, parts: usize) -> Result<(Expr, Holds), Error> {
        let alias = || -> Result<Option<&Alias>, Error> {
            let name = find(&ident.value, self.aliases.iter().map(|alias| alias.name.as_str()))?;
            Ok(name.and_then(|name| self.aliases.iter().find(|alias| alias.name == name)))
        };
        let is_key = |column: &Place| match self.grouped {
            Some(grouped) if !in_aggregate => grouped.contains(column),
            _ => true,
        };
        match self.scope.column(ident)? {
            Some(column) if is_key(&column) => Ok((column.expr(), Holds::default())),
            other => match (alias()?, other) {
                (Some(alias), _) if alias.holds.any() && in_aggregate => Err(nested()),
                (Some(alias), _) if parts + alias.parts > limits::PARTS => Err(limits::too_large()),
                (Some(alias), _) => Ok((Expr::Nested(Box::new(alias.expr.clone())), alias.holds)),
                (None, Some(column)) => Ok((column.expr(), Holds::default())),
                (None, None) => Err(self.unknown(ident)),
            },
        }
    }

    /// A name that means nothing; `CURRENT_DATE` is written like one and is a function.
    fn unknown(&self, ident: &Ident) -> Error {
        match self.functions.role(&ident.value.to_lowercase()) {
            Err(error) if error.code == Code::NotImmutable => error,
            _ => self.scope.unknown(&ident.value, self.aliases),
        }
    }

    /// What `a.b.c` stands for: a column with its relation, or a field of a column.
    fn compound(&self, parts: &[Ident]) -> Result<Expr, Error> {
        let (place, fields) = match parts {
            [relation, column, fields @ ..] => match self.scope.column_of(relation, column)? {
                Some(place) => (Some(place), fields),
                None => (self.scope.column(relation)?, parts.get(1..).unwrap_or_default()),
            },
            [column] => (self.scope.column(column)?, [].as_slice()),
            [] => return Err(Error::new(Code::Syntax, "name", "an empty name")),
        };
        let Some(place) = place else { return Err(neither(parts, self.scope)) };
        let mut path: Vec<Ident> = place.relation.as_deref().map(quoted).into_iter().collect();
        path.push(quoted(&place.column));
        path.extend(fields.iter().map(|field| quoted(&field.value)));
        Ok(Expr::CompoundIdentifier(path))
    }
}

/// The column that a name alone, or with its relation in front, means.
pub(super) fn column(name: &Expr, scope: &Scope) -> Result<Place, Error> {
    match name {
        Expr::Identifier(ident) => {
            scope.column(ident)?.ok_or_else(|| scope.unknown(&ident.value, &Aliases::new()))
        }
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [relation, column] => scope.column_of(relation, column)?.ok_or_else(|| neither(parts, scope)),
            _ => Err(neither(parts, scope)),
        },
        other => Err(Error::new(Code::UnknownColumn, other.to_string(), format!("{other} is not a column"))),
    }
}

/// The refusal of `a.b` where `a` is no relation and no column.
fn neither(parts: &[Ident], scope: &Scope) -> Error {
    let head = parts.first().map(|ident| ident.value.as_str()).unwrap_or_default();
    let message = format!("there is neither a relation nor a column {head:?} here");
    let hint = match scope.relations.len() {
        1 => format!("the relation after FROM is {}", scope.names()),
        _ => format!("the relations after FROM are {}", scope.names()),
    };
    Error::new(Code::UnknownTable, head, message).hint(hint)
}

struct Walk<'a> {
    names: &'a Names<'a>,
    /// How many aggregate calls enclose the current place.
    depth: usize,
    holds: Holds,
    /// Parts that aliases have added so far.
    parts: usize,
}

impl Walk<'_> {
    fn enter(&mut self, expr: &mut Expr) -> Result<(), Error> {
        if let Some((construct, hint)) = refused(expr) {
            return Err(Error::unsupported(construct, hint));
        }
        let Expr::Function(function) = expr else { return Ok(()) };
        if call(self.names.functions, function)? == Role::Aggregate {
            if self.depth > 0 {
                return Err(nested());
            }
            self.depth += 1;
            self.holds.over |= function.over.is_some();
            self.holds.aggregate |= function.over.is_none();
        }
        Ok(())
    }

    fn leave(&mut self, expr: &mut Expr) -> Result<(), Error> {
        let in_aggregate = self.depth > 0;
        match expr {
            Expr::Identifier(ident) => {
                let (meaning, holds) = self.names.identifier(ident, in_aggregate, self.parts)?;
                self.parts += limits::measure(&meaning)?;
                *expr = meaning;
                self.holds |= holds;
            }
            Expr::CompoundIdentifier(parts) => *expr = self.names.compound(parts)?,
            Expr::Function(function) => {
                if self.names.functions.role(&name(function))? == Role::Aggregate {
                    self.depth -= 1;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl VisitorMut for Walk<'_> {
    type Break = Box<Error>;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        self.enter(expr).map_or_else(|e| ControlFlow::Break(Box::new(e)), ControlFlow::Continue)
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        self.leave(expr).map_or_else(|e| ControlFlow::Break(Box::new(e)), ControlFlow::Continue)
    }
}

fn nested() -> Error {
    Error::unsupported(
        "an aggregate inside an aggregate",
        "aggregate once per window; combine the results in later columns",
    )
}

/// Checks one call and says whether it aggregates.
fn call(functions: &Functions, function: &mut Function) -> Result<Role, Error> {
    let name = name(function);
    let role = functions.role(&name)?;
    match role {
        Role::Aggregate => clauses::settle(&name, function)?,
        Role::Scalar => clauses::none(&name, function)?,
    }
    Ok(role)
}

fn name(function: &Function) -> String {
    function.name.to_string().to_lowercase()
}

/// Kinds of expression that no clause may hold, with the nearest supported one.
fn refused(expr: &Expr) -> Option<(&'static str, &'static str)> {
    const FLAT: &str = "a subquery is supported after FROM and inside TUMBLE(…)";
    Some(match expr {
        Expr::Subquery(_) => ("a subquery as a value", FLAT),
        Expr::Exists { .. } => ("EXISTS", FLAT),
        Expr::InSubquery { .. } => ("IN (SELECT …)", "IN with a list of values is supported"),
        Expr::GroupingSets(_) => ("GROUPING SETS", "one GROUP BY; create a feature group for each key"),
        Expr::Cube(_) => ("CUBE", "one GROUP BY; create a feature group for each key"),
        Expr::Rollup(_) => ("ROLLUP", "one GROUP BY; create a feature group for each key"),
        Expr::Lambda(_) => ("a lambda", "any immutable scalar function of DataFusion without lambdas"),
        Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => ("* as a value", "COUNT(*) is supported"),
        Expr::Value(value) if matches!(value.value, Value::Placeholder(_)) => {
            ("a placeholder", "write the value itself: the text is the definition")
        }
        _ => return None,
    })
}
