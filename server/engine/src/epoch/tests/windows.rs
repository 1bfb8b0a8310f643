//! Every window that is made of slices, with lateness and with updates, against a recomputation from the
//! definition of the window: no slices are merged here, all events of a window are gone through for each row.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};
use proptest::prelude::*;

use super::super::*;
use super::SECOND;
use super::drive::{spill, store, workers_at};
use crate::sql::{self, Table};
use crate::state::view::tests::Stored;

#[derive(Debug, Clone, Copy)]
enum Kind {
    Tumble,
    Hop,
    Cumulate,
}

/// A window in seconds.
#[derive(Debug, Clone, Copy)]
struct Definition {
    kind: Kind,
    step: i64,
    size: i64,
    lateness: i64,
    on_update: bool,
}

fn definition() -> impl Strategy<Value = Definition> {
    let kind = prop::sample::select(vec![Kind::Tumble, Kind::Hop, Kind::Hop, Kind::Cumulate]);
    let lateness = prop_oneof![Just(0), 1_i64..30];
    (kind, 1_i64..6, 1_i64..6, 0_i64..6, lateness, any::<bool>()).prop_map(
        |(kind, step, times, more, lateness, on_update)| {
            let (step, size) = match kind {
                Kind::Tumble => (step, step),
                Kind::Hop => (step, step * times + more % step),
                Kind::Cumulate => (step, step * (times + 1)),
            };
            Definition { kind, step, size, lateness, on_update }
        },
    )
}

impl Definition {
    fn sql(&self) -> String {
        let Self { step, size, .. } = self;
        let window = match self.kind {
            Kind::Tumble => format!("TUMBLE(events, DESCRIPTOR(ts), INTERVAL '{size}' SECONDS)"),
            Kind::Hop => {
                format!("HOP(events, DESCRIPTOR(ts), INTERVAL '{step}' SECONDS, INTERVAL '{size}' SECONDS)")
            }
            Kind::Cumulate => format!(
                "CUMULATE(events, DESCRIPTOR(ts), INTERVAL '{step}' SECONDS, INTERVAL '{size}' SECONDS)"
            ),
        };
        format!(
            "SELECT name, COUNT(*) AS n, SUM(clicks) AS clicks, COUNT(DISTINCT clicks) AS different FROM {window}
             GROUP BY name, window_end HAVING n <> 2"
        )
    }

    /// [start, end) of all windows that hold a time.
    fn windows(&self, time: i64) -> Vec<(i64, i64)> {
        let Self { step, size, .. } = *self;
        let mut windows: Vec<(i64, i64)> = match self.kind {
            Kind::Tumble | Kind::Hop => {
                let last = time - time.rem_euclid(step);
                (0..=size / step)
                    .map(|n| last - n * step)
                    .filter(|s| s + size > time)
                    .map(|s| (s, s + size))
                    .collect()
            }
            Kind::Cumulate => {
                let start = time - time.rem_euclid(size);
                (1..=size / step).map(|n| (start, start + n * step)).filter(|(_, end)| *end > time).collect()
            }
        };
        windows.sort_unstable();
        windows
    }

    /// The slices of a key's times that lie in [start, end).
    fn slices(&self, times: &[(i64, i64)], start: i64, end: i64) -> BTreeSet<i64> {
        let gcd = (1..=self.step).rev().find(|g| self.step % g == 0 && self.size % g == 0).unwrap();
        let within = times.iter().filter(|(t, _)| start <= *t && *t < end);
        within.map(|(t, _)| t.div_euclid(gcd)).collect()
    }

    /// Whether the slices of a key in the window that ends at `end` are others than in the one before.
    fn changes(&self, times: &[(i64, i64)], end: i64) -> bool {
        let start = |end: i64| match self.kind {
            Kind::Tumble | Kind::Hop => end - self.size,
            Kind::Cumulate => (end - 1) - (end - 1).rem_euclid(self.size),
        };
        let now = self.slices(times, start(end), end);
        match self.kind {
            Kind::Tumble => !now.is_empty(),
            Kind::Hop => now != self.slices(times, start(end) - self.step, end - self.step),
            Kind::Cumulate => !self.slices(times, end - self.step, end).is_empty(),
        }
    }

    fn start(&self, end: i64) -> i64 {
        match self.kind {
            Kind::Tumble | Kind::Hop => end - self.size,
            Kind::Cumulate => (end - 1) - (end - 1).rem_euclid(self.size),
        }
    }
}

/// Event time, key, first emission?, delete?, the values.
type Row = (i64, &'static str, bool, bool, Option<(i64, Option<i64>, i64)>);

/// The recomputation.
struct Naive {
    definition: Definition,
    /// Time and clicks of each key's events that some window took.
    events: BTreeMap<&'static str, Vec<(i64, i64)>>,
    owed: BTreeSet<(i64, &'static str)>,
    watermark: i64,
}

impl Naive {
    /// A row as HAVING leaves it.
    fn row(&self, end: i64, key: &'static str, first: bool, update: bool) -> Option<Row> {
        let start = self.definition.start(end);
        let none = Vec::new();
        let all = self.events.get(key).unwrap_or(&none);
        let held: Vec<(i64, i64)> = all.iter().filter(|(t, _)| start <= *t && *t < end).copied().collect();
        let time = if update { held.iter().map(|(t, _)| *t).max().unwrap() * SECOND } else { end * SECOND };
        let n = held.len() as i64;
        if n != 2 {
            let clicks = (n > 0).then(|| held.iter().map(|(_, c)| c).sum());
            let different = held.iter().map(|(_, c)| c).collect::<BTreeSet<_>>().len() as i64;
            return Some((time, key, first, false, Some((n, clicks, different))));
        }
        let delete = !first || update || self.definition.on_update;
        delete.then_some((time, key, first, true, None))
    }

    /// One epoch: the rows, and which of the records are late.
    fn epoch(&mut self, records: &[(i64, &'static str, i64)], watermark: i64) -> (Vec<Row>, Vec<bool>) {
        let (definition, before) = (self.definition, self.watermark);
        let open = |end: i64| end + definition.lateness > before;
        let mut late = Vec::new();
        let mut known = self.events.clone();
        for (time, key, clicks) in records {
            let taken = definition.windows(*time).into_iter().any(|(_, end)| open(end));
            late.push(!taken);
            if taken {
                self.events.entry(key).or_default().push((*time, *clicks));
            }
        }
        let mut revised: BTreeSet<(i64, &'static str)> = BTreeSet::new();
        let mut updated: BTreeSet<(i64, &'static str)> = BTreeSet::new();
        for ((time, key, _), late) in records.iter().zip(&late) {
            let windows: Vec<i64> = definition.windows(*time).into_iter().map(|(_, end)| end).collect();
            if *late {
                continue;
            }
            updated.extend(windows.iter().find(|end| **end > watermark).map(|end| (*end, *key)));
            if windows[0] > before {
                continue;
            }
            let times = &self.events[key];
            let first = *windows.iter().find(|end| open(**end)).unwrap();
            if first > before {
                self.owed.insert((first, key));
            }
            for end in windows.iter().filter(|end| **end >= first && **end <= before) {
                if *end == first || definition.changes(times, *end) {
                    revised.insert((*end, key));
                }
            }
            let leaves = windows.last().unwrap() + definition.step;
            let slice = definition.slices(&[(*time, 0)], i64::MIN, i64::MAX);
            let had = definition.slices(known.entry(key).or_default(), i64::MIN, i64::MAX);
            if matches!(definition.kind, Kind::Hop) && leaves <= before && slice.is_disjoint(&had) {
                revised.insert((leaves, key));
            }
        }
        let mut rows: Vec<Row> =
            revised.iter().filter_map(|(end, key)| self.row(*end, key, false, false)).collect();
        for end in before.max(-200) + 1..=watermark {
            let is_end = match definition.kind {
                Kind::Hop => (end - definition.size).rem_euclid(definition.step) == 0,
                Kind::Tumble | Kind::Cumulate => end.rem_euclid(definition.step) == 0,
            };
            if is_end {
                for key in self.events.keys() {
                    if definition.changes(&self.events[key], end) || self.owed.contains(&(end, key)) {
                        rows.extend(self.row(end, key, true, false));
                    }
                }
            }
        }
        if definition.on_update {
            // How a window closed is not overwritten by an event at its very end.
            let closed: BTreeSet<(i64, &str)> = rows.iter().map(|r| (r.0, r.1)).collect();
            let updates = updated.iter().filter_map(|(end, key)| self.row(*end, key, true, true));
            rows.extend(updates.filter(|r| !closed.contains(&(r.0, r.1))));
        }
        rows.sort_by_key(|r| (r.0, r.1, r.2));
        self.watermark = watermark.max(before);
        (rows, late)
    }
}

/// Records of each epoch (time in seconds, key, clicks), and its watermark.
type Epochs = Vec<(Vec<(i64, &'static str, i64)>, i64)>;

fn epochs() -> impl Strategy<Value = Epochs> {
    let key = prop::sample::select(vec!["ann", "bob", "cat"]);
    let record = (-25_i64..12, key, -2_i64..3);
    prop::collection::vec((prop::collection::vec(record, 0..8), 0_i64..12), 1..12).prop_map(|mut epochs| {
        let mut watermark = -20;
        for (records, step) in &mut epochs {
            for record in records.iter_mut() {
                record.0 += watermark;
            }
            watermark += *step;
            *step = watermark;
        }
        epochs
    })
}

fn emitted(outputs: &[Output]) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in outputs.iter().flat_map(|o| &o.rows) {
        let long = |column: usize, row: usize| {
            let column = batch.features.column(column).as_primitive::<Int64Type>();
            arrow::array::Array::is_valid(column, row).then(|| column.value(row))
        };
        for row in 0..batch.keys.len() {
            let name = match batch.features.column(0).as_string::<i32>().value(row) {
                "ann" => "ann",
                "bob" => "bob",
                _ => "cat",
            };
            let delete = batch.ops[row] == Op::Delete;
            let values = (!delete).then(|| (long(1, row).unwrap(), long(2, row), long(3, row).unwrap()));
            rows.push((batch.event_times[row].0, name, batch.first[row], delete, values));
        }
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever the window, the checkpoints, the restarts, the threads, the size of a close and what of the state is
    /// in memory.
    #[test]
    fn windows_are_what_their_definition_says(
        definition in definition(), epochs in epochs(), max_rows in 1_usize..6, threads in any::<u32>(),
        restarts in any::<u32>(), checkpoints in any::<u32>(), spills in any::<u32>(), budget in 0_usize..10_000,
    ) {
        // A row of an update may come before those of a close that goes on: the recomputation has no such order.
        let max_rows = if definition.on_update { usize::MAX } else { max_rows };
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let schema = Arc::new(Schema::new(vec![
            Field::new("ts", time, false),
            Field::new("name", DataType::Utf8, true),
            Field::new("clicks", DataType::Int64, true),
        ]));
        let table = Table { name: "events", schema: schema.clone(), event_time: "ts" };
        let query = Arc::new(sql::plan(&definition.sql(), &[table]).unwrap());
        let emission = Emission {
            allowed_lateness: Span(definition.lateness * SECOND),
            on_update: definition.on_update,
        };
        let stored = Stored::default();
        let resume = |step, at| {
            let (workers, state) = (workers_at(threads, step), Arc::new(stored.clone()));
            Engine::resume(workers, query.clone(), emission, at, state).unwrap()
        };
        let mut stored_at = Micros::MIN;
        let mut engine = resume(0, stored_at);
        let mut since: Vec<(Vec<SourceBatch>, Micros, Option<CloseCursor>, bool)> = Vec::new();
        let mut naive =
            Naive { definition, events: BTreeMap::new(), owed: BTreeSet::new(), watermark: -1_000_000 };
        let (mut offset, mut number) = (0, 0);
        let last = (Vec::new(), 10_000);
        for (records, watermark) in epochs.iter().chain([&last]) {
            let (mut outputs, mut cursor) = (Vec::new(), None);
            loop {
                let now: &[_] = if outputs.is_empty() { records } else { &[] };
                if restarts >> (number % 32) & 1 == 1 {
                    engine = resume(number, stored_at);
                    for (batches, watermark, cursor, checkpoint) in &since {
                        let (watermark, cursor) = (*watermark, cursor.clone());
                        let (finished, checkpoint) = (false, *checkpoint);
                        let input =
                            Input { batches, deletes: &[], watermark, finished, cursor, max_rows, checkpoint };
                        engine.apply(&input).unwrap();
                    }
                }
                let times: TimestampMicrosecondArray = now.iter().map(|r| Some(r.0 * SECOND)).collect();
                let columns: Vec<ArrayRef> = vec![
                    Arc::new(times.with_timezone("UTC")),
                    Arc::new(now.iter().map(|r| Some(r.1)).collect::<StringArray>()),
                    Arc::new(now.iter().map(|r| Some(r.2)).collect::<Int64Array>()),
                ];
                let rows = RecordBatch::try_new(schema.clone(), columns).unwrap();
                let rows = rows.project(&query.sources[0].columns).unwrap();
                let offsets: Vec<i64> = (offset..).take(now.len()).collect();
                let batches = vec![SourceBatch { source: 0, partition: 0, offsets, rows }];
                let checkpoint = checkpoints >> (number % 32) & 1 == 1 || *watermark == last.1;
                let watermark = Micros(*watermark * SECOND);
                let input = Input {
                    batches: &batches,
                    deletes: &[],
                    watermark,
                    finished: false,
                    cursor: cursor.clone(),
                    max_rows,
                    checkpoint,
                };
                let output = engine.apply(&input).unwrap();
                if checkpoint {
                    stored.change(|rows| store(rows, &output));
                    stored_at = output.watermark;
                    since.clear();
                    if spills >> (number % 32) & 1 == 1 {
                        spill(&mut engine, budget.saturating_sub(5_000));
                    }
                } else {
                    since.push((batches, watermark, cursor.clone(), checkpoint));
                }
                cursor.clone_from(&output.cursor);
                outputs.push(output);
                number += 1;
                if cursor.is_none() {
                    break;
                }
            }
            let (expected, late) = naive.epoch(records, *watermark);
            let numbers = (offset..).zip(&late).filter(|(_, late)| **late).map(|(o, _)| o);
            prop_assert_eq!(outputs[0].late.iter().map(|r| r.offset).collect::<Vec<_>>(), numbers.collect::<Vec<_>>());
            let applied = late.iter().filter(|l| !**l).count() as u64;
            prop_assert_eq!(outputs[0].counts[0].applied, applied);
            offset += records.len() as i64;
            let mut rows = emitted(&outputs);
            for output in &outputs {
                let keys = |e: &Emitted| -> Vec<_> { e.event_times.iter().copied().zip(e.keys.clone()).collect() };
                prop_assert!(output.rows.iter().flat_map(keys).collect::<Vec<_>>().is_sorted());
            }
            rows.sort_by_key(|r| (r.0, r.1, r.2));
            prop_assert_eq!(rows, expected);
        }
        prop_assert!(stored.rows().is_empty(), "state of closed windows is left");
        prop_assert_eq!(engine.open(), (0, 0));
    }
}
