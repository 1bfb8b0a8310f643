//! Where the watermarks move at the end of an epoch. Pure: the clock is `opened_at`.

use millpond_engine::time::{Micros, Span};
use millpond_engine::watermark::{self, PartitionTime};

/// What one source says about time.
#[derive(Debug, Clone)]
pub struct SourceTime {
    /// Its partitions.
    pub partitions: Vec<PartitionTime>,
    /// How far its watermark stays behind.
    pub delay: Span,
    /// Its watermark after the previous epoch.
    pub previous: Micros,
    /// The same when the pipeline was opened: what the clock had added before is in it.
    pub restored: Micros,
    /// Of a stream of changes: up to here they are all read. It goes by no events of its own.
    pub complete: Option<Micros>,
    /// With `idle_advance`, where all partitions are quiet: for how long they have been.
    pub quiet_for: Option<Span>,
}

/// The watermarks after an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watermarks {
    /// Of the pipeline.
    pub pipeline: Micros,
    /// Of each source; `Micros::MIN` before its first statement.
    pub sources: Vec<Micros>,
}

/// Moves the watermarks: never back, and with a `live_bound` (the epoch's `opened_at`) never beyond it.
pub fn advance(previous: Micros, sources: &[SourceTime], live_bound: Option<Micros>) -> Watermarks {
    let sources: Vec<Micros> = sources.iter().map(|source| of_source(source, live_bound)).collect();
    let stated: Vec<Option<Micros>> = sources.iter().map(|w| (*w > Micros::MIN).then_some(*w)).collect();
    Watermarks { pipeline: watermark::of_pipeline(previous, &stated, live_bound), sources }
}

fn of_source(source: &SourceTime, live_bound: Option<Micros>) -> Micros {
    if let Some(complete) = source.complete {
        return complete.max(source.previous);
    }
    let by_events = watermark::of_source(&source.partitions, source.delay).unwrap_or(Micros::MIN);
    let moved = match source.quiet_for {
        // Counted anew each time from where it stood, so that the steps do not add up twice.
        Some(quiet) if by_events.max(source.restored) > Micros::MIN => by_events.max(source.restored) + quiet,
        _ => by_events,
    };
    live_bound.map_or(moved, |bound| moved.min(bound)).max(source.previous)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(times: &[Option<i64>], previous: i64, quiet_for: Option<i64>) -> SourceTime {
        let time = |t: &Option<i64>| PartitionTime { max_event_time: t.map(Micros), idle: false };
        SourceTime {
            partitions: times.iter().map(time).collect(),
            delay: Span(10),
            previous: Micros(previous),
            restored: Micros::MIN,
            quiet_for: quiet_for.map(Span),
            complete: None,
        }
    }

    #[test]
    fn the_slowest_partition_less_the_delay() {
        let moved = advance(Micros::MIN, &[source(&[Some(100), Some(70)], i64::MIN, None)], None);
        assert_eq!(moved, Watermarks { pipeline: Micros(60), sources: vec![Micros(60)] });
    }

    #[test]
    fn no_statement_moves_nothing() {
        let moved = advance(Micros::MIN, &[source(&[Some(100), None], i64::MIN, None)], None);
        assert_eq!(moved, Watermarks { pipeline: Micros::MIN, sources: vec![Micros::MIN] });
    }

    #[test]
    fn never_back_and_never_beyond_the_clock_of_a_live_stream() {
        assert_eq!(advance(Micros(80), &[source(&[Some(70)], 80, None)], None).pipeline, Micros(80));
        let ahead = source(&[Some(500)], 80, None);
        let moved = advance(Micros(80), std::slice::from_ref(&ahead), Some(Micros(200)));
        assert_eq!(moved, Watermarks { pipeline: Micros(200), sources: vec![Micros(200)] });
        // The clock has moved on: so may the watermark, without a single record.
        assert_eq!(advance(Micros(200), &[ahead], Some(Micros(300))).pipeline, Micros(300));
    }

    #[test]
    fn the_slowest_source_counts() {
        let sources = [source(&[Some(100)], i64::MIN, None), source(&[Some(50)], i64::MIN, None)];
        assert_eq!(advance(Micros::MIN, &sources, None).pipeline, Micros(40));
        let sources = [source(&[Some(100)], i64::MIN, None), source(&[None], i64::MIN, None)];
        assert_eq!(advance(Micros::MIN, &sources, None).pipeline, Micros::MIN);
    }

    #[test]
    fn changes_are_as_far_as_they_are_read_and_hold_the_others_back() {
        let changes = |complete, previous| SourceTime {
            complete: Some(Micros(complete)),
            ..source(&[Some(700)], previous, None)
        };
        let moved =
            advance(Micros::MIN, &[source(&[Some(100)], i64::MIN, None), changes(50, i64::MIN)], None);
        assert_eq!(moved, Watermarks { pipeline: Micros(50), sources: vec![Micros(90), Micros(50)] });
        // They were complete beyond the opening of the epoch: the pipeline is not.
        let moved =
            advance(Micros(50), &[source(&[Some(900)], 90, None), changes(800, 50)], Some(Micros(600)));
        assert_eq!(moved, Watermarks { pipeline: Micros(600), sources: vec![Micros(600), Micros(800)] });
        assert_eq!(advance(Micros(50), &[changes(40, 50)], None).sources, [Micros(50)]);
        let unknown = [source(&[Some(100)], i64::MIN, None), changes(i64::MIN, i64::MIN)];
        assert_eq!(advance(Micros::MIN, &unknown, None).pipeline, Micros::MIN);
    }

    #[test]
    fn a_quiet_stream_goes_on_with_the_clock_from_where_it_stood() {
        let moved = advance(Micros(90), &[source(&[Some(100)], 90, Some(25))], Some(Micros(1_000)));
        assert_eq!(moved.pipeline, Micros(115));
        let bounded = advance(Micros(90), &[source(&[Some(100)], 90, Some(25))], Some(Micros(100)));
        assert_eq!(bounded.pipeline, Micros(100));
        let restarted = SourceTime { restored: Micros(500), ..source(&[Some(100)], 500, Some(25)) };
        assert_eq!(
            advance(Micros(500), &[restarted], None).pipeline,
            Micros(525),
            "not caught up from the events again"
        );
        let silent = advance(Micros::MIN, &[source(&[None], i64::MIN, Some(25))], Some(Micros(1_000)));
        assert_eq!(silent.pipeline, Micros::MIN);
    }
}
