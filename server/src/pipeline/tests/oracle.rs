//! Stream → group → rows in the store equals a naive recomputation from the raw records, which takes
//! nothing from the run but the journal's epochs (for lateness); also when the pipeline is opened anew
//! after every single epoch.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::world::{Row, SCHEMA_ID, T0, WINDOW, World};
use crate::catalog::TimeMode;
use crate::log::digest::RangeDigest;
use crate::log::{Budget, Kind, Records};
use crate::pipeline::checkpoint::Checkpoints;
use crate::pipeline::memory;
use crate::store::commit::{Accounting, JournalEntry};

/// What the test knows of a record without decoding it.
#[derive(Debug, Clone)]
pub enum Sent {
    Event { user: String, at: i64, clicks: i64, impressions: i64 },
    NullKey { at: i64 },
    Bad,
    Heartbeat { at: i64 },
    BadHeartbeat,
    Tombstone,
    TombstoneWithoutKey,
}

pub fn send(world: &World, seed: u64, count: usize) -> Vec<Vec<Sent>> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut sent = vec![Vec::new(); world.stream.partitions as usize];
    for i in 0..count {
        let partition = rng.random_range(0..world.stream.partitions);
        let displaced = if rng.random_range(0..10) < 3 { rng.random_range(0..400_000_000) } else { 0 };
        let at = (T0 + i as i64 * 4_000_000 - displaced) / 1000 * 1000;
        let user = format!("u{}", rng.random_range(0..20));
        let (clicks, impressions) = (rng.random_range(0..2), rng.random_range(0..3));
        let what = match rng.random_range(0..40) {
            0 => Sent::Bad,
            1 => Sent::NullKey { at },
            2 => Sent::Tombstone,
            3 => Sent::TombstoneWithoutKey,
            4 => Sent::Heartbeat { at },
            5 => Sent::BadHeartbeat,
            6 => Sent::Event { user, at, clicks, impressions: 5000 }, // filtered
            _ => Sent::Event { user, at, clicks, impressions },
        };
        let value = match &what {
            Sent::Event { user, at, clicks, impressions } => {
                world.event(Some(user), Some(*at), *clicks, *impressions)
            }
            Sent::NullKey { at } => world.event(None, Some(*at), 1, 1),
            Sent::Bad => bad(world, i),
            _ => Vec::new(),
        };
        let kind = match &what {
            Sent::Heartbeat { at } => Kind::Heartbeat(Some(millpond_engine::time::Micros(*at))),
            Sent::BadHeartbeat => Kind::Heartbeat(None),
            Sent::Tombstone | Sent::TombstoneWithoutKey => Kind::Tombstone,
            _ => Kind::Event,
        };
        let key = matches!(what, Sent::Tombstone).then_some(&b"k"[..]);
        world.append(partition, &[(kind, key, &value)]);
        sent[partition as usize].push(what);
    }
    sent
}

/// A record that is bad in one of several ways.
fn bad(world: &World, i: usize) -> Vec<u8> {
    let good = world.event(Some("u1"), Some(T0), 1, 1);
    match i % 8 {
        0 => Vec::new(),
        1 => vec![0, 0, 0],
        2 => [&[9], &good[1..]].concat(),
        3 => [&[0, 0, 0, 0, 99], &good[5..]].concat(), // unknown id
        4 => [&[0, 0, 0, 0, 8], &good[5..]].concat(),  // a schema that does not fit
        5 => good[..good.len() - 1].to_vec(),
        6 => [&good[..], &[0]].concat(),
        _ => world.event(
            Some("u1"),
            if i.is_multiple_of(2) { None } else { Some(T0 + 100 * 86_400_000_000) },
            1,
            1,
        ),
    }
}

/// Rows and accounting as they must be, from the raw records and the epochs of the journal.
fn expected(
    sent: &[Vec<Sent>],
    journal: &[JournalEntry],
) -> (BTreeMap<(String, i64), (i64, i64)>, Accounting, i64) {
    let mut windows: BTreeMap<(String, i64), (i64, i64)> = BTreeMap::new();
    let mut sums = Accounting::default();
    let mut watermark = i64::MIN;
    for entry in journal {
        for range in &entry.ranges {
            let records = &sent[range.partition.partition as usize];
            for record in &records[range.from as usize..range.to as usize] {
                sums.read += 1;
                match record {
                    Sent::Bad | Sent::BadHeartbeat | Sent::TombstoneWithoutKey | Sent::NullKey { .. } => {
                        sums.quarantined += 1;
                    }
                    Sent::Heartbeat { .. } => sums.heartbeats += 1,
                    Sent::Tombstone => sums.tombstones += 1,
                    Sent::Event { impressions, .. } if *impressions >= 1000 => sums.filtered += 1,
                    Sent::Event { user, at, clicks, impressions } => {
                        let end = at.div_euclid(WINDOW) * WINDOW + WINDOW;
                        if end <= watermark {
                            sums.late += 1;
                            continue;
                        }
                        sums.applied += 1;
                        let sum = windows.entry((user.clone(), end)).or_default();
                        sum.0 += clicks;
                        sum.1 += impressions;
                    }
                }
            }
        }
        watermark = entry.watermark.0;
    }
    windows.retain(|(_, end), _| *end <= watermark);
    (windows, sums, watermark)
}

pub fn check(world: &World, sent: &[Vec<Sent>]) -> Vec<Row> {
    let journal = world.store.journal(world.group.id, 0, usize::MAX).unwrap();
    let (windows, sums, watermark) = expected(sent, &journal);
    let rows = world.history();
    let got: BTreeMap<(String, i64), (Option<f64>, i64)> =
        rows.iter().map(|r| ((r.user.clone(), r.window_end), (r.ctr, r.shown))).collect();
    assert_eq!(got.len(), rows.len(), "a window was emitted twice");
    let want: BTreeMap<(String, i64), (Option<f64>, i64)> = windows
        .iter()
        .map(|(key, (clicks, shown))| {
            (key.clone(), ((*shown != 0).then(|| *clicks as f64 / *shown as f64), *shown))
        })
        .collect();
    assert_eq!(got, want);
    assert!(watermark > T0, "the watermark moved");

    let totals = world.store.totals(world.group.id).unwrap();
    assert_eq!(totals[&0], sums);
    assert_eq!(sums.read, sent.iter().map(|p| p.len() as u64).sum::<u64>(), "every record was read once");
    let letters: u64 = world.store.quarantine_counts(world.group.id).unwrap().iter().map(|(_, n)| n).sum();
    assert_eq!(letters, sums.quarantined);

    journal_matches_the_log(world, &journal);
    online_is_the_newest(world, &rows);
    rows
}

/// Ranges follow each other without a gap, and their digests are those of the bytes in the log.
fn journal_matches_the_log(world: &World, journal: &[JournalEntry]) {
    let mut next: BTreeMap<u32, i64> = BTreeMap::new();
    for (number, entry) in (1..).zip(journal) {
        assert_eq!(entry.epoch, number);
        for range in &entry.ranges {
            let partition = range.partition.partition;
            assert_eq!(range.from, *next.entry(partition).or_default());
            next.insert(partition, range.to);
            let mut records = Records::default();
            let budget =
                Budget { records: (range.to - range.from) as usize, bytes: usize::MAX, wait: Duration::ZERO };
            world.store.read_log(world.stream.id, partition, range.from, budget, &mut records).unwrap();
            let mut digest = RangeDigest::default();
            for record in &records.records {
                digest.update(&records, record);
            }
            assert_eq!((digest.count, digest.value()), (range.count, range.digest));
        }
    }
}

fn online_is_the_newest(world: &World, rows: &[Row]) {
    let mut newest: BTreeMap<&str, i64> = BTreeMap::new();
    for row in rows {
        let end = newest.entry(&row.user).or_insert(i64::MIN);
        *end = (*end).max(row.window_end);
    }
    let view = world.store.view();
    let mut online = Vec::new();
    for row in view.scan(world.group.id, None).unwrap() {
        let (_, versions) = row.unwrap();
        let latest = versions.latest(view.as_of()).unwrap().unwrap();
        online.push(latest.stamp().event_time.0);
    }
    // Encoded keys sort as the texts do.
    assert_eq!(online, newest.into_values().collect::<Vec<_>>());
}

#[test]
fn rows_equal_a_naive_recomputation() {
    let mut world = World::new(2, TimeMode::Live);
    let sent = send(&world, 1, 3000);
    world.limits.records = 97;
    let mut pipeline = world.open().unwrap();
    world.drain(&mut pipeline);
    let rows = check(&world, &sent);
    assert!(rows.len() > 200, "{}", rows.len());
    let totals = world.store.totals(world.group.id).unwrap()[&0];
    assert!(totals.late > 10 && totals.filtered > 10 && totals.quarantined > 50, "{totals:?}");
}

#[test]
fn a_restart_at_every_epoch_boundary_changes_nothing() {
    restart_at_every_epoch_boundary(Checkpoints::new(Duration::from_hours(1), u64::MAX).always());
}

#[test]
fn nor_does_it_where_state_is_written_now_and_then() {
    restart_at_every_epoch_boundary(Checkpoints::new(Duration::from_hours(1), 150));
}

#[test]
fn nor_where_it_is_never_written() {
    restart_at_every_epoch_boundary(Checkpoints::new(Duration::from_hours(1), u64::MAX));
}

#[test]
fn nor_where_hardly_any_state_is_in_memory() {
    let mut world = World::new(2, TimeMode::Live);
    world.checkpoints = Checkpoints::new(Duration::from_hours(1), 60);
    world.limits.records = 41;
    world.max_rows = 5;
    world.budget = memory::Budget::new(Some(1));
    let sent = send(&world, 2, 1000);
    let mut pipeline = world.open().unwrap();
    for turn in 0.. {
        if turn % 7 == 0 {
            drop(pipeline);
            pipeline = world.open().unwrap();
        }
        if !pipeline.turn(&world.control, &world.board).unwrap() {
            break;
        }
        let last = world.store.last_epoch(world.group.id).unwrap();
        if last.is_some_and(|entry| entry.checkpoint) {
            assert_eq!(pipeline.commits.engine.open().1, 0, "groups are left in memory");
        }
    }
    check(&world, &sent);
}

fn restart_at_every_epoch_boundary(checkpoints: Checkpoints) {
    let mut world = World::new(2, TimeMode::Live);
    world.checkpoints = checkpoints;
    world.limits.records = 41;
    world.max_rows = 5; // large closes go on over several epochs, and over restarts
    let sent = send(&world, 2, 1000);
    let mut restarts = 0;
    loop {
        let mut pipeline = world.open().unwrap();
        if !pipeline.turn(&world.control, &world.board).unwrap() {
            break;
        }
        restarts += 1;
        assert!(restarts < 5000);
    }
    let once = check(&world, &sent);
    assert!(restarts > 40, "{restarts}");

    let mut other = World::new(2, TimeMode::Live);
    other.limits.records = 41;
    other.max_rows = 5;
    send(&other, 2, 1000);
    let mut pipeline = other.open().unwrap();
    other.drain(&mut pipeline);
    let plain = |rows: Vec<Row>| {
        rows.into_iter().map(|r| (r.user, r.window_end, r.ctr, r.shown, r.commit)).collect::<Vec<_>>()
    };
    assert_eq!(plain(once), plain(other.history()), "the same rows in the same epochs");
}

#[test]
fn records_appended_while_it_runs_are_picked_up() {
    let world = World::new(1, TimeMode::Live);
    let mut pipeline = world.open().unwrap();
    assert!(
        !pipeline.turn(&world.control, &world.board).unwrap(),
        "an epoch without records or movement writes nothing"
    );
    assert_eq!(world.store.last_epoch(world.group.id).unwrap(), None);
    for i in 0..10 {
        world.append_event(0, "u", T0 + i * 120_000_000, 1, 2);
        world.drain(&mut pipeline);
    }
    let rows = world.history();
    assert_eq!(
        rows.iter().map(|r| (r.shown, r.ctr)).collect::<Vec<_>>(),
        [(6, Some(0.5)), (4, Some(0.5)), (6, Some(0.5))]
    );
    let status = world.board.get();
    assert_eq!((status.lag(), status.position(world.stream.id, 0), status.epoch), (0, 10, 10));
}

#[test]
fn an_unknown_schema_id_is_listed_in_the_journal() {
    let world = World::new(1, TimeMode::Live);
    let mut value = world.event(Some("u"), Some(T0), 1, 1);
    value[4] = 99;
    world.append(0, &[(Kind::Event, None, &value)]);
    let mut pipeline = world.open().unwrap();
    world.drain(&mut pipeline);
    let entry = world.store.last_epoch(world.group.id).unwrap().unwrap();
    assert_eq!(entry.unknown_schema_ids, [99]);
    assert_ne!(SCHEMA_ID, 99);
}
