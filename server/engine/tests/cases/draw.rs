//! Random definitions.

use super::definition::Definition;
use super::dice::Dice;
use super::expression::{Expr, Op, call, int};
use super::grow::Scope;
use super::relation::{Column, Join, Node, Relation, STREAMS};
use super::text::{Form, write};
use super::value::{Kind, Value};

const SECOND: i64 = 1_000_000;

/// A definition, the length of time in which its lengths are counted, and the form of its window.
pub fn definition(dice: &mut Dice) -> (Definition, i64, Option<Form>) {
    let unit = *dice.pick(&[SECOND, SECOND, 60 * SECOND, 1_000]);
    let mut draw = Draw { dice, unit, sources: 0 };
    let relation = draw.relation();
    let definition = draw.of(relation);
    let (sql, form) = write(&definition, draw.dice);
    (Definition { sql, ..definition }, unit, form)
}

pub struct Draw<'d> {
    pub dice: &'d mut Dice,
    /// Lengths of time are so many of these.
    pub unit: i64,
    /// Mentions of streams so far.
    sources: u16,
}

/// All columns of a relation but its event time, and that if wanted.
pub fn scope(relation: &Relation, with_time: bool) -> Scope {
    let all = relation.columns.iter().enumerate().filter(|(at, _)| with_time || *at != relation.time);
    Scope { columns: all.map(|(at, column)| (at, column.kind)).collect(), known: vec![relation.time] }
}

impl Draw<'_> {
    pub fn length(&mut self, least: i64, most: i64) -> i64 {
        self.dice.within(least..=most) * self.unit
    }

    fn relation(&mut self) -> Relation {
        match self.dice.below(10) {
            0..=2 => self.source(),
            3 | 4 => {
                let source = self.source();
                self.select(source)
            }
            5 => {
                let source = self.source();
                let inner = self.select(source);
                self.select(inner)
            }
            6 | 7 => self.union(),
            8 => self.join(1),
            _ => {
                let join = self.join(0);
                if self.dice.chance(70) { join } else { self.renamed(join) }
            }
        }
    }

    fn source(&mut self) -> Relation {
        let stream = self.dice.below(STREAMS.len());
        let number = self.sources;
        self.sources += 1;
        let of = &STREAMS[stream];
        let columns = of.columns.iter().map(|(name, kind, _)| Column { name: (*name).into(), kind: *kind });
        Relation { columns: columns.collect(), time: of.time, hold: 0, node: Node::Source { stream, number } }
    }

    /// Some columns computed, some under other names, some records left out.
    fn select(&mut self, input: Relation) -> Relation {
        let all = scope(&input, false);
        let filter = self.filter(&all);
        let (mut list, mut columns) = (Vec::new(), Vec::new());
        for (at, column) in input.columns.iter().enumerate() {
            let is_kept = at == input.time || self.dice.chance(65);
            let expr = if is_kept { Expr::Column(at) } else { all.of(self.dice, column.kind, 1) };
            let name = match (is_kept, self.dice.chance(75)) {
                (true, true) => column.name.clone(),
                _ => format!("s{at}_{}", column.name),
            };
            list.push(expr);
            columns.push(Column { name, kind: column.kind });
        }
        let (time, hold) = (input.time, input.hold);
        Relation { columns, time, hold, node: Node::Select { input: Box::new(input), filter, list } }
    }

    /// The same columns in another order, under other names.
    fn renamed(&mut self, input: Relation) -> Relation {
        let turn = self.dice.below(input.columns.len());
        let order: Vec<usize> =
            (0..input.columns.len()).map(|at| (at + turn) % input.columns.len()).collect();
        let columns = order.iter().map(|at| Column {
            name: format!("r_{}", input.columns[*at].name),
            kind: input.columns[*at].kind,
        });
        let time = order.iter().position(|at| *at == input.time).unwrap();
        let list = order.iter().map(|at| Expr::Column(*at)).collect();
        Relation {
            columns: columns.collect(),
            time,
            hold: input.hold,
            node: Node::Select { input: Box::new(input), filter: None, list },
        }
    }

    /// A condition, now and then one that cannot be computed on some records.
    pub fn filter(&mut self, scope: &Scope) -> Option<Expr> {
        match self.dice.below(10) {
            0..=3 => Some(scope.condition(self.dice, 2)),
            4 if self.dice.chance(60) => {
                let failing = scope.failing(self.dice)?;
                Some(call(*self.dice.pick(&[Op::Less, Op::NotEqual]), [failing, int(1)]))
            }
            _ => None,
        }
    }

    fn union(&mut self) -> Relation {
        let kinds =
            [Kind::Text, Kind::Int, Kind::Symbol, Kind::Int, Kind::Float, Kind::Bool, Kind::Text, Kind::Time];
        let mut inputs: Vec<Relation> = Vec::new();
        for branch in 0..self.dice.within(2..=3) {
            let source = self.source();
            let input = if self.dice.chance(30) { self.select(source) } else { source };
            let filter = self.filter(&scope(&input, false));
            let (mut list, mut columns) = (Vec::new(), Vec::new());
            for (at, kind) in kinds.into_iter().enumerate() {
                let expr = match kind {
                    Kind::Time => Expr::Column(input.time),
                    // Which of the streams it was.
                    Kind::Symbol => Expr::Literal(Value::text(["one", "two", "three"][branch as usize])),
                    kind => Expr::Column(*self.dice.pick(&input.of_kind(kind))),
                };
                list.push(expr);
                let kind = if kind == Kind::Symbol { Kind::Text } else { kind };
                let name = inputs.first().map_or_else(|| format!("u{at}"), |f| f.columns[at].name.clone());
                columns.push(Column { name, kind });
            }
            let time = kinds.len() - 1;
            let node = Node::Select { input: Box::new(input), filter, list };
            inputs.push(Relation { columns, time, hold: 0, node });
        }
        let columns = inputs[0].columns.clone();
        Relation { columns, time: kinds.len() - 1, hold: 0, node: Node::Union(inputs) }
    }

    /// `deeper`: how many joins its left side may have.
    fn join(&mut self, deeper: usize) -> Relation {
        let side = |draw: &mut Self, deeper: usize| match draw.dice.below(10) {
            0..=5 if deeper > 0 => draw.join(deeper - 1),
            6 | 7 => {
                let source = draw.source();
                draw.select(source)
            }
            _ => draw.source(),
        };
        let left = side(self, deeper);
        let right = side(self, 0);
        let on = match self.dice.below(3) {
            0 => Kind::Int,
            _ => Kind::Text,
        };
        let on = (*self.dice.pick(&left.of_kind(on)), *self.dice.pick(&right.of_kind(on)));
        let lower = self.length(-6, 4);
        let upper = lower + self.length(0, 8);
        let keeps_left = self.dice.chance(50);
        let wide = left.columns.len();
        // A comparison of both sides: what reads one side alone is done below the join, and leaves records out there.
        let compared = |draw: &mut Self, percent: usize| {
            let kind = *draw.dice.pick(&[Kind::Int, Kind::Float]);
            let one = Expr::Column(*draw.dice.pick(&left.of_kind(kind)));
            let other = Expr::Column(wide + *draw.dice.pick(&right.of_kind(kind)));
            let sign = *draw.dice.pick(&[Op::Less, Op::GreaterOrEqual, Op::NotEqual]);
            draw.dice.chance(percent).then(|| call(sign, [one, other]))
        };
        let (condition, filter) = (compared(self, 30), compared(self, 20));
        let is_right = !keeps_left && self.dice.chance(40);
        let time = if is_right { wide + right.time } else { left.time };
        let (mut list, mut columns) = (Vec::new(), Vec::new());
        for kind in
            [Kind::Text, Kind::Int, Kind::Text, Kind::Int, Kind::Float, Kind::Float, Kind::Bool, Kind::Symbol]
        {
            let of_left = left.of_kind(kind);
            let of_right: Vec<usize> = right.of_kind(kind).into_iter().map(|at| wide + at).collect();
            let all = if list.len() % 2 == 0 { [of_left, of_right].concat() } else { of_right };
            list.push(Expr::Column(*self.dice.pick(&all)));
            columns.push(Column { name: format!("j{}", columns.len()), kind });
        }
        list.push(Expr::Column(time));
        columns.push(Column { name: "jt".into(), kind: Kind::Time });
        let join = Join { left, right, keeps_left, on, lower, upper, condition, filter, list };
        // A row comes out as late as its left row waited in vain, or as the left row was late that found the right one.
        let hold =
            if is_right { join.right.hold.max(join.left.hold - lower).max(0) } else { join.left_reach() };
        Relation { time: columns.len() - 1, columns, hold, node: Node::Join(Box::new(join)) }
    }
}
