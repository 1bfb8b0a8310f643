//! What a pipeline counts: the metrics of `contract.md`.

use std::sync::Arc;

use super::commits::{Event, Observe, Timing};
use super::status::SourceStatus;
use super::step::Losses;
use crate::catalog::{GroupEntry, Stream};
use crate::store::commit::{Accounting, EpochCommit};
use crate::telemetry::{GroupMetrics, Metrics, SourceMetrics};

/// Handles of one pipeline.
struct Counters {
    group: GroupMetrics,
    sources: Vec<SourceMetrics>,
    online: bool,
}

/// Counts the events of one pipeline.
pub fn observer(metrics: &Metrics, group: &GroupEntry, streams: &[Arc<Stream>]) -> Observe {
    let label = group.label();
    let counters = Counters {
        group: metrics.group(&label),
        sources: streams.iter().map(|stream| metrics.source(stream.name.as_str(), &label)).collect(),
        online: group.def.online_enabled,
    };
    Box::new(move |event| match event {
        Event::Committed(commit, losses, timing) => counters.committed(commit, losses, timing),
        Event::Shown(sources, memory) => {
            counters.shown(sources);
            counters.group.state_memory.set(i64::try_from(memory.bytes).unwrap_or(i64::MAX));
        }
    })
}

impl Counters {
    fn committed(&self, commit: &EpochCommit, losses: Losses, timing: Timing) {
        self.group.features_computed.inc_by(commit.journal.rows);
        self.group.values_nulled.inc_by(losses.nulled);
        self.group.joined_rows_lost.inc_by(losses.joined);
        self.group.processing_latency.observe(timing.total.as_secs_f64());
        self.group.commit_seconds.observe(timing.commit.as_secs_f64());
        if self.online {
            self.group.online_writes.inc_by(commit.journal.rows);
        }
        for (source, counts) in self.sources.iter().zip(&commit.journal.counts) {
            source.events_processed.inc_by(counts.read);
            source.quarantined.inc_by(counts.quarantined);
            for (counter, n) in source.outcomes.iter().zip(outcomes(counts)) {
                counter.inc_by(n);
            }
        }
    }

    fn shown(&self, sources: &[SourceStatus]) {
        for (source, status) in self.sources.iter().zip(sources) {
            // The mentions of one stream share their gauges: the one that is furthest behind counts.
            let mentions = || sources.iter().filter(|s| s.stream == status.stream);
            let lag = mentions().map(|s| s.lag).max().unwrap_or(status.lag);
            let watermark = mentions().map(|s| s.watermark).min().unwrap_or(status.watermark);
            source.lag.set(i64::try_from(lag).unwrap_or(i64::MAX));
            if watermark.0 > i64::MIN {
                source.watermark.set(watermark.0 as f64 / 1e6);
            }
        }
    }
}

/// In the order of [`SourceMetrics::outcomes`].
fn outcomes(a: &Accounting) -> [u64; 7] {
    [a.applied, a.late, a.filtered, a.quarantined, a.tombstones, a.heartbeats, a.superseded]
}
