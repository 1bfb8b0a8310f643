//! What goes wrong around a pipeline: brokers, topics, the registry, bad records, defects.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::world::{T0, World};
use crate::catalog::{OnBadRecord, TimeMode};
use crate::log::{self, Budget, Error, Kind, PartitionEnd, Reader, Records};
use crate::pipeline::halt::Stop;
use crate::pipeline::status::State;

/// A log in memory that fails as it is told to.
#[derive(Clone, Default)]
pub struct Fake(Arc<Mutex<Log>>);

#[derive(Default)]
pub struct Log {
    pub identity: String,
    pub first: i64,
    pub records: Vec<Vec<u8>>,
    next: i64,
    /// What the next polls do instead of reading.
    pub failures: VecDeque<Error>,
    polls: usize,
}

impl Fake {
    pub fn new(world: &World, events: i64) -> Self {
        let fake = Self::default();
        let mut log = fake.0.lock().unwrap();
        log.identity = "fake/1".to_owned();
        log.records = (0..events).map(|i| world.event(Some("u"), Some(T0 + i * 60_000_000), 1, 2)).collect();
        drop(log);
        fake
    }

    /// How far it has been read.
    pub fn next(&self) -> i64 {
        self.0.lock().unwrap().next
    }

    pub fn change(&self, change: impl FnOnce(&mut Log)) {
        change(&mut self.0.lock().unwrap());
    }
}

impl Reader for Fake {
    fn partitions(&mut self) -> Result<u32, Error> {
        Ok(1)
    }

    fn seek(&mut self, _: u32, offset: i64) -> Result<(), Error> {
        self.change(|log| log.next = offset);
        Ok(())
    }

    fn poll(&mut self, partition: u32, budget: Budget, into: &mut Records) -> Result<usize, Error> {
        let mut log = self.0.lock().unwrap();
        log.polls += 1;
        if let Some(failure) = log.failures.pop_front() {
            return Err(failure);
        }
        if log.next < log.first {
            return Err(Error::Gone {
                log: "fake".to_owned(),
                partition,
                wanted: log.next,
                first: log.first,
            });
        }
        let from = log.next as usize;
        let to = log.records.len().min(from + budget.records);
        for offset in from..to {
            into.push(partition, offset as i64, Kind::Event, None, &log.records[offset]);
        }
        log.next = to as i64;
        Ok(to - from)
    }

    fn ends(&mut self) -> Result<Vec<PartitionEnd>, Error> {
        let log = self.0.lock().unwrap();
        let end = log.records.len() as i64;
        Ok(vec![PartitionEnd { partition: 0, end, reached: log.next >= end, blocked: false }])
    }

    fn range(&mut self, _: u32) -> Result<(i64, i64), Error> {
        let log = self.0.lock().unwrap();
        Ok((log.first, log.records.len() as i64))
    }

    fn identity(&mut self) -> Result<String, Error> {
        Ok(self.0.lock().unwrap().identity.clone())
    }

    fn wait(&mut self, _: Duration) {}
}

pub fn down() -> Error {
    Error::Unavailable { log: "fake".to_owned(), detail: "no broker answers".to_owned() }
}

pub fn opened(world: &World, fake: &Fake) -> Result<crate::pipeline::runner::Pipeline, Stop> {
    world.open_with(&|_| Ok(Box::new(fake.clone()) as Box<dyn Reader>))
}

fn reason(stop: Result<bool, Stop>) -> String {
    match stop {
        Err(Stop::Halt(halt)) => halt.reason,
        other => panic!("not halted: {other:?}"),
    }
}

#[test]
fn a_broker_that_is_down_is_waited_for_and_nothing_is_lost() {
    let mut world = World::new(1, TimeMode::Live);
    world.limits.records = 7;
    let fake = Fake::new(&world, 40);
    fake.change(|log| log.failures.extend([down(), down()]));
    let mut pipeline = opened(&world, &fake).unwrap();
    let mut waits = 0;
    loop {
        match pipeline.turn(&world.control, &world.board) {
            Ok(true) => {}
            Ok(false) => break,
            Err(Stop::Wait(reason)) => {
                assert!(reason.contains("no broker answers"), "{reason}");
                waits += 1;
            }
            Err(Stop::Halt(halt)) => panic!("{halt:?}"),
        }
        if waits == 2 {
            fake.change(|log| log.failures.push_back(down())); // between two epochs, too
            waits += 1;
        }
    }
    assert_eq!(waits, 4);
    let totals = world.store.totals(world.group.id).unwrap()[&0];
    assert_eq!((totals.read, totals.applied), (40, 40));
    assert_eq!(world.history().iter().map(|r| r.shown).collect::<Vec<_>>(), [10; 7]);
}

#[test]
fn the_loop_shows_that_it_waits_and_goes_on_by_itself() {
    let world = World::new(1, TimeMode::Live);
    let fake = Fake::new(&world, 12);
    fake.change(|log| log.failures.extend((0..3).map(|_| down())));
    let mut pipeline = opened(&world, &fake).unwrap();
    let mut seen = Vec::new();
    std::thread::scope(|scope| {
        let (control, board) = (&world.control, &world.board);
        let mut shown = board.subscribe();
        scope.spawn(move || pipeline.run(control, board).unwrap());
        let until = std::time::Instant::now() + Duration::from_secs(30);
        while std::time::Instant::now() < until && shown.borrow().position(world.stream.id, 0) < 12 {
            if shown.has_changed().unwrap() {
                seen.push(shown.borrow_and_update().state.name());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        control.stop();
    });
    assert!(seen.contains(&"waiting"), "{seen:?}");
    assert_eq!(world.board.get().position(world.stream.id, 0), 12);
    assert_eq!(world.board.get().state, State::Running);
}

#[test]
fn records_that_are_gone_halt_the_pipeline_and_are_never_skipped() {
    let mut world = World::new(1, TimeMode::Live);
    world.limits.records = 5;
    let fake = Fake::new(&world, 20);
    let mut pipeline = opened(&world, &fake).unwrap();
    assert!(pipeline.turn(&world.control, &world.board).unwrap());
    fake.change(|log| log.first = 8);
    assert!(reason(pipeline.turn(&world.control, &world.board)).contains("offset 5 is gone"));
    let Err(Stop::Halt(halt)) = opened(&world, &fake) else { panic!("opened past what is gone") };
    assert!(halt.reason.contains("offset 5 is gone"), "{}", halt.reason);
    assert!(halt.mend.contains("new version"), "{}", halt.mend);
    assert_eq!(world.store.totals(world.group.id).unwrap()[&0].read, 5);
}

#[test]
fn a_recreated_topic_halts_the_pipeline() {
    for (change, told) in [
        (Box::new(|log: &mut Log| log.identity = "fake/2".to_owned()) as Box<dyn Fn(&mut Log)>, "fake/2"),
        (Box::new(|log: &mut Log| log.records.truncate(3)), "3"),
        (Box::new(|log: &mut Log| log.records[9][6] ^= 1), "record 9"),
    ] {
        let world = World::new(1, TimeMode::Live);
        let fake = Fake::new(&world, 10);
        let mut pipeline = opened(&world, &fake).unwrap();
        world.drain(&mut pipeline);
        fake.change(change);
        let stop = match opened(&world, &fake) {
            Ok(mut pipeline) => pipeline.turn(&world.control, &world.board).err(),
            Err(stop) => Some(stop),
        };
        let Some(Stop::Halt(halt)) = stop else { panic!("went on over another log: {told}") };
        assert!(halt.reason.contains(told), "{}", halt.reason);
    }
}

#[test]
fn the_record_that_is_compared_at_start_is_not_applied_again() {
    let world = World::new(1, TimeMode::Live);
    let fake = Fake::new(&world, 10);
    for more in 0..5 {
        let mut pipeline = opened(&world, &fake).unwrap();
        world.drain(&mut pipeline);
        let read = world.store.totals(world.group.id).unwrap()[&0].read;
        assert_eq!(read, 10 + more);
        let event = world.event(Some("u"), Some(T0 + 600_000_000), 1, 2);
        fake.change(|log| log.records.push(event));
    }
}

#[test]
fn a_registry_that_is_down_pauses_what_needs_it_and_only_that() {
    let world = World::new(1, TimeMode::Live);
    world.append_event(0, "u", T0, 1, 1);
    let mut other = world.event(Some("u"), Some(T0 + 1_000_000), 1, 1);
    other[4] = 42;
    let mut pipeline = world.open().unwrap();
    world.drain(&mut pipeline);
    world.silent.lock().unwrap().push(42);
    world.append_event(0, "u", T0 + 2_000_000, 1, 1); // a schema that is known already
    world.drain(&mut pipeline);
    assert_eq!(world.store.totals(world.group.id).unwrap()[&0].applied, 2);
    world.append(0, &[(Kind::Event, None, &other)]);
    for _ in 0..3 {
        let stop = pipeline.turn(&world.control, &world.board).unwrap_err();
        assert_eq!(stop, Stop::Wait("the registry is down".to_owned()));
    }
    assert_eq!(
        world.store.totals(world.group.id).unwrap()[&0].read,
        2,
        "not judged while there is no answer"
    );
    world.silent.lock().unwrap().clear();
    world.drain(&mut pipeline);
    let totals = world.store.totals(world.group.id).unwrap()[&0];
    assert_eq!((totals.read, totals.quarantined), (3, 1));
}

#[test]
fn a_stream_that_says_halt_stops_right_before_the_bad_record() {
    let mut world = World::new(1, TimeMode::Live);
    world.stream.on_bad_record = OnBadRecord::Halt;
    for i in 0..3 {
        world.append_event(0, "u", T0 + i, 1, 1);
    }
    world.append(0, &[(Kind::Event, None, b"not a frame")]);
    world.append_event(0, "u", T0, 1, 1);
    let mut pipeline = world.open().unwrap();
    let told = reason(pipeline.turn(&world.control, &world.board));
    assert!(told.contains("offset 3 of partition 0"), "{told}");
    let totals = world.store.totals(world.group.id).unwrap()[&0];
    assert_eq!((totals.read, totals.applied, totals.quarantined), (3, 3, 0));
    // Resumed, it stands before the same record.
    let told = reason(world.open().unwrap().turn(&world.control, &world.board));
    assert!(told.contains("offset 3 of partition 0"), "{told}");
}

#[test]
fn a_missing_log_halts_with_what_to_do() {
    let world = World::new(1, TimeMode::Live);
    let missing = || Error::Missing { log: "events".to_owned(), detail: "no such topic".to_owned() };
    let Err(Stop::Halt(halt)) = world.open_with(&|_| Err(missing())) else { panic!("opened") };
    assert!(halt.reason.contains("no such topic") && !halt.mend.is_empty());
    let Err(Stop::Wait(_)) = world.open_with(&|_| Err(down())) else { panic!("not waiting") };
    let _ = log::At::End;
}
