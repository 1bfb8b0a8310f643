//! `JOIN group FOR SYSTEM_TIME AS OF event time AS g ON …`: the row that a feature group had at the time of
//! an event.
//!
//! For the planner that is a join with the stream of the group's changes, in which the time is a further
//! condition: `g._available_at <= time`. [`super::lower`] takes it out again.

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Join, TableFactor};

use super::call::{as_of, is_as_of, relation};
use super::definition::Known;
use super::error::{Code, Error, nearest};
use super::from::{Found, aliased};
use super::join;
use super::names;
use super::scope::{Place, Progress, Scope, quoted};
use super::{CHANGES, Group};

/// What a hint shows for a lookup.
pub(super) const EXAMPLE: &str =
    "FROM clicks c JOIN users FOR SYSTEM_TIME AS OF c.ts AS u ON u.user_id = c.user_id";

/// When a changed row became available, in the stream of changes.
pub(super) const AVAILABLE_AT: &str = CHANGES[1];

/// Whether the right side of a join is a group as of a time.
pub(super) fn is_lookup(join: &Join) -> bool {
    matches!(&join.relation, TableFactor::Table { name, args: Some(_), .. } if is_as_of(name))
}

/// The refusal of a group as of a time anywhere else.
pub(super) fn misplaced() -> Error {
    Error::unsupported("FOR SYSTEM_TIME AS OF other than on the right of a JOIN", EXAMPLE)
}

/// Resolves a lookup's group, time and ON; what the join offers.
pub(super) fn resolve(join: &mut Join, left: Scope, known: &Known<'_>) -> Result<Scope, Error> {
    let TableFactor::Table { args: Some(args), alias, .. } = &mut join.relation else {
        return Err(misplaced());
    };
    if left.progress != Progress::Events {
        return Err(Error::unsupported("a lookup behind a window", "look up first, below the window"));
    }
    let Some((name, time)) = as_of(&args.args) else {
        let message = "FOR SYSTEM_TIME AS OF names the event time of the left side";
        return Err(Error::new(Code::BadWindow, "FOR SYSTEM_TIME AS OF", message).hint(EXAMPLE));
    };
    let time = names::column(&time, &left)?;
    let group = find(&name.value, known)?;
    let columns = group.changes.schema.fields().iter().map(|field| field.name().clone());
    let columns = columns.filter(|column| !CHANGES.contains(&column.as_str())).collect();
    let mut alias = alias.take();
    let found = Found { name: name.value.clone(), columns, progress: Progress::Events };
    let right = aliased(found, &mut alias)?;
    let called = right.relations.first().and_then(|relation| relation.name.clone());
    join.relation = relation(quoted(group.changes.name), None, alias);
    let scope = join::resolve(join, left, right, known.functions)?;
    let on = join::on(&mut join.join_operator)?;
    let available = Place { relation: called, column: AVAILABLE_AT.to_owned() };
    let is_there = Expr::BinaryOp {
        left: Box::new(available.expr()),
        op: BinaryOperator::LtEq,
        right: Box::new(time.expr()),
    };
    let all = std::mem::replace(on, is_there.clone());
    *on = Expr::BinaryOp {
        left: Box::new(Expr::Nested(Box::new(all))),
        op: BinaryOperator::And,
        right: Box::new(is_there),
    };
    Ok(scope)
}

fn find<'a>(name: &str, known: &Known<'a>) -> Result<&'a Group<'a>, Error> {
    let called = |group: &&Group<'_>| group.names.iter().any(|known| known.eq_ignore_ascii_case(name));
    known.groups.iter().find(called).ok_or_else(|| {
        let error = Error::new(Code::UnknownTable, name, format!("there is no feature group {name:?}"));
        let names = known.groups.iter().flat_map(|group| &group.names).map(String::as_str);
        match nearest(name, names) {
            Some(near) => error.hint(format!("did you mean {near:?}?")),
            None => error.hint("create the group first; version 2 of users is called users_2"),
        }
    })
}
