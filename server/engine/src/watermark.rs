//! Watermarks: event time as far as each partition, stream and pipeline has come.
//!
//! Pure functions of what a journal entry holds, so that any epoch can be replayed.

use crate::time::{Micros, Span};

/// How far one partition has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PartitionTime {
    /// Greatest event time or heartbeat; `None` before the first.
    pub max_event_time: Option<Micros>,
    /// At its end and quiet for the idle timeout: it holds nobody back.
    pub idle: bool,
}

/// The watermark of one stream: the least of its partitions, less the delay. Idle partitions do not
/// count; where all are idle, none of them holds the others back, so the greatest counts.
/// `None`: no statement yet, because a partition that is not idle has said nothing.
pub fn of_source(partitions: &[PartitionTime], delay: Span) -> Option<Micros> {
    let busy = || partitions.iter().filter(|p| !p.idle);
    let time = if busy().next().is_some() {
        busy().map(|p| p.max_event_time).min().flatten() // `None` is less than any time
    } else {
        partitions.iter().filter_map(|p| p.max_event_time).max()
    };
    time.map(|t| t - delay)
}

/// The watermark of a pipeline: the least of its sources, never less than `previous`, and on a live
/// stream never beyond `live_bound` (the epoch's `opened_at`).
pub fn of_pipeline(previous: Micros, sources: &[Option<Micros>], live_bound: Option<Micros>) -> Micros {
    let Some(Some(least)) = sources.iter().copied().min() else { return previous };
    previous.max(live_bound.map_or(least, |bound| least.min(bound)))
}

/// The clock of a group whose availability is modelled, after an epoch:
/// `C_e = max(C_{e−1} + 1 µs, min(W_e, the window end the close has reached) + delay)`.
/// `closed_to` is [`crate::epoch::Output::closed_to`] (`None`: the watermark). Behind a join, where windows
/// close later, both are watermarks, and the window end of a row is the watermark that closes it.
pub fn modelled_clock(previous: Micros, watermark: Micros, closed_to: Option<Micros>, delay: Span) -> Micros {
    let reached = closed_to.map_or(watermark, |end| end.min(watermark));
    previous.next().max(reached + delay)
}

/// When a row becomes available where availability is modelled: a first emission once its window's delay
/// is over, but after everything that was there before; a revision at the epoch's clock. Never beyond that
/// clock: what an epoch wrote is there for a read `as_of` it. (Windows end before it anyway; the rows of an
/// ingested group, whose event time stands in for the window's end, may be ahead of the watermark.)
pub fn modelled_row(
    window_end: Micros,
    delay: Span,
    previous_clock: Micros,
    clock: Micros,
    first: bool,
) -> Micros {
    if first { previous_clock.next().max(window_end + delay).min(clock) } else { clock }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(time: i64) -> PartitionTime {
        PartitionTime { max_event_time: Some(Micros(time)), idle: false }
    }

    fn idle(time: Option<i64>) -> PartitionTime {
        PartitionTime { max_event_time: time.map(Micros), idle: true }
    }

    #[test]
    fn a_stream_is_as_far_as_its_slowest_partition() {
        assert_eq!(of_source(&[at(50), at(30), at(40)], Span(5)), Some(Micros(25)));
        assert_eq!(of_source(&[at(-50)], Span(5)), Some(Micros(-55)));
    }

    #[test]
    fn a_silent_partition_holds_the_others_back_until_it_is_idle() {
        let silent = PartitionTime::default();
        assert_eq!(of_source(&[at(50), silent], Span(0)), None);
        assert_eq!(of_source(&[at(50), idle(None)], Span(0)), Some(Micros(50)));
        assert_eq!(of_source(&[at(50), idle(Some(10))], Span(0)), Some(Micros(50)));
        assert_eq!(of_source(&[silent], Span(0)), None);
        assert_eq!(of_source(&[], Span(0)), None);
    }

    #[test]
    fn where_all_are_idle_none_holds_the_others_back() {
        assert_eq!(of_source(&[idle(Some(50)), idle(Some(10)), idle(None)], Span(5)), Some(Micros(45)));
        assert_eq!(of_source(&[idle(None)], Span(5)), None);
    }

    #[test]
    fn a_pipeline_is_as_far_as_its_slowest_source_and_never_goes_back() {
        let previous = Micros(20);
        assert_eq!(of_pipeline(previous, &[Some(Micros(30)), Some(Micros(25))], None), Micros(25));
        assert_eq!(of_pipeline(previous, &[Some(Micros(30)), Some(Micros(5))], None), previous);
        assert_eq!(of_pipeline(previous, &[Some(Micros(30)), None], None), previous);
        assert_eq!(of_pipeline(previous, &[], None), previous);
        assert_eq!(of_pipeline(Micros::MIN, &[None], None), Micros::MIN);
    }

    #[test]
    fn a_live_watermark_never_passes_the_clock() {
        assert_eq!(of_pipeline(Micros(20), &[Some(Micros(90))], Some(Micros(60))), Micros(60));
        // A clock that was set back does not take the watermark with it.
        assert_eq!(of_pipeline(Micros(20), &[Some(Micros(90))], Some(Micros(10))), Micros(20));
    }

    #[test]
    fn the_modelled_clock_follows_the_watermark_as_far_as_the_close_has_come() {
        let delay = Span(10);
        assert_eq!(modelled_clock(Micros(0), Micros(100), None, delay), Micros(110));
        assert_eq!(modelled_clock(Micros(0), Micros(100), Some(Micros(60)), delay), Micros(70));
        assert_eq!(modelled_clock(Micros(500), Micros(100), None, delay), Micros(501));
        assert_eq!(modelled_clock(Micros(7), Micros::MIN, None, delay), Micros(8));
    }

    #[test]
    fn rows_become_available_after_their_delay_and_revisions_at_the_clock() {
        let row = |first| modelled_row(Micros(60), Span(10), Micros(20), Micros(99), first);
        assert_eq!(row(true), Micros(70));
        assert_eq!(row(false), Micros(99));
        assert_eq!(modelled_row(Micros(60), Span(10), Micros(200), Micros(210), true), Micros(201));
        assert_eq!(modelled_row(Micros(60), Span(10), Micros(20), Micros(65), true), Micros(65));
    }

    proptest! {
        #[test]
        fn the_modelled_clock_only_moves_forward_and_covers_its_rows(
            previous in -1000_i64..1000, watermark in -1000_i64..1000, closed in -1000_i64..1000,
            end in -1000_i64..1000, delay in 0_i64..100,
        ) {
            let (previous, watermark, delay) = (Micros(previous), Micros(watermark), Span(delay));
            let closed = Micros(closed.min(watermark.0));
            let clock = modelled_clock(previous, watermark, Some(closed), delay);
            prop_assert!(clock > previous);
            // Every window that the epoch emitted ended by `closed`.
            let end = Micros(end.min(closed.0));
            let row = modelled_row(end, delay, previous, clock, true);
            prop_assert!(previous < row && row <= clock);
        }

        #[test]
        fn a_partition_that_moves_on_never_takes_the_stream_back(
            times in prop::collection::vec((-1000_i64..1000, any::<bool>()), 1..5), step in 0_i64..1000,
        ) {
            let before: Vec<_> = times
                .iter()
                .map(|(t, idle)| PartitionTime { max_event_time: Some(Micros(*t)), idle: *idle })
                .collect();
            for i in 0..before.len() {
                let mut after = before.clone();
                after[i].max_event_time = after[i].max_event_time.map(|t| t + Span(step));
                prop_assert!(of_source(&after, Span(3)) >= of_source(&before, Span(3)));
            }
        }
    }
}
