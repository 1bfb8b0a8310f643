//! What a definition was lowered to, for people and programs.

mod text;
mod tree;

use std::fmt;

use arrow::datatypes::{Field, FieldRef, Schema};
use serde::Serialize;

pub(super) use self::text::{length, sql};
use super::functions::{self, Bound};
use crate::epoch::joins;
use crate::query::{
    FeatureQuery, Function, IntervalJoin, JoinKind, LookupJoin, Node, Relation, Rolling, Shape, Window,
};
use crate::time::Span;

/// A feature query in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explain {
    /// The plan as an indented tree, from the features down to the streams; a line each.
    pub plan: Vec<String>,
    /// The streams it reads; the columns that it does not read cost nothing.
    pub sources: Vec<ExplainedSource>,
    /// Columns of the primary key, in GROUP BY or PARTITION BY order. Empty: one row.
    pub key: Vec<ExplainedColumn>,
    /// What is kept between two records.
    pub state: Vec<ExplainedState>,
    /// The columns of the feature group.
    pub output: Vec<ExplainedColumn>,
    /// When rows come out.
    pub emission: String,
    /// What the watermark delay, and the time bound of a join, add to that.
    pub watermark_delay: String,
    /// Whether the state may be larger than the memory.
    pub memory: String,
}

/// One stream as it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedSource {
    /// The stream.
    pub stream: String,
    /// Its event time.
    pub event_time: String,
    /// Those of its columns that are decoded.
    pub columns: Vec<ExplainedColumn>,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedColumn {
    /// Its name.
    pub name: String,
    /// Its Arrow type.
    pub data_type: String,
}

/// What is kept of the records for one purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedState {
    /// A function, or the rows of one side of a join.
    pub of: String,
    /// The Arrow types of the partial aggregate or of the row.
    pub types: Vec<String>,
    /// How often it is there, and how long.
    pub kept: String,
    /// How large it may become.
    pub bound: String,
}

impl FeatureQuery {
    /// Says what the query does, over streams with this watermark delay and for windows that stay
    /// open for this long after the watermark has passed their end.
    pub fn explain(&self, watermark_delay: Span, allowed_lateness: Span) -> Explain {
        let mut state = Vec::new();
        joined(&self.input, &mut state);
        state.extend(self.aggregates(allowed_lateness));
        let key = self.key.iter().filter_map(|i| self.output.fields().get(*i));
        Explain {
            plan: tree::lines(self),
            sources: self.sources.iter().map(ExplainedSource::new).collect(),
            key: key.map(|field| ExplainedColumn::new(field)).collect(),
            state,
            output: columns(&self.output),
            emission: self.emission(allowed_lateness),
            watermark_delay: self.delay(watermark_delay),
            memory: self.memory(),
        }
    }

    /// What is kept of a key without a bound, in words, with what to write where that is too much.
    pub fn unbounded(&self) -> Option<String> {
        // Rolling features keep the records of their frames, whatever is computed over them.
        let Shape::Windowed(windowed) = &self.shape else { return None };
        let grows = |function: &Function| match functions::bound(function.aggregate.fun()) {
            Bound::Distinct(instead) => {
                Some(format!("{function} keeps each distinct value of a key and window (bounded: {instead})"))
            }
            Bound::Events(instead) => {
                Some(format!("{function} keeps each value of a key and window (bounded: {instead})"))
            }
            Bound::Fixed | Bound::Values(_) | Bound::Bytes(_) => None,
        };
        let grows: Vec<String> = windowed.aggregate.functions.iter().filter_map(grows).collect();
        (!grows.is_empty()).then(|| grows.join("; "))
    }

    /// Where the state lies, in words.
    fn memory(&self) -> String {
        let mut memory =
            "what the memory budget has no room for lies in the store alone, and is read when it is wanted"
                .to_owned();
        if joins(&self.input).contains(&false) {
            memory.push_str("; but what is looked up, and what waits for it, is all in memory");
        }
        memory
    }

    /// The partial aggregates that are kept, or the records that they are computed from.
    fn aggregates(&self, allowed_lateness: Span) -> Vec<ExplainedState> {
        match &self.shape {
            Shape::Windowed(windowed) => {
                let kept = match windowed.window {
                    Window::Tumble { .. } => "for each key and window, until the window closes".to_owned(),
                    Window::Hop { slide, size, .. } => format!(
                        "for each key and slice of {}, until the last window with it closes",
                        length(gcd(slide, size))
                    ),
                    Window::Cumulate { step, .. } => {
                        format!(
                            "for each key and slice of {}, until the last window with it closes",
                            length(step)
                        )
                    }
                    Window::Session { gap } => {
                        format!("for each key and slice of {}, until its session closes", length(gap))
                    }
                };
                let functions = &windowed.aggregate.functions;
                functions
                    .iter()
                    .map(|function| ExplainedState::of(function, function.to_string(), &kept))
                    .collect()
            }
            Shape::Rolling(rolling) => vec![self.records(rolling, allowed_lateness)],
        }
    }

    /// The records that rolling features look back on.
    fn records(&self, rolling: &Rolling, allowed_lateness: Span) -> ExplainedState {
        let time = self.input.schema.fields().get(rolling.time.column);
        let mut columns: Vec<(String, String)> =
            time.map(|field| (field.name().clone(), field.data_type().to_string())).into_iter().collect();
        let kept = crate::epoch::kept(self).unwrap_or_default();
        columns.extend(kept.iter().map(|(expr, data_type)| (sql(expr), data_type.to_string())));
        let (names, types): (Vec<String>, Vec<String>) = columns.into_iter().unzip();
        let longest = rolling.frames.iter().map(|frame| frame.preceding.0).max().unwrap_or(0);
        let long = longest.saturating_add(allowed_lateness.0).saturating_add(rolling.time.hold.0);
        let kept = format!("each, until the watermark is {} past its time", length(Span(long)));
        let of = format!("records ({})", names.join(", "));
        ExplainedState { of, types, kept, bound: ROWS.to_owned() }
    }

    fn emission(&self, allowed_lateness: Span) -> String {
        let (row, when) = match &self.shape {
            Shape::Windowed(windowed) => match windowed.window {
                Window::Tumble { .. } => ("one row per key and window", "the window's end"),
                Window::Hop { .. } | Window::Cumulate { .. } => (
                    "one row per key and window whose events are not those of the key's row before",
                    "the window's end",
                ),
                Window::Session { .. } => ("one row per key and session", "the session's end"),
            },
            Shape::Rolling(_) => {
                ("one row per key and event time, and one when the last event has left a frame", "that time")
            }
        };
        let late = match allowed_lateness {
            Span(0) => "later records are late".to_owned(),
            lateness => format!("a record up to {} later emits a revision", length(lateness)),
        };
        let moved = match &self.shape {
            Shape::Windowed(windowed) if allowed_lateness > Span(0) => match windowed.window {
                Window::Session { .. } => ", and a delete where the session ended before",
                _ => "",
            },
            _ => "",
        };
        format!("{row}, when the watermark passes {when}; {late}{moved}")
    }

    fn delay(&self, watermark_delay: Span) -> String {
        let several = if self.sources.len() > 1 { ", the least over all streams" } else { "" };
        let delay = match watermark_delay {
            Span(0) => format!(
                "none: the watermark is the greatest event time seen{several}, a row comes out with the first event after its time"
            ),
            delay => format!(
                "{0}: the watermark is the greatest event time seen less {0}{several}, so a row comes out when an event {0} after its time has come in",
                length(delay)
            ),
        };
        let hold = match &self.shape {
            Shape::Windowed(windowed) => windowed.time.hold,
            Shape::Rolling(rolling) => rolling.time.hold,
        };
        match hold {
            Span(0) => delay,
            hold => {
                format!("{delay}; the join adds {0}: its rows may be {0} behind the watermark", length(hold))
            }
        }
    }
}

/// The rows that the joins of a relation keep.
fn joined(relation: &Relation, state: &mut Vec<ExplainedState>) {
    match &relation.node {
        Node::Source(_) => {}
        Node::Union(inputs) => inputs.iter().for_each(|input| joined(input, state)),
        Node::Join(join) => {
            joined(&join.left, state);
            joined(&join.right, state);
            state.extend(sides(join));
        }
        Node::Lookup(lookup) => {
            joined(&lookup.left, state);
            state.extend(looked_up(lookup));
        }
    }
}

fn looked_up(lookup: &LookupJoin) -> [ExplainedState; 2] {
    let types = |fields: &[FieldRef]| fields.iter().map(|field| field.data_type().to_string()).collect();
    let (left, right) =
        lookup.schema.fields().split_at_checked(lookup.left.schema.fields().len()).unwrap_or_default();
    [
        ExplainedState {
            of: "rows that look up".to_owned(),
            types: types(left),
            kept: "each, until the group's rows up to its time are known".to_owned(),
            bound: ROWS.to_owned(),
        },
        ExplainedState {
            of: "rows that are looked up".to_owned(),
            types: types(right),
            kept: "for each key the one that the earliest record not late may look up, and all later ones"
                .to_owned(),
            bound: "grows with each key".to_owned(),
        },
    ]
}

fn sides(join: &IntervalJoin) -> [ExplainedState; 2] {
    let side = |name: &str, rows: &Relation, reach: Span, alone: &str| ExplainedState {
        of: format!("{name} rows of the join"),
        types: columns(&rows.schema).into_iter().map(|column| column.data_type).collect(),
        kept: format!("each, until the watermark is {} past its time{alone}", length(reach)),
        bound: ROWS.to_owned(),
    };
    let alone = match join.kind {
        JoinKind::Inner => "",
        JoinKind::Left => "; one without a partner comes out then",
    };
    [side("left", &join.left, join.left_reach(), alone), side("right", &join.right, join.right_reach(), "")]
}

fn gcd(a: Span, b: Span) -> Span {
    if b.0 == 0 { a } else { gcd(b, Span(a.0 % b.0)) }
}

fn columns(schema: &Schema) -> Vec<ExplainedColumn> {
    schema.fields().iter().map(|field| ExplainedColumn::new(field)).collect()
}

impl ExplainedColumn {
    fn new(field: &Field) -> Self {
        Self { name: field.name().clone(), data_type: field.data_type().to_string() }
    }
}

impl ExplainedSource {
    fn new(source: &crate::query::Source) -> Self {
        let event_time = source.schema.fields().get(source.event_time).map(|field| field.name().clone());
        Self {
            stream: source.stream.clone(),
            event_time: event_time.unwrap_or_default(),
            columns: columns(&source.schema),
        }
    }
}

impl ExplainedState {
    fn of(function: &Function, of: String, kept: &str) -> Self {
        let state = function.aggregate.state_fields().unwrap_or_default();
        let types = state.iter().map(|field| field.data_type().to_string()).collect();
        let bound = match functions::bound(function.aggregate.fun()) {
            Bound::Fixed => FIXED.to_owned(),
            Bound::Values(1) => "at most 1 value".to_owned(),
            Bound::Values(n) => format!("at most {n} values"),
            Bound::Bytes(n) => format!("at most {n} bytes"),
            Bound::Distinct(_) => "grows with each distinct value".to_owned(),
            Bound::Events(_) => "grows with each event".to_owned(),
        };
        Self { of, types, kept: kept.to_owned(), bound }
    }
}

/// What is said of a state that is the same for however many events.
const FIXED: &str = "does not grow";
/// What is said of rows that are kept as they are.
const ROWS: &str = "a row for each event of that time";

impl fmt::Display for Explain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plan.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        let list = |columns: &[ExplainedColumn]| {
            columns.iter().map(|c| format!("{} {}", c.name, c.data_type)).collect::<Vec<_>>().join(", ")
        };
        let key = if self.key.is_empty() { "none: one row".to_owned() } else { list(&self.key) };
        writeln!(f, "key     {key}")?;
        for state in &self.state {
            write!(f, "state   {}: {}, {}", state.of, state.types.join(", "), state.kept)?;
            match state.bound.as_str() {
                FIXED | ROWS => writeln!(f)?,
                bound => writeln!(f, "; {bound}")?,
            }
        }
        writeln!(f, "output  {}", list(&self.output))?;
        writeln!(f, "rows    {}", self.emission)?;
        writeln!(f, "delay   {}", self.watermark_delay)?;
        write!(f, "memory  {}", self.memory)
    }
}
