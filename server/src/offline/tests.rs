//! Drain and read on a real store and real Delta tables.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

pub mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int32Array, Int64Array, ListBuilder, MapBuilder, RecordBatch, StringArray, StringBuilder, StructArray,
    TimestampMicrosecondArray,
};
use arrow::compute::{concat_batches, sort_to_indices, take_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use millpond_engine::epoch::Op;

use self::world::{World, batch};
use super::protocol::{DeltaLog, Halt, Outbox};
use super::{Error, Flushed};
use crate::catalog::GroupId;
use crate::store::{self, Store};

const HOUR: i64 = 3_600_000_000;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("user", DataType::Utf8, false),
        Field::new("n", DataType::Int64, true),
    ]))
}

fn rows(values: &[i64]) -> RecordBatch {
    let users: ArrayRef =
        Arc::new(StringArray::from_iter_values(values.iter().map(|v| format!("u{}", v % 3))));
    let n: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
    RecordBatch::try_new(schema(), vec![users, n]).unwrap()
}

/// One epoch whose rows lie an hour apart: over several dates.
fn epoch(world: &World, group: GroupId, values: &[i64]) {
    let at: Vec<_> = values.iter().map(|v| (v * HOUR, Op::Upsert, v * HOUR + 7)).collect();
    world.commit(group, rows(values), &at);
}

fn values(batch: &RecordBatch) -> Vec<i64> {
    let mut all = batch.column_by_name("n").unwrap().as_primitive::<Int64Type>().values().to_vec();
    all.sort_unstable();
    all
}

#[tokio::test]
async fn what_is_committed_is_read_at_once_and_once() {
    let world = World::new();
    let group = world.group(1, &schema(), None).id;
    assert_eq!(world.read(group, None, None).await.num_rows(), 0, "nothing yet");
    assert_eq!(world.offline.flush(group).await.unwrap(), Flushed { delta_version: None, rows: 0 });
    assert!(!world.table(group).exists(), "a table comes with its first row");

    epoch(&world, group, &[0, 1, 2]);
    assert_eq!(values(&world.read(group, None, None).await), [0, 1, 2], "from the outbox");
    let flushed = world.offline.flush(group).await.unwrap();
    assert_eq!(flushed.rows, 3);
    assert_eq!(world.offline.delta_version(group), flushed.delta_version);
    assert_eq!(world.store.outbox_stats(group).unwrap().rows, 0);
    assert_eq!(values(&world.read(group, None, None).await), [0, 1, 2], "from Delta");

    epoch(&world, group, &[-30, 40]);
    epoch(&world, group, &[41]);
    assert_eq!(values(&world.read(group, None, None).await), [-30, 0, 1, 2, 40, 41], "from both");
    assert_eq!(values(&world.read(group, Some(HOUR), Some(41 * HOUR)).await), [1, 2, 40], "half-open");
    assert_eq!(values(&world.read(group, None, Some(0)).await), [-30], "before 1970");
    world.offline.flush(group).await.unwrap();
    assert_eq!(values(&world.read(group, Some(-30 * HOUR), Some(2 * HOUR)).await), [-30, 0, 1]);
    assert!(world.table(group).join("_event_date=1969-12-30").exists(), "partitioned by UTC date");
}

#[tokio::test]
async fn reading_while_draining_has_no_gap_and_no_repetition() {
    let world = Arc::new(World::new());
    let group = world.group(1, &schema(), None).id;
    let committed = Arc::new(AtomicI64::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let writer = {
        let (world, committed, done) = (Arc::clone(&world), Arc::clone(&committed), Arc::clone(&done));
        std::thread::spawn(move || {
            for n in 0..120 {
                epoch(&world, group, &[n]);
                committed.store(n + 1, Ordering::SeqCst);
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            done.store(true, Ordering::SeqCst);
        })
    };
    let drainer = {
        let (world, done) = (Arc::clone(&world), Arc::clone(&done));
        tokio::spawn(async move {
            let mut commits = 0;
            while !done.load(Ordering::SeqCst) {
                commits += u64::from(world.offline.flush(group).await.unwrap().rows > 0);
            }
            commits
        })
    };
    let mut reads = 0;
    while !done.load(Ordering::SeqCst) {
        let at_least = committed.load(Ordering::SeqCst);
        let seen = values(&world.read(group, None, None).await);
        assert!(seen.len() as i64 >= at_least, "{at_least} were committed, {seen:?} were read");
        assert_eq!(seen, (0..seen.len() as i64).collect::<Vec<_>>());
        reads += 1;
    }
    writer.join().unwrap();
    assert!(drainer.await.unwrap() > 3 && reads > 3, "they did run side by side");
    assert_eq!(world.read(group, None, None).await.num_rows(), 120);
}

#[tokio::test]
async fn every_type_comes_back_bit_for_bit() {
    let mut list = ListBuilder::new(arrow::array::Int32Builder::new());
    list.append_value([Some(1), None]);
    list.append_null();
    let mut map = MapBuilder::new(None, StringBuilder::new(), arrow::array::Float64Builder::new());
    map.keys().append_value("a");
    map.values().append_value(0.1);
    map.append(true).unwrap();
    map.append(true).unwrap();
    let inner =
        StructArray::try_from(vec![("x", Arc::new(Int64Array::from(vec![Some(1), None])) as ArrayRef)])
            .unwrap();
    let decimals = Decimal128Array::from(vec![Some(-1), None]).with_precision_and_scale(38, 9).unwrap();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("user", Arc::new(StringArray::from(vec!["ü", ""]))),
        ("Flag", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("i", Arc::new(Int32Array::from(vec![Some(i32::MIN), None]))),
        ("l", Arc::new(Int64Array::from(vec![Some(i64::MAX), None]))),
        ("f", Arc::new(Float32Array::from(vec![Some(f32::NAN), Some(-0.0)]))),
        ("d", Arc::new(Float64Array::from(vec![Some(f64::NEG_INFINITY), Some(5e-324)]))),
        ("dec", Arc::new(decimals)),
        ("bin", Arc::new(BinaryArray::from_opt_vec(vec![Some(&[0, 255]), None]))),
        ("date", Arc::new(Date32Array::from(vec![Some(-1), None]))),
        ("ts", Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None]).with_timezone("UTC"))),
        ("ntz", Arc::new(TimestampMicrosecondArray::from(vec![Some(1), None]))),
        ("list", Arc::new(list.finish())),
        ("map", Arc::new(map.finish())),
        ("struct", Arc::new(inner)),
    ];
    let features = batch(columns);
    let world = World::new();
    let group = world.group(1, &features.schema(), None).id;
    world.commit(group, features.clone(), &[(-1, Op::Upsert, 5), (HOUR, Op::Delete, 6)]);
    let before = world.read(group, None, None).await;
    world.offline.flush(group).await.unwrap();
    let after = world.read(group, None, None).await;
    let by_time = |b: &RecordBatch| {
        let order = sort_to_indices(b.column_by_name("_event_time").unwrap(), None, None).unwrap();
        take_record_batch(b, &order).unwrap()
    };
    assert_eq!(by_time(&before), by_time(&after), "outbox and Delta agree");
    for (i, column) in features.columns().iter().enumerate() {
        assert_eq!(by_time(&after).column(i), column, "{}", features.schema().field(i).name());
    }
    assert_eq!(by_time(&after).column_by_name("_op").unwrap().as_string::<i32>().value(1), "delete");
}

#[tokio::test]
async fn many_commits_are_compacted_and_read_the_same() {
    let world = World::new();
    let def = world.group(1, &schema(), None);
    let group = def.id;
    for n in 0..102 {
        world.commit(group, rows(&[n]), &[(n, Op::Upsert, n)]);
        world.offline.flush(group).await.unwrap();
    }
    assert_eq!(values(&world.read(group, None, None).await), (0..102).collect::<Vec<_>>());
    let log = world.table(group).join("_delta_log");
    assert!(log.join("_last_checkpoint").exists(), "a checkpoint is written");
    let table = world.offline.group(group).unwrap().spec.open().unwrap();
    let mut table = table;
    table.load().await.unwrap();
    let files = table.get_file_uris().unwrap().count();
    assert!(files < 40, "small files are merged: {files}");

    // Another process finds the transaction behind the checkpoint, and neither repeats nor loses a row.
    let offline = super::Offline::start(world::options(world.dir.path()), Arc::clone(&world.store)).unwrap();
    offline.register(&def, &schema()).unwrap();
    world.commit(group, rows(&[102]), &[(102, Op::Upsert, 102)]);
    assert_eq!(offline.flush(group).await.unwrap().rows, 1);
    assert_eq!(values(&world.read(group, None, None).await), (0..103).collect::<Vec<_>>());
}

#[tokio::test]
async fn somebody_elses_commit_in_between_costs_a_try_and_no_row() {
    let world = World::new();
    let group = world.group(1, &schema(), None).id;
    epoch(&world, group, &[1]);
    world.offline.flush(group).await.unwrap();
    epoch(&world, group, &[2]);

    // The drain stands before its commit when another program takes the version that it wants.
    let registered = world.offline.group(group).unwrap();
    let outbox = super::group::StoredOutbox { store: &world.store, group };
    let mut table = registered.draining.lock().await;
    let read = table.load().await.unwrap();
    let entries = outbox.after(read.transaction.unwrap(), 8).unwrap();
    let files = table.write(entries.into_iter().map(|e| e.rows).collect()).await.unwrap();
    let mut other = registered.spec.open().unwrap();
    other.load().await.unwrap();
    other.update_table_metadata().with_update(renamed()).await.unwrap();
    assert!(
        table.commit(read.version, files, 2).await.is_err(),
        "the version is taken, and no later one is tried"
    );
    let now = table.load().await.unwrap();
    assert_eq!((now.version, now.transaction), (read.version + 1, Some(1)));
    drop(table);

    assert_eq!(world.offline.flush(group).await.unwrap().rows, 1);
    assert_eq!(values(&world.read(group, None, None).await), [1, 2]);
}

fn renamed() -> deltalake::operations::update_table_metadata::TableMetadataUpdate {
    deltalake::operations::update_table_metadata::TableMetadataUpdate {
        name: Some("mine".to_owned()),
        description: None,
    }
}

#[tokio::test]
async fn a_store_that_was_rolled_back_halts_the_drain_visibly() {
    let world = World::new();
    let def = world.group(1, &schema(), None);
    epoch(&world, def.id, &[1]);
    // A copy of the store, taken before what follows.
    world.store.close().unwrap();
    let old = world.dir.path().join("old");
    copy(&world.dir.path().join("store"), &old);
    world.offline.flush(def.id).await.unwrap();
    epoch(&world, def.id, &[2]);
    world.offline.flush(def.id).await.unwrap();

    let store = Store::open(&old, &store::Options::default()).unwrap();
    let offline = super::Offline::start(world::options(world.dir.path()), Arc::clone(&store)).unwrap();
    offline.register(&def, &schema()).unwrap();
    let error = offline.flush(def.id).await.unwrap_err();
    assert!(matches!(error, Error::Halted(Halt::StoreRolledBack { table: 2, issued: 1 })), "{error}");
    let status = offline.status(def.id).unwrap();
    assert!(status.halted && status.trouble.unwrap().contains("rolled back"));
    assert_eq!(store.outbox_stats(def.id).unwrap().rows, 1, "nothing is deleted");

    // And the other way round: the store goes on, but the table is gone.
    std::fs::remove_dir_all(world.table(def.id)).unwrap();
    let error = world.offline.flush(def.id).await.unwrap_err();
    assert!(matches!(error, Error::Halted(Halt::TableRolledBack { .. }) | Error::Delta(_)), "{error}");
    epoch(&world, def.id, &[3]);
    let error = world.offline.flush(def.id).await.unwrap_err();
    assert!(matches!(error, Error::Halted(Halt::TableRolledBack { table: 0, first: 3 })), "{error}");
}

#[tokio::test]
async fn a_dropped_group_keeps_its_table_unless_it_is_purged() {
    let world = World::new();
    let (kept, purged) = (world.group(1, &schema(), None).id, world.group(2, &schema(), None).id);
    let (keeps, goes) = (world.table(kept), world.table(purged));
    for group in [kept, purged] {
        epoch(&world, group, &[1]);
        world.offline.flush(group).await.unwrap();
    }
    world.offline.forget(kept, false).await.unwrap();
    world.offline.forget(purged, true).await.unwrap();
    assert!(keeps.join("_delta_log").exists() && !goes.exists());
    assert!(matches!(world.offline.flush(kept).await, Err(Error::UnknownGroup(1))));
}

#[tokio::test]
async fn a_full_outbox_is_drained_without_being_told_and_the_rest_on_stop() {
    let world = World::new();
    let group = world.group(1, &schema(), None).id;
    for n in 0..9 {
        epoch(&world, group, &[n]);
    }
    for _ in 0..100 {
        if world.store.outbox_stats(group).unwrap().rows == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(world.store.outbox_stats(group).unwrap().rows, 0, "eight rows are a full outbox here");
    epoch(&world, group, &[9]);
    world.offline.stop().await.unwrap();
    assert_eq!(world.store.outbox_stats(group).unwrap().rows, 0);
    let all =
        concat_batches(&world.read(group, None, None).await.schema(), [&world.read(group, None, None).await]);
    assert_eq!(values(&all.unwrap()), (0..10).collect::<Vec<_>>());
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else if entry.file_name() != "LOCK" {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
