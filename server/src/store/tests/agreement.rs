//! Invariant 7: online and offline agree, at every `as_of` ever given.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::thread;

use proptest::prelude::*;

use super::*;

/// One row of the history, as it goes to Delta.
#[derive(Debug, Clone, Copy)]
struct Past {
    event_time: i64,
    available_at: i64,
    commit: i64,
    value: i64,
}

/// The offline history of each key, from the outbox.
fn history(view: &ReadView) -> BTreeMap<String, Vec<Past>> {
    let mut all: BTreeMap<String, Vec<Past>> = BTreeMap::new();
    for entry in view.outbox(GROUP, None).unwrap() {
        let rows = entry.unwrap().rows;
        let instant =
            |name, i| rows.column_by_name(name).unwrap().as_primitive::<TimestampMicrosecondType>().value(i);
        for i in 0..rows.num_rows() {
            all.entry(rows.column(0).as_string::<i32>().value(i).to_owned()).or_default().push(Past {
                event_time: instant("_event_time", i),
                available_at: instant("_available_at", i),
                commit: rows.column_by_name("_commit").unwrap().as_primitive::<Int64Type>().value(i),
                value: rows.column(1).as_primitive::<Int64Type>().value(i),
            });
        }
    }
    all
}

/// The rule, over the whole history: the newest two event times at `at`, each at its newest revision.
fn pick(history: &[Past], at: Micros) -> Vec<(i64, i64)> {
    let mut newest: BTreeMap<i64, Past> = BTreeMap::new();
    for past in history.iter().filter(|p| p.available_at <= at.0 && p.event_time <= at.0) {
        let slot = newest.entry(past.event_time).or_insert(*past);
        if past.commit >= slot.commit {
            *slot = *past;
        }
    }
    newest.values().rev().take(2).map(|p| (p.event_time, p.value)).collect()
}

const KEYS: [&str; 3] = ["a", "b", "c"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_read_is_what_the_history_says(
        steps in prop::collection::vec(
            (prop::collection::btree_map((0..3_usize, 0..60_i64), -1..100_i64, 0..5), 0..20_i64, any::<bool>()),
            1..12,
        ),
    ) {
        let fixture = Fixture::new();
        fixture.now.store(1, SeqCst);
        let mut store = fixture.open();
        let mut reads = vec![];
        for (n, (rows, later, reopen)) in steps.into_iter().enumerate() {
            let rows: Vec<Row> = rows.into_iter().map(|((k, t), v)| (KEYS[k], t, v)).collect();
            store.commit(&epoch(n as u64 + 1, &rows)).unwrap();
            for wait in [0, later] {
                fixture.now.fetch_add(wait, SeqCst);
                let view = store.view();
                for key in KEYS {
                    reads.push((key, view.as_of(), read(&view, key)));
                }
            }
            if reopen {
                // Without closing: what is in memtables and operands not yet merged comes back from the log.
                drop(store);
                store = fixture.open();
            }
        }
        // Later rows may not change what was read at an earlier `as_of`.
        let history = history(&store.view());
        for (key, as_of, seen) in reads {
            let expected = pick(history.get(key).map_or(&[][..], Vec::as_slice), as_of);
            prop_assert_eq!(seen, expected, "{} at {}", key, as_of);
        }
    }
}

#[test]
fn readers_beside_committers_read_what_the_history_will_say() {
    const EPOCHS: u64 = 150;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &Options::default()).unwrap();
    store.register_group(GROUP, &schema(), VERSIONS).unwrap();
    // A second group only to have two committers.
    let other = GroupId(4);
    store.register_group(other, &schema(), VERSIONS).unwrap();
    let done = Arc::new(AtomicBool::new(false));

    let committers: Vec<_> = [GROUP, other]
        .into_iter()
        .map(|group| {
            let store = Arc::clone(&store);
            thread::spawn(move || {
                let stamps = (1..=EPOCHS).map(|n| {
                    let rows = [("a", (n * 7 % 40) as i64, n as i64), ("b", n as i64, n as i64)];
                    store.commit(&EpochCommit { group, ..epoch(n, &rows) }).unwrap().available_at
                });
                stamps.collect::<Vec<_>>()
            })
        })
        .collect();
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (store, done) = (Arc::clone(&store), Arc::clone(&done));
            thread::spawn(move || {
                let mut reads = vec![];
                while !done.load(SeqCst) || reads.is_empty() {
                    let view = store.view();
                    reads.push((view.as_of(), read(&view, "a"), read(&view, "b")));
                }
                reads
            })
        })
        .collect();
    let mut stamps: Vec<_> = committers.into_iter().flat_map(|c| c.join().unwrap()).collect();
    done.store(true, SeqCst);
    stamps.sort_unstable();
    assert!(stamps.is_sorted_by(|a, b| a < b), "one clock for the whole store");

    let history = history(&store.view());
    let mut while_committing = 0;
    for reader in readers {
        for (as_of, a, b) in reader.join().unwrap() {
            assert_eq!(a, pick(&history["a"], as_of), "a at {as_of}");
            assert_eq!(b, pick(&history["b"], as_of), "b at {as_of}");
            while_committing += usize::from(!b.is_empty() && b[0].0 < EPOCHS as i64);
        }
    }
    assert!(while_committing > 0, "some reads fell between commits");
}

/// Every few merges the value of a hot key is written anew: nobody who reads it may notice.
#[test]
fn a_hot_key_reads_the_same_however_often_it_was_merged() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for n in 1..=60_u64 {
        // Every third commit revises a time that was there before.
        let time = if n % 3 == 0 { n as i64 - 2 } else { n as i64 };
        store.commit(&epoch(n, &[("hot", time, n as i64), ("warm", 1, n as i64)])).unwrap();
        let (latest, previous) = match n % 3 {
            0 => ((n as i64 - 1, n as i64 - 1), (n as i64 - 2, n as i64)),
            1 if n > 1 => ((n as i64, n as i64), (n as i64 - 2, n as i64 - 2)),
            1 => ((1, 1), (1, 1)),
            _ => ((n as i64, n as i64), (n as i64 - 1, n as i64 - 1)),
        };
        let expected = if n == 1 { vec![latest] } else { vec![latest, previous] };
        assert_eq!(read(&store.view(), "hot"), expected, "commit {n}");
        assert_eq!(read(&store.view(), "warm"), [(1, n as i64)]);
    }
}
