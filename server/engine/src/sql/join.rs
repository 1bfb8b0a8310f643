//! JOIN in FROM: two relations of events, INNER or LEFT, with ON.

use datafusion::sql::sqlparser::ast::{Expr, Join, JoinConstraint, JoinOperator};

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
    if left.progress.max(right.progress) != Progress::Events {
        return Err(Error::unsupported(
            "a join of windows",
            "join the streams first: FROM TUMBLE((SELECT … FROM a JOIN b ON …), DESCRIPTOR(ts), …); or join feature groups in a feature view",
        ));
    }
    let scope = left.joined(right)?;
    let names = Names { scope: &scope, functions, aliases: &Aliases::new(), grouped: None };
    if names.resolve(on)?.any() {
        return Err(Error::unsupported("an aggregate in ON", EXAMPLE));
    }
    Ok(scope)
}

/// The condition of a join of a supported kind.
fn on(operator: &mut JoinOperator) -> Result<&mut Expr, Error> {
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
                "a feature view joins feature groups as of the event's time; for streams: a JOIN with a time bound",
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
