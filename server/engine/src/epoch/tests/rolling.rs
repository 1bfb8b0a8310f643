//! Rolling features against a recomputation from their definition: of each key and instant, all records in
//! its frames, one at a time, in the order of (time, source, partition, offset).

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use proptest::prelude::*;

use super::super::*;
use super::drive::Course;
use super::{Event, SECOND, cell, event, schema};
use crate::sql::{self, Table};
use crate::state::StateKey;

mod drive;
mod naive;

use drive::{Given, batches, check};

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

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn rolling_features_are_what_their_definition_says(
        definition in definition(), epochs in epochs(), max_rows in prop_oneof![1_usize..8, Just(usize::MAX)],
        chunk in 1_usize..12, restarts in any::<u32>(), checkpoints in any::<u32>(),
        threads in any::<u32>(), spills in any::<u32>(), budget in 0_usize..10_000,
    ) {
        let (emission, budget) = (definition.emission(), budget.saturating_sub(5_000));
        check(definition, &epochs, Course { emission, max_rows, chunk, restarts, checkpoints, spills, budget, threads });
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
    for (threads, spills) in [(0, 0), (0b1110, 0), (0, u32::MAX)] {
        let (emission, max_rows, chunk, budget) = (definition.emission(), 700, 1_000, 0);
        let (restarts, checkpoints) = (2, if spills == 0 { 1 } else { u32::MAX });
        let how = Course { emission, max_rows, chunk, restarts, checkpoints, spills, budget, threads };
        check(definition, &epochs, how);
    }
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
