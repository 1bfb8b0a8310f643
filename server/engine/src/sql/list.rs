//! The select list: every column with its name and its meaning.

use std::collections::BTreeSet;

use datafusion::sql::sqlparser::ast::{
    Expr, SelectItem, SelectItemQualifiedWildcardKind, WildcardAdditionalOptions,
};

use super::error::{Code, Error};
use super::functions::Functions;
use super::limits;
use super::names::Names;
use super::scope::{Alias, Aliases, Holds, Place, Scope};

/// The select list with its names resolved, `*` written out and every column named; whether it aggregates.
pub(super) fn resolve(
    list: Vec<SelectItem>,
    scope: &Scope,
    functions: &Functions,
    grouped: Option<&BTreeSet<Place>>,
) -> Result<(Aliases, Holds), Error> {
    let mut items = Aliases::new();
    let mut any = Holds::default();
    for item in list {
        let (mut expr, name) = match item {
            SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias.value)),
            SelectItem::UnnamedExpr(expr) => (expr, None),
            SelectItem::ExprWithAliases { .. } => {
                return Err(Error::unsupported("several aliases for one expression", "one alias: … AS name"));
            }
            SelectItem::Wildcard(options) => {
                wildcard(&options, scope.all(), &mut items)?;
                continue;
            }
            SelectItem::QualifiedWildcard(kind, options) => {
                let named = match &kind {
                    SelectItemQualifiedWildcardKind::ObjectName(name) => match name.0.as_slice() {
                        [part] => part.as_ident().and_then(|ident| scope.relation(ident)),
                        _ => None,
                    },
                    SelectItemQualifiedWildcardKind::Expr(_) => None,
                };
                let Some(relation) = named else {
                    return Err(Error::new(
                        Code::UnknownTable,
                        kind.to_string(),
                        format!("{kind} names no relation of FROM"),
                    ));
                };
                let of_relation = scope.all().filter(|place| place.relation == relation.name);
                wildcard(&options, of_relation, &mut items)?;
                continue;
            }
        };
        let name = match (name, &expr) {
            (Some(name), _) => name,
            (None, plain) => plain_name(plain, scope)?.ok_or_else(|| missing_alias(plain, items.len()))?,
        };
        let holds = Names { scope, functions, aliases: &items, grouped }.resolve(&mut expr)?;
        any |= holds;
        let parts = limits::measure(&expr)?;
        push(&mut items, Alias { name, expr, holds, parts })?;
    }
    Ok((items, any))
}

/// Writes `*` out.
fn wildcard(
    options: &WildcardAdditionalOptions,
    columns: impl Iterator<Item = Place>,
    items: &mut Aliases,
) -> Result<(), Error> {
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
    columns.into_iter().try_for_each(|place| {
        let expr = place.expr();
        push(items, Alias { name: place.column, expr, holds: Holds::default(), parts: 1 })
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
    match expr {
        Expr::Identifier(ident) => match scope.column(ident)? {
            Some(place) => Ok(Some(place.column)),
            None => Ok(Some(ident.value.clone())), // an alias again, or unknown: resolving it tells
        },
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [relation, column] => Ok(scope.column_of(relation, column)?.map(|place| place.column)),
            _ => Ok(None),
        },
        _ => Ok(None),
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
