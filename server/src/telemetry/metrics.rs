//! The metrics of `contract.md`, in one registry. Handles are taken once and are atomics from then on.

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

/// Bucket bounds of latencies in seconds: from 50 µs to 30 s.
const SECONDS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0,
];

const OUTCOMES: [&str; 7] =
    ["applied", "late", "filtered", "quarantined", "tombstones", "heartbeats", "superseded"];

/// All metrics of the server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    events_processed: IntCounterVec,
    features_computed: IntCounterVec,
    values_nulled: IntCounterVec,
    joined_rows_lost: IntCounterVec,
    processing_latency: HistogramVec,
    online_writes: IntCounterVec,
    offline_rows: IntCounterVec,
    lag: IntGaugeVec,
    watermark: GaugeVec,
    records: IntCounterVec,
    outbox_rows: IntGaugeVec,
    sink_rows: IntCounterVec,
    sink_lag: IntGaugeVec,
    quarantine_records: IntCounterVec,
    commit_seconds: HistogramVec,
    state_memory: IntGaugeVec,
    vector_seconds: HistogramVec,
}

/// What a pipeline counts of one of its sources.
#[derive(Debug, Clone)]
pub struct SourceMetrics {
    /// `stream_events_processed_total`: records delivered.
    pub events_processed: IntCounter,
    /// `stream_lag_records`: records in the log that are not yet committed.
    pub lag: IntGauge,
    /// `stream_watermark_seconds`: event time up to which the stream is taken to be complete, Unix seconds.
    pub watermark: Gauge,
    /// `stream_records_total` by outcome, in the order of `Accounting`'s fields after `read`.
    pub outcomes: [IntCounter; 7],
    /// `quarantine_records`: dead letters written.
    pub quarantined: IntCounter,
}

/// What is counted of one feature group.
#[derive(Debug, Clone)]
pub struct GroupMetrics {
    /// `stream_features_computed_total`: rows that came out.
    pub features_computed: IntCounter,
    /// `stream_values_nulled_total`: values that became NULL because an expression failed after aggregation.
    pub values_nulled: IntCounter,
    /// `stream_joined_rows_lost_total`: rows of a join that failed, had no key or came late for their window.
    pub joined_rows_lost: IntCounter,
    /// `stream_processing_latency_seconds`: from the opening of an epoch to its commit.
    pub processing_latency: Histogram,
    /// `online_writes_total`: rows written online.
    pub online_writes: IntCounter,
    /// `offline_rows_total`: rows committed to Delta.
    pub offline_rows: IntCounter,
    /// `outbox_rows`: rows committed here and not yet in Delta.
    pub outbox_rows: IntGauge,
    /// `commit_seconds`: one synced write.
    pub commit_seconds: Histogram,
    /// `state_memory_bytes`: what the operators' state takes of the memory, about.
    pub state_memory: IntGauge,
}

impl Metrics {
    /// A fresh registry with every metric in it.
    ///
    /// # Errors
    /// Only if two metrics had the same name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let both = &["stream", "feature_group"];
        let group = &["feature_group"];
        let metrics = Self {
            registry: Registry::new(),
            events_processed: counters(
                "stream_events_processed_total",
                "Records delivered to pipelines",
                both,
            )?,
            features_computed: counters("stream_features_computed_total", "Rows that came out", group)?,
            values_nulled: counters(
                "stream_values_nulled_total",
                "Values that became NULL because an expression failed after aggregation",
                group,
            )?,
            joined_rows_lost: counters(
                "stream_joined_rows_lost_total",
                "Rows of a join that failed, had no key or came late for their window",
                group,
            )?,
            processing_latency: histograms(
                "stream_processing_latency_seconds",
                "From the opening of an epoch to its commit",
                group,
            )?,
            online_writes: counters("online_writes_total", "Rows written online", group)?,
            offline_rows: counters("offline_rows_total", "Rows committed to Delta", group)?,
            lag: gauges("stream_lag_records", "Records in the log not yet committed by the group", both)?,
            watermark: GaugeVec::new(
                Opts::new(
                    "stream_watermark_seconds",
                    "Event time up to which the stream is complete, Unix seconds",
                ),
                both,
            )?,
            records: counters(
                "stream_records_total",
                "Records by what became of them",
                &["stream", "feature_group", "outcome"],
            )?,
            outbox_rows: gauges("outbox_rows", "Rows committed and not yet in Delta", group)?,
            sink_rows: counters("sink_rows_total", "Rows brought to a sink", &["feature_group", "sink"])?,
            sink_lag: gauges(
                "sink_lag_rows",
                "Rows committed that a sink does not have yet",
                &["feature_group", "sink"],
            )?,
            quarantine_records: counters("quarantine_records", "Dead letters written", both)?,
            commit_seconds: histograms("commit_seconds", "One synced commit of an epoch", group)?,
            state_memory: gauges("state_memory_bytes", "Memory that the operators' state takes", group)?,
            vector_seconds: histograms(
                "vector_seconds",
                "One vector request, inside the server",
                &["feature_view"],
            )?,
        };
        for collector in metrics.collectors() {
            metrics.registry.register(collector)?;
        }
        Ok(metrics)
    }

    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![
            Box::new(self.events_processed.clone()),
            Box::new(self.features_computed.clone()),
            Box::new(self.values_nulled.clone()),
            Box::new(self.joined_rows_lost.clone()),
            Box::new(self.processing_latency.clone()),
            Box::new(self.online_writes.clone()),
            Box::new(self.offline_rows.clone()),
            Box::new(self.lag.clone()),
            Box::new(self.watermark.clone()),
            Box::new(self.records.clone()),
            Box::new(self.outbox_rows.clone()),
            Box::new(self.sink_rows.clone()),
            Box::new(self.sink_lag.clone()),
            Box::new(self.quarantine_records.clone()),
            Box::new(self.commit_seconds.clone()),
            Box::new(self.state_memory.clone()),
            Box::new(self.vector_seconds.clone()),
        ]
    }

    /// Handles for one source of one group (`group` as `name_version`).
    pub fn source(&self, stream: &str, group: &str) -> SourceMetrics {
        let labels = &[stream, group];
        SourceMetrics {
            events_processed: self.events_processed.with_label_values(labels),
            lag: self.lag.with_label_values(labels),
            watermark: self.watermark.with_label_values(labels),
            outcomes: OUTCOMES.map(|outcome| self.records.with_label_values(&[stream, group, outcome])),
            quarantined: self.quarantine_records.with_label_values(labels),
        }
    }

    /// Handles for one group (`name_version`).
    pub fn group(&self, group: &str) -> GroupMetrics {
        let labels = &[group];
        GroupMetrics {
            features_computed: self.features_computed.with_label_values(labels),
            values_nulled: self.values_nulled.with_label_values(labels),
            joined_rows_lost: self.joined_rows_lost.with_label_values(labels),
            processing_latency: self.processing_latency.with_label_values(labels),
            online_writes: self.online_writes.with_label_values(labels),
            offline_rows: self.offline_rows.with_label_values(labels),
            outbox_rows: self.outbox_rows.with_label_values(labels),
            commit_seconds: self.commit_seconds.with_label_values(labels),
            state_memory: self.state_memory.with_label_values(labels),
        }
    }

    /// `sink_rows_total` and `sink_lag_rows` of one sink of a group (`group` as `name_version`).
    pub fn sink(&self, group: &str, sink: &str) -> (IntCounter, IntGauge) {
        let labels = &[group, sink];
        (self.sink_rows.with_label_values(labels), self.sink_lag.with_label_values(labels))
    }

    /// `vector_seconds` of one view (`name_version`).
    pub fn vector_seconds(&self, view: &str) -> Histogram {
        self.vector_seconds.with_label_values(&[view])
    }

    /// All values in Prometheus' text format.
    ///
    /// # Errors
    /// Where a metric cannot be encoded; never for those defined here.
    pub fn encode(&self) -> Result<String, prometheus::Error> {
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }
}

fn counters(name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(Opts::new(name, help), labels)
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
    IntGaugeVec::new(Opts::new(name, help), labels)
}

fn histograms(name: &str, help: &str, labels: &[&str]) -> Result<HistogramVec, prometheus::Error> {
    HistogramVec::new(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()), labels)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn values_appear_under_the_names_of_the_contract() {
        let metrics = Metrics::new().unwrap();
        let source = metrics.source("events", "ctr_1");
        source.events_processed.inc_by(7);
        source.outcomes[0].inc_by(5);
        metrics.group("ctr_1").outbox_rows.set(3);
        let text = metrics.encode().unwrap();
        for line in [
            r#"stream_events_processed_total{feature_group="ctr_1",stream="events"} 7"#,
            r#"stream_records_total{feature_group="ctr_1",outcome="applied",stream="events"} 5"#,
            r#"outbox_rows{feature_group="ctr_1"} 3"#,
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
