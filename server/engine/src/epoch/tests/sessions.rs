//! Sessions, with lateness and with updates, against a recomputation from their definition: all events of a
//! key sorted and cut at the gaps, in every epoch anew.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit, TimestampMicrosecondType};
use proptest::prelude::*;

use super::super::*;
use super::SECOND;
use super::drive::{Course, course};
use crate::sql::{self, Table};

/// In seconds.
#[derive(Debug, Clone, Copy)]
struct Definition {
    gap: i64,
    lateness: i64,
    on_update: bool,
    having: bool,
}

fn definition() -> impl Strategy<Value = Definition> {
    let lateness = prop_oneof![2 => Just(0), 3 => 1_i64..40];
    (1_i64..9, lateness, any::<bool>(), any::<bool>())
        .prop_map(|(gap, lateness, on_update, having)| Definition { gap, lateness, on_update, having })
}

impl Definition {
    fn sql(self) -> String {
        let having = if self.having { "HAVING n <> 2" } else { "" };
        format!(
            "SELECT name, COUNT(*) AS n, SUM(clicks) AS clicks, COUNT(DISTINCT clicks) AS different,
                    window_start, window_end, window_time
             FROM SESSION(events PARTITION BY name, DESCRIPTOR(ts), INTERVAL '{}' SECONDS)
             GROUP BY name, window_start, window_end, window_time {having}",
            self.gap
        )
    }
}

/// Time in seconds, key, clicks.
type Record = (i64, &'static str, i64);

/// Records of each epoch, and its watermark.
type Epochs = Vec<(Vec<Record>, i64)>;

fn epochs() -> impl Strategy<Value = Epochs> {
    let key = prop::sample::select(vec!["ann", "bob", "cat"]);
    let record = (prop_oneof![-12_i64..12, -60_i64..12], key, -2_i64..3);
    prop::collection::vec((prop::collection::vec(record, 0..8), 0_i64..14), 1..14).prop_map(|mut epochs| {
        let mut watermark = -20;
        for (records, step) in &mut epochs {
            for record in records.iter_mut() {
                record.0 += watermark;
            }
            watermark += *step;
            *step = watermark;
        }
        epochs.push((Vec::new(), 10_000));
        epochs
    })
}

/// Event time and key, first emission?, the values unless it is a delete: count, sum, distinct, start, end.
type Row = (i64, &'static str, bool, Option<(i64, i64, i64, i64, i64)>);

/// A session as it is kept.
#[derive(Debug, Clone, Default)]
struct Session {
    /// Time and clicks.
    events: Vec<(i64, i64)>,
    /// Where its row stands, if it is closed and one came out.
    row: Option<i64>,
    /// Its rows do not come to stand before this.
    floor: Option<i64>,
}

impl Session {
    fn first(&self) -> i64 {
        self.events.iter().map(|(time, _)| *time).min().unwrap()
    }

    fn last(&self) -> i64 {
        self.events.iter().map(|(time, _)| *time).max().unwrap()
    }
}

/// The recomputation.
struct Naive {
    definition: Definition,
    sessions: BTreeMap<&'static str, Vec<Session>>,
    watermark: i64,
}

impl Naive {
    fn end(&self, session: &Session) -> i64 {
        session.last() + self.definition.gap
    }

    /// A row as HAVING leaves it; `is_out`: a row may be out that does not hold any more.
    fn row(&self, at: i64, key: &'static str, session: &Session, first: bool, is_out: bool) -> Option<Row> {
        let n = session.events.len() as i64;
        let clicks = session.events.iter().map(|(_, clicks)| *clicks);
        if self.definition.having && n == 2 {
            return is_out.then_some((at, key, first, None));
        }
        let different = clicks.clone().collect::<BTreeSet<_>>().len() as i64;
        let values = (n, clicks.sum(), different, session.first(), self.end(session));
        Some((at, key, first, Some(values)))
    }

    /// What becomes of the sessions of a key with more events: the sessions, each with the old ones in it and the
    /// numbers of the events that are new in it.
    fn cut(&self, key: &str, records: &[Record]) -> Vec<(Session, Vec<Session>, Vec<usize>)> {
        enum From {
            Kept(usize),
            Record(usize),
        }
        let none = Vec::new();
        let kept = self.sessions.get(key).unwrap_or(&none);
        let mut all: Vec<(i64, i64, From)> = Vec::new();
        for (number, session) in kept.iter().enumerate() {
            all.extend(session.events.iter().map(|(time, clicks)| (*time, *clicks, From::Kept(number))));
        }
        let own = records.iter().enumerate().filter(|(_, record)| record.1 == key);
        all.extend(own.map(|(number, (time, _, clicks))| (*time, *clicks, From::Record(number))));
        all.sort_by_key(|(time, ..)| *time);
        let cuts = all.chunk_by(|a, b| b.0 - a.0 < self.definition.gap);
        cuts.map(|events| {
            let mut session = Session::default();
            let (mut old, mut new) = (BTreeSet::new(), Vec::new());
            for (time, clicks, from) in events {
                session.events.push((*time, *clicks));
                match from {
                    From::Kept(number) => drop(old.insert(*number)),
                    From::Record(number) => new.push(*number),
                }
            }
            (session, old.into_iter().map(|number| kept[number].clone()).collect(), new)
        })
        .collect()
    }

    /// One epoch: the rows, and which of the records are late.
    fn epoch(&mut self, records: &[Record], watermark: i64) -> (Vec<Row>, Vec<bool>) {
        let Definition { lateness, on_update, .. } = self.definition;
        let before = self.watermark;
        self.watermark = before.max(watermark);
        let (mut rows, mut late) = (Vec::new(), vec![false; records.len()]);
        let mut retracted: Vec<Row> = Vec::new();
        let mut updates: Vec<Row> = Vec::new();
        for key in ["ann", "bob", "cat"] {
            let mut sessions = Vec::new();
            for (mut session, old, new) in self.cut(key, records) {
                let end = self.end(&session);
                if end + lateness <= before {
                    assert!(old.is_empty(), "a session that is kept is not over");
                    for record in new {
                        late[record] = true;
                    }
                    continue;
                }
                session.row = old.iter().filter_map(|o| o.row).find(|at| *at == end);
                session.floor = old.iter().filter_map(|o| o.floor).max();
                let mut gone: BTreeSet<i64> =
                    old.iter().filter_map(|o| o.row).filter(|at| *at != end).collect();
                if end <= before && !new.is_empty() {
                    // It was closed all along.
                    let first = session.row.is_none();
                    let row = self.row(end, key, &session, first, !first || on_update);
                    session.row = row.as_ref().map(|_| end);
                    rows.extend(row);
                } else if end > before && end <= self.watermark {
                    let row = self.row(end, key, &session, true, on_update);
                    session.row = row.as_ref().map(|_| end);
                    rows.extend(row);
                } else if end > self.watermark && on_update && !new.is_empty() {
                    let floor = session.floor.max(gone.last().copied());
                    let at = floor.unwrap_or(i64::MIN).max(session.last());
                    if gone.remove(&at) {
                        session.floor = Some(at);
                    }
                    updates.extend(self.row(at, key, &session, true, true));
                }
                retracted.extend(gone.into_iter().map(|at| (at, key, false, None)));
                if end + lateness > self.watermark {
                    sessions.push(session);
                }
            }
            self.sessions.insert(key, sessions);
        }
        // How a session closed is not overwritten by an event at its very end.
        let closed: BTreeSet<(i64, &str)> = rows.iter().map(|r: &Row| (r.0, r.1)).collect();
        rows.extend(updates.into_iter().filter(|r| !closed.contains(&(r.0, r.1))));
        rows.extend(retracted);
        rows.sort_unstable();
        (rows, late)
    }
}

fn emitted(outputs: &[Output]) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in outputs.iter().flat_map(|o| &o.rows) {
        for row in 0..batch.keys.len() {
            let long = |column: usize| batch.features.column(column).as_primitive::<Int64Type>().value(row);
            let time = |column: usize| {
                let column = batch.features.column(column).as_primitive::<TimestampMicrosecondType>();
                assert!(column.is_valid(row));
                column.value(row)
            };
            let names = batch.features.column(0).as_string::<i32>();
            let name = ["ann", "bob", "cat"].into_iter().find(|name| *name == names.value(row)).unwrap();
            let values = (batch.ops[row] == Op::Upsert).then(|| {
                assert_eq!(time(6), time(5) - 1);
                (long(1), long(2), long(3), time(4) / SECOND, time(5) / SECOND)
            });
            rows.push((batch.event_times[row].0 / SECOND, name, batch.first[row], values));
        }
    }
    rows.sort_unstable();
    rows
}

fn batch(query: &FeatureQuery, schema: &arrow::datatypes::SchemaRef, records: &[Record]) -> RecordBatch {
    let times: TimestampMicrosecondArray = records.iter().map(|r| Some(r.0 * SECOND)).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(times.with_timezone("UTC")),
        Arc::new(records.iter().map(|r| Some(r.1)).collect::<StringArray>()),
        Arc::new(records.iter().map(|r| Some(r.2)).collect::<Int64Array>()),
    ];
    let rows = RecordBatch::try_new(schema.clone(), columns).unwrap();
    rows.project(&query.sources[0].columns).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// Whatever the gap, the lateness, the checkpoints, the restarts, the threads, the batches, the size of a close and what
    /// of the state is in memory.
    #[test]
    fn sessions_are_what_their_definition_says(
        definition in definition(), epochs in epochs(), max_rows in 1_usize..6, chunk in 1_usize..9,
        restarts in any::<u32>(), checkpoints in any::<u32>(), threads in any::<u32>(), spills in any::<u32>(),
        budget in 0_usize..10_000,
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
        let given: Vec<(RecordBatch, Micros)> = epochs
            .iter()
            .map(|(records, watermark)| (batch(&query, &schema, records), Micros(watermark * SECOND)))
            .collect();
        let budget = budget.saturating_sub(5_000);
        let how = Course { emission, max_rows, chunk, restarts, checkpoints, spills, budget, threads };
        let results = course(&query, &given, how);
        let mut naive = Naive { definition, sessions: BTreeMap::new(), watermark: -1_000_000 };
        let mut offset = 0;
        for ((records, watermark), outputs) in epochs.iter().zip(&results) {
            let (expected, late) = naive.epoch(records, *watermark);
            prop_assert_eq!(emitted(outputs), expected);
            let numbers = (offset..).zip(&late).filter(|(_, late)| **late).map(|(offset, _)| offset);
            let found: Vec<i64> = outputs[0].late.iter().map(|record| record.offset).collect();
            prop_assert_eq!(found, numbers.collect::<Vec<i64>>());
            let applied = late.iter().filter(|late| !**late).count() as u64;
            prop_assert_eq!((outputs[0].counts[0].applied, outputs[0].counts[0].late), (applied, late.len() as u64 - applied));
            offset += records.len() as i64;
            for output in outputs {
                let rows: Vec<_> =
                    output.rows.iter().flat_map(|r| r.event_times.iter().copied().zip(r.keys.clone())).collect();
                prop_assert!(rows.is_sorted() && rows.windows(2).all(|pair| pair[0] != pair[1]));
                prop_assert!(definition.on_update || definition.lateness > 0 || rows.len() <= max_rows);
            }
        }
    }
}
