//! Rolling features recomputed from their definition, one row at a time.

use std::collections::{BTreeMap, BTreeSet};

use super::super::super::*;
use super::super::{Event, SECOND};
use super::{Definition, Row};

/// The recomputation.
pub(super) struct Naive {
    pub(super) definition: Definition,
    /// Records of each key that were taken, by (time, partition, offset).
    pub(super) taken: BTreeMap<&'static str, BTreeMap<(i64, u32, i64), Event>>,
    /// Rows that came out because a frame was empty.
    pub(super) emptied: BTreeSet<(i64, &'static str)>,
    pub(super) watermark: i64,
}

impl Naive {
    /// Records of a key with a time in [from, to].
    fn between(&self, key: &'static str, from: i64, to: i64) -> impl Iterator<Item = &Event> {
        let all = self.taken.get(key).into_iter().flatten();
        all.filter(move |((time, ..), _)| (from..=to).contains(time)).map(|(_, event)| event)
    }

    /// The instants at which frames of a key that reach `preceding` back have just lost their last record.
    fn empty(&self, key: &'static str, preceding: i64) -> BTreeSet<i64> {
        let all = self.between(key, i64::MIN, i64::MAX);
        all.map(|e| (e.time, e.time + preceding * SECOND + 1))
            .filter(|(time, at)| self.between(key, time + 1, *at).next().is_none())
            .map(|(_, at)| at)
            .collect()
    }

    fn row(&self, key: &'static str, at: i64, first: bool, deletes: bool) -> Option<Row> {
        let Definition { short, long, .. } = self.definition;
        let short: Vec<&Event> = self.between(key, at - short * SECOND, at).collect();
        let long: Vec<&Event> = self.between(key, at - long * SECOND, at).collect();
        if short.len() == 2 {
            return deletes.then_some((at, key, first, true, None));
        }
        let last = self.between(key, i64::MIN, at).last().unwrap();
        let text = |v: Option<&'static str>| v.unwrap_or("null").to_owned();
        let bits = |v: Option<f64>| v.map_or("null".into(), |v| format!("{:x}", (v + 0.0).to_bits()));
        let long_or_null = |v: Option<i64>| v.map_or("null".into(), |v| v.to_string());
        let sum = |clicks: Vec<i64>| (!clicks.is_empty()).then(|| clicks.iter().sum());
        let prices = |of: &[&Event]| of.iter().filter_map(|e| e.price).collect::<Vec<_>>();
        let total = |prices: &[f64]| prices.iter().copied().reduce(|a, b| a + b);
        let mean = |prices: &[f64]| {
            (!prices.is_empty()).then(|| prices.iter().fold(0.0, |a, b| a + b) / prices.len() as f64)
        };
        let clicked = long.iter().filter(|e| e.kind == "click" && e.clicks.is_some()).count();
        let values = vec![
            text(last.note),
            last.kind.to_owned(),
            short.len().to_string(),
            long_or_null(sum(short.iter().filter_map(|e| e.clicks).collect())),
            bits(total(&prices(&short))),
            clicked.to_string(),
            long.iter().map(|e| e.kind).collect::<BTreeSet<_>>().len().to_string(),
            bits(prices(&long).into_iter().reduce(f64::min)),
            bits(mean(&prices(&long))),
            text(long.iter().filter_map(|e| e.note).max()),
            long_or_null(sum(long.iter().filter_map(|e| e.clicks.filter(|c| *c > 0)).collect())),
        ];
        Some((at, key, first, false, Some(values)))
    }

    /// One epoch: the rows, counts, and which records are late.
    pub(super) fn epoch(
        &mut self,
        records: &[(RecordId, Event)],
        watermark: i64,
    ) -> (Vec<Row>, Counts, Vec<RecordId>) {
        let Definition { short, long, lateness, on_update } = self.definition;
        let before = self.watermark;
        let (mut counts, mut late, mut fresh) = (Counts::default(), Vec::new(), Vec::new());
        for (record, event) in records {
            match event.name {
                _ if event.clicks == Some(3) => counts.filtered += 1,
                None => counts.quarantined += 1,
                Some(_) if event.time + 1 + lateness * SECOND <= before => late.push(*record),
                Some(key) => {
                    counts.applied += 1;
                    let place = (event.time, record.partition, record.offset);
                    self.taken.entry(key).or_default().insert(place, event.clone());
                    fresh.push((event.time, key));
                }
            }
        }
        counts.late = late.len() as u64;
        // What is out already and has one of them in its frame; with on_update all that has.
        let mut due: BTreeMap<(i64, &'static str), (bool, bool)> = BTreeMap::new();
        let mut emptied = BTreeSet::new();
        for (time, key) in fresh {
            let until = time + long * SECOND;
            let at = self.between(key, time, until).map(|e| e.time);
            for at in at.filter(|at| on_update || *at < before) {
                due.insert((at, key), (at >= before, true));
            }
            for (at, _) in self.emptied.iter().filter(|(at, k)| *k == key && (time..=until).contains(at)) {
                due.insert((*at, key), (false, true));
            }
            for frame in [short, long] {
                let at = time + frame * SECOND + 1;
                if at < before && self.empty(key, frame).contains(&at) {
                    emptied.insert((at, key));
                }
            }
        }
        due.extend(emptied.iter().map(|row| (*row, (false, true))));
        self.watermark = watermark.max(before);
        let passed = before..self.watermark;
        for key in self.taken.keys() {
            if !on_update {
                let times = self.between(key, i64::MIN, i64::MAX).map(|e| e.time);
                due.extend(times.filter(|at| passed.contains(at)).map(|at| ((at, *key), (true, false))));
            }
            for frame in [short, long] {
                let of = self.empty(key, frame).into_iter().filter(|at| passed.contains(at));
                emptied.extend(of.map(|at| (at, *key)));
            }
        }
        due.extend(emptied.iter().filter(|(at, _)| *at >= before).map(|row| (*row, (true, true))));
        self.emptied.extend(emptied);
        let rows =
            due.iter().filter_map(|((at, key), (first, deletes))| self.row(key, *at, *first, *deletes));
        (rows.collect(), counts, late)
    }
}
