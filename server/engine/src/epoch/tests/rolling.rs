//! Rolling features against a recomputation from their definition: of each key and instant, all records in
//! its frames, one at a time, in the order of (time, source, partition, offset).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use proptest::prelude::*;

use super::super::*;
use super::drive::workers_at;
use super::{Event, SECOND, assert_same, cell, event, rows, schema};
use crate::sql::{self, Table};
use crate::state::StateKey;

/// Two frames, in seconds, and when rows come out.
#[derive(Debug, Clone, Copy)]
struct Definition {
    short: i64,
    long: i64,
    lateness: i64,
    on_update: bool,
}

fn definition() -> impl Strategy<Value = Definition> {
    let lateness = prop_oneof![Just(0), 1_i64..8];
    (0_i64..6, 0_i64..9, lateness, any::<bool>()).prop_map(|(short, more, lateness, on_update)| Definition {
        short,
        long: short + more,
        lateness,
        on_update,
    })
}

impl Definition {
    fn query(&self) -> Arc<FeatureQuery> {
        let over = |seconds: i64| {
            format!(
                "(PARTITION BY name ORDER BY ts RANGE BETWEEN INTERVAL '{seconds}' SECONDS PRECEDING AND CURRENT ROW)"
            )
        };
        let sql = format!(
            "SELECT name, ts, note, kind, COUNT(*) OVER s AS n, SUM(clicks) OVER s AS clicks,
                SUM(price) OVER s AS total, COUNT(clicks) FILTER (WHERE kind = 'click') OVER l AS clicked,
                COUNT(DISTINCT kind) OVER l AS kinds, MIN(price) OVER l AS least, AVG(price) OVER l AS mean,
                MAX(note) OVER l AS last, SUM(clicks) FILTER (WHERE clicks > 0) OVER l AS positive
             FROM events WHERE clicks IS NULL OR clicks <> 3 WINDOW s AS {}, l AS {} QUALIFY n <> 2",
            over(self.short),
            over(self.long)
        );
        let table = Table { name: "events", schema: schema(), event_time: "ts" };
        Arc::new(sql::plan(&sql, &[table]).unwrap())
    }

    fn emission(&self) -> Emission {
        Emission { allowed_lateness: Span(self.lateness * SECOND), on_update: self.on_update }
    }
}

/// Instant, key, first emission?, delete?, the other columns.
type Row = (i64, &'static str, bool, bool, Option<Vec<String>>);

/// The recomputation.
struct Naive {
    definition: Definition,
    /// Records of each key that were taken, by (time, partition, offset).
    taken: BTreeMap<&'static str, BTreeMap<(i64, u32, i64), Event>>,
    /// Rows that came out because a frame was empty.
    emptied: BTreeSet<(i64, &'static str)>,
    watermark: i64,
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
    fn epoch(&mut self, records: &[(RecordId, Event)], watermark: i64) -> (Vec<Row>, Counts, Vec<RecordId>) {
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

const NAMES: [&str; 3] = ["ann", "bob", "żaba"];

/// Records of each epoch, and its watermark in seconds.
type Epochs = Vec<(Vec<Event>, i64)>;

fn epochs() -> impl Strategy<Value = Epochs> {
    let name = prop::option::weighted(0.95, prop::sample::select(NAMES.to_vec()));
    // On the second, or a microsecond after it: where frames begin and end.
    let record = (event(), -20_i64..10, 0_i64..2, name);
    let record = record.prop_map(|(event, second, micro, name)| Event {
        time: second * SECOND + micro,
        name,
        ..event
    });
    prop::collection::vec((prop::collection::vec(record, 0..10), 0_i64..10), 1..14).prop_map(|mut epochs| {
        let mut watermark = -20;
        for (records, step) in &mut epochs {
            for record in records.iter_mut() {
                record.time += watermark * SECOND;
            }
            watermark += *step;
            *step = watermark;
        }
        epochs
    })
}

fn emitted(outputs: &[Output]) -> Vec<Row> {
    let mut found = Vec::new();
    for batch in outputs.iter().flat_map(|o| &o.rows) {
        let columns = batch.features.columns();
        for row in 0..batch.keys.len() {
            let name = columns[0].as_string::<i32>().value(row);
            let name = NAMES.into_iter().find(|known| *known == name).unwrap();
            let delete = batch.ops[row] == Op::Delete;
            if !delete {
                let time = columns[1].as_primitive::<TimestampMicrosecondType>().value(row);
                assert_eq!(time, batch.event_times[row].0, "the event time of a row is its instant");
            }
            let values = (!delete).then(|| columns[2..].iter().map(|c| cell(c, row)).collect());
            found.push((batch.event_times[row].0, name, batch.first[row], delete, values));
        }
    }
    found
}

/// Applies what a checkpoint says.
fn store(stored: &mut BTreeMap<StateKey, Vec<u8>>, output: &Output) {
    let mut last = None;
    for change in &output.state {
        match change {
            StateChange::DropSlice { operator, slice_end, key_groups } => {
                assert!(last.is_none(), "slices are dropped first");
                let is_of = |k: &StateKey| (k.operator, k.slice_end) == (*operator, *slice_end);
                stored.retain(|k, _| !is_of(k) || !key_groups.contains(k.key_group));
            }
            StateChange::Put(row) => {
                assert!(last.as_ref().is_none_or(|l| *l < row.key), "puts come sorted, each once");
                last = Some(row.key.clone());
                assert!(
                    stored.insert(row.key.clone(), row.value.clone()).is_none(),
                    "records are written once"
                );
            }
            #[allow(unreachable_patterns)]
            other @ StateChange::Delete(_) => unreachable!("{other:?}"),
        }
    }
}

/// Batches of an epoch, `chunk` rows at a time, with the records in their order.
fn batches(
    query: &FeatureQuery,
    events: &[Event],
    chunk: usize,
    next: &mut [i64; 3],
) -> (Vec<SourceBatch>, Vec<(RecordId, Event)>) {
    let (mut batches, mut records) = (Vec::new(), Vec::new());
    for (partition, next) in (0..).zip(next) {
        let own: Vec<&Event> = events.iter().filter(|e| e.partition == partition).collect();
        for part in own.chunks(chunk) {
            let offsets: Vec<i64> = (*next..*next + part.len() as i64).collect();
            *next += part.len() as i64;
            let ids = offsets.iter().map(|offset| RecordId { source: 0, partition, offset: *offset });
            records.extend(ids.zip(part.iter().map(|e| (*e).clone())));
            batches.push(SourceBatch { source: 0, partition, offsets, rows: rows(query, part) });
        }
    }
    (batches, records)
}

/// What an epoch was given, to be given once more, and what came out.
struct Given {
    batches: Vec<SourceBatch>,
    watermark: Micros,
    cursor: Option<CloseCursor>,
    max_rows: usize,
    checkpoint: bool,
}

impl Given {
    fn apply(&self, engine: &mut Engine) -> Output {
        let input = Input {
            batches: &self.batches,
            deletes: &[],
            watermark: self.watermark,
            finished: false,
            cursor: self.cursor.clone(),
            max_rows: self.max_rows,
            checkpoint: self.checkpoint,
        };
        engine.apply(&input).unwrap()
    }
}

/// Whatever the frames, the checkpoints, the restarts, the threads, the size of a close and of batches.
fn check(
    definition: Definition,
    epochs: &Epochs,
    max_rows: usize,
    chunk: usize,
    restarts: u32,
    checkpoints: u32,
    threads: u32,
) {
    let (query, emission) = (definition.query(), definition.emission());
    let mut stored: BTreeMap<StateKey, Vec<u8>> = BTreeMap::new();
    let mut stored_at = Micros::MIN;
    let restore = |step, at, rows: Vec<StateRow>| {
        let workers = workers_at(threads, step);
        Engine::restore_on(workers, query.clone(), emission, at, rows.into_iter()).unwrap()
    };
    let mut engine = restore(0, stored_at, Vec::new());
    let mut since: Vec<(Given, Output)> = Vec::new();
    let mut naive =
        Naive { definition, taken: BTreeMap::new(), emptied: BTreeSet::new(), watermark: -1_000 * SECOND };
    let (mut next, mut number) = ([0; 3], 0);
    let last = (Vec::new(), 10_000);
    for (events, watermark) in epochs.iter().chain([&last]) {
        let (mut batches, records) = batches(&query, events, chunk, &mut next);
        let (mut outputs, mut cursor): (Vec<Output>, Option<CloseCursor>) = (Vec::new(), None);
        loop {
            if restarts >> (number % 32) & 1 == 1 {
                let rows = stored.iter().map(|(k, v)| StateRow { key: k.clone(), value: v.clone() });
                engine = restore(number, stored_at, rows.collect());
                for (given, output) in &since {
                    assert_same(&given.apply(&mut engine), output);
                }
            }
            let checkpoint = checkpoints >> (number % 32) & 1 == 1 || *watermark == last.1;
            let given = Given {
                batches: std::mem::take(&mut batches),
                watermark: Micros(*watermark * SECOND),
                cursor: cursor.clone(),
                max_rows,
                checkpoint,
            };
            let output = given.apply(&mut engine);
            cursor.clone_from(&output.cursor);
            number += 1;
            let again = given.apply_is_bounded(&output, definition);
            assert!(again, "a close goes through {max_rows} rows");
            outputs.push(output);
            let output = outputs.last().unwrap();
            if checkpoint {
                store(&mut stored, output);
                stored_at = output.watermark;
                since.clear();
            } else {
                assert_eq!(output.state, [], "state outside of a checkpoint");
                since.push((given, same(output)));
            }
            if cursor.is_none() {
                break;
            }
        }
        let (expected, counts, late) = naive.epoch(&records, *watermark * SECOND);
        assert_eq!(outputs[0].counts[0], counts);
        assert_eq!(outputs[0].late, late);
        let instants =
            |e: &Emitted| -> Vec<_> { e.event_times.iter().copied().zip(e.keys.clone()).collect() };
        for output in &outputs {
            let order: Vec<_> = output.rows.iter().flat_map(instants).collect();
            assert!(order.windows(2).all(|pair| pair[0] < pair[1]), "rows come in order, each once");
        }
        let mut found = emitted(&outputs);
        found.sort_by_key(|row| (row.0, row.1));
        assert_eq!(found, expected);
    }
    assert!(stored.is_empty(), "state of what nothing looks back on is left");
    assert_eq!(engine.open(), (0, 0));
}

impl Given {
    /// Without on_update and without late records all rows are those of the close.
    fn apply_is_bounded(&self, output: &Output, definition: Definition) -> bool {
        let rows: usize = output.rows.iter().map(|r| r.keys.len()).sum();
        definition.on_update || definition.lateness > 0 || rows <= self.max_rows
    }
}

/// What is compared after a restart.
fn same(output: &Output) -> Output {
    Output {
        rows: output.rows.clone(),
        counts: output.counts.clone(),
        rejected: output.rejected.clone(),
        late: output.late.clone(),
        state: output.state.clone(),
        watermark: output.watermark,
        closed_to: output.closed_to,
        cursor: output.cursor.clone(),
        nulled: output.nulled,
        lost: output.lost,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn rolling_features_are_what_their_definition_says(
        definition in definition(), epochs in epochs(), max_rows in prop_oneof![1_usize..8, Just(usize::MAX)],
        chunk in 1_usize..12, restarts in any::<u32>(), checkpoints in any::<u32>(),
        threads in any::<u32>(),
    ) {
        check(definition, &epochs, max_rows, chunk, restarts, checkpoints, threads);
    }
}

/// Frames of many records and many rows at once: what is worked on in parts.
#[test]
fn long_frames_are_computed_in_parts() {
    let definition = Definition { short: 100, long: 400, lateness: 0, on_update: false };
    let event = |second: i64| Event {
        partition: 0,
        time: second * SECOND / 4,
        name: Some(NAMES[(second % 3) as usize]),
        kind: if second % 7 == 0 { "click" } else { "view" },
        clicks: (second % 5 != 0).then_some(second % 11 - 4).filter(|c| *c != 3),
        price: Some(0.1 * second as f64),
        note: None,
    };
    let events: Vec<Event> = (0..1_500).map(event).collect();
    let epochs = vec![(events[..1_000].to_vec(), 100), (events[1_000..].to_vec(), 500)];
    check(definition, &epochs, 700, 1_000, 2, 1, 0);
    check(definition, &epochs, 700, 1_000, 2, 1, 0b1110);
}

#[test]
fn a_sum_beyond_its_type_is_null_and_no_other_row_is_touched() {
    let definition = Definition { short: 5, long: 5, lateness: 0, on_update: true };
    let query = definition.query();
    let mut engine =
        Engine::restore(query.clone(), definition.emission(), Micros::MIN, std::iter::empty()).unwrap();
    let event = |time: i64, clicks| Event {
        partition: 0,
        time: time * SECOND,
        name: Some("ann"),
        kind: "view",
        clicks: Some(clicks),
        price: None,
        note: None,
    };
    let events = [event(0, 1), event(6, i64::MAX), event(7, 5), event(7, 1), event(20, 7)];
    let (batches, _) = batches(&query, &events, 10, &mut [0; 3]);
    let given = Given { batches, watermark: Micros(0), cursor: None, max_rows: 1, checkpoint: false };
    let output = given.apply(&mut engine);
    let sums = output.rows[0].features.column(5).as_primitive::<Int64Type>();
    assert_eq!(sums.iter().collect::<Vec<_>>(), [Some(1), Some(i64::MAX), None, Some(7)]);
}

#[test]
fn state_that_is_no_record_of_the_slice_is_refused() {
    let definition = Definition { short: 5, long: 5, lateness: 5, on_update: false };
    let query = definition.query();
    let restore = |operator: u16, key: &[u8], value: Vec<u8>| {
        let key = StateKey { operator, slice_end: Micros(SECOND), key_group: 0, key: key.to_vec() };
        let rows = std::iter::once(StateRow { key, value });
        Engine::restore(query.clone(), definition.emission(), Micros::MIN, rows)
    };
    for (operator, key, value) in [
        (crate::state::ROLLING, &[1_u8; 40][..], vec![9]),
        (crate::state::ROLLING, &[1_u8; 40], vec![1, 1]),
        (crate::state::EMPTIED, &[1_u8; 3], vec![1]),
        (crate::state::EMPTIED, &[1_u8; 30], vec![2]),
        (crate::state::AGGREGATE, &[1_u8; 30], vec![1]),
    ] {
        assert!(matches!(restore(operator, key, value), Err(Error::State { .. })));
    }
}
