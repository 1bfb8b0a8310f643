//! The rows of a relation, epoch by epoch: every row that came to a join is compared with every other one.

use std::collections::BTreeMap;

use millpond_engine::epoch::RecordId;

use super::{Accounts, Verdict};
use crate::expression::Expr;
use crate::relation::{Join, Node, Relation};
use crate::value::Value;

/// A row on its way.
#[derive(Debug, Clone)]
pub struct Item {
    pub time: i64,
    pub row: Vec<Value>,
    pub records: Vec<RecordId>,
    /// It is one record, which is not accounted for yet.
    pub is_alone: bool,
}

pub enum Flow<'d> {
    Source(u16),
    Select { input: Box<Flow<'d>>, filter: Option<&'d Expr>, list: &'d [Expr], time: usize },
    Union(Vec<Flow<'d>>),
    Join(Box<Joined<'d>>),
}

pub struct Joined<'d> {
    join: &'d Join,
    /// Position of the event time in the list.
    time: usize,
    left: Flow<'d>,
    right: Flow<'d>,
    /// All that were taken; true: found a partner, or came out alone.
    lefts: Vec<(Item, bool)>,
    rights: Vec<Item>,
}

impl<'d> Flow<'d> {
    pub fn new(relation: &'d Relation) -> Self {
        let time = relation.time;
        match &relation.node {
            Node::Source { number, .. } => Self::Source(*number),
            Node::Select { input, filter, list } => {
                Self::Select { input: Box::new(Self::new(input)), filter: filter.as_ref(), list, time }
            }
            Node::Union(inputs) => Self::Union(inputs.iter().map(Self::new).collect()),
            Node::Join(join) => {
                let (left, right) = (Self::new(&join.left), Self::new(&join.right));
                let (lefts, rights) = (Vec::new(), Vec::new());
                Self::Join(Box::new(Joined { join, time, left, right, lefts, rights }))
            }
        }
    }

    /// The rows that the records of an epoch give; `before` is the watermark of the previous one.
    pub fn take(
        &mut self,
        records: &BTreeMap<u16, Vec<Item>>,
        before: i64,
        accounts: &mut Accounts,
    ) -> Vec<Item> {
        match self {
            Self::Source(number) => records[number].clone(),
            Self::Select { input, filter, list, time } => {
                let items = input.take(records, before, accounts);
                selected(items, *filter, list, *time, accounts)
            }
            Self::Union(inputs) => {
                inputs.iter_mut().flat_map(|input| input.take(records, before, accounts)).collect()
            }
            Self::Join(joined) => {
                let left = joined.left.take(records, before, accounts);
                let right = joined.right.take(records, before, accounts);
                joined.meet(left, right, before, accounts)
            }
        }
    }

    /// The rows that come out because the watermark goes from `before` to `after`.
    pub fn give_up(&mut self, before: i64, after: i64, accounts: &mut Accounts) -> Vec<Item> {
        match self {
            Self::Source(_) => Vec::new(),
            Self::Select { input, filter, list, time } => {
                let items = input.give_up(before, after, accounts);
                selected(items, *filter, list, *time, accounts)
            }
            Self::Union(inputs) => {
                inputs.iter_mut().flat_map(|input| input.give_up(before, after, accounts)).collect()
            }
            Self::Join(joined) => {
                let left = joined.left.give_up(before, after, accounts);
                let right = joined.right.give_up(before, after, accounts);
                let mut items = joined.meet(left, right, before, accounts);
                items.extend(joined.alone(after, accounts));
                items
            }
        }
    }

    /// The watermark with which the last row comes out that waits for a partner.
    pub fn waits_until(&self) -> Option<i64> {
        match self {
            Self::Source(_) => None,
            Self::Select { input, .. } => input.waits_until(),
            Self::Union(inputs) => inputs.iter().filter_map(|input| input.waits_until()).max(),
            Self::Join(joined) => {
                let reach = joined.join.left_reach();
                let waiting = joined.lefts.iter().filter(|(_, done)| joined.join.keeps_left && !done);
                let own = waiting.map(|(item, _)| item.time + reach + 1).max();
                own.max(joined.left.waits_until()).max(joined.right.waits_until())
            }
        }
    }
}

fn selected(
    items: Vec<Item>,
    filter: Option<&Expr>,
    list: &[Expr],
    time: usize,
    accounts: &mut Accounts,
) -> Vec<Item> {
    let mut left = Vec::new();
    for item in items {
        match filter.map_or(Ok(true), |filter| filter.holds(&item.row)) {
            Err(_) => accounts.end(&item, Verdict::Failed),
            Ok(false) => accounts.end(&item, Verdict::Filtered),
            Ok(true) => left.push(listed(&item, list, time)),
        }
    }
    left
}

/// An item with the columns of a SELECT list.
fn listed(item: &Item, list: &[Expr], time: usize) -> Item {
    let row: Vec<Value> = list.iter().map(|expr| expr.on(&item.row).expect("does not fail")).collect();
    let Value::Time(time) = row[time] else { unreachable!("an event time that is {:?}", row[time]) };
    Item { time, row, ..item.clone() }
}

impl Joined<'_> {
    /// Takes rows that are not late, and gives the pairs in which one of them is.
    fn meet(&mut self, left: Vec<Item>, right: Vec<Item>, before: i64, accounts: &mut Accounts) -> Vec<Item> {
        let join = self.join;
        let is_kept = |item: &Item, reach: i64| item.time + reach >= before;
        let mut judged = |items: Vec<Item>, reach: i64| -> Vec<Item> {
            let mut taken = Vec::new();
            for item in items {
                if !is_kept(&item, reach) {
                    accounts.end(&item, Verdict::Late);
                    continue;
                }
                if item.is_alone {
                    accounts.verdicts.insert(item.records[0], Verdict::Applied);
                }
                taken.push(item);
            }
            taken
        };
        let (old_lefts, old_rights) = (self.lefts.len(), self.rights.len());
        self.lefts.extend(judged(left, join.left_reach()).into_iter().map(|item| (item, false)));
        self.rights.extend(judged(right, join.right_reach()));
        let mut pairs = Vec::new();
        for (l, (left, is_matched)) in self.lefts.iter_mut().enumerate() {
            for (r, right) in self.rights.iter().enumerate() {
                let is_new = l >= old_lefts || r >= old_rights;
                let apart = right.time - left.time;
                let (one, other) = (&left.row[join.on.0], &right.row[join.on.1]);
                let is_pair = is_new
                    && is_kept(left, join.left_reach())
                    && is_kept(right, join.right_reach())
                    && (join.lower..=join.upper).contains(&apart)
                    && !one.is_null()
                    && one == other;
                if !is_pair {
                    continue;
                }
                let pair = Item {
                    time: left.time,
                    row: [left.row.clone(), right.row.clone()].concat(),
                    records: [left.records.clone(), right.records.clone()].concat(),
                    is_alone: false,
                };
                if join.condition.as_ref().is_none_or(|condition| condition.holds(&pair.row) == Ok(true)) {
                    *is_matched = true;
                    pairs.push(pair);
                }
            }
        }
        selected(pairs, join.filter.as_ref(), &join.list, self.time, accounts)
    }

    /// The left rows that no partner can come for any more.
    fn alone(&mut self, after: i64, accounts: &mut Accounts) -> Vec<Item> {
        let (join, reach) = (self.join, self.join.left_reach());
        let width = join.right.columns.len();
        let mut rows = Vec::new();
        for (left, done) in &mut self.lefts {
            if join.keeps_left && !*done && left.time + reach < after {
                *done = true;
                let nulls = vec![Value::Null; width];
                rows.push(Item { row: [left.row.clone(), nulls].concat(), is_alone: false, ..left.clone() });
            }
        }
        selected(rows, join.filter.as_ref(), &join.list, self.time, accounts)
    }
}
