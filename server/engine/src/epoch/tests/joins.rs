//! Interval joins against a recomputation from their definition, under windows that are filled from what
//! comes out.

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit};
use proptest::prelude::*;

use super::super::*;
use super::SECOND;
use crate::sql::{self, Table};
use crate::state::StateKey;

mod drive;
mod naive;
mod rolled;

use super::drive::{THREADS, stores, workers};
use drive::{PLAIN, Treatment, run};
use naive::{Expected, Features, expected};

/// A join in seconds: `right.ts BETWEEN left.ts + lower AND left.ts + upper`.
#[derive(Debug, Clone, Copy)]
struct Step {
    keeps_left: bool,
    lower: i64,
    upper: i64,
    /// Also `right.n > left.n`.
    condition: bool,
}

/// Impressions joined with clicks, and maybe with views, under a window.
#[derive(Debug, Clone, Copy)]
struct Definition {
    first: Step,
    second: Option<Step>,
    size: i64,
    /// The window is over the time of the clicks.
    on_right: bool,
}

fn step() -> impl Strategy<Value = Step> {
    (any::<bool>(), -9_i64..9, 0_i64..9, any::<bool>()).prop_map(|(keeps_left, lower, length, condition)| {
        Step { keeps_left, lower, upper: lower + length, condition }
    })
}

fn definition() -> impl Strategy<Value = Definition> {
    (step(), prop::option::of(step()), 1_i64..8, any::<bool>()).prop_map(|(first, second, size, on_right)| {
        let on_right = on_right && !first.keeps_left && second.is_none();
        Definition { first, second, size, on_right }
    })
}

impl Step {
    fn sql(&self, left: &str, right: &str) -> String {
        let Self { lower, upper, .. } = self;
        let kind = if self.keeps_left { "LEFT JOIN" } else { "JOIN" };
        let condition = if self.condition { format!(" AND {right}.n > {left}.n") } else { String::new() };
        format!(
            "{kind} {right} ON {right}.id = {left}.id AND {right}.ts BETWEEN {left}.ts + INTERVAL '{lower}' SECOND
             AND {left}.ts + INTERVAL '{upper}' SECOND{condition}"
        )
    }
}

impl Definition {
    fn sql(&self) -> String {
        let time = if self.on_right { "clicks.ts" } else { "impressions.ts" };
        let (views, y) = match &self.second {
            Some(second) => (second.sql("impressions", "views"), "views.n"),
            None => (String::new(), "clicks.n"),
        };
        format!(
            "SELECT kind, COUNT(*) AS rows, COUNT(x) AS xs, SUM(x) AS x, COUNT(y) AS ys, SUM(y) AS y, SUM(price) AS price
             FROM TUMBLE((SELECT impressions.kind, impressions.price, {time} AS ts, clicks.n AS x, {y} AS y
                          FROM impressions {} {views}), DESCRIPTOR(ts), INTERVAL '{}' SECONDS)
             GROUP BY kind, window_end",
            self.first.sql("impressions", "clicks"),
            self.size,
        )
    }
}

/// A record: of which stream, its partition, time in seconds, and columns.
#[derive(Debug, Clone, Copy)]
struct Event {
    stream: usize,
    partition: u32,
    time: i64,
    id: Option<&'static str>,
    kind: Option<&'static str>,
    n: Option<i64>,
}

const STREAMS: [&str; 3] = ["impressions", "clicks", "views"];

fn event() -> impl Strategy<Value = Event> {
    let id = prop_oneof![
        1 => Just(None),
        9 => prop::sample::select(vec!["a", "b", "c", "d\0", ""]).prop_map(Some),
    ];
    let kind = prop_oneof![1 => Just(None), 9 => prop::sample::select(vec!["k", "l"]).prop_map(Some)];
    (0_usize..3, 0_u32..2, -14_i64..12, id, kind, prop::option::of(-3_i64..4))
        .prop_map(|(stream, partition, time, id, kind, n)| Event { stream, partition, time, id, kind, n })
}

/// Records of each epoch, and the watermark it commits, in seconds.
type Epochs = Vec<(Vec<Event>, i64)>;

fn epochs() -> impl Strategy<Value = Epochs> {
    prop::collection::vec((prop::collection::vec(event(), 0..14), 0_i64..7), 1..10).prop_map(|mut epochs| {
        let mut watermark = -20;
        for (events, step) in &mut epochs {
            for event in events.iter_mut() {
                event.time += watermark;
            }
            watermark += *step;
            *step = watermark;
        }
        epochs.push((Vec::new(), 10_000));
        epochs
    })
}

fn schema() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Utf8, true),
        Field::new("kind", DataType::Utf8, true),
        Field::new("n", DataType::Int64, true),
        Field::new("price", DataType::Float64, true),
        Field::new("ts", time, false),
    ]))
}

fn query(sql: &str) -> Arc<FeatureQuery> {
    let tables = STREAMS.map(|name| Table { name, schema: schema(), event_time: "ts" });
    Arc::new(sql::plan(sql, &tables).unwrap_or_else(|error| panic!("{sql}\n{error:?}")))
}

fn rows(events: &[&Event], columns: &[usize]) -> RecordBatch {
    let times: TimestampMicrosecondArray = events.iter().map(|e| Some(e.time * SECOND)).collect();
    // Sums of these depend on their order.
    let prices = events.iter().map(|e| Some(if e.time % 2 == 0 { 0.1 * e.time as f64 } else { 1e16 }));
    let columns_of: Vec<ArrayRef> = vec![
        Arc::new(events.iter().map(|e| e.id).collect::<StringArray>()),
        Arc::new(events.iter().map(|e| e.kind).collect::<StringArray>()),
        Arc::new(events.iter().map(|e| e.n).collect::<Int64Array>()),
        Arc::new(prices.collect::<Float64Array>()),
        Arc::new(times.with_timezone("UTC")),
    ];
    RecordBatch::try_new(schema(), columns_of).unwrap().project(columns).unwrap()
}

fn actual(output: &Output) -> Expected {
    let mut features = Features::new();
    for batch in &output.rows {
        for row in 0..batch.keys.len() {
            assert_eq!((batch.ops[row], batch.first[row]), (Op::Upsert, true));
            let kind = if batch.features.column(0).as_string::<i32>().value(row) == "k" { "k" } else { "l" };
            let cell = |column: usize| {
                let column = batch.features.column(column).as_primitive::<Int64Type>();
                column.is_valid(row).then(|| column.value(row))
            };
            let end = batch.event_times[row].0 / SECOND;
            let cells = [cell(1), cell(2), cell(3), cell(4), cell(5)];
            assert!(features.insert((end, kind), cells).is_none(), "a row came out twice");
        }
    }
    Expected {
        features,
        applied: output.counts.iter().map(|c| c.applied).collect(),
        late: output.counts.iter().map(|c| c.late).collect(),
        lost: output.lost,
    }
}

fn prices(output: &Output) -> Vec<u64> {
    let batches = output.rows.iter();
    batches
        .flat_map(|b| b.features.column(6).as_primitive::<Float64Type>().values().iter().map(|p| p.to_bits()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Rows, when they come out, and what became of each record, whatever the checkpoints, the restarts and what
    /// is in memory.
    #[test]
    fn joins_are_what_their_definition_says(
        definition in definition(), epochs in epochs(), chunk in 1_usize..9,
        restarts in any::<u32>(), checkpoints in any::<u32>(), threads in any::<u32>(), spills in any::<u32>(),
        budget in 0_usize..10_000,
    ) {
        let bit = |bits: u32, n: usize| bits >> (n % 32) & 1 == 1;
        let checkpoint = |n| bit(checkpoints, n);
        let plain = run(&definition, &epochs, &Treatment { checkpoint: &checkpoint, ..PLAIN });
        for (epoch, (output, expected)) in plain.iter().zip(expected(&definition, &epochs)).enumerate() {
            prop_assert_eq!(actual(output), expected, "epoch {}", epoch);
        }
        let restart = |n| bit(restarts, n);
        let spill = |n| if bit(spills, n) { budget.saturating_sub(5_000) } else { usize::MAX };
        let how = Treatment { chunk, restart: &restart, checkpoint: &checkpoint, spill: &spill, threads };
        let treated = run(&definition, &epochs, &how);
        prop_assert_eq!(stores(plain.iter()), stores(treated.iter()));
        for (one, other) in plain.iter().zip(&treated) {
            prop_assert_eq!(prices(one), prices(other));
            prop_assert_eq!(actual(one), actual(other));
        }
    }

    /// Where the watermark is the same, the cut into epochs is nobody's business.
    #[test]
    fn epochs_do_not_matter_to_joins(
        definition in definition(), events in prop::collection::vec(event(), 1..60), size in 1_usize..20,
    ) {
        let last = (Vec::new(), 10_000);
        let at_once: Epochs = vec![(events.clone(), -1000), last.clone()];
        let mut cut: Epochs = events.chunks(size).map(|part| (part.to_vec(), -1000)).collect();
        cut.push(last);
        let features = |epochs: &Epochs| -> Features {
            run(&definition, epochs, &PLAIN).iter().flat_map(|output| actual(output).features).collect()
        };
        prop_assert_eq!(features(&at_once), features(&cut));
    }
}

/// A finish lets left rows out that wait, and closes their windows; applied again under the journalled
/// watermark the same rows come out.
#[test]
fn a_finish_waits_for_nobody() {
    let step = |upper| Step { keeps_left: true, lower: 0, upper, condition: false };
    let definition = Definition { first: step(15), second: Some(step(40)), size: 10, on_right: false };
    let query = query(&definition.sql());
    let event =
        |stream, time| Event { stream, partition: 0, time, id: Some("a"), kind: Some("k"), n: Some(1) };
    let (shown, clicked) = ([event(0, 3), event(0, 27)], [event(1, 5)]);
    let batches: Vec<SourceBatch> = [&shown[..], &clicked[..]]
        .into_iter()
        .enumerate()
        .map(|(source, events)| SourceBatch {
            source: source as u16,
            partition: 0,
            offsets: (0..events.len() as i64).collect(),
            rows: rows(&events.iter().collect::<Vec<_>>(), &query.sources[source].columns),
        })
        .collect();
    let apply = |threads, finished, watermark| {
        let (workers, rows) = (workers(threads), std::iter::empty());
        let mut engine =
            Engine::restore_on(workers, query.clone(), Emission::default(), Micros::MIN, rows).unwrap();
        let input = Input {
            batches: &batches,
            deletes: &[],
            watermark,
            finished,
            cursor: None,
            max_rows: usize::MAX,
            checkpoint: true,
        };
        let output = engine.apply(&input).unwrap();
        assert_eq!(engine.open(), (0, 0), "nothing waits");
        output
    };
    for threads in THREADS {
        let finished = apply(threads, true, Micros(20 * SECOND));
        let features = actual(&finished).features;
        assert_eq!(features[&(10, "k")], [Some(1), Some(1), Some(1), Some(0), None]);
        assert_eq!(features[&(30, "k")], [Some(1), Some(0), None, Some(0), None]);
        // The window that ends at 30 closes 40 seconds later: so long a view may come after its impression.
        assert_eq!(finished.watermark, Micros(70 * SECOND));
        let again = apply(threads, false, finished.watermark);
        assert_eq!(actual(&again), actual(&finished));
        assert_eq!(again.state, finished.state);
    }
}

#[test]
fn state_that_is_not_of_this_join_is_refused() {
    let step = Step { keeps_left: true, lower: 0, upper: 15, condition: false };
    let query = query(&Definition { first: step, second: None, size: 10, on_right: false }.sql());
    let row = |operator: u16, key: &[u8], value: &[u8]| StateRow {
        key: StateKey { operator, slice_end: Micros(SECOND), key_group: 0, key: key.to_vec() },
        value: value.to_vec(),
    };
    let restore = |row| {
        Engine::restore(query.clone(), Emission::default(), Micros::MIN, std::iter::once(row)).map(drop)
    };
    let refused = [
        row(crate::state::JOIN + 2, b"\x01a\0\0", &[1]),
        row(crate::state::JOIN, b"\x01a\0\0", &[9]),
        row(crate::state::JOIN, b"\x01a\0\0", &[1, 1]),
    ];
    for row in refused {
        assert!(matches!(restore(row), Err(Error::State { .. })));
    }
}
