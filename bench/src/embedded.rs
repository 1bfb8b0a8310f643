//! Five-minute CTR from the embedded log, with a breakdown of where the time goes.

use std::time::{Duration, Instant};

use millpond_engine::avro::{Decoder, ReaderSchema, Resolution, Unit};
use serde_json::json;

use crate::corpus::{self, Corpus};
use crate::report::Report;
use crate::server::Server;
use crate::{Options, Result};

const BATCH: usize = 10_000;

pub async fn run(options: &Options, corpus: &Corpus, report: &mut Report) -> Result<()> {
    let decode = decode_only(corpus)?;
    report.value("embedded: decode only, our decoder", "events", decode, "1/s");
    let server = Server::start(options, &[]).await?;
    let stream = server.post("/api/v1/streams", &corpus::stream(None)).await?;
    let id = stream["schema_id"].as_u64().ok_or("no schema id")? as u32;
    let start = Instant::now();
    for from in (0..corpus.len()).step_by(BATCH) {
        let mut body = Vec::new();
        for i in from..corpus.len().min(from + BATCH) {
            let event = corpus.body(i);
            body.extend_from_slice(&(event.len() as u32 + 5).to_be_bytes());
            body.push(0);
            body.extend_from_slice(&id.to_be_bytes());
            body.extend_from_slice(event);
        }
        server.post_bytes("/api/v1/streams/ads/records", "application/vnd.millpond.avro", body).await?;
    }
    report.value("embedded: append over HTTP, synced", "events", rate(corpus, start), "1/s");
    let run = pipeline(&server, &json!({"name": "ctr", "sql": corpus::SQL}), &["ads"]).await?;
    report_run(&server, report, "embedded: 5-minute CTR", corpus, &run, (decode, None)).await?;
    report.value("memory", "resident, loaded", server.resident_mb()?, "MB");
    Ok(())
}

/// How a pipeline went through a full log.
pub struct Run {
    /// From the request that created the group until all of it was committed.
    pub seconds: f64,
    /// From that request until the first epoch was opened.
    pub until_first: f64,
    /// Epochs committed.
    pub epochs: usize,
    /// Rows that came out.
    pub rows: u64,
    /// The most that the state took of the memory, where it was looked at.
    pub state_bytes: u64,
}

/// How often the state is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Creates a group over full logs and waits until it has read all of them.
pub async fn pipeline(server: &Server, group: &serde_json::Value, streams: &[&str]) -> Result<Run> {
    let mut positions = Vec::new();
    for stream in streams {
        let finished = server.post(&format!("/api/v1/streams/{stream}/finish"), &json!({})).await?;
        positions.push(finished["position"].as_str().ok_or("no position")?.to_owned());
    }
    let (start, wall) = (Instant::now(), chrono::Utc::now());
    server.post("/api/v1/feature-groups", group).await?;
    let name = group["name"].as_str().ok_or("no name")?;
    let group = format!("/api/v1/feature-groups/{name}/1");
    let all_read = async {
        for position in positions {
            server.post(&format!("{group}/wait?position={position}&timeout=110"), &json!({})).await?;
        }
        Result::Ok(())
    };
    let mut state_bytes = 0;
    tokio::select! {
        read = all_read => read?,
        failed = greatest_state(server, &group, &mut state_bytes) => failed?,
    }
    let elapsed = start.elapsed().as_secs_f64();
    for stream in streams {
        let accounting = server.get(&format!("/api/v1/streams/{stream}/accounting")).await?;
        let mut accounts = accounting["groups"].as_array().into_iter().flatten();
        let counts = accounts.find(|account| account["name"] == name).ok_or("no accounting")?;
        if counts["applied"] != counts["read"] || counts["balanced"] != true {
            return Err(format!("not every event was applied: {accounting}").into());
        }
    }
    let journal = server.get(&format!("{group}/epochs?limit=10000")).await?;
    let rows = journal["epochs"].as_array().into_iter().flatten().filter_map(|e| e["rows"].as_u64()).sum();
    let epochs = journal["epochs"].as_array().ok_or("no epochs")?;
    let first = epochs.first().and_then(|e| e["opened_at"].as_str()).ok_or("no first epoch")?;
    let opened = chrono::DateTime::parse_from_rfc3339(first)?.to_utc();
    let until_first = (opened - wall).num_microseconds().unwrap_or_default() as f64 / 1e6;
    Ok(Run { seconds: elapsed, until_first, epochs: epochs.len(), rows, state_bytes })
}

/// Looks at the state of a group, and does not end.
async fn greatest_state(server: &Server, group: &str, greatest: &mut u64) -> Result<()> {
    loop {
        let status = server.get(group).await?;
        let bytes = status["status"]["state_memory_bytes"].as_u64().ok_or("no bytes of state")?;
        *greatest = bytes.max(*greatest);
        tokio::time::sleep(LOOK).await;
    }
}

/// Reports a run beside its ceiling, and where its time went.
pub async fn report_run(
    server: &Server,
    report: &mut Report,
    name: &str,
    corpus: &Corpus,
    run: &Run,
    (ceiling, mark): (f64, Option<f64>),
) -> Result<()> {
    report.ratio(name, "events", corpus.len() as f64 / run.seconds, "1/s", ceiling, mark);
    report.value(name, "before the first epoch", run.until_first, "s");
    report.value(name, "epochs", run.epochs as f64, "");
    let commit = server.metric("commit_seconds_sum").await?;
    report.value(name, "in synced commits", commit / run.seconds, "of time");
    report.value(name, "rows out", run.rows as f64, "rows");
    Ok(())
}

fn decode_only(corpus: &Corpus) -> Result<f64> {
    let text = corpus::schema().to_string();
    let reader = ReaderSchema::parse(&text, Some(("timestamp", None::<Unit>)))?;
    // The columns that the query reads: user, type, time.
    let columns = [0, 3, 4];
    let resolution = Resolution::compile(&text, &reader, &columns)?;
    let mut decoder = Decoder::new(&reader, &columns);
    let start = Instant::now();
    let mut rows = 0;
    for i in 0..corpus.len() {
        decoder.push(&resolution, corpus.body(i))?;
        if decoder.len() == 8_192 {
            rows += decoder.finish().num_rows();
        }
    }
    rows += decoder.finish().num_rows();
    assert_eq!(rows, corpus.len());
    Ok(rate(corpus, start))
}

pub fn rate(corpus: &Corpus, since: Instant) -> f64 {
    corpus.len() as f64 / since.elapsed().as_secs_f64()
}
