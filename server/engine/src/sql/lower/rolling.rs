//! Aggregates OVER the time before each row.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::{AggregateFunction, WindowFunction};
use datafusion::logical_expr::{
    Expr, ExprSchemable, Window as LogicalWindow, WindowFrameBound, WindowFrameUnits,
    WindowFunctionDefinition,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, cast};

use super::Lowering;
use super::relation::Input;
use super::windowed::plain;
use crate::query::{Frame, Function, Relation, Rolling};
use crate::sql::columns::Columns;
use crate::sql::error::{Code, Error};
use crate::sql::explain::length;
use crate::sql::functions::distinct;
use crate::sql::{lengths, output, over};
use crate::time::Span;

impl Lowering<'_> {
    /// Rolling aggregates over a relation; what the columns of the plan's node are over theirs.
    pub(super) fn rolling(&mut self, window: &LogicalWindow) -> Result<(Relation, Rolling, Columns), Error> {
        let node = window.input.schema();
        let input = self.relation(&window.input)?.stored(node)?;
        let calls = window.window_expr.iter().map(call).collect::<Result<Vec<_>, _>>()?;
        let Some(first) = calls.first().map(|call| &call.params) else {
            return Err(Error::unsupported("OVER", over::EXAMPLE));
        };
        let keys = first
            .partition_by
            .iter()
            .map(|key| self.rolling_key(key, node, &input))
            .collect::<Result<_, _>>()?;
        let order = first.order_by.first().map(|sort| &sort.expr);
        let time = order.and_then(|order| input.time_of(order, node)).ok_or_else(|| {
            let written = match order {
                Some(Expr::Column(column)) => column.name().to_owned(),
                other => other.map(ToString::to_string).unwrap_or_default(),
            };
            self.not_event_time("OVER", &format!("ORDER BY {written}"))
        })?;

        let mut frames: Vec<Frame> = Vec::new();
        let mut places = Vec::new(); // of each call: its frame, its place there
        for call in &calls {
            let preceding = preceding(call)?;
            let function = self.function(
                &coerced(aggregate(call)?, node)?,
                node,
                &input.columns,
                &input.relation.schema,
            )?;
            let frame = match frames.iter().position(|frame| frame.preceding == preceding) {
                Some(frame) => frame,
                None => {
                    frames.push(Frame { preceding, functions: Vec::new() });
                    frames.len() - 1
                }
            };
            if let Some(it) = frames.get_mut(frame) {
                places.push((frame, it.functions.len()));
                it.functions.push(function);
            }
        }
        let mut fields = input.relation.schema.fields().to_vec();
        let width = fields.len();
        let starts: Vec<usize> = frames
            .iter()
            .scan(width, |next, frame| {
                let start = *next;
                *next += frame.functions.len();
                Some(start)
            })
            .collect();
        for frame in &frames {
            fields.extend(frame.functions.iter().map(|function| Arc::new(field(frame, function))));
        }
        let schema = Arc::new(Schema::new(fields));
        let Input { relation, mut columns, .. } = input;
        for (frame, place) in places {
            let at = starts.get(frame).copied().unwrap_or(width) + place;
            let name = schema.fields().get(at).map(|f| f.name().clone()).unwrap_or_default();
            columns.0.push(Arc::new(Column::new(&name, at)));
        }
        Ok((relation, Rolling { time, keys, frames, schema }, columns))
    }

    /// A PARTITION BY column over the input's rows, in a type that a key can have.
    fn rolling_key(
        &self,
        key: &Expr,
        node: &DFSchema,
        input: &Input,
    ) -> Result<(Arc<dyn PhysicalExpr>, DataType), Error> {
        let physical = input.columns.apply(self.physical(key, node)?)?;
        let Expr::Column(column) = key else {
            return Err(Error::unsupported(
                "an expression after PARTITION BY",
                "name it in a subquery: FROM (SELECT lower(user_id) AS who, … FROM events)",
            ));
        };
        let data_type = physical.data_type(&input.relation.schema)?;
        let at_rest = plain(&data_type);
        output::key_type(&at_rest, column.name())?;
        if at_rest == data_type {
            return Ok((physical, at_rest));
        }
        Ok((cast(physical, &input.relation.schema, at_rest.clone())?, at_rest))
    }
}

fn call(expr: &Expr) -> Result<&WindowFunction, Error> {
    match expr {
        Expr::Alias(alias) => call(&alias.expr),
        Expr::WindowFunction(call) => Ok(call),
        other => Err(Error::unsupported(&other.to_string(), over::EXAMPLE)),
    }
}

/// How far back the frame of a call reaches.
fn preceding(call: &WindowFunction) -> Result<Span, Error> {
    let frame = &call.params.window_frame;
    let (WindowFrameUnits::Range, WindowFrameBound::Preceding(length), WindowFrameBound::CurrentRow) =
        (&frame.units, &frame.start_bound, &frame.end_bound)
    else {
        return Err(Error::unsupported("this frame after OVER", over::EXAMPLE));
    };
    let bad = |message: String| Error::new(Code::BadWindow, "OVER", message).hint(over::EXAMPLE);
    match lengths::micros(length, "the frame of OVER") {
        Some(Ok(span)) if span.0 < 0 => Err(bad("a frame begins before its row, not after it".to_owned())),
        Some(Ok(span)) if span.0 > lengths::LONGEST => {
            Err(bad("the frame of OVER is longer than 36525 days".to_owned()))
        }
        Some(Ok(span)) => Ok(span),
        Some(Err(message)) => Err(bad(message)),
        None => Err(bad(format!("a frame begins an interval before the row, not {length}"))),
    }
}

/// The call without its window.
fn aggregate(call: &WindowFunction) -> Result<Expr, Error> {
    let WindowFunctionDefinition::AggregateUDF(function) = &call.fun else {
        return Err(Error::unsupported(&format!("window function {}()", call.fun.name()), over::EXAMPLE));
    };
    let params = &call.params;
    let own = if params.distinct { distinct(function, &params.args, params.filter.as_deref()) } else { None };
    if let Some(own) = own {
        return Ok(own);
    }
    Ok(Expr::AggregateFunction(AggregateFunction::new_udf(
        Arc::clone(function),
        params.args.clone(),
        params.distinct,
        params.filter.clone(),
        Vec::new(),
        params.null_treatment,
    )))
}

/// The call with its arguments in the types that the function wants: where our own function takes the place
/// of another one, DataFusion has coerced them for that.
fn coerced(mut expr: Expr, node: &DFSchema) -> Result<Expr, Error> {
    if let Expr::AggregateFunction(call) = &mut expr {
        let types = call.params.args.iter().map(|arg| arg.get_type(node)).collect::<Result<Vec<_>, _>>()?;
        // Functions that leave coercion to DataFusion have no say in it.
        if let Ok(wanted) = call.func.coerce_types(&types) {
            let args = std::mem::take(&mut call.params.args).into_iter().zip(&wanted);
            call.params.args =
                args.map(|(arg, wanted)| arg.cast_to(wanted, node)).collect::<Result<_, _>>()?;
        }
    }
    Ok(expr)
}

fn field(frame: &Frame, function: &Function) -> Field {
    let name = format!("{function} OVER {}", length(frame.preceding));
    Field::new(name, function.aggregate.field().data_type().clone(), true)
}
