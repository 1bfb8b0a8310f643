//! From an event to the vector that it changes: live, one-second windows, a thousand events a second.
//!
//! `on_close` makes a value visible when the watermark passes the window's end. So what is timed is
//! from the append of the first event beyond a window's end (it closes the window) to the first
//! vector read that shows that window.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::report::Report;
use crate::server::Server;
use crate::{Options, Result};

const WINDOWS: usize = 20;

pub async fn run(options: &Options, report: &mut Report) -> Result<()> {
    let server = Server::start(options, &[]).await?;
    let schema = json!({"type": "record", "name": "Event", "fields": [
        {"name": "user_id", "type": "string"},
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-micros"}}]});
    server.post("/api/v1/streams", &json!({"name": "beats", "schema": schema, "event_time": "ts"})).await?;
    let sql = "SELECT user_id, window_end, COUNT(*) AS n FROM TUMBLE(beats, DESCRIPTOR(ts), INTERVAL '1' SECOND) GROUP BY user_id, window_end";
    server.post("/api/v1/feature-groups", &json!({"name": "beat", "sql": sql})).await?;
    server
        .post(
            "/api/v1/feature-views",
            &json!({"name": "beat_fv", "query": {"feature_group": {"name": "beat"}}}),
        )
        .await?;
    let mut delays = Vec::with_capacity(WINDOWS);
    let mut window = micros() / 1_000_000;
    for _ in 0..WINDOWS {
        // Events of this window until the clock leaves it …
        while micros() / 1_000_000 == window {
            append(&server, 50).await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        window = micros() / 1_000_000;
        // … then the event that closes it.
        let start = Instant::now();
        append(&server, 1).await?;
        while latest(&server).await? < window * 1_000_000 {
            if start.elapsed() > Duration::from_secs(10) {
                return Err("a closed window did not become visible in 10 s".into());
            }
        }
        delays.push(start.elapsed().as_secs_f64() * 1e3);
    }
    delays.sort_by(f64::total_cmp);
    let at = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize];
    for (name, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
        report.value("freshness: closing event to visible vector", name, at(share), "ms");
    }
    Ok(())
}

fn micros() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
}

async fn append(server: &Server, rows: usize) -> Result<()> {
    let rows: Vec<Value> = (0..rows).map(|_| json!({"user_id": "u", "ts": micros()})).collect();
    server.post("/api/v1/streams/beats/records", &json!({"rows": rows})).await?;
    Ok(())
}

/// End of the latest window that the vector shows, in microseconds; the least number for none.
async fn latest(server: &Server) -> Result<i64> {
    let body = json!({"entries": [{"user_id": "u"}]});
    let reply = server.post("/api/v1/feature-views/beat_fv/1/vectors", &body).await?;
    let end = reply["vectors"][0]["event_time"].as_str().unwrap_or_default();
    Ok(millpond::catalog::spec::parse_instant(end).map_or(i64::MIN, |t| t.0))
}
