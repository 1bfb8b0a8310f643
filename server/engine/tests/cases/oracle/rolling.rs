//! OVER from its definition: for each key and instant all rows in the frames.

use std::collections::{BTreeMap, BTreeSet};

use super::{Arrival, Key, Operator, Row, in_order};
use crate::definition::Definition;

pub struct Rolling<'d> {
    definition: &'d Definition,
    /// Those over which something is computed.
    frames: BTreeSet<i64>,
    /// The frame of each aggregate.
    lengths: Vec<i64>,
    /// Columns of the last row.
    plain: &'d [usize],
    taken: BTreeMap<Key, Vec<Arrival>>,
    /// Times and keys of this epoch.
    fresh: Vec<(i64, Key)>,
    /// Instants at which a row came out because a frame had become empty.
    emptied: BTreeSet<(i64, Key)>,
}

impl<'d> Rolling<'d> {
    pub fn new(definition: &'d Definition, frames: &'d [i64], of: &'d [usize], plain: &'d [usize]) -> Self {
        let lengths: Vec<i64> = of.iter().map(|frame| frames[*frame]).collect();
        let needed = lengths.iter().zip(&definition.needed).filter(|(_, needed)| **needed);
        let frames = needed.map(|(length, _)| *length).collect();
        let (taken, fresh, emptied) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
        Self { definition, frames, lengths, plain, taken, fresh, emptied }
    }

    /// A key's rows with a time in `[from, to]`.
    fn between(&self, key: &Key, from: i64, to: i64) -> impl Iterator<Item = &Arrival> {
        let all = self.taken.get(key).into_iter().flatten();
        all.filter(move |arrival| (from..=to).contains(&arrival.time))
    }

    /// The instants at which a frame has just lost its last row.
    fn empty(&self, key: &Key, frame: i64) -> BTreeSet<i64> {
        let all = self.between(key, i64::MIN, i64::MAX).map(|arrival| arrival.time);
        all.map(|time| (time, time + frame + 1))
            .filter(|(time, at)| self.between(key, time + 1, *at).next().is_none())
            .map(|(_, at)| at)
            .collect()
    }

    /// A row as QUALIFY leaves it.
    fn row(&self, key: &Key, at: i64, first: bool, deletes: bool) -> Option<Row> {
        let before = in_order(self.between(key, i64::MIN, at));
        let last = before.last().unwrap();
        let plain = self.plain.iter().map(|column| {
            let is_time = *column == self.definition.relation.time;
            if is_time { crate::value::Value::Time(at) } else { last[*column].clone() }
        });
        let aggregates = self.lengths.iter().enumerate().map(|(number, length)| {
            self.definition.aggregate(number, &in_order(self.between(key, at - length, at)))
        });
        let values = self.definition.row(key.iter().cloned().chain(plain).chain(aggregates).collect());
        (values.is_some() || deletes).then(|| Row { time: at, key: key.clone(), first, values })
    }
}

impl Operator for Rolling<'_> {
    fn is_late(&self, time: i64, before: i64) -> bool {
        time + 1 + self.definition.lateness <= before
    }

    fn take(&mut self, arrivals: Vec<Arrival>, _before: i64) -> Vec<bool> {
        let late = vec![false; arrivals.len()];
        for arrival in arrivals {
            self.fresh.push((arrival.time, arrival.key.clone()));
            self.taken.entry(arrival.key.clone()).or_default().push(arrival);
        }
        late
    }

    fn last_end(&self) -> Option<i64> {
        self.taken.values().flatten().map(|arrival| arrival.time + 1).max()
    }

    fn close(&mut self, before: i64, now: i64) -> Vec<Row> {
        let on_update = self.definition.on_update;
        let longest = self.frames.iter().max().copied().unwrap_or(0);
        // Why a row comes out: none was out before, and it is a delete where QUALIFY rejects it.
        let mut due: BTreeMap<(i64, Key), (bool, bool)> = BTreeMap::new();
        let mut emptied = BTreeSet::new();
        for (time, key) in std::mem::take(&mut self.fresh) {
            let until = time + longest;
            let at = self.between(&key, time, until).map(|arrival| arrival.time);
            for at in at.filter(|at| on_update || *at < before) {
                due.insert((at, key.clone()), (at >= before, true));
            }
            for (at, _) in self.emptied.iter().filter(|(at, of)| *of == key && (time..=until).contains(at)) {
                due.insert((*at, key.clone()), (false, true));
            }
            for frame in &self.frames {
                let at = time + frame + 1;
                if at < before && self.empty(&key, *frame).contains(&at) {
                    emptied.insert((at, key.clone()));
                }
            }
        }
        due.extend(emptied.iter().map(|row| (row.clone(), (false, true))));
        let passed = before..now.max(before);
        for key in self.taken.keys() {
            if !on_update {
                let times = self.between(key, i64::MIN, i64::MAX).map(|arrival| arrival.time);
                let times = times.filter(|at| passed.contains(at));
                due.extend(times.map(|at| ((at, key.clone()), (true, false))));
            }
            for frame in &self.frames {
                let all = self.empty(key, *frame).into_iter().filter(|at| passed.contains(at));
                emptied.extend(all.map(|at| (at, key.clone())));
            }
        }
        due.extend(emptied.iter().filter(|(at, _)| *at >= before).map(|row| (row.clone(), (true, true))));
        self.emptied.extend(emptied);
        let rows = due.iter();
        rows.filter_map(|((at, key), (first, deletes))| self.row(key, *at, *first, *deletes)).collect()
    }
}
