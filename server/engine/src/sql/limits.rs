//! How large a definition may be: planning recurses over it, and repeats what aliases stand for.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Query, Visit, Visitor};

use super::error::Error;

/// Streams that a definition reads, each mention counted.
pub(super) const SOURCES: usize = 16;
/// Tokens of a definition, comments not counted.
pub(super) const TOKENS: usize = 4_000;
/// Levels of an expression; a chain of operators is as deep as it is long.
const DEPTH: usize = 200;
/// Parts of one column's expression once every alias stands for itself.
pub(super) const PARTS: usize = 5_000;

/// Refuses a query with an expression that is nested too deeply.
pub(super) fn check(query: &Query) -> Result<(), Error> {
    measure(query).map(|_| ())
}

/// How many parts an expression (or a whole query) has; refuses what is nested too deeply.
pub(super) fn measure(part: &impl Visit) -> Result<usize, Error> {
    let mut levels = Levels { now: 0, parts: 0 };
    match part.visit(&mut levels) {
        ControlFlow::Continue(()) => Ok(levels.parts),
        ControlFlow::Break(()) => Err(Error::unsupported(
            &format!("an expression of more than {DEPTH} levels"),
            "IN (…) holds long lists of values; a CTE divides long expressions",
        )),
    }
}

/// The refusal of a definition with too many tokens.
pub(super) fn too_long() -> Error {
    Error::unsupported(
        &format!("a definition of more than {TOKENS} tokens"),
        "divide it into several feature groups and join them in a feature view",
    )
}

/// The refusal of a definition that reads too many streams.
pub(super) fn too_many_sources() -> Error {
    Error::unsupported(
        &format!("a definition that reads more than {SOURCES} streams"),
        "divide it into several feature groups and join them in a feature view",
    )
}

/// The refusal of a column that is too large.
pub(super) fn too_large() -> Error {
    Error::unsupported(
        &format!("a column of more than {PARTS} parts once its aliases are written out"),
        "an alias repeats its expression: use it less often, or compute it in a CTE",
    )
}

struct Levels {
    now: usize,
    parts: usize,
}

impl Visitor for Levels {
    type Break = ();

    fn pre_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
        self.now += 1;
        self.parts += 1;
        if self.now > DEPTH { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
        self.now -= 1;
        ControlFlow::Continue(())
    }
}
