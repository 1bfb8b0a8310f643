//! From an event to the vector that it changes: live, a thousand events a second over the embedded log.
//!
//! `on_close` makes a value visible when the watermark passes the window's end. So what is timed is
//! from the append of the first event beyond a window's end (it closes the window) to the first
//! vector read that shows that window. `on_update` shows each event: timed is from the append of an event
//! to the first vector read that knows it.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::report::Report;
use crate::server::Server;
use crate::{Options, Result};

const WINDOWS: usize = 20;

pub async fn run(options: &Options, report: &mut Report) -> Result<()> {
    on_close(options, report).await?;
    on_update(options, report).await
}

/// A thousand events a second, one a request; a reader asks for the vector all the time.
async fn on_update(options: &Options, report: &mut Report) -> Result<()> {
    let server = Server::start(options, &[]).await?;
    let schema = json!({"type": "record", "name": "Event", "fields": [
        {"name": "user_id", "type": "string"},
        {"name": "number", "type": "long"},
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-micros"}}]});
    server.post("/api/v1/streams", &json!({"name": "steps", "schema": schema, "event_time": "ts"})).await?;
    let sql = "SELECT user_id, MAX(number) AS number FROM TUMBLE(steps, DESCRIPTOR(ts), INTERVAL '1' DAY) GROUP BY user_id, window_end";
    server.post("/api/v1/feature-groups", &json!({"name": "step", "sql": sql, "emit": "on_update"})).await?;
    let view = json!({"name": "step_fv", "query": {"feature_group": {"name": "step"}}});
    server.post("/api/v1/feature-views", &view).await?;

    let events = (options.seconds * 1e3) as usize;
    let sent: Mutex<Vec<Instant>> = Mutex::new(Vec::with_capacity(events));
    let append = async {
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        for number in 0..events {
            tick.tick().await;
            sent.lock().map_err(|e| e.to_string())?.push(Instant::now());
            let rows = json!({"rows": [{"user_id": "u", "number": number, "ts": micros()}]});
            server.post("/api/v1/streams/steps/records", &rows).await?;
        }
        Ok::<_, Box<dyn std::error::Error>>(())
    };
    let read = async {
        let mut delays = Vec::with_capacity(events);
        let mut last_news = Instant::now();
        while delays.len() < events {
            let body = json!({"entries": [{"user_id": "u"}]});
            let reply = server.post("/api/v1/feature-views/step_fv/1/vectors", &body).await?;
            let now = Instant::now();
            let known = reply["vectors"][0]["values"][0].as_u64().map_or(0, |number| number as usize + 1);
            let sent = sent.lock().map_err(|e| e.to_string())?;
            if known > delays.len() {
                last_news = now;
            } else if last_news.elapsed() > Duration::from_secs(10) {
                return Err("an event did not become visible in 10 s".into());
            }
            for at in sent.iter().take(known).skip(delays.len()) {
                delays.push((now - *at).as_secs_f64() * 1e3);
            }
        }
        Ok::<_, Box<dyn std::error::Error>>(delays)
    };
    let (appended, delays) = tokio::join!(append, read);
    appended?;
    percentiles(report, "freshness: event to visible vector, on_update", delays?, Some(10.0));
    Ok(())
}

/// p50, p90 and p99; the last one is to be at most `mark`.
fn percentiles(report: &mut Report, workload: &str, mut delays: Vec<f64>, mark: Option<f64>) {
    delays.sort_by(f64::total_cmp);
    let at = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize];
    report.value(workload, "p50", at(0.5), "ms");
    report.value(workload, "p90", at(0.9), "ms");
    match mark {
        Some(mark) => report.at_most(workload, "p99", at(0.99), "ms", mark),
        None => report.value(workload, "p99", at(0.99), "ms"),
    }
}

/// Windows of a second that an event closes.
async fn on_close(options: &Options, report: &mut Report) -> Result<()> {
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
    percentiles(report, "freshness: closing event to visible vector", delays, None);
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
