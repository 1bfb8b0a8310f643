//! What a restart applies again since the last checkpoint, and what it refuses.

use std::time::Duration;

use super::faults::{Fake, opened};
use super::world::World;
use crate::catalog::TimeMode;
use crate::pipeline::checkpoint::Checkpoints;
use crate::pipeline::halt::Stop;

/// Forty events a minute apart, read ten at a time; the state is written after the first twenty.
fn half_way() -> (World, Fake) {
    let mut world = World::new(1, TimeMode::Live);
    world.limits.records = 10;
    world.checkpoints = Checkpoints::new(Duration::from_hours(1), 20);
    let fake = Fake::new(&world, 40);
    let mut pipeline = opened(&world, &fake).unwrap();
    for _ in 0..3 {
        assert!(pipeline.turn(&world.control, &world.board).unwrap());
    }
    (world, fake)
}

fn refused(world: &World, fake: &Fake) -> (String, String) {
    match opened(world, fake) {
        Err(Stop::Halt(halt)) => (halt.reason, halt.mend),
        Err(Stop::Wait(reason)) => panic!("waits: {reason}"),
        Ok(_) => panic!("opened"),
    }
}

#[test]
fn the_epochs_since_the_checkpoint_are_applied_again_and_committed_once() {
    let (world, fake) = half_way();
    let journal = world.store.journal(world.group.id, 0, 10).unwrap();
    assert_eq!(journal.iter().map(|e| e.checkpoint).collect::<Vec<_>>(), [false, true, false]);
    let again = world.store.since_checkpoint(world.group.id).unwrap();
    assert_eq!(again.iter().map(|e| e.epoch).collect::<Vec<_>>(), [2, 3]);
    let mut pipeline = opened(&world, &fake).unwrap();
    assert_eq!(world.store.journal(world.group.id, 0, 10).unwrap(), journal, "nothing is committed again");
    assert!(pipeline.turn(&world.control, &world.board).unwrap());
    let last = world.store.last_epoch(world.group.id).unwrap().unwrap();
    assert!(last.checkpoint, "what was applied again counts: {last:?}");
    assert_eq!(world.history().iter().map(|r| r.shown).collect::<Vec<_>>(), [10; 7]);
}

#[test]
fn records_that_are_gone_since_the_checkpoint_are_named() {
    let (world, fake) = half_way();
    fake.change(|log| log.first = 25);
    let (reason, mend) = refused(&world, &fake);
    assert!(reason.contains("begins at offset 25, and offset 20 is needed"), "{reason}");
    assert!(mend.contains("retention"), "{mend}");
}

#[test]
fn records_before_the_checkpoint_may_go() {
    let (world, fake) = half_way();
    fake.change(|log| log.first = 20);
    assert!(opened(&world, &fake).is_ok());
}

#[test]
fn other_bytes_are_noticed() {
    let (world, fake) = half_way();
    // One click more: every other check would pass.
    fake.change(|log| {
        log.records[25] = world.event(Some("u"), Some(super::world::T0 + 25 * 60_000_000), 2, 2)
    });
    let (reason, _) = refused(&world, &fake);
    assert!(reason.contains("offsets 20 to 30") && reason.contains("not the records"), "{reason}");
}

#[test]
fn a_log_that_ends_early_is_noticed() {
    let (world, fake) = half_way();
    fake.change(|log| log.records.truncate(27));
    let (reason, _) = refused(&world, &fake);
    assert!(reason.contains("offsets 20 to 30"), "{reason}");
}

#[test]
fn a_broker_that_is_down_is_waited_for() {
    let (world, fake) = half_way();
    fake.change(|log| log.failures.push_back(super::faults::down()));
    assert!(matches!(opened(&world, &fake), Err(Stop::Wait(_))));
    assert!(opened(&world, &fake).is_ok());
}

#[test]
fn a_schema_that_was_judged_unknown_stays_so() {
    let mut world = World::new(1, TimeMode::Live);
    world.checkpoints = Checkpoints::new(Duration::from_hours(1), u64::MAX);
    let mut unknown = world.event(Some("u"), Some(super::world::T0), 1, 1);
    unknown[4] = 99;
    world.append(0, &[(crate::log::Kind::Event, None, &unknown)]);
    world.append_event(0, "u", super::world::T0, 1, 4);
    let mut pipeline = world.open().unwrap();
    world.drain(&mut pipeline);
    drop(pipeline);
    world.known.lock().unwrap().push(99); // registered since
    let mut pipeline = world.open().unwrap();
    world.append_event(0, "u", super::world::T0 + 3_600_000_000, 1, 1);
    world.drain(&mut pipeline);
    assert_eq!(world.history()[0].shown, 4, "the row is that of the record that could be read at the time");
}
