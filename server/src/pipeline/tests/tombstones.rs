//! An ingested group with deletes: its history equals a naive recomputation from what was sent and the
//! journal's epochs, restarted or not.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use millpond_engine::epoch::Reason;
use millpond_engine::time::Micros;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::world::{T0, World};
use crate::catalog::{StreamEntry, TimeMode, entry, history};
use crate::log::Kind;
use crate::store::commit::JournalEntry;

#[derive(Debug, Clone)]
enum Sent {
    Upsert { user: String, at: i64, clicks: i64 },
    Delete { user: String },
    Heartbeat { at: i64 },
    Bad,
}

/// (commit, event time, key) → clicks, or None for a delete.
type History = BTreeMap<(u64, i64, String), Option<i64>>;

fn ingested(partitions: u32) -> World {
    let mut world = World::new(partitions, TimeMode::Live);
    let reader = StreamEntry::new(world.stream.clone()).unwrap().reader;
    world.group.sql = None;
    world.group.event_time = "timestamp".to_owned();
    world.group.columns = entry::columns(reader.arrow(), &world.group.primary_key).unwrap();
    world
}

fn send(world: &World, partition: u32, what: &Sent) {
    let value = match what {
        Sent::Upsert { user, at, clicks } => world.event(Some(user), Some(*at), *clicks, 1),
        _ => Vec::new(),
    };
    let (kind, key) = match what {
        Sent::Upsert { .. } => (Kind::Event, None),
        Sent::Delete { user } => (Kind::Tombstone, Some(user.as_bytes())),
        Sent::Heartbeat { at } => (Kind::Heartbeat(Some(Micros(*at))), None),
        Sent::Bad => (Kind::Tombstone, Some(&b"\xff"[..])),
    };
    world.append(partition, &[(kind, key, &value)]);
}

fn send_many(world: &World, seed: u64) -> Vec<Vec<Sent>> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut sent = vec![Vec::new(); world.stream.partitions as usize];
    for i in 0..600_i64 {
        let user = format!("u{}", rng.random_range(0..8));
        let at = T0 + (i / 4 - rng.random_range(0..6)) * 1_000_000;
        let what = match rng.random_range(0..20) {
            0..=4 => Sent::Delete { user },
            5 => Sent::Heartbeat { at },
            6 => Sent::Bad,
            _ => Sent::Upsert { user, at, clicks: i },
        };
        let partition = rng.random_range(0..world.stream.partitions);
        send(world, partition, &what);
        sent[partition as usize].push(what);
    }
    sent
}

fn expected(sent: &[Vec<Sent>], journal: &[JournalEntry]) -> History {
    let mut rows = History::new();
    let mut seen: Vec<Option<i64>> = vec![None; sent.len()];
    for entry in journal {
        let before = seen.iter().copied().max().flatten();
        for range in &entry.ranges {
            let partition = range.partition.partition as usize;
            for record in &sent[partition][range.from as usize..range.to as usize] {
                let mine = seen[partition].max(before);
                match record {
                    Sent::Upsert { user, at, clicks } => {
                        rows.insert((entry.epoch, *at, user.clone()), Some(*clicks));
                        seen[partition] = seen[partition].max(Some(*at));
                    }
                    Sent::Delete { user } => {
                        if let Some(at) = mine {
                            rows.insert((entry.epoch, at, user.clone()), None);
                        }
                    }
                    Sent::Heartbeat { at } => seen[partition] = seen[partition].max(Some(*at)),
                    Sent::Bad => {}
                }
            }
        }
    }
    rows
}

fn written(world: &World) -> History {
    let mut rows = History::new();
    for entry in world.store.view().outbox(world.group.id, None).unwrap() {
        let batch = entry.unwrap().rows;
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let (users, ops) = (column("user_id").as_string::<i32>(), column(history::OP).as_string::<i32>());
        let clicks = column("clicks").as_primitive::<Int64Type>();
        let times = column(history::EVENT_TIME).as_primitive::<TimestampMicrosecondType>();
        let own_times = column("timestamp").as_primitive::<TimestampMicrosecondType>();
        let commits = column(history::COMMIT).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let value = clicks.is_valid(row).then(|| clicks.value(row));
            assert_eq!(ops.value(row), if value.is_some() { "upsert" } else { "delete" });
            assert_eq!(own_times.value(row), times.value(row), "the event time is a column of the row too");
            let key = (commits.value(row) as u64, times.value(row), users.value(row).to_owned());
            assert_eq!(rows.insert(key, value), None, "two rows of one identity");
        }
    }
    rows
}

fn check(world: &World, sent: &[Vec<Sent>]) -> History {
    let journal = world.store.journal(world.group.id, 0, usize::MAX).unwrap();
    let rows = written(world);
    assert_eq!(rows, expected(sent, &journal));
    let totals = world.store.totals(world.group.id).unwrap()[&0];
    let count = |is: fn(&Sent) -> bool| sent.iter().flatten().filter(|s| is(s)).count() as u64;
    assert_eq!(totals.tombstones, count(|s| matches!(s, Sent::Delete { .. })));
    assert_eq!(totals.applied + totals.superseded, count(|s| matches!(s, Sent::Upsert { .. })));
    let bad = count(|s| matches!(s, Sent::Bad));
    assert_eq!(world.store.quarantine_counts(world.group.id).unwrap(), [(Reason::BadKey, bad)]);
    online_is_what_the_rule_picks(world, &rows);
    rows
}

/// Of each key the greatest (event time, commit); where that is a delete there is no value.
fn online_is_what_the_rule_picks(world: &World, rows: &History) {
    let mut newest: BTreeMap<&str, (i64, u64, bool)> = BTreeMap::new();
    for ((commit, at, user), value) in rows {
        let row = (*at, *commit, value.is_none());
        newest.entry(user).and_modify(|r| *r = (*r).max(row)).or_insert(row);
    }
    let view = world.store.view();
    let online = view.scan(world.group.id, None).unwrap().map(|row| {
        let (_, versions) = row.unwrap();
        let stamp = versions.latest(view.as_of()).unwrap().unwrap().stamp();
        (stamp.event_time.0, stamp.commit, stamp.op == millpond_engine::epoch::Op::Delete)
    });
    assert_eq!(online.collect::<Vec<_>>(), newest.into_values().collect::<Vec<_>>());
}

#[test]
fn deletes_equal_a_naive_recomputation() {
    for (partitions, records) in [(1, 1000), (1, 7), (3, 23)] {
        let mut world = ingested(partitions);
        world.limits.records = records;
        let sent = send_many(&world, u64::from(partitions));
        let mut pipeline = world.open().unwrap();
        world.drain(&mut pipeline);
        let rows = check(&world, &sent);
        assert!(rows.values().filter(|v| v.is_none()).count() > 20, "{}", rows.len());
    }
}

#[test]
fn a_restart_at_every_epoch_boundary_deletes_the_same() {
    let mut histories = Vec::new();
    for restarted in [true, false] {
        let mut world = ingested(2);
        world.limits.records = 13;
        let sent = send_many(&world, 5);
        let mut pipeline = world.open().unwrap();
        while pipeline.turn(&world.control, &world.board).unwrap() {
            if restarted {
                pipeline = world.open().unwrap();
            }
        }
        histories.push(check(&world, &sent));
    }
    assert_eq!(histories[0], histories[1]);
}

#[test]
fn a_delete_hides_what_came_before_and_yields_to_later_events() {
    let world = ingested(1);
    let mut pipeline = world.open().unwrap();
    let latest = || {
        let view = world.store.view();
        let found = view.scan(world.group.id, None).unwrap().next()?.unwrap();
        let stamp = found.1.latest(view.as_of()).unwrap()?.stamp();
        Some((stamp.event_time.0 - T0, stamp.op == millpond_engine::epoch::Op::Delete))
    };
    let u = || "u".to_owned();
    let upsert = |at: i64| Sent::Upsert { user: u(), at: T0 + at, clicks: 1 };
    let mut step = |what: Sent| {
        send(&world, 0, &what);
        world.drain(&mut pipeline);
        latest()
    };
    assert_eq!(step(Sent::Delete { user: u() }), None, "there is nothing to delete");
    assert_eq!(step(upsert(5_000_000)), Some((5_000_000, false)));
    assert_eq!(step(upsert(3_000_000)), Some((5_000_000, false)));
    assert_eq!(step(Sent::Delete { user: u() }), Some((5_000_000, true)));
    assert_eq!(step(upsert(4_000_000)), Some((5_000_000, true)), "an older event stays deleted");
    assert_eq!(step(upsert(6_000_000)), Some((6_000_000, false)));
    assert_eq!(step(Sent::Heartbeat { at: T0 + 9_000_000 }), Some((6_000_000, false)));
    assert_eq!(step(Sent::Delete { user: u() }), Some((9_000_000, true)));
}
