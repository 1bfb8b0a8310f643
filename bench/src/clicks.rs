//! The events of the join: impressions and the clicks that a quarter of them get within ten seconds, each in a
//! stream of its own, as out of order and as dense as the other corpus.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use crate::corpus::{Corpus, DISORDER_MS, START_MS, Stream, long, text};

/// Impressions and clicks, so many events together.
pub fn streams(events: usize) -> [Stream; 2] {
    let mut rng = SmallRng::seed_from_u64(43);
    let (mut impressions, mut clicks) = (Corpus::default(), Vec::new());
    let shown = events - events / 5;
    for i in 0..shown {
        // Five events in 2.5 ms, four of which are impressions.
        let at = i as i64 * 5 / 8;
        let time = START_MS + at - rng.random_range(0..DISORDER_MS).min(at);
        impressions.push(time, |out| {
            text(out, &format!("imp-{i:09}"));
            text(out, &format!("cmp-{:03}", rng.random_range(0..500)));
            long(out, time);
        });
        if i % 4 == 0 && clicks.len() < events - shown {
            clicks.push((time + rng.random_range(0..10_000), i));
        }
    }
    // A click comes as late as an impression: so long after its time, at most.
    let mut arrivals: Vec<(i64, i64, usize)> =
        clicks.into_iter().map(|(time, i)| (time + rng.random_range(0..DISORDER_MS), time, i)).collect();
    arrivals.sort_unstable();
    let mut clicked = Corpus::default();
    for (number, (_, time, impression)) in arrivals.into_iter().enumerate() {
        clicked.push(time, |out| {
            text(out, &format!("clk-{number:09}"));
            text(out, &format!("imp-{impression:09}"));
            long(out, time);
        });
    }
    let time = json!({"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}});
    let impression = json!({"type": "record", "name": "Impression", "fields": [
        {"name": "impr_id", "type": "string"}, {"name": "campaign_id", "type": "string"}, time]});
    let click = json!({"type": "record", "name": "Click", "fields": [
        {"name": "click_id", "type": "string"}, {"name": "impr_id", "type": "string"}, time]});
    [
        Stream { name: "impressions", schema: impression, event_time: "ts", corpus: impressions },
        Stream { name: "clicks", schema: click, event_time: "ts", corpus: clicked },
    ]
}
