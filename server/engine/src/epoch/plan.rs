//! A query prepared for running: what would otherwise be looked up for every batch.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;

use super::Error;
use crate::key;
use crate::query::{FeatureQuery, Group, Node, Shape, Window, Windowed};
use crate::state::{Function, codec};

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
    /// Whether anything above the window reads the columns that it adds.
    pub(super) reads_window: bool,
}

impl Plan {
    pub(super) fn new(query: Arc<FeatureQuery>) -> Result<Self, Error> {
        let shape = match &query.shape {
            Shape::Windowed(windowed) => windowed.clone(),
            Shape::Rolling(_) => return Err(Error::Contract("OVER is not supported yet".into())),
        };
        if !matches!(query.input.node, Node::Source(0)) || query.sources.len() != 1 {
            return Err(Error::Contract("UNION ALL and joins are not supported yet".into()));
        }
        if !matches!(shape.window, Window::Tumble { .. }) {
            return Err(Error::Contract("windows other than TUMBLE are not supported yet".into()));
        }
        let keys: Vec<Arc<dyn PhysicalExpr>> = shape
            .aggregate
            .groups
            .iter()
            .filter_map(|g| match g {
                Group::Key(expression, _) => Some(expression.clone()),
                Group::WindowStart | Group::WindowEnd | Group::WindowTime => None,
            })
            .collect();
        let key_schema = Arc::new(Schema::new(
            query
                .key_schema()
                .fields()
                .iter()
                .map(|f| Field::new(f.name(), plain(f.data_type()), false))
                .collect::<Vec<_>>(),
        ));
        if key_schema.fields().len() != keys.len() {
            return Err(Error::Contract(format!(
                "{} key columns are selected, {} are grouped by",
                key_schema.fields().len(),
                keys.len()
            )));
        }
        key::check(&key_schema).map_err(|e| Error::Contract(e.to_string()))?;
        let functions = shape.aggregate.functions.iter().map(Function::new).collect::<Result<Vec<_>, _>>()?;
        let state = functions.iter().flat_map(|f| f.state.iter().cloned()).collect();
        let reads_window = reads_window(&shape, query.input.schema.fields().len(), &keys);
        Ok(Self { query, shape, keys, key_schema, functions, state, reads_window })
    }
}

/// Whether an expression above the window refers to the columns it adds, which come after `width` others:
/// they are not made otherwise.
fn reads_window(shape: &Windowed, width: usize, keys: &[Arc<dyn PhysicalExpr>]) -> bool {
    if !shape.within.is_empty() {
        return true;
    }
    let functions = &shape.aggregate.functions;
    let arguments = functions.iter().flat_map(|f| f.aggregate.all_expressions().args);
    let orders = functions.iter().flat_map(|f| f.aggregate.order_bys().iter().map(|o| o.expr.clone()));
    let filters = functions.iter().filter_map(|f| f.filter.clone());
    keys.iter().cloned().chain(arguments).chain(orders).chain(filters).any(|e| refers_beyond(&e, width))
}

fn refers_beyond(expression: &Arc<dyn PhysicalExpr>, width: usize) -> bool {
    let mut found = false;
    let walk = expression.apply(|e| {
        found |= e.downcast_ref::<Column>().is_some_and(|c| c.index() >= width);
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found || walk.is_err()
}

/// The type without its dictionary.
pub(super) fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, value) => plain(value),
        other => other.clone(),
    }
}
