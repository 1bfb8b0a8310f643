//! A real store and real Delta tables in a temporary folder, with epochs committed by hand.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, StructArray};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;
use millpond_engine::epoch::{Emitted, Op};
use millpond_engine::key;
use millpond_engine::time::{Micros, Span};
use tempfile::TempDir;
use uuid::Uuid;

use crate::catalog::{Column, Emit, FeatureGroup, GroupId, Start, TimeMode};
use crate::offline::{Offline, Options, Range};
use crate::store::commit::{Availability, EpochCommit, JournalEntry};
use crate::store::{self, Store};

/// When a row is, what it does, when it becomes available (modelled).
pub type At = (i64, Op, i64);

pub struct World {
    pub dir: TempDir,
    pub store: Arc<Store>,
    pub offline: Arc<Offline>,
    epochs: parking_lot::Mutex<BTreeMap<GroupId, u64>>,
}

/// A drain that runs only when it is told to.
pub fn options(data: &std::path::Path) -> Options {
    Options { interval: Duration::from_hours(1), rows: 8, ..Options::local(data) }
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store"), &store::Options::default()).unwrap();
        let offline = Offline::start(options(dir.path()), Arc::clone(&store)).unwrap();
        Self { dir, store, offline, epochs: parking_lot::Mutex::default() }
    }

    /// A group with these features, the first of them its key.
    pub fn group(&self, id: u32, schema: &SchemaRef, ttl: Option<i64>) -> FeatureGroup {
        let columns: Vec<Column> = schema.fields().iter().map(|f| Column::of(f).unwrap()).collect();
        let def = FeatureGroup {
            id: GroupId(id),
            uuid: Uuid::new_v4(),
            name: format!("group{id}").parse().unwrap(),
            version: 1,
            description: String::new(),
            sql: None,
            sources: vec![],
            primary_key: vec![schema.field(0).name().clone()],
            event_time: "ts".into(),
            columns,
            online_enabled: true,
            emit: Emit::OnClose,
            allowed_lateness: Span(0),
            ttl: ttl.map(Span),
            start: Start::Earliest,
            time: TimeMode::Historical,
            paused: false,
            sinks: vec![],
            definition_hash: "abc".into(),
            semantics: 1,
            created_at: Micros(0),
        };
        self.store.register_group(def.id, schema, store::VERSIONS).unwrap();
        self.offline.register(&def, schema).unwrap();
        def
    }

    /// Commits one modelled epoch with these rows.
    pub fn commit(&self, group: GroupId, features: RecordBatch, at: &[At]) {
        let epoch = {
            let mut epochs = self.epochs.lock();
            let epoch = epochs.entry(group).or_default();
            *epoch += 1;
            *epoch
        };
        let keys = key::encode_all(&[Arc::clone(features.column(0))]).unwrap();
        let clock = at.iter().map(|(_, _, available)| *available).max().unwrap_or_default();
        let commit = EpochCommit {
            group,
            streams: vec![],
            epoch,
            positions: vec![],
            journal: JournalEntry {
                epoch,
                first_epoch: None,
                opened_at: Micros(0),
                ranges: vec![],
                source_watermarks: vec![],
                watermark: Micros(0),
                available_at: Micros(0),
                modelled: true,
                counts: vec![],
                rows: at.len() as u64,
                close_cursor: None,
                unknown_schema_ids: vec![],
                checkpoint: false,
                max_rows: 1000,
                semantics: 1,
                finishes: vec![],
            },
            availability: Availability::Modelled {
                clock: Micros(clock),
                rows: vec![at.iter().map(|(_, _, available)| Micros(*available)).collect()],
            },
            rows: vec![Emitted {
                keys,
                event_times: at.iter().map(|(time, _, _)| Micros(*time)).collect(),
                ops: at.iter().map(|(_, op, _)| *op).collect(),
                first: vec![true; at.len()],
                features,
            }],
            quarantine: vec![],
            late: vec![],
            state: vec![],
        };
        self.store.commit(&commit).unwrap();
    }

    /// The history, in the order of (`_commit`, place in the epoch is kept).
    pub async fn read(&self, group: GroupId, start: Option<i64>, end: Option<i64>) -> RecordBatch {
        let range = Range { start: start.map(Micros), end: end.map(Micros) };
        let rows = self.offline.read(group, range).await.unwrap();
        let schema = rows.schema();
        let batches: Vec<RecordBatch> = rows.try_collect().await.unwrap();
        concat_batches(&schema, &batches).unwrap()
    }

    pub fn table(&self, group: GroupId) -> PathBuf {
        PathBuf::from(self.offline.location(group).unwrap())
    }
}

/// A batch from named columns, all nullable but the first.
pub fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::from(StructArray::try_from(columns).unwrap())
}
