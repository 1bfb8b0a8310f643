//! A relation, ready to run: rows go from its sources up.

use std::sync::Arc;

use crate::epoch::join::{Join, Side};
use crate::epoch::records::{Rows, Verdicts};
use crate::epoch::upstream::Sink;
use crate::epoch::{Error, stage};
use crate::query::{self, Relation, Stage};
use crate::state::{StateChange, StateRow};
use crate::time::Micros;

/// A node with the stages above it.
pub(super) struct Branch {
    node: Node,
    stages: Arc<[Stage]>,
    /// How many records a row is made of, at most.
    width: usize,
}

/// Stages one after the other.
pub(in crate::epoch) type Way = Vec<Arc<[Stage]>>;

enum Node {
    Source(usize),
    Union(Vec<Branch>),
    Join(Box<Joined>),
}

/// A join with its sides.
struct Joined {
    join: Join,
    left: Branch,
    right: Branch,
}

impl Branch {
    /// `next` is the number of the next join. A join above asks what rows are made of (`is_named`).
    pub(super) fn new(relation: &Relation, next: &mut u16, is_named: bool) -> Result<Self, Error> {
        let (node, width) = match &relation.node {
            query::Node::Source(number) => (Node::Source(*number), 1),
            query::Node::Union(inputs) => {
                let inputs = inputs.iter().map(|input| Self::new(input, next, is_named));
                let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
                let width = inputs.iter().map(|input| input.width).max().unwrap_or(0);
                (Node::Union(inputs), width)
            }
            query::Node::Join(join) => {
                let left = Self::new(&join.left, next, true)?;
                let right = Self::new(&join.right, next, true)?;
                let join = Join::new(join, *next, (left.width, right.width), is_named)?;
                *next += 1;
                let width = join.width();
                (Node::Join(Box::new(Joined { join, left, right })), width)
            }
        };
        Ok(Self { node, stages: relation.stages.clone().into(), width })
    }

    /// The stages that records of a source go through, where no join is on their way.
    pub(super) fn way(&self, source: u16) -> Option<Way> {
        let mut way = match &self.node {
            Node::Source(number) if *number == usize::from(source) => Vec::new(),
            Node::Union(inputs) => inputs.iter().find_map(|input| input.way(source))?,
            Node::Source(_) | Node::Join(_) => return None,
        };
        way.push(Arc::clone(&self.stages));
        Some(way)
    }

    pub(super) fn has_joins(&self) -> bool {
        !self.joins().is_empty()
    }

    fn reads(&self, source: u16) -> bool {
        match &self.node {
            Node::Source(number) => *number == usize::from(source),
            Node::Union(inputs) => inputs.iter().any(|input| input.reads(source)),
            Node::Join(joined) => joined.left.reads(source) || joined.right.reads(source),
        }
    }

    /// Takes records of a source up to `sink`; `watermark` is that of the previous epoch.
    pub(super) fn take(
        &mut self,
        source: u16,
        rows: Rows,
        verdicts: &mut Verdicts<'_>,
        watermark: Micros,
        sink: Sink<'_>,
    ) -> Result<(), Error> {
        let stages = Arc::clone(&self.stages);
        let mut up = |rows: Rows, verdicts: &mut Verdicts<'_>| through(&stages, rows, verdicts, sink);
        match &mut self.node {
            Node::Source(number) if *number == usize::from(source) => up(rows, verdicts),
            Node::Union(inputs) => match inputs.iter_mut().find(|input| input.reads(source)) {
                Some(input) => input.take(source, rows, verdicts, watermark, &mut up),
                None => Err(nowhere(source)),
            },
            Node::Join(joined) => {
                let Joined { join, left, right } = joined.as_mut();
                if left.reads(source) {
                    left.take(source, rows, verdicts, watermark, &mut |rows, verdicts| {
                        join.take(Side::Left, rows, verdicts, watermark, &mut up)
                    })
                } else {
                    right.take(source, rows, verdicts, watermark, &mut |rows, verdicts| {
                        join.take(Side::Right, rows, verdicts, watermark, &mut up)
                    })
                }
            }
            Node::Source(_) => Err(nowhere(source)),
        }
    }

    /// Takes up to `sink` what comes out when the watermark goes from `before`, that of the previous epoch,
    /// to `after`: left rows without a partner.
    pub(super) fn give_up(&mut self, before: Micros, after: Micros, sink: Sink<'_>) -> Result<(), Error> {
        let stages = Arc::clone(&self.stages);
        let mut up = |rows: Rows, verdicts: &mut Verdicts<'_>| through(&stages, rows, verdicts, sink);
        match &mut self.node {
            Node::Source(_) => Ok(()),
            Node::Union(inputs) => {
                inputs.iter_mut().try_for_each(|input| input.give_up(before, after, &mut up))
            }
            Node::Join(joined) => {
                let Joined { join, left, right } = joined.as_mut();
                left.give_up(before, after, &mut |rows, verdicts| {
                    join.take(Side::Left, rows, verdicts, before, &mut up)
                })?;
                right.give_up(before, after, &mut |rows, verdicts| {
                    join.take(Side::Right, rows, verdicts, before, &mut up)
                })?;
                join.give_up(before, after, &mut up)
            }
        }
    }

    /// The joins of the relation, those below others first: in the order of their numbers.
    fn joins(&self) -> Vec<&Joined> {
        match &self.node {
            Node::Source(_) => Vec::new(),
            Node::Union(inputs) => inputs.iter().flat_map(Self::joins).collect(),
            Node::Join(joined) => {
                let mut joins = joined.left.joins();
                joins.extend(joined.right.joins());
                joins.push(joined);
                joins
            }
        }
    }

    /// Calls `each` with every join in the order of their numbers.
    fn for_each_join(&mut self, each: &mut dyn FnMut(&mut Join)) {
        match &mut self.node {
            Node::Source(_) => {}
            Node::Union(inputs) => inputs.iter_mut().for_each(|input| input.for_each_join(each)),
            Node::Join(joined) => {
                joined.left.for_each_join(each);
                joined.right.for_each_join(each);
                each(&mut joined.join);
            }
        }
    }

    /// The watermark with which the last row that waits for a partner comes out of its join.
    pub(super) fn waits_until(&self, watermark: Micros) -> Option<Micros> {
        self.joins().into_iter().filter_map(|joined| joined.join.waits_until(watermark)).max()
    }

    /// Slices of rows that wait, and rows in them.
    pub(super) fn len(&self) -> (usize, usize) {
        let all = self.joins().into_iter().map(|joined| joined.join.len());
        all.fold((0, 0), |sum, join| (sum.0 + join.0, sum.1 + join.1))
    }

    /// How many rows of joins did not come through since this was last asked.
    pub(super) fn take_lost(&mut self) -> u64 {
        let mut lost = 0;
        self.for_each_join(&mut |join| lost += std::mem::take(&mut join.lost));
        lost
    }

    /// Lets go of rows that no partner can reach any more.
    pub(super) fn retire(&mut self, watermark: Micros) {
        self.for_each_join(&mut |join| join.retire(watermark));
    }

    /// What changed since the last checkpoint, of all joins in the order of their numbers.
    pub(super) fn save(
        &mut self,
        watermark: Micros,
        gone: &mut Vec<StateChange>,
        put: &mut Vec<StateChange>,
    ) -> Result<(), Error> {
        let mut saved = Ok(());
        self.for_each_join(&mut |join| {
            if saved.is_ok() {
                saved = join.save(watermark, gone, put);
            }
        });
        saved
    }

    /// Puts stored rows of one slice back; false: no side of a join has this number.
    pub(super) fn restore(
        &mut self,
        operator: u16,
        slice_end: Micros,
        rows: &[StateRow],
    ) -> Result<bool, Error> {
        let mut restored = Ok(false);
        self.for_each_join(&mut |join| {
            if let Some(side) = join.side(operator) {
                restored = join.restore(side, slice_end, rows).map(|()| true);
            }
        });
        restored
    }
}

fn through(
    stages: &[Stage],
    mut rows: Rows,
    verdicts: &mut Verdicts<'_>,
    sink: Sink<'_>,
) -> Result<(), Error> {
    stage::on_records(stages, &mut rows, verdicts)?;
    sink(rows, verdicts)
}

fn nowhere(source: u16) -> Error {
    Error::Contract(format!("the rows of source {source} go nowhere"))
}
