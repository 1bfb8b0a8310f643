//! The plan as an indented tree, from the features down to the streams.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::physical_expr::PhysicalExpr;

use super::text::{length, sql};
use crate::query::{
    FeatureQuery, Group, IntervalJoin, JoinKind, LookupJoin, Node, Relation, Rolling, Shape, Source, Stage,
    Window, Windowed,
};

/// One line for each step, two more spaces for each step below another.
pub(super) fn lines(query: &FeatureQuery) -> Vec<String> {
    let mut tree = Tree { sources: &query.sources, lines: Vec::new() };
    let depth = tree.stages(&query.after, 0);
    match &query.shape {
        Shape::Windowed(windowed) => tree.windowed(windowed, &query.input, depth),
        Shape::Rolling(rolling) => tree.rolling(rolling, &query.input, depth),
    }
    tree.lines
}

struct Tree<'a> {
    sources: &'a [Source],
    lines: Vec<String>,
}

impl Tree<'_> {
    fn line(&mut self, depth: usize, text: &str) {
        self.lines.push(format!("{}{text}", "  ".repeat(depth)));
    }

    /// Stages from the last to the first; the depth of what is below them.
    fn stages(&mut self, stages: &[Stage], depth: usize) -> usize {
        for (stage, depth) in stages.iter().rev().zip(depth..) {
            self.line(depth, &self::stage(stage));
        }
        depth + stages.len()
    }

    fn windowed(&mut self, windowed: &Windowed, input: &Relation, depth: usize) {
        let aggregate = &windowed.aggregate;
        let groups = aggregate.groups.iter().map(|group| match group {
            Group::Key(key, _) => sql(key),
            Group::WindowStart => "window_start".to_owned(),
            Group::WindowEnd => "window_end".to_owned(),
            Group::WindowTime => "window_time".to_owned(),
        });
        let functions = list(aggregate.functions.iter().map(ToString::to_string));
        let over = if functions.is_empty() { String::new() } else { format!(": {functions}") };
        self.line(depth, &format!("aggregate by {}{over}", list(groups)));
        let depth = self.stages(&windowed.within, depth + 1);
        let keys: Vec<String> = aggregate
            .groups
            .iter()
            .filter_map(|group| match group {
                Group::Key(key, _) => Some(sql(key)),
                _ => None,
            })
            .collect();
        let each = match windowed.window {
            Window::Session { .. } if !keys.is_empty() => format!(" for each {}", keys.join(", ")),
            _ => String::new(),
        };
        let time = name(&input.schema, windowed.time.column);
        self.line(depth, &format!("window {} on {time}{each}", windowed.window));
        self.relation(input, depth + 1);
    }

    fn rolling(&mut self, rolling: &Rolling, input: &Relation, depth: usize) {
        let frames = rolling.frames.iter().map(|frame| {
            let functions = list(frame.functions.iter().map(ToString::to_string));
            format!("{functions} over the last {}", length(frame.preceding))
        });
        let keys = list(rolling.keys.iter().map(|(key, _)| sql(key)));
        let time = name(&input.schema, rolling.time.column);
        let frames = frames.collect::<Vec<_>>().join("; ");
        self.line(depth, &format!("rolling by {keys} on {time}: {frames}"));
        self.relation(input, depth + 1);
    }

    fn source(&mut self, number: usize, depth: usize) {
        if let Some(source) = self.sources.get(number) {
            let columns = list(source.schema.fields().iter().map(|field| field.name().clone()));
            self.line(depth, &format!("source {}: {columns}", source.stream));
        }
    }

    fn relation(&mut self, relation: &Relation, depth: usize) {
        let depth = self.stages(&relation.stages, depth);
        match &relation.node {
            Node::Source(number) => self.source(*number, depth),
            Node::Union(inputs) => {
                self.line(depth, "union all");
                for input in inputs {
                    self.relation(input, depth + 1);
                }
            }
            Node::Join(join) => {
                self.line(depth, &self::join(join));
                self.relation(&join.left, depth + 1);
                self.relation(&join.right, depth + 1);
            }
            Node::Lookup(lookup) => {
                self.line(depth, &self::lookup(lookup));
                self.relation(&lookup.left, depth + 1);
                self.source(lookup.changes, depth + 1);
            }
        }
    }
}

fn join(join: &IntervalJoin) -> String {
    let kind = match join.kind {
        JoinKind::Inner => "inner",
        JoinKind::Left => "left",
    };
    let on = list(join.on.iter().map(|(left, right)| format!("{} = {}", sql(left), sql(right))));
    let range = if join.lower == join.upper {
        length(join.lower)
    } else {
        format!("from {} to {}", length(join.lower), length(join.upper))
    };
    let times = format!(
        "{} {range} after {}",
        name(&join.right.schema, join.right_time.column),
        name(&join.left.schema, join.left_time.column),
    );
    let condition = join.condition.as_ref().map(|condition| format!(", and {}", sql(condition)));
    format!("{kind} join on {on}, {times}{}", condition.unwrap_or_default())
}

fn lookup(lookup: &LookupJoin) -> String {
    let kind = match lookup.kind {
        JoinKind::Inner => "inner",
        JoinKind::Left => "left",
    };
    let on = list(lookup.on.iter().map(|(left, right)| format!("{} = {}", sql(left), sql(right))));
    let time = name(&lookup.left.schema, lookup.time.column);
    let ttl = lookup.ttl.map(|ttl| format!(", not older than {}", length(ttl))).unwrap_or_default();
    format!("{kind} lookup on {on}, as of {time}{ttl}")
}

fn stage(stage: &Stage) -> String {
    match stage {
        Stage::Filter(predicate) => format!("filter {}", sql(predicate)),
        Stage::Project(exprs, schema) => {
            let column = |(expr, name): (&Arc<dyn PhysicalExpr>, &String)| {
                let expr = sql(expr);
                if expr == *name { expr } else { format!("{expr} AS {name}") }
            };
            format!(
                "project {}",
                list(exprs.iter().zip(schema.fields().iter().map(|f| f.name())).map(column))
            )
        }
    }
}

fn name(schema: &Schema, column: usize) -> &str {
    schema.fields().get(column).map_or("?", |field| field.name())
}

fn list(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}
