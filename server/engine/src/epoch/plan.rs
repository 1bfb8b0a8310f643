//! A query prepared for running: what would otherwise be looked up for every batch.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;

use super::Error;
use crate::key;
use crate::query::{FeatureQuery, Group, Stage};
use crate::state::{Function, codec};

/// The query with its functions and keys taken apart.
pub(super) struct Plan {
    pub(super) query: Arc<FeatureQuery>,
    /// Key expressions in GROUP BY order.
    pub(super) keys: Vec<Arc<dyn PhysicalExpr>>,
    /// Type and name of each key column, as in the output; never a dictionary.
    pub(super) key_schema: SchemaRef,
    pub(super) functions: Vec<Function>,
    /// State columns of all functions in order.
    pub(super) state: Vec<codec::Column>,
    /// Per source: whether anything above the window reads its columns.
    pub(super) reads_window: Vec<bool>,
}

impl Plan {
    pub(super) fn new(query: Arc<FeatureQuery>) -> Result<Self, Error> {
        let keys: Vec<Arc<dyn PhysicalExpr>> = query
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
        let functions = query.aggregate.functions.iter().map(Function::new).collect::<Result<Vec<_>, _>>()?;
        let state = functions.iter().flat_map(|f| f.state.iter().cloned()).collect();
        let reads_window = query.sources.iter().map(|s| reads_window(&query, &s.before, &keys)).collect();
        Ok(Self { query, keys, key_schema, functions, state, reads_window })
    }
}

/// Whether an expression above the window refers to the columns it adds: they are not made otherwise.
fn reads_window(query: &FeatureQuery, before: &[Stage], keys: &[Arc<dyn PhysicalExpr>]) -> bool {
    if !query.within.is_empty() {
        return true;
    }
    let width = before.iter().rev().find_map(|stage| match stage {
        Stage::Project(_, schema) => Some(schema.fields().len()),
        Stage::Filter(_) => None,
    });
    // Without a projection the window's input is the source's columns, and its own come last.
    let width = width.unwrap_or_else(|| query.aggregate.input.fields().len().saturating_sub(3));
    let functions = &query.aggregate.functions;
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
