//! The events of the throughput workloads: six fields, about 60 bytes, uniform users, 10 % clicks,
//! five seconds of disorder, 2,000 events a second of event time.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

/// Bodies without their frame, one after the other.
#[derive(Default)]
pub struct Corpus {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Event time of each, in milliseconds.
    times: Vec<i64>,
}

/// A stream with its events.
pub struct Stream {
    /// Its name.
    pub name: &'static str,
    /// Its Avro schema.
    pub schema: Value,
    /// The field whose time decides.
    pub event_time: &'static str,
    /// What goes to it.
    pub corpus: Corpus,
}

/// The event time of the first event: the start of a five-minute window.
pub const START_MS: i64 = 1_760_000_100_000;

/// How far the events are out of order, and the streams' watermarks behind them.
pub const DISORDER_MS: i64 = 5_000;

/// The feature that all throughput workloads compute.
pub const SQL: &str = "SELECT user_id, \
    COUNT(*) FILTER (WHERE event_type = 'impression') AS impressions, \
    COUNT(*) FILTER (WHERE event_type = 'click') AS clicks, \
    COUNT(*) FILTER (WHERE event_type = 'click') / NULLIF(COUNT(*) FILTER (WHERE event_type = 'impression'), 0) AS ctr \
    FROM TUMBLE(ads, DESCRIPTOR(timestamp), INTERVAL '5' MINUTES) GROUP BY user_id, window_end";

/// The events' schema.
pub fn schema() -> Value {
    json!({"type": "record", "name": "AdEvent", "fields": [
        {"name": "user_id", "type": "string"},
        {"name": "item_id", "type": "string"},
        {"name": "campaign_id", "type": "string"},
        {"name": "event_type", "type": {"type": "enum", "name": "EventType", "symbols": ["impression", "click"]}},
        {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "price", "type": "double"}]})
}

/// The stream that they go to.
pub fn stream(topic: Option<&str>) -> Value {
    spec("ads", &schema(), "timestamp", topic)
}

/// A stream as the server is asked for it.
fn spec(name: &str, schema: &Value, event_time: &str, topic: Option<&str>) -> Value {
    json!({
        "name": name, "schema": schema, "event_time": event_time, "watermark_delay": DISORDER_MS / 1_000,
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

    /// The event time of event `i`, in milliseconds.
    pub fn time(&self, i: usize) -> i64 {
        self.times[i]
    }

    /// Adds an event whose fields `write` appends.
    pub fn push(&mut self, time: i64, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
        self.times.push(time);
    }
}

impl Stream {
    /// The stream as the server is asked for it.
    pub fn spec(&self, topic: Option<&str>) -> Value {
        spec(self.name, &self.schema, self.event_time, topic)
    }
}

/// The stream `ads` of so many users.
pub fn ads(events: usize, users: u64) -> Stream {
    Stream { name: "ads", schema: schema(), event_time: "timestamp", corpus: make(events, users) }
}

pub fn make(events: usize, users: u64) -> Corpus {
    let mut rng = SmallRng::seed_from_u64(42);
    let mut corpus = Corpus { bytes: Vec::with_capacity(events * 56), ..Corpus::default() };
    for i in 0..events {
        let user = format!("u{:09}", rng.random_range(0..users));
        let item = format!("item-{:05}", rng.random_range(0..20_000));
        let campaign = format!("cmp-{:03}", rng.random_range(0..500));
        let kind = i64::from(rng.random_range(0..100) < 10);
        let at = i as i64 / 2;
        let time = START_MS + at - rng.random_range(0..DISORDER_MS).min(at);
        let price = rng.random::<f64>() * 3.0;
        corpus.push(time, |out| {
            text(out, &user);
            text(out, &item);
            text(out, &campaign);
            long(out, kind);
            long(out, time);
            out.extend_from_slice(&price.to_le_bytes());
        });
    }
    corpus
}

pub fn long(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

pub fn text(out: &mut Vec<u8>, text: &str) {
    long(out, text.len() as i64);
    out.extend_from_slice(text.as_bytes());
}
