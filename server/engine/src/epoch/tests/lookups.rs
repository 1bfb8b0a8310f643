//! Lookups against a recomputation from their definition: each click with the row that the rule of serving picks among
//! all rows that its user ever has.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use proptest::prelude::*;

use super::super::*;
use super::drive::{stores, workers_at};
use super::{SECOND, assert_same};
use crate::pick::{Stamp, Status, pick};
use crate::sql::{self, CHANGES, Group, Table};
use crate::state::StateKey;

mod steps;

use steps::{Change, Click, Step, change_rows, click_rows, steps};

#[derive(Debug, Clone, Copy)]
struct Definition {
    keeps_left: bool,
    /// A second group is looked up too.
    twice: bool,
    ttl: Option<i64>,
    size: i64,
    lateness: i64,
}

fn definition() -> impl Strategy<Value = Definition> {
    (any::<bool>(), any::<bool>(), prop::option::of(0_i64..20), 1_i64..8, 0_i64..6).prop_map(
        |(keeps_left, twice, ttl, size, lateness)| Definition { keeps_left, twice, ttl, size, lateness },
    )
}

impl Definition {
    fn sql(&self) -> String {
        let kind = if self.keeps_left { "LEFT JOIN" } else { "JOIN" };
        let (second, other) = if self.twice {
            ("LEFT JOIN users FOR SYSTEM_TIME AS OF c.ts AS v ON c.other = v.user_id", "v.score")
        } else {
            ("", "c.n")
        };
        format!(
            "SELECT kind, COUNT(*) AS rows, COUNT(x) AS xs, SUM(x) AS x, COUNT(y) AS ys, SUM(y) AS y
             FROM TUMBLE((SELECT c.kind, c.ts, u.score AS x, {other} AS y FROM clicks AS c
                {kind} users FOR SYSTEM_TIME AS OF c.ts AS u ON u.user_id = c.user_id {second}),
                DESCRIPTOR(ts), INTERVAL '{}' SECONDS) GROUP BY kind, window_end",
            self.size
        )
    }

    fn query(&self) -> Arc<FeatureQuery> {
        let key = ["user_id".to_owned()];
        let clicks = Table { name: "clicks", schema: clicks(), event_time: "ts" };
        let changes = Table { name: "users_1_changes", schema: changes(), event_time: CHANGES[1] };
        let ttl = self.ttl.map(|ttl| Span(ttl * SECOND));
        let users = Group { names: vec!["users".into()], changes, key: &key, ttl };
        Arc::new(sql::plan_with(&self.sql(), &[clicks], &[users]).unwrap())
    }

    fn emission(&self) -> Emission {
        Emission { allowed_lateness: Span(self.lateness * SECOND), on_update: false }
    }
}

fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn clicks() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("user_id", DataType::Utf8, true),
        Field::new("other", DataType::Utf8, true),
        Field::new("kind", DataType::Utf8, false),
        Field::new("n", DataType::Int64, true),
        Field::new("ts", time(), false),
    ]))
}

fn changes() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("user_id", DataType::Utf8, false),
        Field::new("score", DataType::Int64, true),
        Field::new(CHANGES[0], time(), false),
        Field::new(CHANGES[1], time(), false),
        Field::new(CHANGES[2], DataType::Int64, false),
        Field::new(CHANGES[3], DataType::Utf8, false),
    ]))
}

const USERS: [&str; 4] = ["a", "b", "c\0", ""];

/// What an epoch was given, to be given once more.
struct Given {
    batches: Vec<SourceBatch>,
    sources: Vec<Micros>,
    watermark: Micros,
    checkpoint: bool,
}

impl Given {
    fn apply(&self, engine: &mut Engine) -> Output {
        engine.look_up_to(&self.sources);
        let input = Input {
            batches: &self.batches,
            deletes: &[],
            watermark: self.watermark,
            finished: false,
            cursor: None,
            max_rows: usize::MAX,
            checkpoint: self.checkpoint,
        };
        engine.apply(&input).unwrap()
    }
}

/// Applies the changes, checking that they come sorted.
fn store(stored: &mut BTreeMap<StateKey, Vec<u8>>, output: &Output) {
    let (mut deleted, mut last) = (None, None);
    for change in &output.state {
        match change {
            StateChange::DropSlice { operator, slice_end, key_groups } => {
                assert!(deleted.is_none() && last.is_none(), "slices are dropped first");
                let is_of = |k: &StateKey| (k.operator, k.slice_end) == (*operator, *slice_end);
                stored.retain(|k, _| !is_of(k) || !key_groups.contains(k.key_group));
            }
            StateChange::Delete(key) => {
                assert!(last.is_none(), "entries are deleted before others are put");
                assert!(
                    deleted.replace(key.clone()).is_none_or(|l| l < *key),
                    "deletes come sorted, each once"
                );
                assert!(stored.remove(key).is_some(), "what is deleted was there");
            }
            StateChange::Put(row) => {
                assert!(last.as_ref().is_none_or(|l| *l < row.key), "puts come sorted, each once");
                last = Some(row.key.clone());
                stored.insert(row.key.clone(), row.value.clone());
            }
        }
    }
}

/// Runs the steps with restarts before, and checkpoints in those whose bits are set.
fn run(
    definition: &Definition,
    steps: &[Step],
    (chunk, threads): (usize, u32),
    restarts: u32,
    checkpoints: u32,
) -> Vec<Output> {
    let (query, emission) = (definition.query(), definition.emission());
    let bit = |bits: u32, n: usize| bits >> (n % 32) & 1 == 1;
    let (mut stored, mut stored_at) = (BTreeMap::<StateKey, Vec<u8>>::new(), Micros::MIN);
    let mut since: Vec<(Given, usize)> = Vec::new();
    let restore = |stored: &BTreeMap<StateKey, Vec<u8>>, at, step| {
        let rows = stored.iter().map(|(k, v)| StateRow { key: k.clone(), value: v.clone() });
        Engine::restore_on(workers_at(threads, step), query.clone(), emission, at, rows).unwrap()
    };
    let mut engine = restore(&stored, stored_at, 0);
    let (mut next, mut outputs) = (BTreeMap::new(), Vec::<Output>::new());
    for (number, step) in steps.iter().enumerate() {
        if bit(restarts, number) {
            engine = restore(&stored, stored_at, number);
            for (given, epoch) in &since {
                assert_same(&given.apply(&mut engine), &outputs[*epoch]);
            }
        }
        let mut batches = Vec::new();
        for (source, of_query) in (0..).zip(&query.sources) {
            let mut add = |partition, rows: RecordBatch| {
                let next = next.entry((source, partition)).or_insert(0_i64);
                let offsets = (*next..).take(rows.num_rows()).collect();
                *next += rows.num_rows() as i64;
                batches.push(SourceBatch { source, partition, offsets, rows });
            };
            if of_query.stream == "clicks" {
                for partition in 0..2 {
                    let own: Vec<&Click> = step.clicks.iter().filter(|c| c.partition == partition).collect();
                    own.chunks(chunk).for_each(|part| add(partition, click_rows(part, &of_query.columns)));
                }
            } else {
                let parts = step.changes.chunks(chunk);
                parts.for_each(|part| add(0, change_rows(part, &of_query.columns)));
            }
        }
        let (clicks, complete) = (Micros(step.watermark * SECOND), Micros(step.complete * SECOND));
        let of_source = |s: &query::Source| if s.stream == "clicks" { clicks } else { complete };
        let sources = query.sources.iter().map(of_source).collect();
        let checkpoint = bit(checkpoints, number) || number + 1 == steps.len();
        let given = Given { batches, sources, watermark: clicks.min(complete), checkpoint };
        let output = given.apply(&mut engine);
        if checkpoint {
            store(&mut stored, &output);
            stored_at = output.watermark;
            since.clear();
        } else {
            assert_eq!(output.state, [], "state outside of a checkpoint");
            since.push((given, number));
        }
        outputs.push(output);
    }
    assert!(!engine.is_due(&[Micros(i64::MAX); 3]), "rows wait for nothing");
    // Of each user and lookup the last row is left, and nothing else.
    assert!(stored.len() <= 2 * USERS.len(), "{} entries", stored.len());
    assert!(stored.values().all(|value| value[..2] == [1, 1] && value[2..6] == 1_u32.to_le_bytes()));
    outputs
}

/// (window end, kind) → rows, xs, x, ys, y.
type Features = BTreeMap<(i64, String), [Option<i64>; 5]>;

/// The last row of each window, and what was counted of the clicks.
fn came_out(outputs: &[Output]) -> (Features, u64, u64) {
    let (mut features, mut applied, mut late) = (Features::new(), 0, 0);
    for output in outputs {
        assert_eq!((output.lost, output.rejected.len()), (0, 0));
        (applied, late) = (applied + output.counts[0].applied, late + output.counts[0].late);
        assert_eq!(output.late.len() as u64, output.counts[0].late);
        for batch in &output.rows {
            let kinds = batch.features.column(0).as_string::<i32>();
            for row in 0..batch.keys.len() {
                let value = |column: usize| {
                    let column = batch.features.column(column).as_primitive::<Int64Type>();
                    column.iter().nth(row).unwrap()
                };
                let identity = (batch.event_times[row].0, kinds.value(row).to_owned());
                features.insert(identity, [1, 2, 3, 4, 5].map(value));
            }
        }
    }
    (features, applied, late)
}

/// The same by the definition.
fn expected(definition: &Definition, steps: &[Step]) -> (Features, u64, u64) {
    let all: Vec<&Change> = steps.iter().flat_map(|step| &step.changes).collect();
    let score = |user: Option<&str>, at: i64| -> Option<Option<i64>> {
        let own: Vec<&&Change> = all.iter().filter(|change| Some(change.user) == user).collect();
        let stamps: Vec<Stamp> = own.iter().map(|change| change.stamp).collect();
        let ttl = definition.ttl.map(|ttl| Span(ttl * SECOND));
        match pick(&stamps, Micros(at * SECOND), ttl) {
            (Some(place), Status::Found) => Some(own[place].score),
            _ => None,
        }
    };
    let (mut features, mut applied, mut late) = (Features::new(), 0, 0);
    let mut watermark = i64::MIN / 2;
    for step in steps {
        for click in &step.clicks {
            let end = click.time - click.time.rem_euclid(definition.size) + definition.size;
            let found = score(click.user, click.time);
            let is_dropped = found.is_none() && !definition.keeps_left;
            if click.time + definition.size + definition.lateness < watermark
                || !is_dropped && end + definition.lateness <= watermark
            {
                late += 1;
                continue;
            }
            applied += 1;
            if is_dropped {
                continue;
            }
            let x = found.flatten();
            let y = if definition.twice { score(click.other, click.time).flatten() } else { click.n };
            let of_window = features.entry((end * SECOND, click.kind.to_owned()));
            let sums = of_window.or_insert([Some(0), Some(0), None, Some(0), None]);
            let cells = [Some(1), Some(i64::from(x.is_some())), x, Some(i64::from(y.is_some())), y];
            for (sum, cell) in sums.iter_mut().zip(cells) {
                *sum = cell.map_or(*sum, |cell| Some(sum.unwrap_or(0) + cell));
            }
        }
        watermark = watermark.max(step.watermark.min(step.complete));
    }
    (features, applied, late)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn lookups_are_what_their_definition_says(
        definition in definition(), steps in steps(), chunk in 1_usize..9, restarts: u32, checkpoints: u32, threads: u32,
    ) {
        let plain = run(&definition, &steps, (usize::MAX, 0), 0, checkpoints);
        prop_assert_eq!(came_out(&plain), expected(&definition, &steps));
        let treated = run(&definition, &steps, (chunk, threads), restarts, checkpoints);
        prop_assert_eq!(stores(plain.iter()), stores(treated.iter()));
        prop_assert_eq!(came_out(&plain), came_out(&treated));
    }

    /// What is looked up depends on the times alone, not on when clicks and rows are read.
    #[test]
    fn when_rows_are_read_does_not_matter(
        definition in definition(), steps in steps(), size in 1_usize..12,
    ) {
        let all = Step {
            clicks: steps.iter().flat_map(|step| step.clicks.clone()).collect(),
            changes: steps.iter().flat_map(|step| step.changes.clone()).collect(),
            watermark: -1_000,
            complete: -1_000,
        };
        let last = Step { clicks: Vec::new(), changes: Vec::new(), watermark: 10_000, complete: 10_000 };
        let Step { watermark, complete, .. } = all;
        let clicks = all.clicks.chunks(size).map(|part| Step {
            clicks: part.to_vec(),
            changes: Vec::new(),
            watermark,
            complete,
        });
        let changes = Step { changes: all.changes.clone(), clicks: Vec::new(), ..all };
        let clicks_first: Vec<Step> = clicks.chain([changes, last.clone()]).collect();
        let at_once = [Step { complete: 9_000, ..all.clone() }, last];
        let of = |steps: &[Step]| came_out(&run(&definition, steps, (usize::MAX, 0), 0, u32::MAX));
        prop_assert_eq!(of(&at_once), of(&clicks_first));
    }
}
