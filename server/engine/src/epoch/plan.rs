//! A query prepared for running: what would otherwise be looked up for every batch.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::error::DataFusionError;
use datafusion::functions_aggregate::min_max::max_udaf;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;

use super::Error;
use crate::key;
use crate::query::{self, FeatureQuery, Group, Shape, Stage, Window, Windowed};
use crate::state::{Accumulators, Function, STANDING, codec};
use crate::window::Layout;

/// The query with its functions and keys taken apart.
pub(super) struct Plan {
    pub(super) query: Arc<FeatureQuery>,
    /// What the query computes.
    pub(super) shape: Windowed,
    /// Key expressions in GROUP BY order.
    pub(super) keys: Vec<Arc<dyn PhysicalExpr>>,
    /// Type and name of each key column, as in the output; never a dictionary.
    pub(super) key_schema: SchemaRef,
    pub(super) functions: Vec<Function>,
    /// State columns of all functions in order.
    pub(super) state: Vec<codec::Column>,
    /// How windows are made of slices.
    pub(super) layout: Layout,
    /// One row of states of no events at all.
    pub(super) nothing: Vec<ArrayRef>,
    /// Whether stages above the window expect the columns that it adds.
    pub(super) reads_window: bool,
    /// Rows come out before their window closes: the last function is the greatest event time, which is
    /// not among those of the query.
    pub(super) on_update: bool,
    /// The event time of each record is wanted behind its key.
    pub(super) keeps_time: bool,
    /// Functions ask where each record stands.
    pub(super) by_time: bool,
}

impl Plan {
    pub(super) fn new(query: Arc<FeatureQuery>, on_update: bool) -> Result<Self, Error> {
        let shape = match &query.shape {
            Shape::Windowed(windowed) => windowed.clone(),
            Shape::Rolling(_) => return Err(Error::Contract("rolling features have no windows".into())),
        };
        let layout = Layout::new(shape.window);
        let is_session = matches!(shape.window, Window::Session { .. });
        let keys = keys(&shape);
        let key_schema = key_schema(&query, keys.len())?;
        let mut functions =
            shape.aggregate.functions.iter().map(Function::new).collect::<Result<Vec<_>, _>>()?;
        let by_time = functions.iter().any(|f| f.by_time);
        // Of a session the last event is known anyway.
        let keeps_time = on_update || is_session || by_time;
        let on_update = on_update && !is_session;
        if on_update {
            functions.push(Function::new(&greatest_time()?)?);
        }
        let state = functions.iter().flat_map(|f| f.state.iter().cloned()).collect();
        let width = query.input.schema.fields().len();
        let depends = depends_on_window(&shape, width);
        let reads_window = !shape.within.is_empty() || depends;
        if (layout.is_shared() || is_session) && depends {
            let what = "an expression below the aggregate reads a column of a window that is made of slices";
            return Err(Error::Contract(what.into()));
        }
        let nothing = nothing(&functions, shape.aggregate.functions.len(), &shape.aggregate.input)?;
        Ok(Self {
            query,
            shape,
            keys,
            key_schema,
            functions,
            state,
            layout,
            nothing,
            reads_window,
            on_update,
            keeps_time,
            by_time,
        })
    }
}

impl Plan {
    /// How many of the functions are the query's.
    pub(super) fn query_functions(&self) -> usize {
        self.functions.len() - usize::from(self.on_update)
    }
}

/// Type and name of each of so many key columns, as in the output; never a dictionary.
pub(super) fn key_schema(query: &FeatureQuery, keys: usize) -> Result<SchemaRef, Error> {
    let field = |f: &Arc<Field>| Field::new(f.name(), plain(f.data_type()), false);
    let schema = Schema::new(query.key_schema().fields().iter().map(field).collect::<Vec<_>>());
    if schema.fields().len() != keys {
        let selected = schema.fields().len();
        let message = format!("{selected} key columns are selected, {keys} are grouped by");
        return Err(Error::Contract(message));
    }
    key::check(&schema).map_err(|e| Error::Contract(e.to_string()))?;
    Ok(Arc::new(schema))
}

/// The event time by itself, as the greatest event time is computed over it.
fn time_schema() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![Field::new("time", time, false)]))
}

/// MAX over the event time.
fn greatest_time() -> Result<query::Function, Error> {
    let aggregate = AggregateExprBuilder::new(max_udaf(), vec![Arc::new(Column::new("time", 0))])
        .schema(time_schema())
        .alias("greatest event time")
        .build()?;
    Ok(query::Function { aggregate: Arc::new(aggregate), filter: None })
}

/// States of a group that has seen no events: it saw one, which FILTER left out.
fn nothing(functions: &[Function], own: usize, input: &SchemaRef) -> Result<Vec<ArrayRef>, Error> {
    let time = time_schema();
    let mut accumulators = Accumulators::new(functions)?;
    let none = BooleanArray::from(vec![false]);
    for (index, function) in functions.iter().enumerate() {
        let schema = if index < own { input } else { &time };
        let mut arguments = function
            .arguments
            .iter()
            .map(|a| Ok(new_null_array(&a.data_type(schema)?, 1)))
            .collect::<Result<Vec<_>, DataFusionError>>()?;
        if function.by_time {
            arguments.extend(STANDING.map(|data_type| new_null_array(&data_type, 1)));
        }
        accumulators.update(index, &arguments, Some(&none), &[0], 1)?;
    }
    Ok(accumulators.take_state()?)
}

/// Whether what a record becomes depends on which window it is taken into: the columns of the window come
/// after `width` others.
pub(crate) fn depends_on_window(shape: &Windowed, width: usize) -> bool {
    let mut of_window: Vec<bool> = (0..width + 3).map(|column| column >= width).collect();
    for stage in &shape.within {
        match stage {
            Stage::Filter(predicate) if refers_to(predicate, &of_window) => return true,
            Stage::Filter(_) => {}
            Stage::Project(expressions, _) => {
                of_window = expressions.iter().map(|e| refers_to(e, &of_window)).collect();
            }
        }
    }
    let functions = &shape.aggregate.functions;
    let arguments = functions.iter().flat_map(|f| f.aggregate.all_expressions().args);
    let orders = functions.iter().flat_map(|f| f.aggregate.order_bys().iter().map(|o| o.expr.clone()));
    let filters = functions.iter().filter_map(|f| f.filter.clone());
    let keys = keys(shape);
    keys.into_iter().chain(arguments).chain(orders).chain(filters).any(|e| refers_to(&e, &of_window))
}

/// Key expressions in GROUP BY order.
fn keys(shape: &Windowed) -> Vec<Arc<dyn PhysicalExpr>> {
    let key = |group: &Group| match group {
        Group::Key(expression, _) => Some(Arc::clone(expression)),
        Group::WindowStart | Group::WindowEnd | Group::WindowTime => None,
    };
    shape.aggregate.groups.iter().filter_map(key).collect()
}

fn refers_to(expression: &Arc<dyn PhysicalExpr>, columns: &[bool]) -> bool {
    collect_columns(expression).iter().any(|c| columns.get(c.index()).copied().unwrap_or(false))
}

/// The type without its dictionary.
pub(super) fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, value) => plain(value),
        other => other.clone(),
    }
}
