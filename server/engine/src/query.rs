//! A feature query: what a group's SQL was lowered to. Small, typed, and all that the operators see.
//!
//! ```text
//! sources ─▶ input: stages, [union | interval join | lookup] ─▶ shape ─▶ after* ─▶ output
//!                                                        │
//!                       windowed: window (adds window_start, window_end, window_time) ─ within* ─▶ aggregate
//!                       rolling:  the input's columns and, for each frame, its aggregates
//! ```
//!
//! The stages of a relation and `within` hold WHERE and projections, `after` holds HAVING and the
//! SELECT list. Every record of a source carries its event time; a relation says which of its columns
//! still is one, and how far such a column may stay behind the watermark (`hold`).

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use crate::time::Span;

/// One group's query, ready to run.
#[derive(Debug, Clone)]
pub struct FeatureQuery {
    /// The streams it reads, in the order of their mention. A stream that is mentioned twice is two
    /// sources: each is read and accounted for by itself.
    pub sources: Vec<Source>,
    /// How their rows become those of one relation.
    pub input: Relation,
    /// What is computed over it.
    pub shape: Shape,
    /// HAVING and the SELECT list. Input: [`Aggregate::schema`] or [`Rolling::schema`]; the last one's
    /// output is `output`.
    pub after: Vec<Stage>,
    /// Positions in `output` of the primary key's columns, in GROUP BY (or PARTITION BY) order. Empty: a
    /// group of one row.
    pub key: Vec<usize>,
    /// What the event time of a row is called: `window_end` (selected or not), or the ORDER BY column
    /// of rolling features, as it is selected.
    pub event_time: String,
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
    /// The stream's schema projected to `columns`.
    pub schema: SchemaRef,
}

/// Rows on their way to the shape.
#[derive(Debug, Clone)]
pub struct Relation {
    /// Where they come from.
    pub node: Node,
    /// WHERE and projections over what the node gives.
    pub stages: Vec<Stage>,
    /// The columns after the stages.
    pub schema: SchemaRef,
}

/// Where a relation's rows come from.
#[derive(Debug, Clone)]
pub enum Node {
    /// Records of the source of this number: [`Source::schema`].
    Source(usize),
    /// `UNION ALL`: the rows of each input, which all have the same schema.
    Union(Vec<Relation>),
    /// Rows of two relations that belong together.
    Join(Box<IntervalJoin>),
    /// Rows of a relation, each with the row that a feature group has for it.
    Lookup(Box<LookupJoin>),
}

/// `left JOIN group FOR SYSTEM_TIME AS OF left.t AS g ON left.k = g.k`: each left row with the row of the
/// group that was there to be served at its time, by the rule of [`crate::pick`].
///
/// The right rows are the group's *changes*: every row it ever emitted, each with its stamp. They come
/// from a source like others, whose watermark says up to which instant they are all there
/// ([`crate::epoch::Engine::look_up_to`]); a left row of a later time waits until they are. So what it is joined
/// with does not depend on when it is read.
///
/// Its rows are the left columns, then the group's.
#[derive(Debug, Clone)]
pub struct LookupJoin {
    /// The left rows.
    pub left: Relation,
    /// The source of the group's changes, as a position in [`FeatureQuery::sources`].
    pub changes: usize,
    /// What becomes of left rows for which there is no row.
    pub kind: JoinKind,
    /// Over the left rows and over the changes: the group's primary key. NULL equals nothing. Never empty.
    pub on: Vec<(Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>)>,
    /// Position of the event time in the left rows, with its hold.
    pub time: EventTime,
    /// Where the stamp of a row stands among the columns of the changes, behind all that are looked up.
    pub stamp: StampColumns,
    /// Rows that are older than this are none.
    pub ttl: Option<Span>,
    /// The left columns, then those that are looked up: the first columns of the changes.
    pub schema: SchemaRef,
}

/// Positions of the columns that say which row of a key is picked: see [`crate::pick::Stamp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StampColumns {
    /// `_event_time`.
    pub event_time: usize,
    /// `_available_at`.
    pub available_at: usize,
    /// `_commit`.
    pub commit: usize,
    /// `_op`: `upsert` or `delete`.
    pub op: usize,
}

/// `left JOIN right ON left.k = right.k AND right.t BETWEEN left.t + lower AND left.t + upper`.
///
/// Its rows are the left columns, then the right ones. With W the watermark of the previous epoch, a
/// left row is taken, and then kept, while `left.t + left_reach >= W`; a right one while
/// `right.t + right_reach >= W`. Two rows join if and only if both are kept when the later of them
/// comes in, so a left row that is taken meets all its partners, on time or not. Of a LEFT join, a left
/// row that found no partner comes out, once, in the epoch whose watermark passes
/// `left.t + left_reach`, with NULLs on the right.
#[derive(Debug, Clone)]
pub struct IntervalJoin {
    /// The left rows.
    pub left: Relation,
    /// The right rows.
    pub right: Relation,
    /// What becomes of left rows without a partner.
    pub kind: JoinKind,
    /// Pairs of expressions that are equal, over the left and over the right rows; NULL equals nothing.
    /// Never empty.
    pub on: Vec<(Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>)>,
    /// Position of the event time in the left rows, with its hold.
    pub left_time: EventTime,
    /// Position of the event time in the right rows, with its hold.
    pub right_time: EventTime,
    /// Least `right.t - left.t`; may be negative.
    pub lower: Span,
    /// Greatest `right.t - left.t`; at least `lower`.
    pub upper: Span,
    /// What else must be true of a pair, over its columns.
    pub condition: Option<Arc<dyn PhysicalExpr>>,
    /// The left columns, then the right ones, which are nullable in a LEFT join.
    pub schema: SchemaRef,
}

/// What becomes of left rows without a partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinKind {
    /// Nothing.
    Inner,
    /// They come out once their time bound has passed.
    Left,
}

/// A column that is the event time of its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventTime {
    /// Its position.
    pub column: usize,
    /// With W the watermark of the previous epoch, no row comes with a time below `W - hold`, late
    /// records aside. Zero but behind a join.
    pub hold: Span,
}

/// What is computed over the input.
#[derive(Debug, Clone)]
pub enum Shape {
    /// GROUP BY over a window.
    Windowed(Windowed),
    /// Aggregates OVER the time before each row.
    Rolling(Rolling),
}

/// Aggregates over windows.
#[derive(Debug, Clone)]
pub struct Windowed {
    /// The time that decides, in the input's columns.
    pub time: EventTime,
    /// How rows are put into windows.
    pub window: Window,
    /// Filters and projections above the window and below the aggregate.
    /// Their input is the input's columns plus `window_start`, `window_end`, `window_time`.
    pub within: Vec<Stage>,
    /// Keys and aggregates.
    pub aggregate: Aggregate,
}

/// How rows are put into windows. Alignment is to the Unix epoch plus `offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    /// `[start, start + size)`, one after the other.
    Tumble {
        /// Length of a window, positive.
        size: Span,
        /// Shift of the alignment.
        offset: Span,
    },
    /// `[start, start + size)`, a new one every `slide`.
    Hop {
        /// Time between the starts of two windows, positive.
        slide: Span,
        /// Length of a window, positive; `size` need not be a multiple of `slide`.
        size: Span,
        /// Shift of the alignment.
        offset: Span,
    },
    /// Within each `[start, start + size)` the windows `[start, start + step)`, `[start, start + 2 step)`,
    /// … `[start, start + size)`.
    Cumulate {
        /// How much longer each window is than the one before, positive.
        step: Span,
        /// Length of the longest window, a multiple of `step`.
        size: Span,
        /// Shift of the alignment.
        offset: Span,
    },
    /// `[first event, last event + gap)` of one key, as long as no two events that follow each other are
    /// `gap` or more apart. The aggregate's keys are the partition.
    Session {
        /// Time without an event that ends a session, positive.
        gap: Span,
    },
}

/// `f(…) OVER (PARTITION BY k ORDER BY t RANGE BETWEEN INTERVAL … PRECEDING AND CURRENT ROW)`.
///
/// One row for each key and time: rows of one key with the same time are peers, all of them are in
/// each other's frame, and the row that comes out has the plain columns of the last of them.
#[derive(Debug, Clone)]
pub struct Rolling {
    /// The time that decides, in the input's columns.
    pub time: EventTime,
    /// PARTITION BY, over the input's columns; never empty.
    pub keys: Vec<(Arc<dyn PhysicalExpr>, DataType)>,
    /// Frames, each a length of time with what is computed over it.
    pub frames: Vec<Frame>,
    /// The input's columns, then the functions, frame after frame.
    pub schema: SchemaRef,
}

/// The functions of one frame: over the rows of the key with a time in `[t - preceding, t]`.
#[derive(Debug, Clone)]
pub struct Frame {
    /// How far back it reaches, not negative.
    pub preceding: Span,
    /// The functions.
    pub functions: Vec<Function>,
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

impl IntervalJoin {
    /// How long a left row waits for partners: on-time right rows come up to `upper` after it, and
    /// the hold of their own time later.
    pub fn left_reach(&self) -> Span {
        Span(self.left_time.hold.0.max(self.right_time.hold.0.saturating_add(self.upper.0)).max(0))
    }

    /// How long a right row is kept: until no left row that is still taken can be its partner.
    pub fn right_reach(&self) -> Span {
        Span(self.right_time.hold.0.max(self.left_reach().0.saturating_sub(self.lower.0)).max(0))
    }

    /// The hold of the left event time in the join's rows: one may come out when it waited in vain.
    pub fn left_hold(&self) -> Span {
        self.left_reach()
    }

    /// The hold of the right event time in the join's rows: a left row that is on time may find one
    /// this far behind the watermark. Not an event time in a LEFT join, where it may be NULL.
    pub fn right_hold(&self) -> Span {
        Span(self.right_time.hold.0.max(self.left_time.hold.0.saturating_sub(self.lower.0)).max(0))
    }
}

impl LookupJoin {
    /// How many columns are looked up.
    pub fn width(&self) -> usize {
        self.schema.fields().len().saturating_sub(self.left.schema.fields().len())
    }
}

impl Relation {
    /// How many records a row is made of, at most.
    pub fn width(&self) -> usize {
        match &self.node {
            Node::Source(_) => 1,
            Node::Union(inputs) => inputs.iter().map(Self::width).max().unwrap_or(0),
            Node::Join(join) => join.left.width() + join.right.width(),
            Node::Lookup(lookup) => lookup.left.width(),
        }
    }

    /// The rows of a source as they are.
    pub fn source(number: usize, source: &Source) -> Self {
        Self { node: Node::Source(number), stages: Vec::new(), schema: Arc::clone(&source.schema) }
    }
}
