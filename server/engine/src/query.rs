//! A feature query: what a group's SQL was lowered to. Small, typed, and all that the operators see.
//!
//! ```text
//! source columns ─ before* ─▶ window (adds window_start, window_end, window_time) ─ within* ─▶ aggregate ─ after* ─▶ output
//! ```
//!
//! `before` and `within` hold WHERE and projections, `after` holds HAVING and the SELECT list.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use crate::time::Span;

/// One group's query, ready to run.
#[derive(Debug, Clone)]
pub struct FeatureQuery {
    /// The streams it reads, in the order of their first mention. One, until joins and unions come.
    pub sources: Vec<Source>,
    /// How events are put into windows.
    pub window: Window,
    /// Filters and projections above the window and below the aggregate.
    /// Their input is the last `before` schema plus `window_start`, `window_end`, `window_time`.
    pub within: Vec<Stage>,
    /// Keys and aggregates.
    pub aggregate: Aggregate,
    /// HAVING and the SELECT list. Input: [`Aggregate::schema`]; the last one's output is `output`.
    pub after: Vec<Stage>,
    /// Positions in `output` of the primary key's columns, in GROUP BY order. Empty: a group of one row.
    pub key: Vec<usize>,
    /// The features with the primary key, as selected. Never dictionary-encoded.
    pub output: SchemaRef,
}

/// One stream as the query reads it.
#[derive(Debug, Clone)]
pub struct Source {
    /// The stream's name.
    pub stream: String,
    /// Columns read, as positions in the stream's table schema, ascending; the event time is always among them.
    pub columns: Vec<usize>,
    /// Position of the event time within `columns`. Its type is Timestamp(µs, UTC).
    pub event_time: usize,
    /// WHERE and projections below the window. Input: the stream's schema projected to `columns`.
    pub before: Vec<Stage>,
    /// Position of the window's time column in the output of `before`.
    pub time: usize,
}

/// How events are put into windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    /// `[start, start + size)`, aligned to the Unix epoch plus `offset`.
    Tumble {
        /// Length of a window, positive.
        size: Span,
        /// Shift of the alignment.
        offset: Span,
    },
}

/// One step over a batch.
#[derive(Debug, Clone)]
pub enum Stage {
    /// Keep the rows for which the predicate is true.
    Filter(Arc<dyn PhysicalExpr>),
    /// Compute columns: one expression per field of the schema.
    Project(Vec<Arc<dyn PhysicalExpr>>, SchemaRef),
}

/// GROUP BY and the aggregate functions.
#[derive(Debug, Clone)]
pub struct Aggregate {
    /// Input schema: the output of the last `within` stage (or of the window).
    pub input: SchemaRef,
    /// GROUP BY expressions in order, each a key column or a window column.
    pub groups: Vec<Group>,
    /// Aggregate functions in order.
    pub functions: Vec<Function>,
    /// Output: the group columns in order, then the aggregates in order.
    pub schema: SchemaRef,
}

/// One GROUP BY expression.
#[derive(Debug, Clone)]
pub enum Group {
    /// Part of the primary key: evaluated on the aggregate's input.
    Key(Arc<dyn PhysicalExpr>, DataType),
    /// `window_start` of the window.
    WindowStart,
    /// `window_end` of the window.
    WindowEnd,
    /// `window_time` (= `window_end` − 1 µs).
    WindowTime,
}

/// One aggregate function with its FILTER.
#[derive(Debug, Clone)]
pub struct Function {
    /// The DataFusion aggregate; its inputs are `expressions()` followed by the order-by expressions.
    pub aggregate: Arc<AggregateFunctionExpr>,
    /// `FILTER (WHERE …)`.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
}

impl FeatureQuery {
    /// The schema of the primary key's columns, in key order.
    pub fn key_schema(&self) -> Schema {
        Schema::new(self.key.iter().filter_map(|i| self.output.fields().get(*i).cloned()).collect::<Vec<_>>())
    }
}
