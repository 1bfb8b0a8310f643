//! A definition: what is computed of a relation's rows, and when it comes out.

use std::collections::BTreeSet;

use super::aggregate::Aggregate;
use super::expression::Expr;
use super::relation::Relation;
use super::value::{Kind, Value};

#[derive(Debug, Clone)]
pub struct Definition {
    pub relation: Relation,
    /// WHERE beside the window, over the relation's columns.
    pub within: Option<Expr>,
    /// The key, over the relation's columns.
    pub keys: Vec<Expr>,
    pub shape: Shape,
    pub aggregates: Vec<Aggregate>,
    /// Over the key, what the shape adds, the aggregates, and what is computed before it.
    pub computed: Vec<Expr>,
    /// HAVING or QUALIFY, over all of that.
    pub having: Option<Expr>,
    /// A SELECT around it.
    pub outer: Option<Outer>,
    /// Which of the aggregates something that comes out depends on: the others are as if they were not there.
    pub needed: Vec<bool>,
    /// Types of the key, what the shape adds, aggregates and what is computed.
    pub kinds: Vec<Kind>,
    /// Some value may fail after the aggregate.
    pub may_null: bool,
    /// Microseconds.
    pub lateness: i64,
    pub on_update: bool,
    pub sql: String,
}

#[derive(Debug, Clone)]
pub enum Shape {
    /// The columns of the window that are selected.
    Windowed(Window, Vec<Bound>),
    /// Lengths of the frames, the frame of each aggregate, and the columns of the relation that are selected as they are.
    Rolling { frames: Vec<i64>, of: Vec<usize>, plain: Vec<usize> },
}

/// In microseconds.
#[derive(Debug, Clone, Copy)]
pub enum Window {
    Tumble { size: i64, offset: i64 },
    Hop { slide: i64, size: i64, offset: i64 },
    Cumulate { step: i64, size: i64, offset: i64 },
    Session { gap: i64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    Start,
    End,
    Time,
}

/// Which columns are selected, and those rows of which this holds.
#[derive(Debug, Clone)]
pub struct Outer {
    pub columns: Vec<usize>,
    pub filter: Option<Expr>,
}

impl Definition {
    /// The columns that come out, by their position among all.
    pub fn selected(&self) -> Vec<usize> {
        match &self.outer {
            Some(outer) => outer.columns.clone(),
            None => (0..self.kinds.len()).collect(),
        }
    }

    /// The row of a group, from its key, what the shape adds and the aggregates; `None` where HAVING rejects it.
    pub fn row(&self, mut values: Vec<Value>) -> Option<Vec<Value>> {
        for computed in &self.computed {
            values.push(computed.on(&values).unwrap_or(Value::Null));
        }
        let filters = self.having.iter().chain(self.outer.iter().flat_map(|outer| &outer.filter));
        for filter in filters {
            if filter.holds(&values) != Ok(true) {
                return None;
            }
        }
        Some(self.selected().into_iter().map(|at| values[at].clone()).collect())
    }

    /// What the aggregates give over rows of the relation, which come in their order.
    pub fn aggregated(&self, rows: &[&[Value]]) -> Vec<Value> {
        (0..self.aggregates.len()).map(|at| self.aggregate(at, rows)).collect()
    }

    /// The same of one of them.
    pub fn aggregate(&self, at: usize, rows: &[&[Value]]) -> Value {
        if self.needed[at] { self.aggregates[at].over(rows) } else { Value::Null }
    }

    /// Whether an argument cannot be computed on a row of the relation.
    pub fn fails(&self, row: &[Value]) -> bool {
        let needed = self.aggregates.iter().zip(&self.needed).filter(|(_, needed)| **needed);
        needed.into_iter().any(|(aggregate, _)| aggregate.check(row).is_err())
    }

    /// See [`Definition::needed`].
    pub fn with_needed(mut self) -> Self {
        let first_computed = self.kinds.len() - self.computed.len();
        let first = first_computed - self.aggregates.len();
        let mut needed: BTreeSet<usize> = self.selected().into_iter().collect();
        let filters = self.having.iter().chain(self.outer.iter().flat_map(|outer| &outer.filter));
        needed.extend(filters.flat_map(Expr::reads));
        for (at, computed) in self.computed.iter().enumerate().rev() {
            if needed.contains(&(first_computed + at)) {
                needed.extend(computed.reads());
            }
        }
        self.needed = (first..first_computed).map(|at| needed.contains(&at)).collect();
        self
    }
}

impl Bound {
    pub fn of(self, (start, end): (i64, i64)) -> Value {
        Value::Time(match self {
            Self::Start => start,
            Self::End => end,
            Self::Time => end - 1,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "window_start",
            Self::End => "window_end",
            Self::Time => "window_time",
        }
    }
}

impl Window {
    pub fn name(self) -> &'static str {
        match self {
            Self::Tumble { .. } => "TUMBLE",
            Self::Hop { .. } => "HOP",
            Self::Cumulate { .. } => "CUMULATE",
            Self::Session { .. } => "SESSION",
        }
    }
}
