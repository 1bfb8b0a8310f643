//! Joins on a real store and real Delta tables.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod naive;
mod serving;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema};
use futures::TryStreamExt;
use millpond_engine::epoch::Op;
use millpond_engine::time::Micros;
use uuid::Uuid;

use super::{BatchRequest, Error, TrainingRequest, batch_data, rows, training_data};
use crate::catalog::{FeatureGroup, FeatureView, ViewFeature, ViewGroup, ViewId};
use crate::offline::Range;
use crate::offline::tests::world::{World, batch};

/// A view of these groups: (group, names of its key in entries, its features as (column, name)).
fn view(groups: &[(&FeatureGroup, &[&str], &[(&str, &str)])], labels: &[&str]) -> FeatureView {
    FeatureView {
        id: ViewId(1),
        uuid: Uuid::new_v4(),
        name: "v".parse().unwrap(),
        version: 1,
        description: String::new(),
        groups: groups
            .iter()
            .map(|(group, key, _)| ViewGroup {
                id: group.id,
                name: group.name.clone(),
                version: group.version,
                key: key.iter().map(ToString::to_string).collect(),
            })
            .collect(),
        features: groups
            .iter()
            .enumerate()
            .flat_map(|(at, (_, _, features))| {
                features.iter().map(move |(column, name)| ViewFeature {
                    group: at,
                    column: (*column).to_owned(),
                    name: (*name).to_owned(),
                })
            })
            .collect(),
        labels: labels.iter().map(ToString::to_string).collect(),
        definition_hash: String::new(),
        created_at: Micros(0),
    }
}

async fn train(
    world: &World,
    view: &FeatureView,
    labels: &RecordBatch,
    request: TrainingRequest,
) -> RecordBatch {
    let labels = rows(labels.schema(), vec![Ok(labels.clone())].into_iter());
    collect(training_data(&world.offline, view, labels, request).await.unwrap()).await
}

async fn collect(rows: datafusion::execution::SendableRecordBatchStream) -> RecordBatch {
    let schema = rows.schema();
    let batches: Vec<RecordBatch> = rows.try_collect().await.unwrap();
    concat_batches(&schema, &batches).unwrap()
}

fn text(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn times(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(values.to_vec()).with_timezone("UTC"))
}

fn longs(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn names(batch: &RecordBatch) -> Vec<String> {
    batch.schema().fields().iter().map(|f| f.name().clone()).collect()
}

fn long(batch: &RecordBatch, name: &str) -> Vec<Option<i64>> {
    batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().iter().collect()
}

/// Users with a click count, campaigns with a rate that lives for 50 µs.
async fn two_groups(world: &World) -> (FeatureGroup, FeatureGroup) {
    let users = Arc::new(Schema::new(vec![
        Field::new("user", DataType::Utf8, false),
        Field::new("clicks", DataType::Int64, true),
    ]));
    let campaigns = Arc::new(Schema::new(vec![
        Field::new("campaign", DataType::Int64, false),
        Field::new("ctr", DataType::Float64, true),
    ]));
    let (a, b) = (world.group(1, &users, None), world.group(2, &campaigns, Some(50)));
    let user = |names: &[&str], clicks: &[i64]| {
        let names: Vec<Option<&str>> = names.iter().copied().map(Some).collect();
        batch(vec![
            ("user", text(&names)),
            ("clicks", Arc::new(Int64Array::from(clicks.to_vec())) as ArrayRef),
        ])
    };
    let campaign = |ids: &[i64], ctr: &[f64]| {
        let ctr: ArrayRef = Arc::new(Float64Array::from(ctr.to_vec()));
        batch(vec![("campaign", Arc::new(Int64Array::from(ids.to_vec())) as ArrayRef), ("ctr", ctr)])
    };
    world.commit(a.id, user(&["ann", "bob"], &[1, 10]), &[(100, Op::Upsert, 105), (100, Op::Upsert, 105)]);
    world.commit(b.id, campaign(&[7], &[0.1 + 0.2]), &[(100, Op::Upsert, 101)]);
    world.offline.flush(a.id).await.unwrap();
    world.offline.flush(b.id).await.unwrap();
    // From here on in the outbox only: a later window, a late revision of the first one, a delete.
    world.commit(a.id, user(&["ann"], &[2]), &[(200, Op::Upsert, 205)]);
    world.commit(a.id, user(&["ann"], &[3]), &[(100, Op::Upsert, 210)]);
    world.commit(a.id, user(&["bob"], &[0]), &[(300, Op::Delete, 305)]);
    (a, b)
}

#[tokio::test]
async fn each_label_sees_what_was_served_at_its_time() {
    let world = World::new();
    let (a, b) = two_groups(&world).await;
    let view =
        view(&[(&a, &["user"], &[("clicks", "clicks")]), (&b, &["ad"], &[("ctr", "ad_ctr")])], &["bought"]);
    let labels = batch(vec![
        ("bought", longs(&[Some(1), Some(0), None, Some(1), Some(1), Some(0), Some(1), Some(0)])),
        (
            "user",
            text(&[
                Some("ann"),
                Some("ann"),
                Some("bob"),
                Some("bob"),
                None,
                Some("ann"),
                Some("eve"),
                Some("ann"),
            ]),
        ),
        ("at", times(&[Some(104), Some(105), Some(304), Some(305), Some(400), Some(204), Some(400), None])),
        ("ad", longs(&[Some(7), Some(7), Some(7), Some(7), Some(7), None, Some(8), Some(7)])),
        ("note", text(&[None; 8])),
    ]);
    let request =
        TrainingRequest { event_time: "at".into(), primary_key: true, include_event_time: true, as_of: None };
    let out = train(&world, &view, &labels, request.clone()).await;
    assert_eq!(names(&out), ["user", "ad", "at", "clicks", "ad_ctr", "bought"]);
    assert_eq!(
        out.column_by_name("user").unwrap(),
        labels.column_by_name("user").unwrap(),
        "the labels' order"
    );
    assert_eq!(long(&out, "bought"), long(&labels, "bought"));
    let clicks = long(&out, "clicks");
    assert_eq!(clicks[..4], [None, Some(1), Some(10), None], "not yet, available, still, deleted");
    assert_eq!(clicks[4..], [None, Some(1), None, None], "no key, before the next, never seen, no time");
    let ctr: Vec<Option<f64>> =
        out.column_by_name("ad_ctr").unwrap().as_primitive::<Float64Type>().iter().collect();
    let exact = Some(0.1 + 0.2);
    assert_eq!(ctr[..4], [exact, exact, None, None], "bit for bit, until its TTL");
    assert_eq!(ctr[4..], [None, None, None, None]);

    // After the late revision "latest" is still the later window; as of before it, neither was there.
    let late = batch(vec![
        ("user", text(&[Some("ann"), Some("ann")])),
        ("at", times(&[Some(500), Some(150)])),
        ("ad", longs(&[None, None])),
        ("bought", longs(&[None, None])),
    ]);
    let plain = TrainingRequest { event_time: "at".into(), ..TrainingRequest::default() };
    let out = train(&world, &view, &late, plain.clone()).await;
    assert_eq!(
        (names(&out), long(&out, "clicks")),
        (vec!["clicks".into(), "ad_ctr".into(), "bought".into()], vec![Some(2), Some(1)])
    );
    let out = train(&world, &view, &late, TrainingRequest { as_of: Some(Micros(110)), ..plain }).await;
    assert_eq!(long(&out, "clicks"), [Some(1), Some(1)]);

    // The same once everything is in Delta.
    world.offline.flush(a.id).await.unwrap();
    let again = train(&world, &view, &labels, request).await;
    assert_eq!(long(&again, "clicks"), clicks);
}

#[tokio::test]
async fn a_view_without_labels_passes_the_other_columns_on() {
    let world = World::new();
    let (a, _) = two_groups(&world).await;
    let view = view(&[(&a, &["user"], &[("clicks", "clicks")])], &[]);
    let labels = batch(vec![
        ("x", longs(&[Some(5)])),
        ("user", text(&[Some("ann")])),
        ("at", times(&[Some(105)])),
        ("y", text(&[Some("z")])),
    ]);
    let request = TrainingRequest { event_time: "at".into(), ..TrainingRequest::default() };
    let out = train(&world, &view, &labels, request).await;
    assert_eq!(names(&out), ["clicks", "x", "y"]);
    assert_eq!((long(&out, "clicks"), long(&out, "x")), (vec![Some(1)], vec![Some(5)]));
}

#[tokio::test]
async fn what_is_wrong_with_labels_is_said() {
    let world = World::new();
    let (a, b) = two_groups(&world).await;
    let view =
        view(&[(&a, &["user"], &[("clicks", "clicks")]), (&b, &["ad"], &[("ctr", "ctr")])], &["bought"]);
    let good: Vec<(&str, ArrayRef)> = vec![
        ("user", text(&[Some("ann")])),
        ("ad", longs(&[Some(7)])),
        ("at", times(&[Some(1)])),
        ("bought", longs(&[Some(1)])),
    ];
    let fails = async |columns: Vec<(&str, ArrayRef)>| {
        let labels = batch(columns);
        let labels = rows(labels.schema(), vec![Ok(labels)].into_iter());
        let request = TrainingRequest { event_time: "at".into(), ..TrainingRequest::default() };
        training_data(&world.offline, &view, labels, request).await.err().unwrap()
    };
    for (name, _) in &good {
        let without = good.iter().filter(|(n, _)| n != name).cloned().collect();
        let error = fails(without).await;
        assert!(matches!(&error, Error::Missing { column, .. } if column == name), "{error}");
        assert!(error.is_callers());
    }
    let with = |name: &str, column: ArrayRef| {
        good.iter().map(|(n, c)| (*n, if *n == name { Arc::clone(&column) } else { Arc::clone(c) })).collect()
    };
    let error = fails(with("ad", text(&[Some("7")]))).await;
    assert!(matches!(&error, Error::KeyType { column, .. } if column == "ad"), "{error}");
    let error = fails(with("at", longs(&[Some(7)]))).await;
    assert!(matches!(&error, Error::TimeType { column, .. } if column == "at"), "{error}");
}

#[tokio::test]
async fn batch_data_is_the_left_most_groups_rows_with_what_was_served_beside_them() {
    let world = World::new();
    let (a, b) = two_groups(&world).await;
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let visits =
        batch(vec![("id", ids), ("who", text(&[Some("ann"), Some("bob")])), ("ad", longs(&[Some(7), None]))]);
    let left = world.group(3, &visits.schema(), None);
    world.commit(left.id, visits.clone(), &[(110, Op::Upsert, 111), (90, Op::Upsert, 111)]);
    world.commit(left.id, visits.slice(0, 1), &[(110, Op::Upsert, 206)]);
    world.commit(left.id, visits.slice(0, 1), &[(310, Op::Delete, 311)]);
    let view = view(
        &[
            (&left, &["id"], &[("ad", "ad")]),
            (&a, &["who"], &[("clicks", "clicks")]),
            (&b, &["ad"], &[("ctr", "ctr")]),
        ],
        &[],
    );
    let ask = |start: Option<i64>, end: Option<i64>| BatchRequest {
        range: Range { start: start.map(Micros), end: end.map(Micros) },
        primary_key: true,
        event_time: true,
    };
    let out = collect(batch_data(&world.offline, &view, ask(None, None)).await.unwrap()).await;
    assert_eq!(names(&out), ["id", "who", "ts", "ad", "clicks", "ctr"]);
    assert_eq!(long(&out, "id"), [Some(2), Some(1)], "by event time; the deleted one is not there");
    assert_eq!(
        long(&out, "clicks"),
        [Some(10), Some(2)],
        "bob at 111; ann's newest revision became visible at 206"
    );
    assert!(out.column_by_name("ctr").unwrap().is_null(0), "no ad");
    assert!(out.column_by_name("ctr").unwrap().is_null(1), "its TTL is over at 206");
    let out = collect(batch_data(&world.offline, &view, ask(Some(100), Some(300))).await.unwrap()).await;
    assert_eq!(long(&out, "id"), [Some(1)]);
    let out = collect(batch_data(&world.offline, &view, ask(Some(1000), None)).await.unwrap()).await;
    assert_eq!(out.num_rows(), 0);
}
