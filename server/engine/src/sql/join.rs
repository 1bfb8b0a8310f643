//! JOIN in FROM: two relations of events, INNER or LEFT, with ON; or a comma, with WHERE.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Join, JoinConstraint, JoinOperator, Select, TableFactor, Value, visit_expressions,
};

use super::error::Error;
use super::functions::Functions;
use super::names::Names;
use super::scope::{Aliases, Progress, Scope};

/// What a hint shows for a join.
pub(super) const EXAMPLE: &str =
    "a JOIN b ON a.id = b.id AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '15' SECOND";

/// Resolves a join's ON over both sides; what the join offers.
pub(super) fn resolve(
    join: &mut Join,
    left: Scope,
    right: Scope,
    functions: &Functions,
) -> Result<Scope, Error> {
    if join.global {
        return Err(Error::unsupported("GLOBAL JOIN", EXAMPLE));
    }
    let on = on(&mut join.join_operator)?;
    let scope = both(left, right)?;
    let names = Names { scope: &scope, functions, aliases: &Aliases::new(), grouped: None };
    if names.resolve(on)?.any() {
        return Err(Error::unsupported("an aggregate in ON", EXAMPLE));
    }
    Ok(scope)
}

/// What two relations of events offer together.
pub(super) fn both(left: Scope, right: Scope) -> Result<Scope, Error> {
    if left.progress.max(right.progress) != Progress::Events {
        return Err(Error::unsupported(
            "a join of windows",
            "join the streams first: FROM TUMBLE((SELECT … FROM a JOIN b ON …), DESCRIPTOR(ts), …); or join feature groups in a feature view",
        ));
    }
    left.joined(right)
}

/// `FROM a, b WHERE …` to `FROM a JOIN b ON …`: what WHERE says of several relations becomes the
/// condition of the join that brings the last of them. `items` are the relations between the commas.
pub(super) fn of_where(
    select: &mut Select,
    scope: &Scope,
    items: &[Vec<String>],
    functions: &Functions,
) -> Result<(), Error> {
    let mut conditions = Vec::new();
    if let Some(mut predicate) = select.selection.take() {
        Names { scope, functions, aliases: &Aliases::new(), grouped: None }.resolve(&mut predicate)?;
        split(predicate, &mut conditions);
    }
    let mut on: Vec<Option<Expr>> = vec![None; items.len()];
    for condition in conditions {
        let mentioned =
            items.iter().enumerate().filter(|(_, item)| mentions(&condition, item)).map(|(i, _)| i);
        let mentioned: Vec<usize> = mentioned.collect();
        let place = match mentioned.as_slice() {
            [_, .., last] => on.get_mut(*last),
            _ => Some(&mut select.selection),
        };
        if let Some(place) = place {
            *place = Some(match place.take() {
                None => condition,
                Some(first) => Expr::BinaryOp {
                    left: Box::new(first),
                    op: BinaryOperator::And,
                    right: Box::new(condition),
                },
            });
        }
    }
    let mut rest = std::mem::take(&mut select.from).into_iter();
    select.from = rest.next().into_iter().collect();
    let Some(first) = select.from.first_mut() else { return Ok(()) };
    for (item, on) in rest.zip(on.into_iter().skip(1)) {
        let relation = if item.joins.is_empty() {
            item.relation
        } else {
            TableFactor::NestedJoin { table_with_joins: Box::new(item), alias: None }
        };
        let on = on.unwrap_or_else(|| Expr::value(Value::Boolean(true)));
        let join_operator = JoinOperator::Inner(JoinConstraint::On(on));
        first.joins.push(Join { relation, global: false, join_operator });
    }
    Ok(())
}

/// The parts of a condition that must all be true.
fn split(condition: Expr, parts: &mut Vec<Expr>) {
    match condition {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            split(*left, parts);
            split(*right, parts);
        }
        Expr::Nested(inner) if matches!(*inner, Expr::BinaryOp { op: BinaryOperator::And, .. }) => {
            split(*inner, parts);
        }
        other => parts.push(other),
    }
}

/// Whether a resolved condition has a column of one of these relations.
fn mentions(condition: &Expr, relations: &[String]) -> bool {
    let found = visit_expressions(condition, |expr| match expr {
        Expr::CompoundIdentifier(parts)
            if parts.first().is_some_and(|first| relations.contains(&first.value)) =>
        {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// The condition of a join of a supported kind.
pub(super) fn on(operator: &mut JoinOperator) -> Result<&mut Expr, Error> {
    let constraint = match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint) => constraint,
        JoinOperator::Right(_) | JoinOperator::RightOuter(_) => {
            return Err(Error::unsupported("RIGHT JOIN", "swap the sides: b LEFT JOIN a ON …"));
        }
        JoinOperator::FullOuter(_) => {
            return Err(Error::unsupported(
                "FULL JOIN",
                "a LEFT JOIN keeps the rows of one side; UNION ALL keeps those of both, without matching them",
            ));
        }
        JoinOperator::CrossJoin(_) => return Err(Error::unsupported("CROSS JOIN", EXAMPLE)),
        JoinOperator::AsOf { .. } => {
            return Err(Error::unsupported(
                "ASOF JOIN",
                "JOIN group FOR SYSTEM_TIME AS OF c.ts AS g ON g.id = c.id for a feature group's row; for streams: a JOIN with a time bound",
            ));
        }
        _ => return Err(Error::unsupported("this kind of join", EXAMPLE)),
    };
    match constraint {
        JoinConstraint::On(on) => Ok(on),
        JoinConstraint::Using(columns) => {
            let column = columns.first().map(ToString::to_string).unwrap_or_default();
            Err(Error::unsupported(
                "USING",
                &format!("ON a.{column} = b.{column} AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '15' SECOND"),
            ))
        }
        JoinConstraint::Natural => Err(Error::unsupported("NATURAL JOIN", EXAMPLE)),
        JoinConstraint::None => Err(Error::unsupported("a JOIN without ON", EXAMPLE)),
    }
}
