//! One case: everything that follows from a seed, through the engine and through the recomputation.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use millpond_engine::epoch::{Counts, Output, Reason, RecordId};

use crate::course::{Course, What, course};
use crate::coverage::Coverage;
use crate::definition::{Definition, Shape};
use crate::dice::Dice;
use crate::draw;
use crate::drive::{Drive, emitted, plan};
use crate::online::{Online, Shown};
use crate::oracle::{Expected, Oracle, Row, Verdict};
use crate::relation::{Node, Relation};
use crate::text::Form;
use crate::value::Value;

pub struct Case {
    seed: u64,
    definition: Definition,
    form: Option<Form>,
    course: Course,
}

impl Case {
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let (definition, unit, form) = draw::definition(&mut dice);
        let course = course(&mut dice, unit);
        Self { seed, definition, form, course }
    }

    /// What it went through, or what is wrong.
    pub fn run(&self) -> Result<Coverage, String> {
        let caught = catch_unwind(AssertUnwindSafe(|| self.checked()));
        caught.unwrap_or_else(|_| Err(crate::panicked()))
    }

    fn checked(&self) -> Result<Coverage, String> {
        let (definition, course) = (&self.definition, &self.course);
        let mut coverage = Coverage::of(match &definition.shape {
            Shape::Windowed(window, _) => window.name(),
            Shape::Rolling { .. } => "OVER",
        });
        self.describe(&mut coverage);
        let query = plan(definition)?;
        let mut drive = Drive::new(definition, query.clone(), course, self.seed);
        let mut oracle = Oracle::new(definition, course);
        let (mut found_online, mut wanted_online) = (Online::default(), Online::default());
        for number in 0..course.epochs.len() {
            let outputs = drive.epoch(number, &mut coverage);
            let wanted = oracle.epoch(course, number);
            let mut found = Vec::new();
            for output in &outputs {
                let rows = emitted(&query.key, output);
                found_online.commit(&rows);
                found.push(rows);
            }
            wanted_online.commit(&wanted.rows);
            note(&wanted, &mut coverage);
            let compared = accounts(&outputs, &wanted, definition).and_then(|()| rows(found, &wanted.rows));
            compared.map_err(|difference| format!("epoch {number}: {difference}"))?;
        }
        drive.end(&mut coverage);
        let is_shown = |(found, wanted): &(Shown<'_>, Shown<'_>)| {
            let is_value = match (found.2, wanted.2) {
                (Some(found), Some(wanted)) => is_same(found, wanted),
                (found, wanted) => found == wanted,
            };
            is_value && (found.0, found.1) == (wanted.0, wanted.1)
        };
        let (found, wanted) = (found_online.shown(), wanted_online.shown());
        if let Some((found, wanted)) = found.zip(wanted).find(|pair| !is_shown(pair)) {
            return Err(format!("online: {found:?}, not {wanted:?}"));
        }
        assert_eq!(found_online.shown().count(), wanted_online.shown().count());
        Ok(coverage)
    }

    /// The same with as few entries as still fail, and what is wrong then.
    pub fn shrunk(mut self, mut problem: String) -> (Self, String) {
        let (mut size, mut tries) = (self.course.len().div_ceil(2), 0);
        while size > 0 && tries < 600 {
            let (mut from, before) = (0, self.course.len());
            while from < self.course.len() {
                let course = self.course.without(|number| (from..from + size).contains(&number));
                let is_less = course.len() < self.course.len();
                let whole = std::mem::replace(&mut self.course, course);
                tries += 1;
                match self.run() {
                    Err(other) if is_less => problem = other,
                    _ => {
                        self.course = whole;
                        from += size;
                    }
                }
            }
            if size > 1 || self.course.len() == before {
                size /= 2;
            }
        }
        (self, problem)
    }

    pub fn described(&self) -> String {
        let Self { definition, course, .. } = self;
        let streams = definition.relation.sources().into_iter().collect::<BTreeSet<_>>();
        format!(
            "{}\nlateness {} µs, {}, streams {streams:?}\n{}",
            definition.sql,
            definition.lateness,
            if definition.on_update { "on_update" } else { "on_close" },
            course.described()
        )
    }

    /// Notes what the definition and the course have in them.
    fn describe(&self, coverage: &mut Coverage) {
        let Definition { shape, relation, aggregates, lateness, on_update, .. } = &self.definition;
        coverage.add("case");
        if let Shape::Rolling { frames, .. } = shape
            && frames.len() > 1
        {
            coverage.add("OVER several frames");
        }
        if let Some(form) = self.form {
            coverage.add(&format!("{form:?} form"));
        }
        for aggregate in aggregates {
            coverage.add(aggregate.what.name());
        }
        describe(relation, coverage);
        let there = [
            (*lateness > 0, "allowed lateness"),
            (*on_update, "on_update"),
            (self.definition.keys.len() > 1, "compound key"),
            (self.definition.keys.is_empty(), "no key"),
            (self.definition.within.is_some(), "WHERE beside the window"),
            (aggregates.iter().any(|aggregate| aggregate.filter.is_some()), "FILTER"),
            (self.definition.having.is_some(), "HAVING"),
            (self.definition.outer.is_some(), "outer SELECT"),
            (self.definition.sql.starts_with("WITH"), "CTE"),
            (self.course.epochs.iter().any(|epoch| epoch.finished), "finish"),
            (self.course.epochs[0].clock.is_some(), "live"),
        ];
        for (_, what) in there.iter().filter(|(is_there, _)| *is_there) {
            coverage.add(what);
        }
        let sources = relation.sources();
        for (stream, log) in
            self.course.logs.iter().enumerate().filter(|(stream, _)| sources.contains(stream))
        {
            let entries = || log.partitions.iter().flatten();
            let is_before_1970 = |entry: &crate::course::Entry| {
                entry.time(&crate::relation::STREAMS[stream]).is_some_and(|time| time < 0)
            };
            let there = [
                (log.partitions.len() > 1, "several partitions"),
                (entries().any(|entry| matches!(entry.what, What::Idle)), "idle partition"),
                (entries().any(|entry| matches!(entry.what, What::Heartbeat(_))), "heartbeat"),
                (entries().any(is_before_1970), "before 1970"),
            ];
            for (_, what) in there.iter().filter(|(is_there, _)| *is_there) {
                coverage.add(what);
            }
        }
    }
}

fn describe(relation: &Relation, coverage: &mut Coverage) {
    match &relation.node {
        Node::Source { .. } => {}
        Node::Select { input, .. } => {
            coverage.add("subquery");
            describe(input, coverage);
        }
        Node::Union(inputs) => {
            coverage.add("UNION ALL");
            for input in inputs {
                describe(input, coverage);
            }
        }
        Node::Join(join) => {
            coverage.add(if join.keeps_left { "LEFT JOIN" } else { "JOIN" });
            if matches!(join.left.node, Node::Join(_)) {
                coverage.add("join of a join");
            }
            describe(&join.left, coverage);
            describe(&join.right, coverage);
        }
    }
}

/// Notes what was to come out.
fn note(wanted: &Expected, coverage: &mut Coverage) {
    for row in &wanted.rows {
        coverage.add_of(if row.first { "row" } else { "revision" });
        if row.values.is_none() {
            coverage.add_of("delete");
        }
    }
    for verdict in wanted.verdicts.values() {
        coverage.add_of(&format!("record {verdict:?}"));
    }
    if wanted.lost > 0 {
        coverage.add_of("joined rows lost");
    }
}

/// What became of the records of an epoch, and where its watermark is.
fn accounts(outputs: &[Output], wanted: &Expected, definition: &Definition) -> Result<(), String> {
    let mut counts = vec![Counts::default(); outputs[0].counts.len()];
    let (mut late, mut rejected): (Vec<RecordId>, BTreeMap<RecordId, Reason>) = Default::default();
    for (record, verdict) in &wanted.verdicts {
        let counts = &mut counts[usize::from(record.source)];
        match verdict {
            Verdict::Applied => counts.applied += 1,
            Verdict::Filtered => counts.filtered += 1,
            Verdict::Late => {
                counts.late += 1;
                late.push(*record);
            }
            Verdict::NullKey | Verdict::Failed => {
                counts.quarantined += 1;
                let reason = if *verdict == Verdict::NullKey { Reason::NullKey } else { Reason::Expression };
                rejected.insert(*record, reason);
            }
        }
    }
    let first = &outputs[0];
    let found: BTreeMap<RecordId, Reason> =
        first.rejected.iter().map(|rejected| (rejected.record, rejected.reason)).collect();
    if first.late != late || found != rejected || first.counts != counts {
        let (found_late, found_counts) = (&first.late, &first.counts);
        return Err(format!(
            "late {found_late:?}\n  not {late:?}\nrejected {found:?}\n  not {rejected:?}\ncounts {found_counts:?}\n  \
             not {counts:?}"
        ));
    }
    let more = &outputs[1..];
    if more.iter().any(|output| output.counts.iter().any(|counts| *counts != Counts::default())) {
        return Err("records are counted where a close goes on".into());
    }
    let sum = |of: fn(&Output) -> u64| outputs.iter().map(of).sum::<u64>();
    if sum(|output| output.lost) != wanted.lost {
        return Err(format!("{} joined rows lost, not {}", sum(|output| output.lost), wanted.lost));
    }
    if !definition.may_null && sum(|output| output.nulled) > 0 {
        return Err("values that cannot fail are nulled".into());
    }
    let watermark = outputs[outputs.len() - 1].watermark.0;
    if watermark == wanted.watermark {
        Ok(())
    } else {
        Err(format!("watermark {watermark}, not {}", wanted.watermark))
    }
}

fn rows(found: Vec<Vec<Row>>, wanted: &[Row]) -> Result<(), String> {
    // Where a close goes on over several epochs, a row that shows an open window may come first, and how the window
    // before closed later, at the same key and time.
    let mut last: BTreeMap<(i64, Vec<Value>), Row> = BTreeMap::new();
    for row in found.into_iter().flatten() {
        last.insert((row.time, row.key.clone()), row);
    }
    let mut found: Vec<Row> = last.into_values().collect();
    found.sort();
    let is_equal = |found: &Row, wanted: &Row| {
        let values = match (&found.values, &wanted.values) {
            (Some(found), Some(wanted)) => is_same(found, wanted),
            (found, wanted) => found == wanted,
        };
        values && (found.time, &found.key, found.first) == (wanted.time, &wanted.key, wanted.first)
    };
    if found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| is_equal(found, wanted))
    {
        return Ok(());
    }
    let missing = wanted.iter().filter(|wanted| !found.iter().any(|found| is_equal(found, wanted)));
    let missing: String = missing.map(|row| format!("\n  {row:?}")).collect();
    let odd = found.iter().filter(|found| !wanted.iter().any(|wanted| is_equal(found, wanted)));
    let odd: String = odd.map(|row| format!("\n  {row:?}")).collect();
    Err(format!("rows that are missing:{missing}\nrows that came out instead:{odd}"))
}

fn is_same(found: &[Value], wanted: &[Value]) -> bool {
    found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| found.is(wanted))
}
