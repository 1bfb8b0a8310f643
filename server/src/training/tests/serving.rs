//! Invariant 7: training at `t = as_of` is what serving gave, for random histories.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millpond_engine::epoch::Op;
use millpond_engine::key;
use millpond_engine::pick::Status;
use millpond_engine::time::Span;
use proptest::prelude::*;

use super::{TrainingRequest, long, text, times, train, view};
use crate::catalog::GroupId;
use crate::offline::tests::world::{World, batch};
use crate::store::Scalar;

const KEYS: [&str; 3] = ["a", "b", "c"];

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Utf8, false),
        Field::new("v", DataType::Int64, true),
    ]))
}

/// One row of an epoch: key, window, delete?, how far within the epoch it becomes available.
type Row = (usize, i64, bool, i64);

/// What serving says now: value by key, with the `as_of` of the reply.
fn served(world: &World, group: GroupId, ttl: Option<Span>) -> (i64, Vec<Option<i64>>) {
    let view = world.store.view();
    let as_of = view.clock(group).unwrap();
    let keys: Vec<Vec<u8>> = KEYS
        .iter()
        .map(|k| key::encode(&[Arc::new(StringArray::from(vec![*k])) as ArrayRef], 0).unwrap())
        .collect();
    let wanted: Vec<(GroupId, &[u8])> = keys.iter().map(|k| (group, k.as_slice())).collect();
    let values = view.multi_get(&wanted).unwrap().into_iter().map(|versions| {
        let versions = versions?;
        let row = versions.latest(as_of).unwrap()?;
        match row.stamp().status(as_of, ttl) {
            Status::Found => match row.value(1).unwrap() {
                Scalar::Int(v) => Some(v),
                Scalar::Null => None,
                other => panic!("{other:?}"),
            },
            _ => None,
        }
    });
    (as_of.0, values.collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn training_at_as_of_is_what_was_served(
        epochs in prop::collection::vec(prop::collection::vec((0..3_usize, 0..12_i64, prop::bool::weighted(0.2), 0..10_i64), 1..5), 1..12),
        flushes in prop::collection::vec(any::<bool>(), 12),
        ttl in prop::option::of(5..60_i64),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(check(&epochs, &flushes, ttl));
    }
}

async fn check(epochs: &[Vec<Row>], flushes: &[bool], ttl: Option<i64>) {
    let world = World::new();
    let group = world.group(1, &schema(), ttl);
    let view = view(&[(&group, &["k"], &[("v", "v")])], &["seen"]);
    let (mut labels, mut clock) = (Vec::new(), 0);
    for (number, epoch) in epochs.iter().enumerate() {
        // A row of a (key, event time) stands once in an epoch, as the engine has it.
        let mut rows: Vec<Row> = epoch.clone();
        rows.sort_unstable();
        rows.dedup_by_key(|(key, window, _, _)| (*key, *window));
        let features: Vec<(&str, ArrayRef)> = vec![
            ("k", Arc::new(StringArray::from_iter_values(rows.iter().map(|r| KEYS[r.0])))),
            (
                "v",
                Arc::new(Int64Array::from_iter(
                    rows.iter().enumerate().map(|(i, r)| (r.3 != 9).then_some((number * 100 + i) as i64)),
                )),
            ),
        ];
        let features = RecordBatch::try_new(schema(), batch(features).columns().to_vec()).unwrap();
        let at: Vec<_> = rows
            .iter()
            .map(|(_, window, delete, within)| {
                (window * 10, if *delete { Op::Delete } else { Op::Upsert }, clock + 1 + within)
            })
            .collect();
        world.commit(group.id, features, &at);
        clock = at.iter().map(|(_, _, available)| *available).max().unwrap();
        if flushes[number] {
            world.offline.flush(group.id).await.unwrap();
        }
        let (as_of, values) = served(&world, group.id, group.ttl);
        labels.extend(KEYS.iter().zip(values).map(|(key, value)| (*key, as_of, value)));
    }
    let table = batch(vec![
        ("k", text(&labels.iter().map(|(key, _, _)| Some(*key)).collect::<Vec<_>>())),
        ("at", times(&labels.iter().map(|(_, t, _)| Some(*t)).collect::<Vec<_>>())),
        ("seen", Arc::new(Int64Array::from_iter(labels.iter().map(|(_, _, value)| *value))) as ArrayRef),
    ]);
    let request = TrainingRequest { event_time: "at".into(), ..TrainingRequest::default() };
    let out = train(&world, &view, &table, request).await;
    assert_eq!(long(&out, "v"), long(&out, "seen"), "{labels:?}");
}
