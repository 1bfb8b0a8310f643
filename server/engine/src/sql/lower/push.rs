//! Conditions on one side of a join go below it: what they drop is then neither kept nor compared.
//!
//! Only conditions that fail on no value are moved. Another one might be guarded by what stands before
//! it, and would send records to quarantine that never come to it where it stands.

use std::sync::Arc;

use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{
    BinaryExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr,
};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{PhysicalExpr, conjunction, split_conjunction};

use super::bound::Side;
use crate::query::{IntervalJoin, JoinKind, Node, Relation, Stage};
use crate::sql::columns::Columns;
use crate::sql::error::Error;

/// Moves what can be moved of the filters right above a relation's join below it.
pub(super) fn filters(relation: &mut Relation) -> Result<(), Error> {
    let Node::Join(join) = &mut relation.node else { return Ok(()) };
    let above = relation.stages.iter().take_while(|stage| matches!(stage, Stage::Filter(_))).count();
    let mut left = Vec::new();
    for stage in relation.stages.drain(..above) {
        let Stage::Filter(predicate) = stage else { continue };
        let mut stay = Vec::new();
        for part in split_conjunction(&predicate) {
            // NULLs that a LEFT join adds on the right are seen above it only.
            match side(part, join) {
                Some(Side::Right) if join.kind == JoinKind::Left => stay.push(Arc::clone(part)),
                Some(side) => below(part, side, join)?,
                None => stay.push(Arc::clone(part)),
            }
        }
        left.extend((!stay.is_empty()).then(|| Stage::Filter(conjunction(stay))));
    }
    relation.stages.splice(..0, left);
    Ok(())
}

/// Moves what can be moved of a join's own condition below it: a pair needs a row of each side. Left
/// rows of a LEFT join come out whatever the condition says, so of theirs nothing is moved.
pub(super) fn condition(join: &mut IntervalJoin) -> Result<(), Error> {
    let Some(condition) = join.condition.take() else { return Ok(()) };
    let mut stay = Vec::new();
    for part in split_conjunction(&condition) {
        match side(part, join) {
            Some(Side::Left) if join.kind == JoinKind::Left => stay.push(Arc::clone(part)),
            Some(side) => below(part, side, join)?,
            None => stay.push(Arc::clone(part)),
        }
    }
    join.condition = (!stay.is_empty()).then(|| conjunction(stay));
    Ok(())
}

/// The only side that a condition reads, if it may be moved.
fn side(condition: &Arc<dyn PhysicalExpr>, join: &IntervalJoin) -> Option<Side> {
    let width = join.left.schema.fields().len();
    let columns = collect_columns(condition);
    if columns.is_empty() || !never_fails(condition) {
        return None;
    }
    if columns.iter().all(|column| column.index() < width) {
        return Some(Side::Left);
    }
    columns.iter().all(|column| column.index() >= width).then_some(Side::Right)
}

fn below(condition: &Arc<dyn PhysicalExpr>, side: Side, join: &mut IntervalJoin) -> Result<(), Error> {
    let (relation, skipped) = match side {
        Side::Left => (&mut join.left, 0),
        Side::Right => {
            let width = join.left.schema.fields().len();
            (&mut join.right, width)
        }
    };
    let names = relation.schema.fields().iter().map(|field| field.name().clone());
    let own = Columns::at(names.zip(0..));
    // Columns before the side's own are not in the condition: their places are never looked at.
    let before = Columns::at((0..skipped).map(|place| (String::new(), place)));
    let condition = Columns([before.0, own.0].concat()).apply(Arc::clone(condition))?;
    // A projection that only picks the columns is no obstacle.
    let picked = match relation.stages.last() {
        Some(Stage::Project(exprs, _)) => {
            let columns = collect_columns(&condition);
            let is_column = |at: usize| exprs.get(at).is_some_and(|e| e.downcast_ref::<Column>().is_some());
            let all = columns.iter().all(|column| is_column(column.index()));
            all.then(|| Columns(exprs.clone()))
        }
        _ => None,
    };
    match picked {
        Some(columns) => {
            let place = relation.stages.len().saturating_sub(1);
            relation.stages.insert(place, Stage::Filter(columns.apply(condition)?));
        }
        None => relation.stages.push(Stage::Filter(condition)),
    }
    filters(relation)
}

/// Whether an expression has a value for every row: comparisons and logic over columns and constants.
fn never_fails(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let plain = match expr.downcast_ref::<BinaryExpr>() {
        Some(binary) => matches!(
            binary.op(),
            Operator::Eq
                | Operator::NotEq
                | Operator::Lt
                | Operator::LtEq
                | Operator::Gt
                | Operator::GtEq
                | Operator::And
                | Operator::Or
        ),
        None => {
            expr.downcast_ref::<Column>().is_some()
                || expr.downcast_ref::<Literal>().is_some()
                || expr.downcast_ref::<NotExpr>().is_some()
                || expr.downcast_ref::<IsNullExpr>().is_some()
                || expr.downcast_ref::<IsNotNullExpr>().is_some()
                || expr.downcast_ref::<InListExpr>().is_some()
                || expr.downcast_ref::<LikeExpr>().is_some()
        }
    };
    plain && expr.children().into_iter().all(never_fails)
}
