//! The events of the throughput workloads: six fields, about 60 bytes, uniform users, 10 % clicks,
//! five seconds of disorder, 2,000 events a second of event time.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Bodies without their frame, one after the other.
pub struct Corpus {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// The event time of the first event: the start of a five-minute window.
pub const START_MS: i64 = 1_760_000_100_000;

/// The feature that all throughput workloads compute.
pub const SQL: &str = "SELECT user_id, \
    COUNT(*) FILTER (WHERE event_type = 'impression') AS impressions, \
    COUNT(*) FILTER (WHERE event_type = 'click') AS clicks, \
    COUNT(*) FILTER (WHERE event_type = 'click') / NULLIF(COUNT(*) FILTER (WHERE event_type = 'impression'), 0) AS ctr \
    FROM TUMBLE(ads, DESCRIPTOR(timestamp), INTERVAL '5' MINUTES) GROUP BY user_id, window_end";

/// The events' schema.
pub fn schema() -> serde_json::Value {
    serde_json::json!({"type": "record", "name": "AdEvent", "fields": [
        {"name": "user_id", "type": "string"},
        {"name": "item_id", "type": "string"},
        {"name": "campaign_id", "type": "string"},
        {"name": "event_type", "type": {"type": "enum", "name": "EventType", "symbols": ["impression", "click"]}},
        {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "price", "type": "double"}]})
}

/// The stream that they go to.
pub fn stream(topic: Option<&str>) -> serde_json::Value {
    serde_json::json!({
        "name": "ads", "schema": schema(), "event_time": "timestamp", "watermark_delay": 5,
        "time": "historical", "topic": topic,
    })
}

impl Corpus {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The body of event `i`.
    pub fn body(&self, i: usize) -> &[u8] {
        let from = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.bytes[from..self.ends[i]]
    }
}

pub fn make(events: usize, users: u64) -> Corpus {
    let mut rng = SmallRng::seed_from_u64(42);
    let mut corpus = Corpus { bytes: Vec::with_capacity(events * 56), ends: Vec::with_capacity(events) };
    for i in 0..events {
        let out = &mut corpus.bytes;
        text(out, &format!("u{:09}", rng.random_range(0..users)));
        text(out, &format!("item-{:05}", rng.random_range(0..20_000)));
        text(out, &format!("cmp-{:03}", rng.random_range(0..500)));
        long(out, i64::from(rng.random_range(0..100) < 10));
        let at = i as i64 / 2;
        long(out, START_MS + at - rng.random_range(0..5_000).min(at));
        out.extend_from_slice(&(rng.random::<f64>() * 3.0).to_le_bytes());
        corpus.ends.push(corpus.bytes.len());
    }
    corpus
}

fn long(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

fn text(out: &mut Vec<u8>, text: &str) {
    long(out, text.len() as i64);
    out.extend_from_slice(text.as_bytes());
}
