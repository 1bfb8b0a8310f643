//! Which rows come out of an epoch.

use super::super::Error;
use super::super::lanes::Cut;
use super::Rolling;
use crate::rolling::Keys;
use crate::time::Micros;

/// A row that comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) at: i64,
    /// Number of its key.
    pub(super) key: u32,
    pub(super) kind: Kind,
}

/// Why; of several reasons for a row the first counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The watermark has passed it.
    Close,
    /// A record in its frame came in, and the watermark has not passed it.
    Update,
    /// The last record has left a frame.
    Emptied,
    /// The watermark had passed it before, and a late record changed it.
    Revision,
}

impl Rolling {
    /// Rows that this epoch's records bring about at once: revisions of what is out, with `on_update` all
    /// that they change. The others wait.
    pub(super) fn touched(&mut self) {
        let mut fresh = std::mem::take(&mut self.fresh);
        fresh.sort_unstable();
        fresh.dedup();
        let passed = self.watermark.0;
        let mut emptied = Vec::new();
        // The last key, and the instants of it up to which rows are noted.
        let mut noted: Option<(u32, i64)> = None;
        for (number, time) in fresh.drain(..) {
            let records = self.keys.records(number);
            for (frame, of) in (0..).zip(&self.plan.frames) {
                let at = time.saturating_add(of.preceding.0).saturating_add(1);
                if at >= passed {
                    self.timers.arm(number, frame, at);
                } else {
                    // Nobody looks there any more.
                    let until = at.saturating_add(1);
                    records.emptied(of.preceding.0, at, until, |at| emptied.push((number, at)));
                }
            }
            let until = time.saturating_add(self.plan.longest.0);
            let from = match noted {
                Some((last, to)) if last == number => time.max(to.saturating_add(1)),
                _ => time,
            };
            noted = Some((number, until));
            // Without on_update, rows that wait have the record in them when they come out.
            let until = if self.emission.on_update { until } else { until.min(passed.saturating_sub(1)) };
            let marks = self.keys.marks(number);
            let marks = marks.get(marks.partition_point(|at| *at < from)..).unwrap_or_default();
            let all = records.times(from).take_while(|at| *at <= until);
            for at in all.chain(marks.iter().copied().take_while(|at| *at <= until)) {
                let kind = if at < passed { Kind::Revision } else { Kind::Update };
                self.due.push(Due { at, key: number, kind });
            }
        }
        self.fresh = fresh;
        for (number, at) in emptied {
            self.due.push(Due { at, key: number, kind: Kind::Revision });
            self.marks.set(&mut self.keys, number, at);
        }
    }

    /// Finds the rows that the watermark has passed, in the order of (instant, key): all, or more than `enough`.
    pub(super) fn collect_due(&mut self, enough: usize) -> Result<(), Error> {
        while self.collected < self.watermark && self.left.len() <= enough {
            // Keys that are not in memory come there as their time does.
            let to = match self.cold.wakes().filter(|at| *at < self.watermark) {
                Some(at) => self.watermark.min(at.max(self.collected) + self.ahead()),
                None => self.watermark,
            };
            self.recall_due(to)?;
            self.collect_to(to);
        }
        Ok(())
    }

    /// The same up to an instant.
    fn collect_to(&mut self, to: Micros) {
        self.collected = to;
        let horizon = to.0;
        let Self { pending, keys, .. } = self;
        let mut passed = Vec::new();
        let order = |one: &(i64, u32), other: &(i64, u32)| {
            one.0.cmp(&other.0).then_with(|| keys.order(one.1, other.1))
        };
        pending.take(|(at, _)| *at < horizon, order, &mut passed);
        let mut closing: Vec<Due> =
            passed.into_iter().map(|(at, key)| Due { at, key, kind: Kind::Close }).collect();
        for (from, key, frame) in self.timers.take_before(horizon) {
            let Some(of_frame) = self.plan.frames.get(usize::from(frame)) else { continue };
            let next = self.keys.records(key).emptied(of_frame.preceding.0, from, horizon, |at| {
                closing.push(Due { at, key, kind: Kind::Emptied });
            });
            if let Some(next) = next {
                self.timers.arm(key, frame, next);
            }
        }
        sort(&mut closing, &self.keys);
        // What was left of the close before is earlier than all that has become due since.
        self.left.append(&mut closing);
    }

    /// Lets these rows out, up to the cut.
    pub(super) fn close_to(&mut self, cut: Option<&Cut>) -> Result<(), Error> {
        if cut.is_none() {
            self.collect_due(usize::MAX)?;
        }
        let is_done = |row: &Due| {
            let place = (Micros(row.at), self.keys.bytes(row.key));
            cut.is_none_or(|cut| place <= (cut.done.window_end, cut.done.key.as_slice()))
        };
        let left = self.left.split_off(self.left.partition_point(is_done));
        let mut done = std::mem::replace(&mut self.left, left);
        if self.emission.allowed_lateness.0 > 0 {
            for row in done.iter().filter(|row| row.kind == Kind::Emptied) {
                self.marks.set(&mut self.keys, row.key, row.at);
            }
        }
        self.due.append(&mut done);
        self.reached = cut.map_or(self.watermark, |cut| cut.next);
        Ok(())
    }
}

/// Sorts rows as they come out, each once. What is in order already is only merged.
pub(super) fn sort(rows: &mut Vec<Due>, keys: &Keys) {
    let by_key = |a: &Due, b: &Due| keys.order(a.key, b.key);
    rows.sort_by(|a, b| a.at.cmp(&b.at).then_with(|| by_key(a, b)).then(a.kind.cmp(&b.kind)));
    rows.dedup_by_key(|row| (row.at, row.key));
}
