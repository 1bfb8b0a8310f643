//! Windows that are measured beside tumbling ones, over the same topic in the same run.
//!
//! What an event costs depends on how many rows come out for it, so that number stands beside each rate.

use serde_json::{Value, json};

/// A group over the stream `ads`.
pub struct Workload {
    /// What it is called in the report.
    pub name: &'static str,
    /// The window.
    pub from: &'static str,
    /// The least share of the first one's rate that is good enough.
    pub mark: Option<f64>,
}

/// The first is what the others are compared with.
pub const WORKLOADS: &[Workload] = &[
    Workload {
        name: "TUMBLE 5 min",
        from: "TUMBLE(ads, DESCRIPTOR(timestamp), INTERVAL '5' MINUTES)",
        mark: None,
    },
    Workload {
        name: "HOP 1 h / 1 min",
        from: "HOP(ads, DESCRIPTOR(timestamp), INTERVAL '1' MINUTE, INTERVAL '1' HOUR)",
        mark: Some(0.8),
    },
    Workload {
        name: "HOP 24 h / 1 min",
        from: "HOP(ads, DESCRIPTOR(timestamp), INTERVAL '1' MINUTE, INTERVAL '24' HOURS)",
        mark: Some(0.8),
    },
];

/// The keys that each runs with: few, of which every one has a row in every slide, and many, most of which have one.
pub const KEYS: &[&str] = &["campaign_id", "user_id"];

impl Workload {
    /// The group's definition.
    pub fn group(&self, key: &str) -> Value {
        let sql = format!(
            "SELECT {key}, COUNT(*) FILTER (WHERE event_type = 'impression') AS impressions, \
             COUNT(*) FILTER (WHERE event_type = 'click') AS clicks FROM {} GROUP BY {key}, window_end",
            self.from
        );
        json!({"name": "measured", "sql": sql})
    }
}
