//! Time: watermarks without events, idleness, heartbeats, finish, backfill, modelled availability.

use millpond_engine::time::{Micros, Span};

use super::world::{Row, T0, WINDOW, World};
use crate::catalog::TimeMode;
use crate::log::Kind;

const MINUTE: i64 = 60_000_000;
const NONE: [i64; 0] = [];

fn ends(rows: &[Row]) -> Vec<i64> {
    rows.iter().map(|r| (r.window_end - T0) / MINUTE).collect()
}

#[test]
fn a_heartbeat_closes_windows_without_an_event() {
    let world = World::new(1, TimeMode::Live);
    let mut pipeline = world.open().unwrap();
    world.append_event(0, "u", T0, 1, 1);
    world.drain(&mut pipeline);
    assert_eq!(ends(&world.history()), NONE);
    world.append(0, &[(Kind::Heartbeat(Some(Micros(T0 + WINDOW + MINUTE - 1))), None, b"")]);
    world.drain(&mut pipeline);
    assert_eq!(ends(&world.history()), NONE, "one microsecond short: the delay is a minute");
    world.append(0, &[(Kind::Heartbeat(Some(Micros(T0 + WINDOW + MINUTE))), None, b"")]);
    world.drain(&mut pipeline);
    assert_eq!(ends(&world.history()), [5]);
}

#[test]
fn a_quiet_partition_holds_the_others_back_until_it_is_idle() {
    let mut world = World::new(2, TimeMode::Live);
    world.stream.idle_timeout = Some(Span(10_000_000));
    let mut pipeline = world.open().unwrap();
    world.append_event(0, "u", T0, 1, 1);
    world.append_event(0, "u", T0 + 2 * WINDOW, 1, 1);
    world.drain(&mut pipeline);
    assert_eq!(ends(&world.history()), NONE, "partition 1 has said nothing");
    let now = T0 + 86_400_000_000;
    world.set_clock(now + 9_999_999);
    world.drain(&mut pipeline);
    assert_eq!(ends(&world.history()), NONE);
    world.set_clock(now + 10_000_000);
    world.drain(&mut pipeline);
    assert_eq!(ends(&world.history()), [5]);
    let last = world.store.last_epoch(world.group.id).unwrap().unwrap();
    assert!(last.ranges.is_empty(), "an epoch of movement only");
}

#[test]
fn a_live_watermark_waits_for_the_clock() {
    let world = World::new(1, TimeMode::Live);
    world.set_clock(T0 + WINDOW - MINUTE);
    let mut pipeline = world.open().unwrap();
    world.append_event(0, "u", T0, 1, 1);
    world.append_event(0, "u", T0 + WINDOW + 2 * MINUTE, 1, 1); // three minutes ahead: within the skew
    world.drain(&mut pipeline);
    assert_eq!(ends(&world.history()), NONE, "the window has not ended yet by the clock");
    assert_eq!(
        world.store.last_epoch(world.group.id).unwrap().unwrap().watermark,
        Micros(T0 + WINDOW - MINUTE)
    );
    world.set_clock(T0 + WINDOW);
    world.drain(&mut pipeline);
    assert_eq!(ends(&world.history()), [5]);
}

#[test]
fn a_wholly_quiet_stream_goes_on_with_the_clock_where_it_says_so() {
    for advance in [false, true] {
        let mut world = World::new(1, TimeMode::Live);
        world.stream.idle_advance = advance;
        world.stream.idle_timeout = Some(Span(1_000_000));
        let now = T0 + MINUTE;
        world.set_clock(now);
        let mut pipeline = world.open().unwrap();
        world.append_event(0, "u", now, 1, 1);
        world.drain(&mut pipeline);
        // The watermark stood at T0; five minutes of quiet take it to the end of the window.
        std::thread::sleep(std::time::Duration::from_millis(1100)); // steps are a second apart
        world.set_clock(now + WINDOW + 1_000_000);
        world.drain(&mut pipeline);
        assert_eq!(ends(&world.history()), if advance { vec![5] } else { vec![] });
    }
}

#[test]
fn finish_closes_the_windows_that_are_open_once() {
    let mut world = World::new(1, TimeMode::Historical);
    world.set_clock(T0 + 365 * 86_400_000_000);
    world.append_event(0, "u", T0, 1, 1);
    world.append_event(0, "u", T0 + 3 * WINDOW, 1, 1);
    let mut pipeline = world.open().unwrap();
    world.drain(&mut pipeline);
    assert_eq!(ends(&world.history()), [5]);
    world.stream.finish = Some(vec![2]);
    for _ in 0..2 {
        // Set while it stands there, and found again at every later start.
        let mut pipeline = world.open().unwrap();
        world.drain(&mut pipeline);
        assert_eq!(ends(&world.history()), [5, 20]);
    }
    // The stream stays open: what comes later is not closed by the old finish.
    world.append_event(0, "u", T0 + 10 * WINDOW, 1, 1);
    let mut pipeline = world.open().unwrap();
    world.drain(&mut pipeline);
    assert_eq!(ends(&world.history()), [5, 20]);
    world.stream.finish = Some(vec![3]);
    let mut pipeline = world.open().unwrap();
    world.drain(&mut pipeline);
    assert_eq!(ends(&world.history()), [5, 20, 55]);
}

#[test]
fn a_finish_ahead_of_the_reader_is_honoured_where_it_stands() {
    let mut world = World::new(1, TimeMode::Historical);
    world.set_clock(T0 + 365 * 86_400_000_000);
    for i in 0..6 {
        world.append_event(0, "u", T0 + i * MINUTE, 1, 1);
    }
    world.stream.finish = Some(vec![3]);
    let mut pipeline = world.open().unwrap();
    world.drain(&mut pipeline);
    // The window was closed over the first three; those after them are late for it, or open.
    assert_eq!(world.history().iter().map(|r| r.shown).collect::<Vec<_>>(), [3]);
    let totals = world.store.totals(world.group.id).unwrap()[&0];
    assert_eq!((totals.applied, totals.late), (4, 2));
}

#[test]
fn availability_of_a_replay_is_modelled() {
    let world = World::new(1, TimeMode::Historical);
    for i in 0..4 {
        world.append_event(0, "u", T0 + i * WINDOW, 1, 1);
    }
    let mut pipeline = world.open().unwrap();
    world.drain(&mut pipeline);
    let rows = world.history();
    assert_eq!(ends(&rows), [5, 10]);
    for row in &rows {
        assert!(row.modelled);
        assert_eq!(row.available_at, row.window_end + MINUTE, "the end of its window plus the delay");
    }
    let entry = world.store.last_epoch(world.group.id).unwrap().unwrap();
    assert!(entry.modelled && entry.available_at.0 >= rows[1].available_at);
}

#[test]
fn a_live_groups_backfill_is_modelled_and_is_cut_where_it_ends() {
    let mut world = World::new(2, TimeMode::Live);
    for i in 0..4 {
        world.append_event(0, "u", T0 + i * WINDOW, 1, 1);
        world.append_event(1, "u", T0 + i * WINDOW, 1, 1);
    }
    world.group.sources[0].backfill_end = vec![4, 4];
    for i in 4..8 {
        world.append_event(0, "u", T0 + i * WINDOW, 1, 1);
    }
    let mut pipeline = world.open().unwrap();
    assert!(pipeline.turn(&world.control, &world.board).unwrap());
    let entry = world.store.last_epoch(world.group.id).unwrap().unwrap();
    assert!(entry.modelled);
    assert_eq!(entry.ranges.iter().map(|r| r.to).collect::<Vec<_>>(), [4, 4], "cut at the stored ends");
    world.append_event(1, "u", T0 + 8 * WINDOW, 1, 1);
    world.drain(&mut pipeline);
    let rows = world.history();
    assert_eq!(ends(&rows), [5, 10, 15, 20, 25, 30]);
    assert_eq!(rows.iter().map(|r| r.modelled).collect::<Vec<_>>(), [true, true, false, false, false, false]);
    // A restart does not fall back into the backfill.
    drop(pipeline);
    world.append_event(0, "u", T0 + 20 * WINDOW, 1, 1);
    let mut pipeline = world.open().unwrap();
    world.drain(&mut pipeline);
    assert!(!world.store.last_epoch(world.group.id).unwrap().unwrap().modelled);
}
