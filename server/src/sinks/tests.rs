//! Sinks beside Delta on a real store: nothing is deleted that one of them wants, and none waits for another.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millpond_engine::epoch::Op;
use tokio::runtime::Handle;

use super::*;
use crate::catalog::{FileFormat, Sink};
use crate::offline::tests::world::World;
use crate::store::{Planned, SinkProgress};
use millpond_engine::time::Micros;

const ONE: SinkId = SinkId(1);

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("user", DataType::Utf8, false),
        Field::new("n", DataType::Int64, true),
    ]))
}

fn epoch(world: &World, group: GroupId, values: &[i64]) {
    let users: ArrayRef =
        Arc::new(StringArray::from_iter_values(values.iter().map(|v| format!("u{}", v % 3))));
    let n: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
    let at: Vec<_> = values.iter().map(|v| (*v, Op::Upsert, v + 7)).collect();
    world.commit(group, RecordBatch::try_new(schema(), vec![users, n]).unwrap(), &at);
}

fn kept(world: &World, group: GroupId) -> Vec<u64> {
    world.store.view().outbox(group, None).unwrap().map(|entry| entry.unwrap().sequence).collect()
}

fn through(sequence: u64) -> SinkProgress {
    SinkProgress { through: sequence, planned: None }
}

#[tokio::test]
async fn an_outbox_row_goes_when_delta_and_every_sink_have_it() {
    let world = World::new();
    let group = world.group(1, &schema(), None).id;
    let store = &world.store;
    store.register_sink(group, ONE).unwrap();
    store.register_sink(group, SinkId(2)).unwrap();
    for n in 0..4 {
        epoch(&world, group, &[n * 2, n * 2 + 1]);
    }
    assert_eq!(store.put_sink_progress(group, ONE, through(3)).unwrap(), 6);
    assert_eq!(world.offline.flush(group).await.unwrap().rows, 8);
    assert_eq!(kept(&world, group), [1, 2, 3, 4], "the second sink has none");
    assert_eq!(store.outbox_stats(group).unwrap().rows, 0, "Delta has all");
    assert_eq!(world.offline.flush(group).await.unwrap().rows, 0, "and is asked for nothing twice");
    assert_eq!(world.read(group, None, None).await.num_rows(), 8, "nothing is read twice");

    assert_eq!(store.put_sink_progress(group, SinkId(2), through(2)).unwrap(), 4);
    assert_eq!(kept(&world, group), [3, 4]);
    assert_eq!(store.sink_stats(group, ONE).unwrap().rows, 2);
    epoch(&world, group, &[8]);
    store.drop_sink(group, SinkId(2)).unwrap();
    assert_eq!(kept(&world, group), [4, 5], "what only the second one wanted is gone");
    store.put_sink_progress(group, ONE, through(5)).unwrap();
    assert_eq!(kept(&world, group), [5], "Delta wants it");
    assert_eq!(world.offline.flush(group).await.unwrap().rows, 1);
    assert!(kept(&world, group).is_empty());
}

#[tokio::test]
async fn progress_is_there_after_a_restart() {
    let world = World::new();
    let group = world.group(1, &schema(), None).id;
    world.store.register_sink(group, ONE).unwrap();
    for n in 0..3 {
        epoch(&world, group, &[n]);
    }
    world.offline.flush(group).await.unwrap();
    let progress = SinkProgress { through: 1, planned: Some(Planned { last: 3, at: Micros(5) }) };
    world.store.put_sink_progress(group, ONE, progress).unwrap();

    let World { dir, store, offline, .. } = world;
    drop(offline);
    drop(store);
    let deadline = Instant::now() + Duration::from_secs(20);
    // The drain's task may hold it for a moment.
    let store = loop {
        match Store::open(&dir.path().join("store"), &crate::store::Options::default()) {
            Ok(store) => break store,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(store.sinks(group).unwrap(), [ONE]);
    store.register_sink(group, ONE).unwrap();
    assert_eq!(store.sink_progress(group, ONE).unwrap(), progress);
    assert_eq!(store.outbox_stats(group).unwrap().rows, 0, "Delta's place is kept too");
    assert_eq!(store.sink_stats(group, ONE).unwrap().rows, 2);
    store.drop_group(group).unwrap();
    assert!(store.sinks(group).unwrap().is_empty());
}

fn sinks(world: &World, root: PathBuf) -> Sinks {
    let registry = Registry::open(&config::SchemaRegistry::default(), Arc::clone(&world.store)).unwrap();
    Sinks::new(Parts {
        root,
        interval: Duration::from_millis(10),
        rows: 4,
        store: Arc::clone(&world.store),
        registry: Arc::new(registry),
        kafka: config::Kafka::default(),
        metrics: Arc::new(Metrics::new().unwrap()),
        runtime: Handle::current(),
    })
}

fn entry(world: &World, sinks: Vec<Sink>) -> GroupEntry {
    let mut def = world.group(1, &schema(), None);
    def.sinks = sinks;
    GroupEntry { def, query: None, readers: vec![], schema: schema(), key: vec![0] }
}

fn files(path: &str) -> Sink {
    let target =
        SinkTarget::Files { format: FileFormat::Csv, path: path.into(), partition_by: Some("user".into()) };
    Sink { id: ONE, name: "files".parse().unwrap(), target }
}

fn lines(folder: &std::path::Path) -> usize {
    let files = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flat_map(|part| std::fs::read_dir(part.unwrap().path()).unwrap().map(|file| file.unwrap().path()));
    files.map(|file| std::fs::read_to_string(file).unwrap().lines().count() - 1).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_fails_stops_nobody_and_goes_on_when_it_can() {
    let world = World::new();
    let root = world.dir.path().join("sinks");
    // A file where the sink wants its folder.
    std::fs::create_dir_all(&root).unwrap();
    std::fs::write(root.join("out"), b"").unwrap();
    let sinks = sinks(&world, root.clone());
    let topic = SinkTarget::Kafka { topic: "out".into() };
    let kafka = Sink { id: SinkId(2), name: "kafka".parse().unwrap(), target: topic };
    let entry = entry(&world, vec![files("out"), kafka]);
    let group = entry.def.id;
    sinks.start(&entry).unwrap();
    epoch(&world, group, &[0, 1, 2]);
    assert!(!sinks.flush(group, Duration::from_secs(20)).await.unwrap());
    // The flush ends with the first failure.
    let deadline = Instant::now() + Duration::from_secs(20);
    while sinks.status(group).iter().any(|status| status.state == State::Running) {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let status = sinks.status(group);
    assert_eq!(status.len(), 2);
    assert_eq!((status[0].state, status[0].lag_rows), (State::Failing, 3));
    assert!(status[0].reason.as_ref().unwrap().contains("out"), "{status:?}");
    assert!(status[1].reason.as_ref().unwrap().contains("bootstrap_servers"), "{status:?}");
    assert_eq!(world.offline.flush(group).await.unwrap().rows, 3, "Delta does not mind");

    sinks.forget(group, Some(SinkId(2)));
    world.store.drop_sink(group, SinkId(2)).unwrap();
    std::fs::remove_file(root.join("out")).unwrap();
    assert!(sinks.flush(group, Duration::from_secs(20)).await.unwrap());
    assert_eq!(lines(&root.join("out")), 3);
    assert_eq!(sinks.status(group)[0].state, State::Running);
    epoch(&world, group, &[3, 4, 5, 6, 7]);
    sinks.stop();
    assert_eq!(lines(&root.join("out")), 8, "what is owed is brought over before the end");
    assert_eq!(world.store.sink_progress(group, ONE).unwrap(), through(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_store_that_was_rolled_back_are_not_contradicted() {
    let world = World::new();
    let root = world.dir.path().join("sinks");
    let folder = root.join("out/user=u0");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("part-000000000001-000000000009.csv"), b"user\n").unwrap();
    let sinks = sinks(&world, root);
    let entry = entry(&world, vec![files("out")]);
    sinks.start(&entry).unwrap();
    assert!(!{
        epoch(&world, entry.def.id, &[0]);
        sinks.flush(entry.def.id, Duration::from_secs(20)).await.unwrap()
    });
    let status = &sinks.status(entry.def.id)[0];
    assert_eq!(status.state, State::Halted);
    assert!(status.reason.as_ref().unwrap().contains("holds outbox sequence 9"), "{status:?}");
    sinks.forget(entry.def.id, None);
}
