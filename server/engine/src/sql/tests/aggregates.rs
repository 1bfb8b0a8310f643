//! Every aggregate against its definition: random records of several partitions, with times that go up and
//! down and are often the same, cut into random epochs with checkpoints and restarts, over a window of its own,
//! over windows that share slices and over the time before each event.

mod definitions;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType};
use proptest::prelude::*;

use self::definitions::Value::{self, Float, Int, List, Null, Text};
use self::definitions::{Definition, Estimate, Event, Rows, definitions, estimates};
use super::super::plan;
use super::events;
use super::run::records;
use crate::epoch::{Emission, Engine, Input, Output, SourceBatch};
use crate::state::view::tests::Stored;
use crate::time::Micros;
use crate::workers::Workers;

/// What a column holds.
fn value(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Null;
    }
    match column.data_type() {
        DataType::Boolean => Value::Bool(column.as_boolean().value(row)),
        DataType::Int64 => Int(column.as_primitive::<Int64Type>().value(row).into()),
        DataType::Decimal128(..) => Int(column.as_primitive::<Decimal128Type>().value(row)),
        DataType::Float64 => Float(column.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => Text(column.as_string::<i32>().value(row).to_owned()),
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            List((0..items.len()).map(|item| value(&items, item)).collect())
        }
        other => panic!("a feature of type {other}"),
    }
}

/// The same, floats but for rounding.
fn alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Float(a), Float(b)) => a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0),
        (List(a), List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        _ => one == other,
    }
}

fn event() -> impl Strategy<Value = Event> {
    let price = prop_oneof![
        3 => prop::sample::select(vec![0.0, 0.25, 2.5, -1.5, 1e3]),
        1 => -1e3..1e3,
    ];
    (
        0_u32..3,
        prop::sample::select(vec!["ann", "bob", "cy"]),
        0_i64..90,
        prop::option::weighted(0.8, -6_i64..7),
        prop::option::weighted(0.8, price),
        prop::option::weighted(0.8, prop::sample::select(vec!["view", "click", "cart", "buy"])),
        prop::option::of(any::<bool>()),
    )
        .prop_map(|(partition, user, time, clicks, price, kind, ok)| Event {
            partition,
            offset: 0,
            user,
            // Few instants, so that many events share one.
            time: time / 3 * 3,
            clicks,
            price,
            kind,
            ok,
        })
}

/// Events of one epoch, a batch for each partition.
fn batches(events: &[Event], columns: &[usize]) -> Vec<SourceBatch> {
    let mut batches = Vec::new();
    for partition in 0..3 {
        let own: Vec<&Event> = events.iter().filter(|e| e.partition == partition).collect();
        if own.is_empty() {
            continue;
        }
        let times = own.iter().map(|e| e.time * 1_000_000);
        let columns_of: [(&str, ArrayRef); 6] = [
            ("user_id", Arc::new(StringArray::from_iter_values(own.iter().map(|e| e.user)))),
            ("clicks", Arc::new(own.iter().map(|e| e.clicks).collect::<Int64Array>())),
            ("price", Arc::new(own.iter().map(|e| e.price).collect::<Float64Array>())),
            ("kind", Arc::new(own.iter().map(|e| e.kind).collect::<StringArray>())),
            ("ok", Arc::new(own.iter().map(|e| e.ok).collect::<BooleanArray>())),
            ("timestamp", Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))),
        ];
        let rows = records(&columns_of).project(columns).unwrap();
        let offsets = own.iter().map(|e| e.offset).collect();
        batches.push(SourceBatch { source: 0, partition, offsets, rows });
    }
    batches
}

/// Runs a definition over events, cut where `cuts` says; with a checkpoint from 1 on, and then a restart (2), half
/// of the groups let go of (3), or all of them (4).
fn run(sql: &str, events: &[Event], cuts: &[(usize, u8)]) -> Vec<RecordBatch> {
    let query = Arc::new(plan(sql, &[super::events()]).unwrap_or_else(|e| panic!("{sql}\n{e:?}")));
    let columns = query.sources[0].columns.clone();
    let saved = Stored::default();
    let workers = Arc::new(Workers::new(1));
    let restored = || {
        let view = Arc::new(saved.clone());
        Engine::resume(&workers, query.clone(), Emission::default(), Micros::MIN, view).unwrap()
    };
    let mut engine = restored();
    let (mut rest, mut rows) = (events, Vec::new());
    let ends = cuts.iter().map(|(length, how)| (*length, *how)).chain([(usize::MAX, 0)]);
    for (length, how) in ends {
        let (now, later) = rest.split_at(length.min(rest.len()));
        rest = later;
        let given = batches(now, &columns);
        let checkpoint = how > 0;
        let input = Input {
            batches: &given,
            deletes: &[],
            watermark: Micros::MIN,
            finished: length == usize::MAX,
            cursor: None,
            max_rows: usize::MAX,
            checkpoint,
        };
        let Output { state, rows: emitted, .. } = engine.apply(&input).unwrap();
        saved.apply(&state);
        rows.extend(emitted.into_iter().map(|e| e.features));
        match how {
            2 => engine = restored(),
            3 => engine.evict(engine.memory().evictable / 2).unwrap(),
            4 => engine.evict(0).unwrap(),
            _ => {}
        }
    }
    rows
}

/// Which events a row is about.
#[derive(Clone, Copy)]
enum Over {
    /// Those of a window of so many seconds.
    Window(&'static str, i64),
    /// Those of so many seconds before, and of the instant itself.
    Before(i64),
}

impl Over {
    fn sql(self, calls: &[(&str, What)]) -> String {
        let behind = if matches!(self, Self::Before(_)) { " OVER w" } else { "" };
        let list = calls.iter().enumerate().map(|(i, (call, _))| format!("{call}{behind} AS a{i}"));
        let list = list.collect::<Vec<_>>().join(", ");
        match self {
            Self::Window(window, _) => {
                format!("SELECT user_id, window_end, {list} FROM {window} GROUP BY user_id, window_end")
            }
            Self::Before(seconds) => format!(
                "SELECT user_id, timestamp, {list} FROM events WINDOW w AS (PARTITION BY user_id ORDER BY timestamp \
                 RANGE BETWEEN INTERVAL '{seconds}' SECONDS PRECEDING AND CURRENT ROW)"
            ),
        }
    }

    /// Whether the row at `at` (microseconds) is about an event.
    fn holds(self, at: i64, event: &Event) -> bool {
        let time = event.time * 1_000_000;
        match self {
            Self::Window(_, seconds) => (at - seconds * 1_000_000..at).contains(&time),
            Self::Before(seconds) => (at - seconds * 1_000_000..=at).contains(&time),
        }
    }
}

/// What an aggregate is to give.
#[derive(Clone, Copy)]
enum What {
    Exactly(Definition),
    About(Estimate),
}

impl What {
    fn check(self, call: &str, found: &Value, events: &Rows<'_>) {
        let (wanted, room) = match self {
            Self::Exactly(definition) => {
                let wanted = definition(events);
                assert!(alike(found, &wanted), "{call}: {found:?}, not {wanted:?}\n{:#?}", events.0);
                return;
            }
            Self::About(estimate) => match estimate(events) {
                Some(wanted) => wanted,
                None => return assert_eq!(*found, Null, "{call}"),
            },
        };
        let near = match found {
            Float(found) => *found,
            Int(found) => *found as f64,
            other => panic!("{call}: {other:?}, not {wanted}"),
        };
        assert!((near - wanted).abs() <= room, "{call}: {near}, not {wanted}");
    }
}

fn check(events: &[Event], cuts: &[(usize, u8)], over: Over) {
    let exact = definitions().into_iter().map(|(call, definition)| (call, What::Exactly(definition)));
    let about = estimates().into_iter().map(|(call, estimate)| (call, What::About(estimate)));
    let mut calls: Vec<(&str, What)> = exact.chain(about).collect();
    if matches!(over, Over::Before(_)) {
        calls.retain(|(call, _)| !call.contains("ORDER BY") || call.contains("WITHIN GROUP"));
    }
    let mut outputs = 0;
    // So many that no query is too long.
    for calls in calls.chunks(29) {
        for batch in run(&over.sql(calls), events, cuts) {
            outputs += batch.num_rows();
            for row in 0..batch.num_rows() {
                let user = batch.column(0).as_string::<i32>().value(row);
                let at = batch.column(1).as_primitive::<TimestampMicrosecondType>().value(row);
                let mut own: Vec<&Event> =
                    events.iter().filter(|e| e.user == user && over.holds(at, e)).collect();
                own.sort_by_key(|e| (e.time, e.partition, e.offset));
                let own = Rows(own);
                for (place, (call, what)) in calls.iter().enumerate() {
                    what.check(call, &value(batch.column(place + 2), row), &own);
                }
            }
        }
    }
    assert!(outputs > 0 || events.is_empty());
}

const TUMBLE: Over = Over::Window("TUMBLE(events, DESCRIPTOR(timestamp), INTERVAL '45' SECONDS)", 45);
const HOP: Over =
    Over::Window("HOP(events, DESCRIPTOR(timestamp), INTERVAL '10' SECONDS, INTERVAL '30' SECONDS)", 30);

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn aggregates_are_what_their_definition_says(
        mut events in prop::collection::vec(event(), 1..120),
        cuts in prop::collection::vec((0_usize..30, 0_u8..5), 0..8),
    ) {
        for (offset, event) in (0..).zip(&mut events) {
            event.offset = offset;
        }
        check(&events, &cuts, TUMBLE);
        check(&events, &cuts, HOP);
        check(&events, &cuts, Over::Before(20));
    }
}

/// However many a group has seen, it holds what the call names: chunks are written anew, and nothing is lost.
#[test]
fn many_events_of_few_keys() {
    let seeds = 0_i64..30_000;
    let events: Vec<Event> = seeds
        .map(|i| Event {
            partition: (i % 3) as u32,
            offset: i,
            user: ["ann", "bob", "cy"][(i * 7 % 11 % 3) as usize],
            time: i * 7_919 % 90,
            clicks: (i % 13 > 0).then_some(i * 31 % 2_003 % 7),
            price: (i % 5 > 0).then_some((i * 48_271 % 65_537) as f64 / 16.0),
            kind: [Some("view"), Some("buy"), None][(i % 3) as usize],
            ok: Some(i % 2 == 0),
        })
        .collect();
    let cuts: Vec<(usize, u8)> =
        (0..200).map(|cut| (cut * 37 % 301, if cut % 40 == 7 { 1 + cut as u8 / 40 } else { 0 })).collect();
    check(&events, &cuts, TUMBLE);
}

#[test]
fn a_stream_has_what_the_tests_read() {
    let names = ["user_id", "clicks", "price", "kind", "ok", "timestamp"];
    assert!(names.iter().all(|name| events().schema.field_with_name(name).is_ok()));
}
