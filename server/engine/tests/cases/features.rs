//! Random features over a relation: keys, windows or frames, aggregates, and what is computed of them.

use super::aggregate::{ALL, Aggregate, What};
use super::definition::{Bound, Definition, Outer, Shape, Window};
use super::draw::{Draw, scope};
use super::expression::{Expr, Op, call, float, int};
use super::grow::Scope;
use super::relation::Relation;
use super::text::is_key;
use super::value::Kind;

impl Draw<'_> {
    /// A definition over a relation, without its SQL.
    pub fn of(&mut self, relation: Relation) -> Definition {
        let is_joined = relation.is_joined();
        let all = scope(&relation, false);
        let within = if is_joined { None } else { self.filter(&all) };
        let is_rolling = self.dice.chance(27);
        let keys = self.keys(&relation, is_rolling);
        let (shape, added) = if is_rolling { self.frames(&relation) } else { self.window() };
        let mut aggregates = Vec::new();
        for _ in 0..self.dice.within(1..=5) {
            let Some(call) = self.aggregate(&relation, is_joined) else { continue };
            // Two functions that differ in a CAST only are refused.
            let casts = |(call, _): &(Aggregate, Kind)| matches!(call.argument, Expr::Call(Op::ToInt, _));
            let is_like =
                |known: &(Aggregate, Kind)| known.0.what == call.0.what && (casts(known) || casts(&call));
            if !aggregates.iter().any(is_like) {
                aggregates.push(call);
            }
        }
        if aggregates.is_empty() {
            aggregates.push((Aggregate { what: What::CountAll, argument: int(1), filter: None }, Kind::Int));
        }
        let shape = match shape {
            Shape::Rolling { frames, plain, .. } => {
                let of = aggregates.iter().map(|_| self.dice.below(frames.len())).collect();
                // A frame that nothing is computed over is none.
                used(frames, of, plain)
            }
            windowed @ Shape::Windowed(..) => windowed,
        };
        let mut kinds: Vec<Kind> = keys.iter().map(|(_, kind)| *kind).collect();
        kinds.extend(added);
        let mut readable: Vec<(usize, Kind)> = (0..).zip(kinds.iter().copied()).collect();
        for (aggregate, kind) in &aggregates {
            if !aggregate.what.is_rounded() && !is_huge(aggregate) {
                readable.push((kinds.len(), *kind));
            }
            kinds.push(*kind);
        }
        let readable: Vec<(usize, Kind)> =
            readable.into_iter().filter(|(_, kind)| !matches!(kind, Kind::List | Kind::Time)).collect();
        let counts = aggregates.iter().enumerate().filter(|(_, (_, kind))| *kind == Kind::Int);
        let mut known: Vec<usize> = (0..keys.len()).collect();
        known.extend(counts.map(|(at, _)| kinds.len() - aggregates.len() + at));
        let mut scope = Scope { columns: readable, known };
        let (mut computed, mut may_null) = (Vec::new(), false);
        for _ in 0..self.dice.below(4) {
            let Some((expr, kind, fails)) = self.computed(&scope) else { continue };
            if !fails {
                scope.columns.push((kinds.len(), kind));
            }
            may_null |= fails;
            kinds.push(kind);
            computed.push(expr);
        }
        let has_condition = !scope.columns.is_empty();
        let mut having = (has_condition && self.dice.chance(35)).then(|| scope.condition(self.dice, 1));
        let mut outer = self.dice.chance(20).then(|| {
            let filter = (has_condition && self.dice.chance(50)).then(|| scope.condition(self.dice, 1));
            let rest = (keys.len()..kinds.len()).filter(|_| self.dice.chance(70)).collect::<Vec<_>>();
            let columns = if rest.is_empty() { vec![kinds.len() - 1] } else { rest };
            Outer { columns: (0..keys.len()).chain(columns).collect(), filter }
        });
        // QUALIFY looks at what is computed over a frame, a SELECT around it at anything.
        let first = kinds.len() - computed.len() - aggregates.len();
        let is_over = |condition: &Expr| {
            condition.reads().iter().any(|at| (first..first + aggregates.len()).contains(at))
        };
        if is_rolling && having.as_ref().is_some_and(|having| !is_over(having)) {
            let columns = (0..kinds.len()).collect();
            let around = outer.get_or_insert(Outer { columns, filter: None });
            around.filter = having.take().or(around.filter.take());
        }
        let lateness = if self.dice.chance(45) { 0 } else { self.length(1, 25) };
        let definition = Definition {
            relation,
            within,
            keys: keys.into_iter().map(|(key, _)| key).collect(),
            shape,
            aggregates: aggregates.into_iter().map(|(aggregate, _)| aggregate).collect(),
            computed,
            having,
            outer,
            needed: Vec::new(),
            kinds,
            may_null,
            lateness,
            on_update: self.dice.chance(40),
            sql: String::new(),
        };
        let mut definition = definition.with_needed();
        if is_rolling && !definition.needed.contains(&true) {
            // Without a frame there is no OVER.
            definition.outer = None;
        }
        definition.with_needed()
    }

    /// Expressions with their types, each once.
    fn keys(&mut self, relation: &Relation, is_rolling: bool) -> Vec<(Expr, Kind)> {
        let count = *self.dice.pick(&[1, 1, 1, 2, 2, usize::from(is_rolling)]);
        let mut keys: Vec<(Expr, Kind)> = Vec::new();
        let all: Vec<usize> =
            (0..relation.columns.len()).filter(|at| is_key(relation.columns[*at].kind)).collect();
        while keys.len() < count {
            // One that few others share makes small groups; most have a text first.
            let texts = relation.of_kind(Kind::Text);
            let from = if keys.is_empty() && self.dice.chance(60) { &texts } else { &all };
            let at = *self.dice.pick(from);
            let kind = relation.columns[at].kind;
            let column = Expr::Column(at);
            let key = match kind {
                Kind::Text if !is_rolling && self.dice.chance(15) => call(Op::Upper, [column]),
                Kind::Int if !is_rolling && self.dice.chance(30) => call(Op::Remainder, [column, int(2)]),
                _ => column,
            };
            if !keys.iter().any(|(known, _)| *known == key) {
                keys.push((key, kind));
            }
        }
        keys
    }

    fn window(&mut self) -> (Shape, Vec<Kind>) {
        let offset = if self.dice.chance(30) { self.length(-5, 5) } else { 0 };
        let window = match self.dice.below(8) {
            0 | 1 => Window::Tumble { size: self.length(1, 12), offset },
            2 | 3 => {
                let slide = self.length(1, 5);
                let size = slide * self.dice.within(1..=5) + if self.dice.chance(40) { slide / 2 } else { 0 };
                // Whole units, so that slices are not too many.
                Window::Hop { slide, size: size / self.unit * self.unit, offset }
            }
            4 => {
                let step = self.length(1, 5);
                Window::Cumulate { step, size: step * self.dice.within(2..=5), offset }
            }
            _ => Window::Session { gap: self.length(1, 9) },
        };
        let mut bounds = vec![Bound::Start, Bound::End, Bound::Time];
        bounds.retain(|_| self.dice.chance(40));
        let kinds = bounds.iter().map(|_| Kind::Time).collect();
        (Shape::Windowed(window, bounds), kinds)
    }

    fn frames(&mut self, relation: &Relation) -> (Shape, Vec<Kind>) {
        let frames = (0..self.dice.within(1..=3)).map(|_| self.length(0, 12)).collect();
        let plain: Vec<usize> = (0..relation.columns.len()).filter(|_| self.dice.chance(25)).collect();
        let kinds = plain.iter().map(|at| relation.columns[*at].kind).collect();
        (Shape::Rolling { frames, of: Vec::new(), plain }, kinds)
    }

    /// With the type of its result.
    fn aggregate(&mut self, relation: &Relation, is_joined: bool) -> Option<(Aggregate, Kind)> {
        let all = scope(relation, true);
        let (what, kinds) = match self.dice.below(4) {
            0 => ALL[self.dice.below(4)],
            _ => *self.dice.pick(&ALL),
        };
        // Which of the rows of a join that are of one instant comes first is another matter.
        if is_joined && what.is_by_time() {
            return None;
        }
        let kinds: Vec<Kind> = kinds.iter().copied().filter(|kind| all.has(*kind)).collect();
        let kind = *self.dice.pick(&kinds);
        let filter = self.dice.chance(25).then(|| scope(relation, false).condition(self.dice, 1));
        if what == What::CountAll {
            return Some((Aggregate { what, argument: int(1), filter }, Kind::Int));
        }
        let is_exact = !matches!(what, What::BitAnd | What::BitOr | What::BitXor);
        let argument = match self.dice.below(12) {
            0..=2 if is_exact => scope(relation, false).of(self.dice, kind, 1),
            3 if kind == Kind::Int && matches!(what, What::Count | What::Min | What::Max) => {
                scope(relation, false).failing(self.dice)?
            }
            _ => all.column(self.dice, kind)?,
        };
        Some((Aggregate { what, argument, filter }, what.kind(kind)))
    }

    /// Something over the aggregates, its type, and whether it may fail.
    fn computed(&mut self, scope: &Scope) -> Option<(Expr, Kind, bool)> {
        let number = scope.column(self.dice, Kind::Int);
        Some(match self.dice.below(8) {
            0 | 1 => {
                let other = scope.column(self.dice, Kind::Int)?;
                let below = call(Op::NullIf, [other, int(0)]);
                (call(Op::Divide, [number?, below]), Kind::Float, false)
            }
            2 => (call(Op::Divide, [number?, scope.column(self.dice, Kind::Int)?]), Kind::Float, false),
            3 => {
                let share = call(Op::Divide, [number?, float(4.0)]);
                (call(Op::Least, [float(1.0), share]), Kind::Float, false)
            }
            4 if scope.has(Kind::Int) => (scope.number(self.dice, 2), Kind::Int, false),
            5 if !scope.columns.is_empty() => (scope.truth(self.dice, 1), Kind::Bool, false),
            6 => (scope.failing(self.dice)?, Kind::Int, true),
            _ if scope.has(Kind::Text) => (scope.text(self.dice, 1), Kind::Text, false),
            _ => return None,
        })
    }
}

/// Whether its result is too large to compute with.
fn is_huge(aggregate: &Aggregate) -> bool {
    matches!(aggregate.what, What::Min | What::Max) && aggregate.argument.is_huge()
}

/// Only the frames that something is computed over.
fn used(frames: Vec<i64>, of: Vec<usize>, plain: Vec<usize>) -> Shape {
    let kept: Vec<usize> = (0..frames.len()).filter(|frame| of.contains(frame)).collect();
    let place = |frame: &usize| kept.iter().position(|k| k == frame).unwrap();
    Shape::Rolling {
        frames: kept.iter().map(|frame| frames[*frame]).collect(),
        of: of.iter().map(place).collect(),
        plain,
    }
}
