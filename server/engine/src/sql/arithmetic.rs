//! The arithmetic of features: `/` between integers is exact enough to be a ratio, `x / 0` and
//! `x % 0` are NULL, integers never wrap.
//!
//! Division is rewritten while DataFusion plans an expression, when the types of both sides are
//! known and nothing above has been coerced to them yet. Overflow is caught when expressions become
//! physical ([`checked`]), and in constants right away, because folding them would wrap.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawAggregateExpr, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, Operator, binary_expr, cast};
use datafusion::physical_expr::expressions::{BinaryExpr, Literal, NegativeExpr};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::error::{Code, Error};
use super::functions::{distinct, fits, zero_as_null};

/// Our rules of arithmetic, for DataFusion's SQL planner.
#[derive(Debug)]
pub(super) struct Arithmetic;

impl ExprPlanner for Arithmetic {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let (left, right) = (expr.left.get_type(schema)?, expr.right.get_type(schema)?);
        if !(numeric(&left) && numeric(&right)) {
            return Ok(PlannerResult::Original(expr));
        }
        let integers = whole(&left) && whole(&right);
        let RawBinaryExpr { op, left, right } = expr;
        Ok(match op {
            BinaryOperator::Divide if integers => PlannerResult::Planned(binary_expr(
                cast(left, DataType::Float64),
                Operator::Divide,
                zero_as_null(cast(right, DataType::Float64)),
            )),
            BinaryOperator::Divide => {
                PlannerResult::Planned(binary_expr(left, Operator::Divide, zero_as_null(right)))
            }
            BinaryOperator::Modulo => {
                PlannerResult::Planned(binary_expr(left, Operator::Modulo, zero_as_null(right)))
            }
            BinaryOperator::Plus | BinaryOperator::Minus | BinaryOperator::Multiply => {
                match constant(&op, &left, &right)? {
                    Some(value) => PlannerResult::Planned(value),
                    None => PlannerResult::Original(RawBinaryExpr { op, left, right }),
                }
            }
            op => PlannerResult::Original(RawBinaryExpr { op, left, right }),
        })
    }

    /// COUNT(DISTINCT) and its like are functions of our own; DataFusion's keep a hash set per group and
    /// visit every group on every batch.
    fn plan_aggregate(&self, expr: RawAggregateExpr) -> Result<PlannerResult<RawAggregateExpr>> {
        let planned =
            if expr.distinct { distinct(&expr.func, &expr.args, expr.filter.as_deref()) } else { None };
        Ok(planned.map_or(PlannerResult::Original(expr), PlannerResult::Planned))
    }
}

fn whole(data_type: &DataType) -> bool {
    data_type.is_integer() || data_type.is_null()
}

fn numeric(data_type: &DataType) -> bool {
    data_type.is_numeric() || data_type.is_null()
}

/// The value of an operation on two integers that no record decides. Folding it later would wrap.
fn constant(op: &BinaryOperator, left: &Expr, right: &Expr) -> Result<Option<Expr>> {
    let (Some(a), Some(b)) = (integer(left), integer(right)) else { return Ok(None) };
    let value = match op {
        BinaryOperator::Plus => a.checked_add(b),
        BinaryOperator::Minus => a.checked_sub(b),
        BinaryOperator::Multiply => a.checked_mul(b),
        _ => return Ok(None),
    };
    match value {
        Some(value) => Ok(Some(Expr::Literal(ScalarValue::Int64(Some(value)), None))),
        None => {
            Err(Error::new(Code::Type, format!("{a} {op} {b}"), format!("{a} {op} {b} exceeds a BIGINT"))
                .hint("write one of the numbers as a DECIMAL or a DOUBLE")
                .into())
        }
    }
}

/// The integer that an expression without columns and aggregates is.
fn integer(expr: &Expr) -> Option<i64> {
    if let Expr::Literal(ScalarValue::Int64(value), _) = expr {
        return *value;
    }
    if expr.any_column_refs() || !matches!(expr.get_type(&DFSchema::empty()), Ok(DataType::Int64)) {
        return None;
    }
    // Aggregates, and whatever else has no value yet, have no physical form.
    let physical = create_physical_expr(
        expr,
        &DFSchema::empty(),
        &ExecutionProps::new(),
        &PhysicalPlanningContext::default(),
    );
    let physical = checked(physical.ok()?, &Schema::empty()).ok()?;
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options).ok()?;
    match ScalarValue::try_from_array(&physical.evaluate(&row).ok()?.into_array(1).ok()?, 0) {
        Ok(ScalarValue::Int64(value)) => value,
        _ => None,
    }
}

/// The same expression with `+ - *` and unary minus failing where they would wrap.
pub(super) fn checked(expr: Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    let checked = expr.transform_up(|node| {
        if let Some(binary) = node.downcast_ref::<BinaryExpr>()
            && matches!(binary.op(), Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide)
        {
            let binary = Arc::new(binary.clone().with_fail_on_overflow(true));
            return Ok(Transformed::yes(fits(binary, schema)?));
        }
        if let Some(negative) = node.downcast_ref::<NegativeExpr>() {
            let data_type = negative.arg().data_type(schema)?;
            if data_type.is_integer() {
                let zero = Arc::new(Literal::new(ScalarValue::new_zero(&data_type)?));
                let minus = BinaryExpr::new(zero, Operator::Minus, Arc::clone(negative.arg()));
                return Ok(Transformed::yes(Arc::new(minus.with_fail_on_overflow(true)) as _));
            }
        }
        Ok(Transformed::no(node))
    })?;
    Ok(checked.data)
}
