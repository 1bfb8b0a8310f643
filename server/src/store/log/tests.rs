#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::atomic::{AtomicBool, AtomicI64};
use std::thread;
use std::time::Duration;

use millpond_engine::time::Micros;
use proptest::prelude::*;

use super::*;
use crate::log::Kind;
use crate::store::Options;

const STREAM: StreamId = StreamId(7);
const DAY: i64 = 86_400_000_000;

fn event(value: &[u8]) -> NewRecord<'_> {
    NewRecord { kind: Kind::Event, key: None, value }
}

fn budget(records: usize, bytes: usize) -> Budget {
    Budget { records, bytes, wait: Duration::ZERO }
}

fn read(store: &Store, partition: u32, from: i64) -> Vec<(i64, Vec<u8>)> {
    let mut records = Records::default();
    store.read_log(STREAM, partition, from, budget(usize::MAX, usize::MAX), &mut records).unwrap();
    records.records.iter().map(|r| (r.offset, records.bytes[r.value.clone()].to_vec())).collect()
}

fn batch(id: &str, sequence: u64, digest: u64) -> Option<ProducerBatch<'_>> {
    Some(ProducerBatch { id, sequence, digest })
}

#[test]
fn golden_records() {
    let hex = |kind, key, value| {
        let mut out = Vec::new();
        put_record(&NewRecord { kind, key, value }, &mut out);
        stamp(&mut out, Micros(7));
        out.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().concat()
    };
    assert_eq!(hex(Kind::Event, None, b"v"), "02070000000000000000ffffffff76");
    assert_eq!(hex(Kind::Event, Some(b"k"), b""), "02070000000000000000010000006b");
    assert_eq!(hex(Kind::Tombstone, Some(b""), b""), "0207000000000000000100000000");
    let heartbeat = "02070000000000000002fffffffffeffffffffffffff";
    assert_eq!(hex(Kind::Heartbeat(Some(Micros(-2))), None, b""), heartbeat);
    assert_eq!(hex(Kind::Heartbeat(None), None, b""), "02070000000000000003ffffffff");
}

/// As the first releases wrote them, without a time: read for ever.
const FIRST: [&[u8]; 5] = [
    b"\x01\x00\xff\xff\xff\xffv",
    b"\x01\x00\x01\x00\x00\x00k",
    b"\x01\x01\x00\x00\x00\x00",
    b"\x01\x02\xff\xff\xff\xff\xfe\xff\xff\xff\xff\xff\xff\xff",
    b"\x01\x03\xff\xff\xff\xff",
];

fn put_first(store: &Store, partition: u32) {
    let mut batch = Batch::new(&store.db);
    for (offset, record) in (0..).zip(FIRST) {
        batch.put(Family::Log, &keys::log(STREAM, partition, offset), record).unwrap();
    }
    store.db.write(batch).unwrap();
}

#[test]
fn records_of_the_first_releases_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &Options::default()).unwrap();
    put_first(&store, 0);
    let mut records = Records::default();
    store.read_log(STREAM, 0, 0, budget(9, 1 << 20), &mut records).unwrap();
    let seen: Vec<_> = records
        .records
        .iter()
        .map(|r| (r.kind, records.key(r).map(<[u8]>::to_vec), records.value(r).to_vec()))
        .collect();
    assert_eq!(
        seen,
        [
            (Kind::Event, None, b"v".to_vec()),
            (Kind::Event, Some(b"k".to_vec()), vec![]),
            (Kind::Tombstone, Some(vec![]), vec![]),
            (Kind::Heartbeat(Some(Micros(-2))), None, vec![]),
            (Kind::Heartbeat(None), None, vec![]),
        ]
    );
    // What is appended now follows them.
    assert_eq!(store.append(STREAM, &[(0, vec![event(b"n")])], None).unwrap().ends, [(0, 6)]);
    assert_eq!(read(&store, 0, 5), [(5, b"n".to_vec())]);
}

/// A store whose wall clock the test sets.
fn clocked(dir: &std::path::Path, now: &Arc<AtomicI64>) -> Arc<Store> {
    let clock = Arc::clone(now);
    let options = Options { clock: Arc::new(move || Micros(clock.load(SeqCst))), ..Options::default() };
    Store::open(dir, &options).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn an_instant_is_the_offset_of_the_first_record_appended_from_then_on(
        // (how far the wall clock goes before the append, how many records), a restart after some
        appends in prop::collection::vec((-3_i64..6, 0_usize..4), 0..12),
        restart in 0_usize..12,
        old in any::<bool>(),
        asked in prop::collection::vec(0_i64..80, 1..12),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let now = Arc::new(AtomicI64::new(20));
        let mut store = clocked(dir.path(), &now);
        let mut times: Vec<Option<i64>> = Vec::new();
        if old {
            put_first(&store, 1);
            times = vec![None; FIRST.len()];
        }
        let mut latest = i64::MIN;
        for (i, (step, records)) in appends.iter().enumerate() {
            if i == restart {
                drop(store);
                store = clocked(dir.path(), &now);
            }
            now.fetch_add(*step, SeqCst);
            store.append(STREAM, &[(1, vec![event(b"x"); *records])], None).unwrap();
            if *records > 0 {
                // The time of an append never goes back, though the clock does.
                latest = latest.max(now.load(SeqCst));
                times.extend(vec![Some(latest); *records]);
            }
        }
        let known = times.iter().flatten().next().copied();
        for at in asked {
            // By the definition, record by record; what does not say when came when the first did that says it.
            let from = |time: &Option<i64>| time.or(known).is_none_or(|time| time >= at);
            let expected = times.iter().position(from).unwrap_or(times.len()) as i64;
            prop_assert_eq!(store.log_offset_at(STREAM, 1, Micros(at)).unwrap(), expected, "{:?} at {}", times, at);
        }
        prop_assert_eq!(store.log_offset_at(STREAM, 0, Micros(0)).unwrap(), 0, "an empty partition");
    }
}

#[test]
fn records_come_back_in_order_by_partition() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &Options::default()).unwrap();
    assert_eq!(store.log_range(STREAM, 0).unwrap(), (0, 0));
    let tombstone = NewRecord { kind: Kind::Tombstone, key: Some(b"k"), value: b"" };
    let heartbeat = NewRecord { kind: Kind::Heartbeat(Some(Micros(5))), key: None, value: b"" };
    let parts = [(0, vec![event(b"a"), tombstone]), (2, vec![heartbeat, event(b"")])];
    let appended = store.append(STREAM, &parts, None).unwrap();
    assert_eq!(appended, Appended { ends: vec![(0, 2), (2, 2)], duplicate: false });
    assert_eq!(store.append(STREAM, &[(0, vec![event(b"b")])], None).unwrap().ends, [(0, 3)]);

    let check = |store: &Store| {
        let mut records = Records::default();
        assert_eq!(store.read_log(STREAM, 0, 0, budget(9, 1 << 20), &mut records).unwrap(), 3);
        assert_eq!(store.read_log(STREAM, 2, 0, budget(9, 1 << 20), &mut records).unwrap(), 2);
        let seen: Vec<_> = records
            .records
            .iter()
            .map(|r| {
                let key = r.key.clone().map(|k| records.bytes[k].to_vec());
                (r.partition, r.offset, r.kind, key, records.bytes[r.value.clone()].to_vec())
            })
            .collect();
        assert_eq!(
            seen,
            [
                (0, 0, Kind::Event, None, b"a".to_vec()),
                (0, 1, Kind::Tombstone, Some(b"k".to_vec()), vec![]),
                (0, 2, Kind::Event, None, b"b".to_vec()),
                (2, 0, Kind::Heartbeat(Some(Micros(5))), None, vec![]),
                (2, 1, Kind::Event, None, vec![]),
            ]
        );
        assert_eq!(store.log_range(STREAM, 0).unwrap(), (0, 3));
        assert_eq!(store.log_range(STREAM, 1).unwrap(), (0, 0));
        assert_eq!(store.log_range(STREAM, 2).unwrap(), (0, 2));
    };
    check(&store);
    drop(store);
    let store = Store::open(dir.path(), &Options::default()).unwrap();
    check(&store);
    assert_eq!(store.append(STREAM, &[(2, vec![event(b"c")])], None).unwrap().ends, [(2, 3)]);

    store.drop_log(STREAM).unwrap();
    assert_eq!(store.log_range(STREAM, 0).unwrap(), (0, 0));
}

#[test]
fn a_budget_bounds_a_read_but_never_to_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &Options::default()).unwrap();
    store.append(STREAM, &[(0, vec![event(&[1; 100]); 5])], None).unwrap();
    let count = |records, bytes| {
        store.read_log(STREAM, 0, 1, budget(records, bytes), &mut Records::default()).unwrap()
    };
    assert_eq!(count(2, 1 << 20), 2);
    assert_eq!(count(9, 250), 2);
    assert_eq!(count(9, 1), 1);
    assert_eq!(count(0, 1 << 20), 0);
    assert_eq!(count(9, 1 << 20), 4);
}

#[test]
fn a_producers_batch_is_taken_once() {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(100 * DAY));
    let clock = Arc::clone(&now);
    let options = Options { clock: Arc::new(move || Micros(clock.load(SeqCst))), ..Options::default() };
    let store = Store::open(dir.path(), &options).unwrap();
    let append = |store: &Store, sequence, digest| {
        store.append(STREAM, &[(0, vec![event(b"x")])], batch("p", sequence, digest))
    };
    assert_eq!(append(&store, 5, 1).unwrap(), Appended { ends: vec![(0, 1)], duplicate: false });
    assert_eq!(append(&store, 6, 2).unwrap().ends, [(0, 2)]);
    store.append(STREAM, &[(0, vec![event(b"other")])], batch("q", 1, 9)).unwrap();
    let again = Appended { ends: vec![(0, 2)], duplicate: true };
    assert_eq!(append(&store, 6, 2).unwrap(), again, "the same reply, though the log went on");
    for (sequence, digest) in [(6, 3), (5, 1), (8, 4), (0, 0)] {
        assert_eq!(append(&store, sequence, digest).unwrap_err(), Error::Sequence { last: 6 });
    }
    drop(store);

    now.store(107 * DAY, SeqCst);
    let store = Store::open(dir.path(), &options).unwrap();
    assert_eq!(append(&store, 6, 2).unwrap(), again, "after a restart too");
    assert_eq!(append(&store, 9, 2).unwrap_err(), Error::Sequence { last: 6 });
    drop(store);

    now.store(107 * DAY + 1, SeqCst);
    let store = Store::open(dir.path(), &options).unwrap();
    assert!(store.db.get(Family::Producers, &keys::producer(STREAM, "p")).unwrap().is_none());
    assert_eq!(append(&store, 9, 2).unwrap().ends, [(0, 4)], "forgotten after seven days");
}

#[test]
fn concurrent_appends_are_contiguous_and_readers_see_no_gap() {
    const WRITERS: usize = 4;
    const BATCHES: usize = 50;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &Options::default()).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let signal = store.watch_logs(&[STREAM]);

    let reader = {
        let (store, done) = (Arc::clone(&store), Arc::clone(&done));
        thread::spawn(move || {
            let mut seen = Vec::new();
            loop {
                let last_look = done.load(SeqCst);
                let more = read(&store, 0, seen.len() as i64);
                if more.is_empty() && last_look {
                    return seen;
                }
                if more.is_empty() {
                    signal.wait(Duration::from_secs(5));
                }
                seen.extend(more);
            }
        })
    };
    let writers: Vec<_> = (0..WRITERS)
        .map(|w| {
            let store = Arc::clone(&store);
            thread::spawn(move || {
                for b in 0..BATCHES {
                    let values: Vec<Vec<u8>> = (0..3).map(|i| vec![w as u8, b as u8, i]).collect();
                    let records = values.iter().map(|v| event(v)).collect();
                    let ends = store.append(STREAM, &[(0, records)], None).unwrap().ends;
                    let mine = read(&store, 0, ends[0].1 - 3);
                    assert_eq!(mine[0].1, values[0], "what was acknowledged can be read");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    done.store(true, SeqCst);
    store.append(STREAM, &[(1, vec![event(b"wake")])], None).unwrap();
    let seen = reader.join().unwrap();
    assert_eq!(seen.len(), WRITERS * BATCHES * 3);
    assert!(seen.iter().enumerate().all(|(i, (offset, _))| *offset == i as i64), "no gap, no repetition");
    for w in 0..WRITERS as u8 {
        let of_writer: Vec<_> = seen.iter().map(|(_, v)| v).filter(|v| v[0] == w).cloned().collect();
        assert!(of_writer.is_sorted(), "the order of each writer is kept");
    }
}

#[test]
fn a_retry_beside_its_original_is_one_batch() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &Options::default()).unwrap();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let store = Arc::clone(&store);
            thread::spawn(move || {
                (1..=20)
                    .map(|n| store.append(STREAM, &[(0, vec![event(b"x")])], batch("p", n, n)))
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    let replies: Vec<_> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
    let taken = replies.iter().flatten().filter(|a| !a.duplicate).count();
    assert_eq!(taken, 20, "each sequence once");
    assert_eq!(store.log_range(STREAM, 0).unwrap(), (0, 20));
}
