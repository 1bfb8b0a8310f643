//! Takes projections that only pick columns out of a query: what stands above them reads the
//! columns below directly. The planner puts one wherever a column is not needed any more, and each
//! would make the window's columns for nothing.

use std::sync::Arc;

use arrow::datatypes::Schema;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column};

use super::error::Error;
use crate::query::Stage;

/// What each column of a schema is in terms of the columns below it.
#[derive(Clone)]
pub(super) struct Columns(pub Vec<Arc<dyn PhysicalExpr>>);

impl Columns {
    /// Every column of a schema as it is.
    pub fn of(schema: &Schema) -> Self {
        Self::at(schema.fields().iter().map(|field| field.name().clone()).zip(0..))
    }

    /// Columns by name and position.
    pub fn at(columns: impl IntoIterator<Item = (String, usize)>) -> Self {
        Self(
            columns.into_iter().map(|(name, position)| Arc::new(Column::new(&name, position)) as _).collect(),
        )
    }

    /// `expr` over the columns below.
    pub fn apply(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>, Error> {
        let replaced = expr.transform_down(|node| {
            let below = node.downcast_ref::<Column>().and_then(|column| self.0.get(column.index()));
            Ok(match below {
                Some(below) => Transformed::new(
                    Arc::clone(below),
                    true,
                    datafusion::common::tree_node::TreeNodeRecursion::Jump,
                ),
                None => Transformed::no(node),
            })
        })?;
        Ok(replaced.data)
    }

    /// Where the column comes from, if it is one that is picked and not computed.
    pub fn position(&self, column: usize) -> Option<usize> {
        self.0.get(column)?.downcast_ref::<Column>().map(Column::index)
    }
}

/// The stages that are left without projections that only pick columns, and what the columns of the
/// last one are over those. `input` is what the columns below the first stage are.
pub(super) fn picked(stages: Vec<Stage>, input: Columns) -> Result<(Vec<Stage>, Columns), Error> {
    let mut columns = input;
    let mut left = Vec::new();
    let mut rest = stages.into_iter().peekable();
    while let Some(stage) = rest.next() {
        match stage {
            Stage::Filter(predicate) => left.push(Stage::Filter(columns.apply(predicate)?)),
            Stage::Project(exprs, schema) => {
                let exprs = exprs.into_iter().map(|e| columns.apply(e)).collect::<Result<Vec<_>, _>>()?;
                // A cast right below the aggregate (an enum's symbol as a key) is done there.
                if exprs.iter().all(|e| is_column(e) || (rest.peek().is_none() && is_cast(e))) {
                    columns = Columns(exprs);
                } else {
                    columns = Columns::of(&schema);
                    left.push(Stage::Project(exprs, schema));
                }
            }
        }
    }
    Ok((left, columns))
}

fn is_column(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.downcast_ref::<Column>().is_some()
}

fn is_cast(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.downcast_ref::<CastExpr>().is_some_and(|cast| is_column(cast.expr()))
}
