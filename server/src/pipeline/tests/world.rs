//! A store in a temporary directory, one stream, one group, a clock that the test sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use millpond_engine::avro::{encode_row, frame};
use millpond_engine::time::{Micros, Span};
use millpond_engine::workers::Workers;
use serde_json::json;
use uuid::Uuid;

use crate::catalog::{
    FeatureGroup, GroupEntry, GroupId, GroupSource, OnBadRecord, Stream, StreamEntry, StreamId, TimeMode,
    history,
};
use crate::log::{self, Kind, Reader};
use crate::pipeline::checkpoint::Checkpoints;
use crate::pipeline::control::Control;
use crate::pipeline::cut::Limits;
use crate::pipeline::halt::Stop;
use crate::pipeline::intake::Surroundings;
use crate::pipeline::memory::Budget;
use crate::pipeline::open::{Parts, open};
use crate::pipeline::runner::Pipeline;
use crate::pipeline::schemas::Lookup;
use crate::pipeline::status::{Board, State, Status};
use crate::store::{NewRecord, Options, Store};

pub const SCHEMA: &str = r#"{"type":"record","name":"Event","fields":[
    {"name":"user_id","type":["null","string"],"default":null},
    {"name":"clicks","type":"long"},
    {"name":"impressions","type":"long"},
    {"name":"timestamp","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null}]}"#;
pub const SCHEMA_ID: u32 = 7;
pub const SQL: &str = "SELECT user_id, SUM(clicks) / NULLIF(SUM(impressions), 0) AS ctr, SUM(impressions) AS shown \
    FROM TUMBLE(events, DESCRIPTOR(timestamp), INTERVAL '5' MINUTES) WHERE impressions < 1000 GROUP BY user_id, window_end";
/// Window length of [`SQL`].
pub const WINDOW: i64 = 300_000_000;
/// 2025-10-09T08:55:00Z, a multiple of the window.
pub const T0: i64 = 1_760_000_100_000_000;

/// One row of the history.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub user: String,
    pub window_end: i64,
    pub ctr: Option<f64>,
    pub shown: i64,
    pub commit: u64,
    pub available_at: i64,
    pub modelled: bool,
}

pub struct World {
    pub store: Arc<Store>,
    pub stream: Stream,
    pub group: FeatureGroup,
    pub clock: Arc<AtomicI64>,
    pub limits: Limits,
    pub max_rows: usize,
    pub checkpoints: Checkpoints,
    pub budget: Arc<Budget>,
    pub control: Control,
    pub board: Board,
    /// Ids that the registry does not answer for, and those it does not know.
    pub silent: Arc<std::sync::Mutex<Vec<u32>>>,
    /// Ids that were registered later, all of them [`SCHEMA`].
    pub known: Arc<std::sync::Mutex<Vec<u32>>>,
    _dir: tempfile::TempDir,
}

impl World {
    pub fn new(partitions: u32, time: TimeMode) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &Options::default()).unwrap();
        let stream = Stream {
            id: StreamId(1),
            uuid: Uuid::from_u128(1),
            name: "events".parse().unwrap(),
            topic: None,
            partitions,
            subject: "events-value".to_owned(),
            schema: SCHEMA.to_owned(),
            schema_id: SCHEMA_ID,
            format: crate::catalog::Format::Avro,
            event_time: "timestamp".to_owned(),
            event_time_unit: None,
            watermark_delay: Span(60_000_000),
            idle_timeout: None,
            idle_advance: false,
            max_future_skew: Span(600_000_000),
            time,
            on_bad_record: OnBadRecord::Quarantine,
            created_at: Micros(0),
            finish: None,
            changes_of: None,
        };
        let group = FeatureGroup {
            id: GroupId(2),
            uuid: Uuid::from_u128(2),
            name: "ctr".parse().unwrap(),
            version: 1,
            description: String::new(),
            sql: Some(SQL.to_owned()),
            sources: vec![GroupSource {
                stream: stream.id,
                name: stream.name.clone(),
                schema: SCHEMA.to_owned(),
                start: vec![0; partitions as usize],
                backfill_end: vec![0; partitions as usize],
            }],
            primary_key: vec!["user_id".to_owned()],
            event_time: "window_end".to_owned(),
            columns: Vec::new(),
            online_enabled: true,
            emit: crate::catalog::Emit::OnClose,
            allowed_lateness: Span(0),
            ttl: None,
            start: crate::catalog::Start::Earliest,
            time,
            paused: false,
            sinks: vec![],
            definition_hash: String::new(),
            semantics: millpond_engine::sql::SEMANTICS,
            created_at: Micros(0),
        };
        let limits = Limits {
            records: 1000,
            bytes: 1 << 20,
            min_age: Duration::ZERO,
            pause: 0,
            max_age: Duration::from_mins(1),
        };
        Self {
            store,
            stream,
            group,
            clock: Arc::new(AtomicI64::new(T0 + 86_400_000_000)),
            limits,
            max_rows: 1000,
            checkpoints: Checkpoints::new(Duration::from_hours(1), u64::MAX).always(),
            budget: Budget::new(None),
            control: Control::default(),
            board: Board::new(Status::new(State::Running)),
            silent: Arc::default(),
            known: Arc::default(),
            _dir: dir,
        }
    }

    pub fn entry(&self) -> GroupEntry {
        let stream = Arc::new(StreamEntry::new(self.stream.clone()).unwrap());
        GroupEntry::new(self.group.clone(), &[stream]).unwrap()
    }

    /// Opens the pipeline from what the store holds, as a start of the server does.
    pub fn open(&self) -> Result<Pipeline, Stop> {
        self.open_with(&|stream| log::open(stream, "test", &self.store, &crate::config::Kafka::default()))
    }

    pub fn open_with(
        &self,
        open_log: &dyn Fn(&Stream) -> Result<Box<dyn Reader>, log::Error>,
    ) -> Result<Pipeline, Stop> {
        let entry = self.entry();
        self.store.register_group(self.group.id, &entry.schema, 2).unwrap();
        let (clock, silent, registered) =
            (Arc::clone(&self.clock), Arc::clone(&self.silent), Arc::clone(&self.known));
        open(Parts {
            group: &entry,
            streams: &[Arc::new(self.stream.clone())],
            open_log,
            store: &self.store,
            // Every epoch is divided, however small.
            workers: &Arc::new(Workers::eager(2)),
            limits: self.limits,
            max_rows: self.max_rows,
            checkpoints: self.checkpoints.clone(),
            memory: self.budget.share(),
            journal_age: Span(i64::MAX),
            surroundings: Surroundings {
                clock: Box::new(move || Micros(clock.load(Ordering::SeqCst))),
                lookup: Box::new(move |id| match id {
                    id if silent.lock().unwrap().contains(&id) => {
                        Lookup::NotYet("the registry is down".to_owned())
                    }
                    SCHEMA_ID => Lookup::Known(SCHEMA.into()),
                    id if registered.lock().unwrap().contains(&id) => Lookup::Known(SCHEMA.into()),
                    8 => Lookup::Known(
                        r#"{"type":"record","name":"Other","fields":[{"name":"a","type":"string"}]}"#.into(),
                    ),
                    _ => Lookup::Unknown,
                }),
            },
            observe: Box::new(|_| {}),
        })
    }

    /// Turns until there is nothing left to do.
    pub fn drain(&self, pipeline: &mut Pipeline) {
        let until = Instant::now() + Duration::from_mins(1);
        while pipeline.turn(&self.control, &self.board).unwrap() {
            assert!(Instant::now() < until, "the pipeline does not come to rest");
        }
    }

    /// The body of an event, framed.
    pub fn event(&self, user: Option<&str>, at: Option<i64>, clicks: i64, impressions: i64) -> Vec<u8> {
        let reader = StreamEntry::new(self.stream.clone()).unwrap().reader;
        let mut out = Vec::new();
        frame(SCHEMA_ID, &mut out);
        let row = json!({
            "user_id": user, "clicks": clicks, "impressions": impressions, "timestamp": at.map(|t| t / 1000),
        });
        encode_row(&reader, &row, &mut out).unwrap();
        out
    }

    pub fn append(&self, partition: u32, records: &[(Kind, Option<&[u8]>, &[u8])]) {
        let records =
            records.iter().map(|(kind, key, value)| NewRecord { kind: *kind, key: *key, value }).collect();
        self.store.append(self.stream.id, &[(partition, records)], None).unwrap();
    }

    pub fn append_event(&self, partition: u32, user: &str, at: i64, clicks: i64, impressions: i64) {
        let value = self.event(Some(user), Some(at), clicks, impressions);
        self.append(partition, &[(Kind::Event, None, &value)]);
    }

    pub fn set_clock(&self, to: i64) {
        self.clock.store(to, Ordering::SeqCst);
    }

    /// Everything in the outbox, in order: the whole history, for nothing drains it.
    pub fn history(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for entry in self.store.view().outbox(self.group.id, None).unwrap() {
            let batch = entry.unwrap().rows;
            let column = |name: &str| batch.column_by_name(name).unwrap_or_else(|| panic!("{name}"));
            let users = column("user_id").as_string::<i32>();
            let ctr = column("ctr").as_primitive::<Float64Type>();
            let shown = column("shown").as_primitive::<Int64Type>();
            let ends = column(history::EVENT_TIME).as_primitive::<TimestampMicrosecondType>();
            let available = column(history::AVAILABLE_AT).as_primitive::<TimestampMicrosecondType>();
            let commits = column(history::COMMIT).as_primitive::<Int64Type>();
            let modelled = column(history::MODELLED).as_boolean();
            for row in 0..batch.num_rows() {
                rows.push(Row {
                    user: users.value(row).to_owned(),
                    window_end: ends.value(row),
                    ctr: ctr.is_valid(row).then(|| ctr.value(row)),
                    shown: shown.value(row),
                    commit: commits.value(row) as u64,
                    available_at: available.value(row),
                    modelled: modelled.value(row),
                });
            }
        }
        rows
    }
}
