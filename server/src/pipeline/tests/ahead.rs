//! The loops of a pipeline, which read and compute ahead of what is committed: how far, and that nothing is lost or
//! counted twice where they are stopped, where one of them fails, and where a stream's end is set meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::faults::{Fake, down, opened};
use super::oracle::{check, send};
use super::world::{T0, World};
use crate::catalog::{OnBadRecord, TimeMode};
use crate::log::Error;
use crate::pipeline::checkpoint::Checkpoints;
use crate::pipeline::commits::Event;
use crate::pipeline::control::Control;
use crate::pipeline::halt::Halt;
use crate::pipeline::runner::Pipeline;

const MINUTE: i64 = 60_000_000;

/// Records of an epoch, as the worlds here cut them.
const EPOCH: i64 = 5;

/// What is read at least while the first epoch is committed: that one, two that wait, and one for which there is no place.
const AHEAD: i64 = 4 * EPOCH;

/// And at most: one more, which is computed already.
const COMPUTED: i64 = AHEAD + EPOCH;

/// A hundred events, a minute apart, and a store that knows no checkpoint before the pipeline stops.
fn world() -> (World, Fake) {
    let mut world = World::new(1, TimeMode::Live);
    world.limits.records = EPOCH as usize;
    world.checkpoints = Checkpoints::new(Duration::from_hours(1), u64::MAX);
    let fake = Fake::new(&world, 100);
    (world, fake)
}

/// A pipeline that stands still after each commit until it is let go on; for good once the sender is dropped.
fn held(world: &World, fake: &Fake) -> (Pipeline, Sender<()>) {
    let mut pipeline = opened(world, fake).unwrap();
    let (go_on, gate) = bounded::<()>(0);
    pipeline.commits.observe = Box::new(move |event| {
        if matches!(event, Event::Committed(..)) {
            let _ = gate.recv();
        }
    });
    (pipeline, go_on)
}

fn wait_until(what: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !what() {
        assert!(Instant::now() < until, "it does not come to that");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How far a pipeline reads whose first commit stands still.
fn reads_ahead(world: &World, fake: &Fake) -> i64 {
    wait_until(|| fake.next() >= AHEAD);
    std::thread::sleep(Duration::from_millis(50));
    let ahead = fake.next();
    assert!(ahead == AHEAD || ahead == COMPUTED, "it goes as far as {ahead}");
    assert_eq!(read(world), EPOCH as u64, "nothing is committed that is only read");
    ahead
}

/// Runs a pipeline whose first commit stands still until `meanwhile` is done. Returns how far it had read by then.
fn run_ahead(world: &World, fake: &Fake, meanwhile: impl FnOnce(&Control)) -> (i64, Result<(), Halt>) {
    let (mut pipeline, gate) = held(world, fake);
    let (control, board) = (Control::default(), &world.board);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| pipeline.run(&control, board));
        let ahead = reads_ahead(world, fake);
        meanwhile(&control);
        drop(gate);
        (ahead, running.join().unwrap())
    })
}

/// Opens the pipeline anew and runs it until all is committed.
fn run_to_the_end(world: &World, fake: &Fake) {
    let mut pipeline = opened(world, fake).unwrap();
    let (control, board) = (Control::default(), &world.board);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| pipeline.run(&control, board));
        wait_until(|| board.get().position(world.stream.id, 0) == 100);
        control.stop();
        running.join().unwrap().unwrap();
    });
}

/// Records that are committed.
fn read(world: &World) -> u64 {
    world.store.totals(world.group.id).unwrap().get(&0).map_or(0, |totals| totals.read)
}

/// All hundred events are in their windows once: those that the watermark has passed are out.
fn all_is_there(world: &World) {
    let totals = world.store.totals(world.group.id).unwrap()[&0];
    assert_eq!((totals.read, totals.applied), (100, 100));
    assert_eq!(world.history().iter().map(|r| r.shown).collect::<Vec<_>>(), [10; 19]);
    let mut next = 0;
    for range in world.store.journal(world.group.id, 0, usize::MAX).unwrap().iter().flat_map(|e| &e.ranges) {
        assert_eq!(range.from, next);
        next = range.to;
    }
    assert_eq!(next, 100);
}

#[test]
fn a_stop_commits_what_was_read_ahead() {
    let (world, fake) = world();
    let (ahead, done) = run_ahead(&world, &fake, Control::stop);
    done.unwrap();
    assert_eq!(read(&world), ahead as u64, "what was read is complete, and need not be read again");
    let last = world.store.last_epoch(world.group.id).unwrap().unwrap();
    assert!(last.checkpoint && last.ranges.is_empty(), "the next start has nothing to apply again: {last:?}");
    run_to_the_end(&world, &fake);
    all_is_there(&world);
}

#[test]
fn what_was_read_before_a_source_fails_is_committed() {
    let (world, fake) = world();
    let (ahead, halt) = run_ahead(&world, &fake, |_| {
        let gone = Error::Gone { log: "fake".to_owned(), partition: 0, wanted: 30, first: 50 };
        fake.change(|log| log.failures.push_back(gone));
    });
    assert!(halt.unwrap_err().reason.contains("is gone"));
    assert_eq!(read(&world), ahead as u64);
    run_to_the_end(&world, &fake);
    all_is_there(&world);
}

#[test]
fn a_source_that_does_not_answer_is_waited_for() {
    let (world, fake) = world();
    let (mut pipeline, gate) = held(&world, &fake);
    let control = Control::default();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| pipeline.run(&control, &world.board));
        reads_ahead(&world, &fake);
        fake.change(|log| log.failures.extend([down(), down()]));
        drop(gate);
        wait_until(|| world.board.get().position(world.stream.id, 0) == 100);
        control.stop();
        running.join().unwrap().unwrap();
    });
    all_is_there(&world);
}

#[test]
fn what_was_read_ahead_of_an_epoch_that_fails_is_read_again() {
    let (mut world, fake) = world();
    world.stream.on_bad_record = OnBadRecord::Halt;
    let no_key = world.event(None, Some(T0 + 7 * MINUTE), 1, 2);
    fake.change(|log| log.records[7] = no_key);
    let halt = run_ahead(&world, &fake, |_| {}).1.unwrap_err();
    assert!(halt.reason.contains("offset 7 of partition 0"), "{}", halt.reason);
    assert_eq!(read(&world), EPOCH as u64);
    world.stream.on_bad_record = OnBadRecord::Quarantine;
    run_to_the_end(&world, &fake);
    let totals = world.store.totals(world.group.id).unwrap()[&0];
    assert_eq!((totals.read, totals.applied, totals.quarantined), (100, 99, 1));
    let shown: Vec<i64> = world.history().iter().map(|r| r.shown).collect();
    assert_eq!(shown, [&[10, 8][..], &[10; 17]].concat());
}

#[test]
fn a_finish_that_is_set_meanwhile_is_acted_on_where_it_stands() {
    let (world, fake) = world();
    // Two events before the end of a window, which is closed without them.
    let mut finished = world.stream.clone();
    finished.finish = Some(vec![28]);
    let (mut pipeline, gate) = held(&world, &fake);
    let control = Control::default();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| pipeline.run(&control, &world.board));
        reads_ahead(&world, &fake);
        control.change(Arc::new(finished));
        drop(gate);
        wait_until(|| world.board.get().position(world.stream.id, 0) == 100);
        control.stop();
        running.join().unwrap().unwrap();
    });
    let totals = world.store.totals(world.group.id).unwrap()[&0];
    assert_eq!((totals.read, totals.applied, totals.late), (100, 98, 2));
    let shown: Vec<i64> = world.history().iter().map(|r| r.shown).collect();
    assert_eq!(shown, [&[10; 5][..], &[6], &[10; 13]].concat());
    let journal = world.store.journal(world.group.id, 0, usize::MAX).unwrap();
    let acted = journal.iter().filter(|e| e.ranges.last().is_some_and(|range| range.to == 28));
    assert_eq!(acted.count(), 1, "an epoch ends where the stream does");
}

/// Stopped at any moment and opened anew, over several partitions, with large closes under way.
#[test]
fn stops_at_any_moment_change_nothing() {
    let mut world = World::new(2, TimeMode::Live);
    world.checkpoints = Checkpoints::new(Duration::from_hours(1), 150);
    world.limits.records = 17;
    world.max_rows = 3;
    let sent = send(&world, 3, 1500);
    let mut rng = SmallRng::seed_from_u64(4);
    let (mut stops, until) = (0, Instant::now() + Duration::from_mins(2));
    let is_done = |board: &crate::pipeline::status::Board| {
        let status = board.get();
        let all = (0..).zip(&sent);
        all.into_iter().all(|(p, records)| status.position(world.stream.id, p) == records.len() as i64)
    };
    while !is_done(&world.board) {
        let mut pipeline = world.open().unwrap();
        let control = Control::default();
        std::thread::scope(|scope| {
            let running = scope.spawn(|| pipeline.run(&control, &world.board));
            std::thread::sleep(Duration::from_micros(rng.random_range(0..12_000)));
            control.stop();
            running.join().unwrap().unwrap();
        });
        stops += 1;
        assert!(Instant::now() < until, "{stops} stops");
    }
    assert!(stops > 5, "{stops}");
    check(&world, &sent);
}
