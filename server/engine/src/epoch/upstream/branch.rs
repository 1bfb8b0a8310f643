//! A relation, ready to run: rows go from its sources up.

use std::sync::Arc;

use crate::epoch::join::{Join, Side};
use crate::epoch::lookup::Lookup;
use crate::epoch::records::{Rows, Verdicts};
use crate::epoch::upstream::Sink;
use crate::epoch::{Error, Memory, stage};
use crate::query::{self, Relation, Stage};
use crate::state::{StateChange, StateRow, StateView};
use crate::time::{Micros, Span};

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
    Lookup(Box<LookedUp>),
}

/// A join with its sides.
struct Joined {
    join: Join,
    left: Branch,
    right: Branch,
}

/// A lookup with the rows that look up.
struct LookedUp {
    lookup: Lookup,
    left: Branch,
}

/// What keeps rows on their way: a join, a lookup.
enum Keeper<'b> {
    Join(&'b mut Join),
    Lookup(&'b mut Lookup),
}

impl Branch {
    /// `next` is the number of the next join or lookup. A join above asks what rows are made of (`is_named`);
    /// what is above takes rows until the watermark is `reach` past their time.
    pub(super) fn new(
        relation: &Relation,
        next: &mut u16,
        is_named: bool,
        reach: Span,
    ) -> Result<Self, Error> {
        let (node, width) = match &relation.node {
            query::Node::Source(number) => (Node::Source(*number), 1),
            query::Node::Union(inputs) => {
                let inputs = inputs.iter().map(|input| Self::new(input, next, is_named, reach));
                let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
                let width = inputs.iter().map(|input| input.width).max().unwrap_or(0);
                (Node::Union(inputs), width)
            }
            query::Node::Join(join) => {
                let left = Self::new(&join.left, next, true, join.left_reach())?;
                let right = Self::new(&join.right, next, true, join.right_reach())?;
                let join = Join::new(join, *next, (left.width, right.width), is_named)?;
                *next += 1;
                let width = join.width();
                (Node::Join(Box::new(Joined { join, left, right })), width)
            }
            query::Node::Lookup(lookup) => {
                let left = Self::new(&lookup.left, next, true, reach)?;
                let lookup = Lookup::new(lookup, *next, left.width, reach)?;
                *next += 1;
                let width = lookup.width();
                (Node::Lookup(Box::new(LookedUp { lookup, left })), width)
            }
        };
        Ok(Self { node, stages: relation.stages.clone().into(), width })
    }

    /// The stages that records of a source go through, where no join is on their way.
    pub(super) fn way(&self, source: u16) -> Option<Way> {
        let mut way = match &self.node {
            Node::Source(number) if *number == usize::from(source) => Vec::new(),
            Node::Union(inputs) => inputs.iter().find_map(|input| input.way(source))?,
            Node::Source(_) | Node::Join(_) | Node::Lookup(_) => return None,
        };
        way.push(Arc::clone(&self.stages));
        Some(way)
    }

    pub(super) fn has_joins(&self) -> bool {
        let mut found = false;
        self.for_each(&mut |node| found |= matches!(node, Node::Join(_) | Node::Lookup(_)));
        found
    }

    fn reads(&self, source: u16) -> bool {
        match &self.node {
            Node::Source(number) => *number == usize::from(source),
            Node::Union(inputs) => inputs.iter().any(|input| input.reads(source)),
            Node::Join(joined) => joined.left.reads(source) || joined.right.reads(source),
            Node::Lookup(looked_up) => {
                looked_up.lookup.reads(usize::from(source)) || looked_up.left.reads(source)
            }
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
            Node::Lookup(looked_up) => {
                let LookedUp { lookup, left } = looked_up.as_mut();
                if lookup.reads(usize::from(source)) {
                    return lookup.take_changes(rows, verdicts);
                }
                left.take(source, rows, verdicts, watermark, &mut |rows, verdicts| {
                    lookup.take(rows, verdicts, watermark, &mut up)
                })
            }
            Node::Source(_) => Err(nowhere(source)),
        }
    }

    /// Takes up to `sink` what comes out when the watermark goes from `before`, that of the previous epoch,
    /// to `after`: left rows without a partner, and what waited for a look-up.
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
            Node::Lookup(looked_up) => {
                let LookedUp { lookup, left } = looked_up.as_mut();
                left.give_up(before, after, &mut |rows, verdicts| {
                    lookup.take(rows, verdicts, before, &mut up)
                })?;
                lookup.release(&mut up)
            }
        }
    }

    /// Calls `each` with every node of the relation, those below others first: in the order of their numbers.
    fn for_each(&self, each: &mut dyn FnMut(&Node)) {
        match &self.node {
            Node::Source(_) => {}
            Node::Union(inputs) => inputs.iter().for_each(|input| input.for_each(each)),
            Node::Join(joined) => {
                joined.left.for_each(each);
                joined.right.for_each(each);
            }
            Node::Lookup(looked_up) => looked_up.left.for_each(each),
        }
        each(&self.node);
    }

    /// Calls `each` with every join and lookup in the order of their numbers.
    fn for_each_keeper(&mut self, each: &mut dyn FnMut(Keeper<'_>)) {
        match &mut self.node {
            Node::Source(_) => {}
            Node::Union(inputs) => inputs.iter_mut().for_each(|input| input.for_each_keeper(each)),
            Node::Join(joined) => {
                joined.left.for_each_keeper(each);
                joined.right.for_each_keeper(each);
                each(Keeper::Join(&mut joined.join));
            }
            Node::Lookup(looked_up) => {
                looked_up.left.for_each_keeper(each);
                each(Keeper::Lookup(&mut looked_up.lookup));
            }
        }
    }

    /// The same, until one fails.
    fn try_for_each_keeper(
        &mut self,
        each: &mut dyn FnMut(Keeper<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut done = Ok(());
        self.for_each_keeper(&mut |keeper| {
            if done.is_ok() {
                done = each(keeper);
            }
        });
        done
    }

    /// Whether a source is what a lookup looks into.
    pub(super) fn looks_up(&self, source: usize) -> bool {
        let mut found = false;
        self.for_each(&mut |node| found |= matches!(node, Node::Lookup(it) if it.lookup.reads(source)));
        found
    }

    /// How far the sources have come with this epoch; where nobody says it, as far as `otherwise`.
    pub(super) fn complete_to(&mut self, sources: &[Micros], otherwise: Micros) {
        self.for_each_keeper(&mut |keeper| {
            if let Keeper::Lookup(lookup) = keeper {
                lookup.complete_to(sources, otherwise);
            }
        });
    }

    /// Whether rows wait for a look-up that would not have to, were the sources as far as this.
    pub(super) fn is_due(&self, sources: &[Micros]) -> bool {
        let mut due = false;
        self.for_each(&mut |node| due |= matches!(node, Node::Lookup(it) if it.lookup.is_due(sources)));
        due
    }

    /// The watermark with which the last row that waits for a partner comes out of its join.
    pub(super) fn waits_until(&self, watermark: Micros) -> Result<Option<Micros>, Error> {
        let mut last = Ok(None);
        self.for_each(&mut |node| {
            if let (Node::Join(joined), Ok(known)) = (node, &last) {
                last = joined.join.waits_until(watermark).map(|end| end.max(*known));
            }
        });
        last
    }

    /// Slices of rows that wait, and rows in them; rows that are looked up are such rows.
    pub(super) fn len(&self) -> (usize, usize) {
        let mut sum = (0, 0);
        self.for_each(&mut |node| {
            let (slices, rows) = match node {
                Node::Source(_) | Node::Union(_) => (0, 0),
                Node::Join(joined) => joined.join.len(),
                Node::Lookup(looked_up) => looked_up.lookup.len(),
            };
            sum = (sum.0 + slices, sum.1 + rows);
        });
        sum
    }

    /// What these rows take of the memory.
    pub(super) fn memory(&self) -> Memory {
        let mut sum = Memory::default();
        self.for_each(&mut |node| {
            let own = match node {
                Node::Source(_) | Node::Union(_) => Memory::default(),
                Node::Join(joined) => joined.join.memory(),
                Node::Lookup(looked_up) => Memory { bytes: looked_up.lookup.bytes(), evictable: 0 },
            };
            sum = Memory { bytes: sum.bytes + own.bytes, evictable: sum.evictable + own.evictable };
        });
        sum
    }

    /// From here on rows of joins may be left in the store.
    pub(super) fn attach(&mut self, view: &Arc<dyn StateView>) -> Result<(), Error> {
        self.try_for_each_keeper(&mut |keeper| match keeper {
            Keeper::Join(join) => join.attach(view),
            Keeper::Lookup(_) => Ok(()),
        })
    }

    /// Lets go of rows of joins until the others take no more than about so many bytes.
    pub(super) fn evict(&mut self, bytes: usize, watermark: Micros) -> Result<(), Error> {
        let all = self.memory().evictable.max(1) as u128;
        self.try_for_each_keeper(&mut |keeper| match keeper {
            Keeper::Join(join) => {
                let share = bytes as u128 * join.memory().evictable as u128 / all;
                join.let_go(usize::try_from(share).unwrap_or(usize::MAX), watermark)
            }
            Keeper::Lookup(_) => Ok(()),
        })
    }

    /// How many rows of joins did not come through since this was last asked.
    pub(super) fn take_lost(&mut self) -> u64 {
        let mut lost = 0;
        self.for_each_keeper(&mut |keeper| {
            lost += match keeper {
                Keeper::Join(join) => std::mem::take(&mut join.lost),
                Keeper::Lookup(lookup) => lookup.take_lost(),
            };
        });
        lost
    }

    /// Lets go of rows that no partner can reach any more.
    pub(super) fn retire(&mut self, watermark: Micros) -> Result<(), Error> {
        self.try_for_each_keeper(&mut |keeper| match keeper {
            Keeper::Join(join) => {
                join.retire(watermark);
                Ok(())
            }
            Keeper::Lookup(lookup) => lookup.retire(watermark),
        })
    }

    /// What changed since the last checkpoint, of all joins and lookups in the order of their numbers.
    pub(super) fn save(
        &mut self,
        watermark: Micros,
        gone: &mut Vec<StateChange>,
        put: &mut Vec<StateChange>,
    ) -> Result<(), Error> {
        self.try_for_each_keeper(&mut |keeper| match keeper {
            Keeper::Join(join) => join.save(watermark, gone, put),
            Keeper::Lookup(lookup) => lookup.save(gone, put),
        })
    }

    /// Puts stored rows of one slice back; false: no side of a join and no lookup has this number.
    pub(super) fn restore(
        &mut self,
        operator: u16,
        slice_end: Micros,
        rows: &[StateRow],
    ) -> Result<bool, Error> {
        let mut restored = false;
        self.try_for_each_keeper(&mut |keeper| {
            match keeper {
                Keeper::Join(join) => {
                    if let Some(side) = join.side(operator) {
                        join.restore(side, slice_end, rows)?;
                        restored = true;
                    }
                }
                Keeper::Lookup(lookup) => restored |= lookup.restore(operator, slice_end, rows)?,
            }
            Ok(())
        })?;
        Ok(restored)
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
