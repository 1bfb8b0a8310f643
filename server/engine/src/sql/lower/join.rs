//! An interval join: equal keys, and event times that are not far apart.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{BinaryExpr, Expr, Join, JoinType, LogicalPlan, Operator, cast};
use datafusion::physical_expr::PhysicalExpr;

use super::bound::{Bound, Side};
use super::relation::Input;
use super::times::Times;
use super::windowed::plain;
use super::{Lowering, push, unsupported};
use crate::query::{IntervalJoin, JoinKind, Node, Relation};
use crate::sql::columns::Columns;
use crate::sql::error::{Code, Error};
use crate::sql::join::EXAMPLE;
use crate::sql::lengths::LONGEST;
use crate::sql::output;
use crate::time::Span;

pub(super) type Pair = (Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>);

impl Lowering<'_> {
    /// Two relations that belong together, and what their rows are.
    pub(super) fn join(&mut self, join: &Join) -> Result<Input, Error> {
        let kind = match join.join_type {
            JoinType::Inner => JoinKind::Inner,
            JoinType::Left => JoinKind::Left,
            _ => return Err(unsupported(&LogicalPlan::Join(join.clone()))),
        };
        if let Some(group) = self.looked_up(&join.right)? {
            return self.lookup(join, kind, group);
        }
        let left = self.relation(&join.left)?.stored(join.left.schema())?;
        let right = self.relation(&join.right)?.stored(join.right.schema())?;
        let (columns, schema) = rows(join, kind, &left, &right)?;

        let time = |column: &datafusion::common::Column| {
            let of_left = left.time(column, join.left.schema()).map(|time| (Side::Left, time));
            of_left.or_else(|| right.time(column, join.right.schema()).map(|time| (Side::Right, time)))
        };
        let (mut bound, mut on, mut rest) = (Bound::default(), Vec::new(), Vec::new());
        for condition in conditions(join) {
            if bound.take(&condition, &time)? {
                continue;
            }
            match self.pair(&condition, join, &left, &right)? {
                Some(pair) => on.push(pair),
                None => rest.push(condition),
            }
        }
        let (lower, upper) = limits(&bound)?;
        let (Some(left_time), Some(right_time)) = (bound.left, bound.right) else {
            return Err(no_bound("no time bound"));
        };
        if on.is_empty() {
            return Err(Error::new(
                Code::Unsupported,
                "JOIN",
                "the JOIN has no equality between its two sides, so every row would be compared with every other",
            )
            .hint(EXAMPLE));
        }
        let condition = match conjunction(rest) {
            Some(rest) => Some(columns.apply(self.physical(&rest, &join.schema)?)?),
            None => None,
        };
        let mut join = IntervalJoin {
            left: left.relation,
            right: right.relation,
            kind,
            on,
            left_time,
            right_time,
            lower,
            upper,
            condition,
            schema: Arc::clone(&schema),
        };
        push::condition(&mut join)?;
        let times = Times::joined(&left.times, &right.times, &join);
        let relation = Relation { node: Node::Join(Box::new(join)), stages: Vec::new(), schema };
        Ok(Input { relation, columns, times })
    }

    /// The two sides of an equality between them.
    pub(super) fn pair(
        &self,
        condition: &Expr,
        join: &Join,
        left: &Input,
        right: &Input,
    ) -> Result<Option<Pair>, Error> {
        let Expr::BinaryExpr(BinaryExpr { left: a, op: Operator::Eq, right: b }) = condition else {
            return Ok(None);
        };
        let of = |expr: &Expr, schema: &DFSchema| {
            let columns = expr.column_refs();
            !columns.is_empty() && columns.into_iter().all(|column| schema.has_column(column))
        };
        let (on_left, on_right) = (join.left.schema(), join.right.schema());
        let (a, b) = match (a, b) {
            (a, b) if of(a, on_left) && of(b, on_right) => (a, b),
            (a, b) if of(b, on_left) && of(a, on_right) => (b, a),
            _ => return Ok(None),
        };
        let a = left.columns.apply(self.key(a, on_left)?)?;
        let b = right.columns.apply(self.key(b, on_right)?)?;
        Ok(Some((a, b)))
    }

    /// One side of an equality, in a type whose equality is that of bytes.
    fn key(&self, expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>, Error> {
        let physical = self.physical(expr, schema)?;
        let data_type = physical.data_type(schema.as_arrow())?;
        output::key_type(&plain(&data_type), &expr.to_string())?;
        match data_type {
            DataType::Dictionary(..) => self.physical(&cast(expr.clone(), plain(&data_type)), schema),
            _ => Ok(physical),
        }
    }
}

/// All that must be true of a pair.
pub(super) fn conditions(join: &Join) -> Vec<Expr> {
    let on = join.on.iter().map(|(a, b)| a.clone().eq(b.clone()));
    let filter = join.filter.iter().flat_map(split_conjunction).cloned();
    on.chain(filter).collect()
}

/// What the columns of the plan's join are over its rows, and the rows' schema. A name that both sides
/// have gets the relation in front.
pub(super) fn rows(
    join: &Join,
    kind: JoinKind,
    left: &Input,
    right: &Input,
) -> Result<(Columns, SchemaRef), Error> {
    let names = |input: &Input| -> Vec<String> {
        input.relation.schema.fields().iter().map(|field| field.name().clone()).collect()
    };
    let (of_left, of_right) = (names(left), names(right));
    let label = |input: &Input, node: &DFSchema, own: &[String], other: &[String]| -> Vec<String> {
        let qualified = |position: usize, name: &String| {
            let column = (0..input.columns.0.len()).find(|i| input.columns.position(*i) == Some(position));
            let relation = column.and_then(|i| node.qualified_field(i).0.map(ToString::to_string));
            relation.map_or_else(|| name.clone(), |relation| format!("{relation}.{name}"))
        };
        let labels = own.iter().enumerate();
        labels.map(|(i, name)| if other.contains(name) { qualified(i, name) } else { name.clone() }).collect()
    };
    let left_labels = label(left, join.left.schema(), &of_left, &of_right);
    let right_labels = label(right, join.right.schema(), &of_right, &of_left);

    let of_right = right.relation.schema.fields().iter().zip(&right_labels);
    let fields =
        left.relation.schema.fields().iter().zip(&left_labels).map(|(field, label)| (field, label, false));
    let fields = fields.chain(of_right.map(|(field, label)| (field, label, kind == JoinKind::Left)));
    let fields: Vec<Field> = fields
        .map(|(field, label, optional)| {
            Field::new(label, field.data_type().clone(), field.is_nullable() || optional)
        })
        .collect();

    let width = left_labels.len();
    let places = |labels: Vec<String>, from: usize| Columns::at(labels.into_iter().zip(from..));
    let (on_left, on_right) = (places(left_labels, 0), places(right_labels, width));
    let of_left = left.columns.0.iter().map(|expr| on_left.apply(Arc::clone(expr)));
    let of_right = right.columns.0.iter().map(|expr| on_right.apply(Arc::clone(expr)));
    let columns = of_left.chain(of_right).collect::<Result<_, _>>()?;
    Ok((Columns(columns), Arc::new(Schema::new(fields))))
}

/// Both ends of a time bound.
fn limits(bound: &Bound) -> Result<(Span, Span), Error> {
    let (lower, upper) = match (bound.lower, bound.upper) {
        (Some(lower), Some(upper)) => (lower, upper),
        (Some(_), None) => return Err(no_bound("no upper time bound: how much later the right side may be")),
        (None, Some(_)) => {
            return Err(no_bound("no lower time bound: how much earlier the right side may be"));
        }
        (None, None) => return Err(no_bound("no time bound")),
    };
    if lower > upper {
        return Err(
            Error::new(Code::BadWindow, "JOIN", "the time bound of the JOIN can never be met").hint(EXAMPLE)
        );
    }
    let span =
        |at: i128| i64::try_from(at).ok().filter(|at| at.unsigned_abs() <= LONGEST.unsigned_abs()).map(Span);
    match (span(lower), span(upper)) {
        (Some(lower), Some(upper)) => Ok((lower, upper)),
        _ => Err(Error::new(Code::BadWindow, "JOIN", "the time bound of the JOIN is longer than 36525 days")),
    }
}

fn no_bound(missing: &str) -> Error {
    Error::new(
        Code::Unsupported,
        "JOIN",
        format!("the JOIN has {missing}, so its rows would have to be kept for ever"),
    )
    .hint(format!("compare the event times of both sides: {EXAMPLE}"))
}
