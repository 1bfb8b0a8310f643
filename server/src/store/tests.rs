//! The store as a whole: what one commit does, and what is left after a crash.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod agreement;
mod crash;
mod fold;
mod state;

use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use millpond_engine::epoch::{Emitted, Op, Reason};
use millpond_engine::state::{KeyGroups, StateChange, StateKey, StateRow};

use super::commit::*;
use super::*;
use crate::catalog::{GroupId, StreamId};

const GROUP: GroupId = GroupId(3);
const STREAM: StreamId = StreamId(9);

/// A store whose clock the test sets.
struct Fixture {
    dir: tempfile::TempDir,
    now: Arc<AtomicI64>,
    options: Options,
}

impl Fixture {
    fn new() -> Self {
        let now = Arc::new(AtomicI64::new(1_000));
        let clock = Arc::clone(&now);
        let options = Options { clock: Arc::new(move || Micros(clock.load(SeqCst))), ..Options::default() };
        Self { dir: tempfile::tempdir().unwrap(), now, options }
    }

    fn open(&self) -> Arc<Store> {
        let store = Store::open(self.dir.path(), &self.options).unwrap();
        store.register_group(GROUP, &schema(), VERSIONS).unwrap();
        store
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("user", DataType::Utf8, false),
        Field::new("n", DataType::Int64, true),
    ]))
}

/// A row: key, event time, value.
type Row = (&'static str, i64, i64);

fn emitted(rows: &[Row]) -> Emitted {
    let users: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.0)));
    let n: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.2)));
    Emitted {
        keys: rows.iter().map(|r| r.0.as_bytes().to_vec()).collect(),
        event_times: rows.iter().map(|r| Micros(r.1)).collect(),
        ops: rows.iter().map(|r| if r.2 < 0 { Op::Delete } else { Op::Upsert }).collect(),
        first: vec![true; rows.len()],
        features: RecordBatch::try_new(schema(), vec![users, n]).unwrap(),
    }
}

fn epoch(n: u64, rows: &[Row]) -> EpochCommit {
    let at = PartitionKey { source: 0, partition: 1 };
    let position = Position {
        offset: n as i64,
        max_event_time: None,
        identity: "embedded".to_owned(),
        last_record: None,
    };
    EpochCommit {
        group: GROUP,
        streams: vec![STREAM],
        epoch: n,
        positions: vec![(at, position)],
        journal: JournalEntry {
            epoch: n,
            first_epoch: None,
            opened_at: Micros(0),
            ranges: vec![],
            source_watermarks: vec![],
            watermark: Micros(0),
            available_at: Micros(0),
            modelled: false,
            counts: vec![Accounting { read: 2, applied: 1, late: 1, ..Accounting::default() }],
            rows: rows.len() as u64,
            close_cursor: None,
            unknown_schema_ids: vec![],
            checkpoint: true,
            max_rows: 1000,
            semantics: 1,
            finishes: vec![],
        },
        availability: Availability::Live,
        rows: if rows.is_empty() { vec![] } else { vec![emitted(rows)] },
        quarantine: vec![],
        late: vec![],
        state: vec![],
    }
}

fn modelled(n: u64, clock: i64, rows: &[Row], available: &[i64]) -> EpochCommit {
    let rows_available = available.iter().copied().map(Micros).collect();
    EpochCommit {
        availability: Availability::Modelled { clock: Micros(clock), rows: vec![rows_available] },
        ..epoch(n, rows)
    }
}

/// Latest and previous (event time, value) of a key at an instant; a delete is a negative value.
fn read_at(view: &ReadView, key: &str, at: Micros) -> Vec<(i64, i64)> {
    let found = view.multi_get(&[(GROUP, key.as_bytes())]).unwrap();
    let Some(versions) = &found[0] else { return vec![] };
    let rows = [versions.latest(at).unwrap(), versions.previous(at).unwrap()];
    rows.into_iter()
        .flatten()
        .map(|row| match row.value(1).unwrap() {
            Scalar::Int(n) => {
                assert_eq!(row.op == Op::Delete, n < 0);
                (row.event_time.0, n)
            }
            other => unreachable!("{other:?}"),
        })
        .collect()
}

fn read(view: &ReadView, key: &str) -> Vec<(i64, i64)> {
    read_at(view, key, view.as_of())
}

#[test]
fn a_commit_is_visible_in_every_part_of_the_store() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let mut first = epoch(1, &[("b", 10, 1), ("a", 20, 2)]);
    first.late.push(LateRecord { partition: first.positions[0].0, offset: 4, value: vec![1] });
    first.quarantine.push(Quarantined {
        partition: first.positions[0].0,
        offset: 5,
        reason: Reason::BadBody,
        detail: "short".to_owned(),
        key: None,
        value: Some(vec![0]),
    });
    let available_at = store.commit(&first).unwrap().available_at;
    assert!(available_at >= Micros(1_000));

    let check = |store: &Store| {
        let view = store.view();
        assert!(view.as_of() >= available_at);
        assert_eq!(read(&view, "a"), [(20, 2)]);
        assert_eq!(read(&view, "b"), [(10, 1)]);
        assert_eq!(read(&view, "c"), []);
        assert_eq!(read_at(&view, "a", Micros(available_at.0 - 1)), [], "not yet available");
        let keys: Vec<_> = view.scan(GROUP, None).unwrap().map(|r| r.unwrap().0).collect();
        assert_eq!(keys, [b"a", b"b"]);
        assert_eq!(view.scan(GROUP, Some(b"a")).unwrap().count(), 1);
        assert_eq!(view.clock(GROUP), None);
        assert_eq!(store.positions(GROUP).unwrap(), first.positions);
        let journal = JournalEntry { available_at, ..first.journal.clone() };
        assert_eq!(store.last_epoch(GROUP).unwrap(), Some(journal.clone()));
        assert_eq!(store.journal(GROUP, 0, 9).unwrap(), [journal]);
        assert_eq!(store.journal(GROUP, 2, 9).unwrap(), []);
        assert_eq!(store.totals(GROUP).unwrap()[&0].late, 1);
        assert_eq!(store.quarantine_counts(GROUP).unwrap(), [(Reason::BadBody, 1)]);
        let letters = store.quarantine(STREAM, None, None, 9).unwrap();
        assert_eq!(letters, [DeadLetter { group: GROUP, record: first.quarantine[0].clone() }]);
        assert_eq!(store.quarantine(STREAM, Some(GroupId(8)), None, 9).unwrap(), []);
        assert_eq!(store.quarantine(STREAM, None, Some((1, 5, GROUP)), 9).unwrap(), []);
        let late = store.late(GROUP, None, 9).unwrap();
        assert_eq!(late, [LateEntry { epoch: 1, ordinal: 0, record: first.late[0].clone() }]);
        assert_eq!(store.late(GROUP, Some((1, 0)), 9).unwrap(), []);
        let owed: Vec<_> = view.outbox(GROUP, None).unwrap().map(Result::unwrap).collect();
        assert_eq!((owed.len(), owed[0].sequence, owed[0].epoch), (1, 1, 1));
        let available = owed[0].rows.column_by_name("_available_at").unwrap();
        assert_eq!(available.as_primitive::<TimestampMicrosecondType>().values(), &[available_at.0; 2]);
        assert_eq!(owed[0].rows.column(1).as_primitive::<Int64Type>().values(), &[1, 2]);
        let stats = OutboxStats { rows: 2, oldest: Some(available_at) };
        assert_eq!(store.outbox_stats(GROUP).unwrap(), stats);
    };
    check(&store);
    drop(store);
    check(&fixture.open());
}

#[test]
fn latest_and_previous_are_by_event_time_and_revisions_replace_their_own() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let rows: [&[Row]; 6] = [
        &[("a", 100, 1), ("a", 300, 3)],
        &[("a", 200, 2)],
        &[("a", 200, 20)],
        &[("a", 400, -4)],
        &[("a", 5_000, 5)],
        &[("b", 1, 1)],
    ];
    let expected: [&[(i64, i64)]; 6] = [
        &[(300, 3), (100, 1)],
        &[(300, 3), (200, 2)],
        &[(300, 3), (200, 20)],
        &[(400, -4), (300, 3)],
        &[(400, -4), (300, 3)],
        &[(400, -4), (300, 3)],
    ];
    for (i, (rows, expected)) in rows.iter().zip(expected).enumerate() {
        store.commit(&epoch(i as u64 + 1, rows)).unwrap();
        assert_eq!(read(&store.view(), "a"), expected, "after epoch {}", i + 1);
    }
    fixture.now.store(5_000, SeqCst);
    assert_eq!(read(&store.view(), "a"), [(5_000, 5), (400, -4)], "its time has come");
}

#[test]
fn a_historical_group_has_a_clock_of_its_own() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let rows = [("a", 10, 1), ("b", 20, 2)];
    assert_eq!(store.commit(&modelled(1, 40, &rows, &[15, 40])).unwrap().available_at, Micros(40));
    let check = |store: &Store| {
        let view = store.view();
        assert_eq!(view.clock(GROUP), Some(Micros(40)));
        assert_eq!(read_at(&view, "a", Micros(15)), [(10, 1)]);
        assert_eq!(read_at(&view, "b", Micros(39)), []);
        assert_eq!(read_at(&view, "b", Micros(40)), [(20, 2)]);
        let owed = view.outbox(GROUP, None).unwrap().next().unwrap().unwrap().rows;
        let available = owed.column_by_name("_available_at").unwrap();
        assert_eq!(available.as_primitive::<TimestampMicrosecondType>().values(), &[15, 40]);
        assert_eq!(store.last_epoch(GROUP).unwrap().unwrap().available_at, Micros(40));
    };
    check(&store);
    drop(store);
    let store = fixture.open();
    check(&store);
    assert_eq!(
        store.commit(&modelled(2, 7_000_000, &[("b", 50, 4)], &[50])).unwrap().available_at,
        Micros(7_000_000)
    );
    let stamp = store.commit(&epoch(3, &[("a", 30, 3)])).unwrap().available_at;
    assert_eq!(
        stamp,
        Micros(7_000_001),
        "7 s was an `as_of` of this group, though the time of day is earlier"
    );
    assert_eq!(store.view().clock(GROUP), None, "the backfill is over");
    assert_eq!(read(&store.view(), "a"), [(30, 3), (10, 1)]);
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_written() {
    let fixture = Fixture::new();
    let store = fixture.open();
    assert_eq!(store.commit(&epoch(2, &[])).unwrap_err(), Error::Epoch { expected: 1, found: 2 });
    let mut lopsided = epoch(1, &[("a", 1, 1)]);
    lopsided.rows[0].keys.push(vec![]);
    assert!(matches!(store.commit(&lopsided).unwrap_err(), Error::Rows(_)));
    let mut elsewhere = epoch(1, &[("a", 1, 1)]);
    elsewhere.group = GroupId(99);
    assert_eq!(store.commit(&elsewhere).unwrap_err(), Error::Unregistered(GroupId(99)));
    assert_eq!(store.last_epoch(GROUP).unwrap(), None);
    store.commit(&epoch(1, &[("a", 1, 1)])).unwrap();
    assert_eq!(store.commit(&epoch(1, &[])).unwrap_err(), Error::Epoch { expected: 2, found: 1 });
}

#[test]
fn outbox_sequences_are_never_given_twice() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for n in 1..=3 {
        store.commit(&epoch(n, &[("a", n as i64, 1)])).unwrap();
    }
    let before = store.view();
    store.delete_outbox(GROUP, 2).unwrap();
    let sequences = |view: &ReadView, after| -> Vec<u64> {
        view.outbox(GROUP, after).unwrap().map(|e| e.unwrap().sequence).collect()
    };
    assert_eq!(sequences(&store.view(), None), [3]);
    assert_eq!(sequences(&before, Some(1)), [2, 3], "an older view still sees them");
    store.delete_outbox(GROUP, 3).unwrap();
    assert_eq!(store.outbox_stats(GROUP).unwrap(), OutboxStats { rows: 0, oldest: None });
    drop((store, before));
    let store = fixture.open();
    assert_eq!(store.outbox_last_issued(GROUP).unwrap(), 3);
    store.commit(&epoch(4, &[("a", 4, 1)])).unwrap();
    assert_eq!(sequences(&store.view(), None), [4]);
}

#[test]
fn a_dropped_group_leaves_nothing() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let other = GroupId(4);
    store.register_group(other, &schema(), VERSIONS).unwrap();
    store.commit(&modelled(1, 5, &[("a", 1, 1)], &[5])).unwrap();
    store.commit(&EpochCommit { group: other, ..epoch(1, &[("a", 1, 7)]) }).unwrap();
    store.drop_group(GROUP).unwrap();
    let view = store.view();
    assert_eq!((read(&view, "a"), view.clock(GROUP)), (vec![], None));
    assert_eq!(view.outbox(GROUP, None).unwrap().count(), 0);
    assert_eq!(store.positions(GROUP).unwrap(), []);
    assert_eq!(store.last_epoch(GROUP).unwrap(), None);
    assert!(view.multi_get(&[(other, b"a")]).unwrap()[0].is_some(), "the others stay");
}

#[test]
fn a_group_without_online_rows_owes_its_history_all_the_same() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.register_group(GROUP, &schema(), 0).unwrap();
    store.commit(&epoch(1, &[("a", 1, 1)])).unwrap();
    assert_eq!(read(&store.view(), "a"), []);
    assert_eq!(store.outbox_stats(GROUP).unwrap().rows, 1);
}

#[test]
fn a_row_schema_keeps_its_id() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let id = store.register_group(GROUP, &schema(), VERSIONS).unwrap();
    assert_ne!(store.register_group(GroupId(4), &schema(), VERSIONS).unwrap(), id);
    drop(store);
    assert_eq!(fixture.open().register_group(GROUP, &schema(), VERSIONS).unwrap(), id);
}

#[test]
fn catalog_and_ids() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let uuid = store.uuid();
    store.put_definition(Kind::Group, "b", 1, b"{1}").unwrap();
    store.put_definition(Kind::Group, "a", 2, b"{2}").unwrap();
    store.put_definition(Kind::View, "a", 1, b"{3}").unwrap();
    store.put_definition(Kind::Group, "b", 1, b"{4}").unwrap();
    let id = store.next_id().unwrap();
    drop(store);
    let store = fixture.open();
    assert_eq!(store.uuid(), uuid);
    assert_eq!(store.next_id().unwrap(), id + 1);
    assert_eq!(store.definitions(Kind::Group).unwrap(), [b"{2}", b"{4}"]);
    store.delete_definition(Kind::Group, "a", 2).unwrap();
    assert_eq!(store.definitions(Kind::Group).unwrap(), [b"{4}"]);
    assert_eq!(store.definitions(Kind::View).unwrap(), [b"{3}"]);
    assert_eq!(store.definitions(Kind::Stream).unwrap(), Vec::<Vec<u8>>::new());
}

#[test]
fn schemas_of_one_registry_are_not_those_of_another() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let changes = [
        SchemaChange::PutSchema { id: 1, schema: "\"int\"" },
        SchemaChange::PutVersion { subject: "s", version: 1, document: b"{}" },
        SchemaChange::PutVersion { subject: "s", version: 2, document: b"[]" },
        SchemaChange::PutConfig { subject: "", config: b"FULL" },
        SchemaChange::PutConfig { subject: "s", config: b"NONE" },
    ];
    store.put_schemas("embedded", &changes).unwrap();
    store.put_schemas("http://r", &[SchemaChange::PutSchema { id: 1, schema: "\"long\"" }]).unwrap();
    assert_eq!(store.schema_by_id("embedded", 1).unwrap().as_deref(), Some("\"int\""));
    assert_eq!(store.schema_by_id("http://r", 1).unwrap().as_deref(), Some("\"long\""));
    assert_eq!(store.schema_by_id("embedded", 2).unwrap(), None);
    assert_eq!(store.schemas("embedded").unwrap(), [(1, "\"int\"".to_owned())]);
    let gone = [
        SchemaChange::DeleteVersion { subject: "s", version: 1 },
        SchemaChange::DeleteConfig { subject: "s" },
    ];
    store.put_schemas("embedded", &gone).unwrap();
    let left = SubjectEntry { subject: "s".to_owned(), version: 2, document: b"[]".to_vec() };
    assert_eq!(store.subject_entries("embedded").unwrap(), [left]);
    assert_eq!(store.registry_config("embedded").unwrap(), [(String::new(), b"FULL".to_vec())]);
}
