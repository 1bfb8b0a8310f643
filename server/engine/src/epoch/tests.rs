//! The engine against a naive recomputation, and against itself: restored, cut otherwise, split otherwise.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Float64Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Float64Type, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit};
use proptest::prelude::*;

use super::*;
use crate::sql::{self, Table};
use crate::state::StateKey;

mod drive;
mod joins;
mod lookups;
mod naive;
mod rolling;
mod sessions;
mod spill;
mod windows;

use drive::{PLAIN, THREADS, Treatment, run, stores, workers};
use naive::Naive;

const SECOND: i64 = 1_000_000;
const SIZE: i64 = 10 * SECOND;

const SQL: &str = "SELECT name, kind, COUNT(*) AS n, COUNT(*) FILTER (WHERE price > 0) AS positive,
        SUM(clicks) AS clicks, SUM(price) AS total, AVG(price) AS mean, MIN(price) AS least,
        MIN(note) AS first, MAX(note) AS last, COUNT(DISTINCT note) AS notes, COUNT(DISTINCT price) AS prices
    FROM $WINDOW
    WHERE clicks <> 3 GROUP BY name, kind, window_end HAVING n <> 2";

#[derive(Debug, Clone)]
struct Event {
    partition: u32,
    time: i64,
    name: Option<&'static str>,
    kind: &'static str,
    clicks: Option<i64>,
    price: Option<f64>,
    note: Option<&'static str>,
}

fn event() -> impl Strategy<Value = Event> {
    let name = prop_oneof![
        1 => Just(None),
        9 => prop::sample::select(vec!["ann", "bob", "b\0b", "", "żaba"]).prop_map(Some),
    ];
    let price = prop::sample::select(vec![0.1, 0.2, 0.3, -0.7, 1e16, -1e16, 1e-9, 0.0, -0.0, 3.5]);
    (
        0_u32..3,
        -40 * SECOND..40 * SECOND,
        name,
        prop::sample::select(vec!["view", "click"]),
        prop::option::of(-5_i64..6),
        prop::option::of(price),
        prop::option::of(prop::sample::select(vec!["x", "yy", "zzz", "a longer note than fits a view"])),
    )
        .prop_map(|(partition, time, name, kind, clicks, price, note)| Event {
            partition,
            // Some lie on the edges of windows.
            time: if time % 3 == 0 { time - time.rem_euclid(SIZE) } else { time },
            name,
            kind,
            clicks,
            price,
            note,
        })
}

/// Records of one epoch, and the watermark it commits (in seconds).
type Epochs = Vec<(Vec<Event>, i64)>;

fn epochs() -> impl Strategy<Value = Epochs> {
    prop::collection::vec((prop::collection::vec(event(), 0..40), 0_i64..15), 1..8).prop_map(|mut epochs| {
        let mut watermark = -50;
        for (_, step) in &mut epochs {
            watermark += *step;
            *step = watermark;
        }
        epochs
    })
}

fn schema() -> SchemaRef {
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("ts", time, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("kind", dictionary, true),
        Field::new("clicks", DataType::Int64, true),
        Field::new("price", DataType::Float64, true),
        Field::new("note", DataType::Utf8, true),
    ]))
}

const TUMBLE: &str = "TUMBLE(events, DESCRIPTOR(ts), INTERVAL '10' SECONDS)";
const HOP: &str = "HOP(events, DESCRIPTOR(ts), INTERVAL '4' SECONDS, INTERVAL '14' SECONDS)";
const CUMULATE: &str = "CUMULATE(events, DESCRIPTOR(ts), INTERVAL '5' SECONDS, INTERVAL '15' SECONDS)";
const SESSION: &str = "SESSION(events, DESCRIPTOR(ts), INTERVAL '4' SECONDS)";

fn query(window: &str) -> Arc<FeatureQuery> {
    let table = Table { name: "events", schema: schema(), event_time: "ts" };
    Arc::new(sql::plan(&SQL.replace("$WINDOW", window), &[table]).unwrap())
}

fn rows(query: &FeatureQuery, events: &[&Event]) -> RecordBatch {
    let times: TimestampMicrosecondArray = events.iter().map(|e| Some(e.time)).collect();
    let kinds: DictionaryArray<Int32Type> = events.iter().map(|e| e.kind).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(times.with_timezone("UTC")),
        Arc::new(events.iter().map(|e| e.name).collect::<StringArray>()),
        Arc::new(kinds),
        Arc::new(events.iter().map(|e| e.clicks).collect::<Int64Array>()),
        Arc::new(events.iter().map(|e| e.price).collect::<Float64Array>()),
        Arc::new(events.iter().map(|e| e.note).collect::<StringArray>()),
    ];
    RecordBatch::try_new(schema(), columns).unwrap().project(&query.sources[0].columns).unwrap()
}

fn cell(column: &ArrayRef, row: usize) -> String {
    match column.data_type() {
        _ if column.is_null(row) => "null".into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float64 => {
            format!("{:x}", (column.as_primitive::<Float64Type>().value(row) + 0.0).to_bits())
        }
        DataType::Utf8 => column.as_string::<i32>().value(row).to_owned(),
        other => unreachable!("{other}"),
    }
}

/// (window end, name, kind) → the other columns, of all outputs.
fn emitted<'o>(outputs: impl Iterator<Item = &'o Output>) -> BTreeMap<(i64, String, String), Vec<String>> {
    let mut rows = BTreeMap::new();
    for emitted in outputs.flat_map(|o| &o.rows) {
        for row in 0..emitted.features.num_rows() {
            let cells: Vec<String> = emitted.features.columns().iter().map(|c| cell(c, row)).collect();
            let key = (emitted.event_times[row].0, cells[0].clone(), cells[1].clone());
            assert!(rows.insert(key, cells[2..].to_vec()).is_none(), "a row came out twice");
        }
    }
    rows
}

/// The same in all that leaves the engine.
fn assert_same(one: &Output, other: &Output) {
    assert_eq!(one.state, other.state);
    assert_same_rows(one, other);
}

/// The same but for the state, which depends on where the checkpoints are.
fn assert_same_rows(one: &Output, other: &Output) {
    assert_eq!(one.counts, other.counts);
    assert_eq!(one.rejected, other.rejected);
    assert_eq!(one.late, other.late);
    assert_eq!(
        (one.watermark, one.closed_to, &one.cursor),
        (other.watermark, other.closed_to, &other.cursor)
    );
    assert_eq!((one.nulled, one.lost), (other.nulled, other.lost));
    assert_eq!(addresses(one), addresses(other));
    assert_eq!(features(one), features(other));
}

/// The same lies in the store after each step, however it came there.
fn assert_same_state<T>(one: &[(Output, T)], other: &[(Output, T)]) {
    let (one, other) = (stores(one.iter().map(|(o, _)| o)), stores(other.iter().map(|(o, _)| o)));
    for (step, (one, other)) in one.iter().zip(&other).enumerate() {
        assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>(), "step {step}");
        let differ = other.iter().filter(|(key, value)| one.get(key) != Some(value));
        let differ: Vec<_> = differ.map(|(key, value)| (key, one.get(key), value)).collect();
        assert_eq!(differ, [], "step {step}");
    }
}

/// Event time, key, operation and revision of every row.
fn addresses(output: &Output) -> Vec<(Micros, &[u8], Op, bool)> {
    let rows = output.rows.iter().flat_map(|e| (0..e.keys.len()).map(move |row| (e, row)));
    rows.map(|(e, row)| (e.event_times[row], e.keys[row].as_slice(), e.ops[row], e.first[row])).collect()
}

/// The columns of all rows, whatever the batches that they come in.
fn features(output: &Output) -> Vec<ArrayRef> {
    let columns = output.rows.first().map_or(0, |e| e.features.num_columns());
    let column = |at: usize| {
        let parts: Vec<&dyn Array> = output.rows.iter().map(|e| e.features.column(at).as_ref()).collect();
        arrow::compute::concat(&parts).unwrap()
    };
    (0..columns).map(column).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Rows, late and rejected records and counts are those of a loop over the events.
    #[test]
    fn the_engine_computes_what_a_loop_computes(epochs in epochs(), max_rows in 1_usize..20) {
        let results = run(&epochs, &Treatment { max_rows, ..PLAIN });
        let mut naive: BTreeMap<(i64, String, String), Naive> = BTreeMap::new();
        let mut before = i64::MIN;
        for (number, (output, records)) in results.iter().enumerate() {
            let (mut counts, mut late, mut rejected) = (Counts::default(), Vec::new(), Vec::new());
            for (record, event) in records {
                let end = event.time - event.time.rem_euclid(SIZE) + SIZE;
                match event.name {
                    _ if event.clicks.is_none_or(|c| c == 3) => counts.filtered += 1,
                    None => rejected.push(*record),
                    Some(_) if end <= before => late.push(*record),
                    Some(name) => {
                        counts.applied += 1;
                        naive.entry((end, name.into(), event.kind.into())).or_default().add(event);
                    }
                }
            }
            (counts.late, counts.quarantined) = (late.len() as u64, rejected.len() as u64);
            prop_assert_eq!(output.counts[0], counts);
            prop_assert_eq!(&output.late, &late);
            prop_assert!(output.rejected.iter().all(|r| r.reason == Reason::NullKey));
            prop_assert_eq!(output.rejected.iter().map(|r| r.record).collect::<Vec<_>>(), rejected);
            before = epochs.get(number).map_or(before, |(_, watermark)| watermark * SECOND);
        }
        let expected: BTreeMap<_, _> =
            naive.into_iter().filter(|(_, n)| n.n != 2).map(|(key, n)| (key, n.row())).collect();
        prop_assert_eq!(emitted(results.iter().map(|(o, _)| o)), expected);
        // Rows come in the order of window end and key, through all epochs of a close.
        let mut goes_on = false;
        for (output, records) in &results {
            let order: Vec<_> = output
                .rows
                .iter()
                .flat_map(|r| r.event_times.iter().copied().zip(r.keys.iter().cloned()))
                .collect();
            prop_assert!(order.is_sorted());
            // Records in the middle of a close, which no pipeline gives, have it done first.
            prop_assert!(order.len() <= max_rows || goes_on && !records.is_empty());
            goes_on = output.cursor.is_some();
        }
    }

    /// An engine restored before any epochs whatever goes on bit for bit as one that never stopped.
    #[test]
    fn a_restored_engine_goes_on_as_if_nothing_had_been(
        epochs in epochs(), max_rows in 1_usize..20, restarts in any::<u64>(), checkpoints in any::<u64>(),
        window in prop::sample::select(vec![TUMBLE, HOP, HOP, CUMULATE, SESSION, SESSION]), lateness in prop_oneof![Just(0), 1_i64..20],
        on_update in any::<bool>(),
    ) {
        let bit = |bits: u64, n: usize| bits >> (n % 64) & 1 == 1;
        let emission = Emission { allowed_lateness: Span(lateness * SECOND), on_update };
        let checkpoint = |n| bit(checkpoints, n);
        let how = Treatment { max_rows, checkpoint: &checkpoint, window, emission, ..PLAIN };
        let plain = run(&epochs, &how);
        let restarted = run(&epochs, &Treatment { restart: &|n| bit(restarts, n), ..how });
        assert_same_state(&plain, &restarted);
        prop_assert_eq!(plain.len(), restarted.len());
        for ((one, _), (other, _)) in plain.iter().zip(&restarted) {
            assert_same_rows(one, other);
        }
    }

    /// Which groups are in memory changes nothing: some are let go of after any checkpoints whatever.
    #[test]
    fn what_lies_in_the_store_alone_does_not_matter(
        epochs in epochs(), max_rows in 1_usize..20, restarts in any::<u64>(), checkpoints in any::<u64>(),
        budgets in prop::collection::vec(prop_oneof![2 => Just(0), 5 => 0_usize..20_000, 1 => Just(usize::MAX)], 8),
        window in prop::sample::select(vec![TUMBLE, TUMBLE, HOP, CUMULATE, SESSION, SESSION]), lateness in prop_oneof![Just(0), 1_i64..20],
        on_update in any::<bool>(),
    ) {
        let bit = |bits: u64, n: usize| bits >> (n % 64) & 1 == 1;
        let emission = Emission { allowed_lateness: Span(lateness * SECOND), on_update };
        let checkpoint = |n| bit(checkpoints, n);
        let how = Treatment { max_rows, checkpoint: &checkpoint, window, emission, ..PLAIN };
        let plain = run(&epochs, &how);
        let spill = |n: usize| budgets[n % budgets.len()];
        let spilled = run(&epochs, &Treatment { restart: &|n| bit(restarts, n), spill: &spill, ..how });
        assert_same_state(&plain, &spilled);
        prop_assert_eq!(plain.len(), spilled.len());
        for ((one, _), (other, _)) in plain.iter().zip(&spilled) {
            assert_same_rows(one, other);
        }
    }

    /// How many threads compute changes nothing, nor does a restart with more or fewer of them: not the rows, not what
    /// becomes of a record, not where a large close stops, not what lies in the store. Nor which groups are in memory.
    #[test]
    fn threads_do_not_matter(
        epochs in epochs(), max_rows in prop_oneof![1_usize..20, Just(usize::MAX)], threads in 1_u32..,
        restarts in any::<u64>(), checkpoints in any::<u64>(), chunk in 1_usize..20,
        budgets in prop::collection::vec(prop_oneof![2 => Just(0), 2 => 0_usize..20_000, 3 => Just(usize::MAX)], 8),
        window in prop::sample::select(vec![TUMBLE, TUMBLE, HOP, HOP, CUMULATE, SESSION, SESSION]),
        lateness in prop_oneof![Just(0), 1_i64..20], on_update in any::<bool>(),
    ) {
        let emission = Emission { allowed_lateness: Span(lateness * SECOND), on_update };
        let checkpoint = |n| checkpoints >> (n % 64) & 1 == 1;
        let restart = |n| restarts >> (n % 64) & 1 == 1;
        let spill = |n: usize| budgets[n % budgets.len()];
        let how = Treatment { max_rows, chunk, checkpoint: &checkpoint, window, emission, ..PLAIN };
        let one = run(&epochs, &how);
        let several = run(&epochs, &Treatment { threads, restart: &restart, spill: &spill, ..how });
        prop_assert_eq!(one.len(), several.len());
        for ((one, _), (several, _)) in one.iter().zip(&several) {
            assert_same_rows(one, several);
        }
        assert_same_state(&one, &several);
    }

    /// Where checkpoints are taken changes no row.
    #[test]
    fn checkpoints_do_not_matter(epochs in epochs(), checkpoints in any::<u64>()) {
        let always = run(&epochs, &PLAIN);
        let some = run(&epochs, &Treatment { checkpoint: &|n| checkpoints >> (n % 64) & 1 == 1, ..PLAIN });
        for ((one, _), (other, _)) in always.iter().zip(&some) {
            assert_same_rows(one, other);
        }
    }

    /// How an epoch's records are cut into batches changes nothing.
    #[test]
    fn batches_do_not_matter(
        epochs in epochs(), chunk in 1_usize..10, window in prop::sample::select(vec![TUMBLE, HOP, SESSION]),
    ) {
        let how = Treatment { max_rows: 7, window, ..PLAIN };
        let (whole, split) = (run(&epochs, &how), run(&epochs, &Treatment { chunk, ..how }));
        for ((one, _), (other, _)) in whole.iter().zip(&split) {
            assert_same(one, other);
        }
    }

    /// Where lateness is the same, so are the rows, however the log is cut into epochs.
    #[test]
    fn epochs_do_not_matter(events in prop::collection::vec(event(), 1..80), size in 1_usize..30) {
        let events: Vec<Event> = events.into_iter().map(|e| Event { partition: 0, ..e }).collect();
        let never = -1000;
        let cut: Epochs = events.chunks(size).map(|part| (part.to_vec(), never)).collect();
        let one = run(&vec![(events, never)], &PLAIN);
        let restart = |n| n % 2 == 0;
        let many = run(&cut, &Treatment { restart: &restart, ..PLAIN });
        prop_assert_eq!(emitted(one.iter().map(|(o, _)| o)), emitted(many.iter().map(|(o, _)| o)));
    }
}

#[test]
fn state_that_is_not_of_this_query_is_refused() {
    let row = |operator: u16, value: Vec<u8>| StateRow {
        key: StateKey {
            operator,
            slice_end: Micros(SIZE),
            key_group: 0,
            key: b"\x01a\0\0\x01b\0\0".to_vec(),
        },
        value,
    };
    for workers in THREADS.map(workers) {
        let restore = |row| {
            let rows = std::iter::once(row);
            Engine::restore_on(workers, query(TUMBLE), Emission::default(), Micros::MIN, rows)
        };
        assert!(matches!(restore(row(0, vec![9])), Err(Error::State { .. })));
        assert!(matches!(restore(row(0, vec![1, 1])), Err(Error::State { .. })));
        assert!(matches!(restore(row(7, vec![1])), Err(Error::State { .. })));
    }
}

#[test]
fn batches_with_other_columns_are_refused() {
    let query = query(TUMBLE);
    let rows = rows(&query, &[]).project(&[0]).unwrap();
    let batch = |source| SourceBatch { source, partition: 0, offsets: vec![], rows: rows.clone() };
    for batch in [batch(0), batch(1)] {
        let batches = [batch];
        let input = Input {
            batches: &batches,
            deletes: &[],
            watermark: Micros(0),
            finished: false,
            cursor: None,
            max_rows: 1,
            checkpoint: true,
        };
        for workers in THREADS.map(workers) {
            let nothing = std::iter::empty();
            let engine =
                Engine::restore_on(workers, query.clone(), Emission::default(), Micros::MIN, nothing);
            assert!(matches!(engine.unwrap().apply(&input), Err(Error::Contract(_))));
        }
    }
}
