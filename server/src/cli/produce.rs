//! `millpond produce`: a seeded producer for any stream of a running server.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::generate::{self, Defaults, Generator};

/// Rows are sent in batches this far apart.
const BATCH: Duration = Duration::from_millis(50);

/// What to write, where and how fast.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The stream
    #[arg(long, default_value = "events")]
    stream: String,
    /// The server
    #[arg(long, env = "MILLPOND_URL", default_value = "http://127.0.0.1:7878")]
    url: String,
    /// Its API key
    #[arg(long, env = "MILLPOND_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// Events a second
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
    /// Stop after this many seconds; without it, run until Ctrl-C
    #[arg(long, value_name = "SECONDS")]
    duration: Option<f64>,
    /// Number of users, and of the values of any other key
    #[arg(long, default_value_t = 50)]
    users: u64,
    /// Share of clicks
    #[arg(long, default_value_t = 0.05, value_name = "SHARE")]
    clicks: f64,
    /// The same seed makes the same values
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Event times lag behind the clock by up to this many seconds
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS")]
    disorder: f64,
    /// How a column is made, such as country=choice:DE,FR or amount=number:1,500; may be repeated
    #[arg(long, value_name = "COLUMN=GENERATOR", value_parser = generate::parse)]
    column: Vec<(String, Generator)>,
    /// No progress bar
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, Deserialize)]
struct Stream {
    event_time: String,
    event_time_unit: Option<String>,
    columns: Vec<Column>,
    schema: Value,
}

#[derive(Debug, Deserialize)]
struct Column {
    name: String,
    #[serde(rename = "type")]
    data_type: String,
    nullable: bool,
}

pub fn run(options: &Options) -> Result<(), String> {
    if !(options.rate > 0.0 && options.rate <= 1e6) || options.users == 0 {
        return Err("--rate must be above 0 and at most 1000000, --users at least 1".to_owned());
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(produce(options))
}

async fn produce(options: &Options) -> Result<(), String> {
    let client =
        reqwest::Client::builder().timeout(Duration::from_secs(30)).build().map_err(|e| e.to_string())?;
    let url = format!("{}/api/v1/streams/{}", options.url.trim_end_matches('/'), options.stream);
    let stream: Stream = serde_json::from_value(send(options, client.get(&url)).await?)
        .map_err(|e| format!("the server's reply cannot be read: {e}"))?;
    let columns = generators(options, &stream)?;
    let per_unit = match stream.event_time_unit.as_deref() {
        Some("s") => 1_000_000,
        Some("ms") => 1_000,
        Some(_) => 1,
        None => unit_of(&stream),
    };
    let mut rng = SmallRng::seed_from_u64(options.seed);
    let producer = format!("produce-{}", uuid::Uuid::new_v4());
    let bar = bar(options);
    let (start, mut sent, mut sequence) = (Instant::now(), 0_u64, 0_u64);
    let mut ticks = tokio::time::interval(BATCH);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = tokio::signal::ctrl_c() => break,
        }
        let elapsed = start.elapsed().as_secs_f64();
        let until = options.duration.map_or(elapsed, |d| d.min(elapsed));
        let due = ((until * options.rate) as u64).saturating_sub(sent).min(5_000);
        if due > 0 {
            let rows: Vec<Value> = (0..due).map(|_| row(&columns, options, per_unit, &mut rng)).collect();
            let request = client
                .post(format!("{url}/records"))
                .header("Millpond-Producer-Id", &producer)
                .header("Millpond-Sequence", sequence)
                .json(&json!({ "rows": rows }));
            send(options, request).await?;
            sequence += 1;
            sent += due;
            bar.set_position(sent);
        }
        if options.duration.is_some_and(|d| elapsed >= d) {
            break;
        }
    }
    bar.finish_and_clear();
    println!("{sent} events written to {} in {:.1} s", options.stream, start.elapsed().as_secs_f64());
    Ok(())
}

fn row(columns: &[(String, Generator)], options: &Options, per_unit: i64, rng: &mut SmallRng) -> Value {
    let lag = if options.disorder > 0.0 { rng.random_range(0.0..options.disorder) } else { 0.0 };
    let time = (chrono::Utc::now().timestamp_micros() - (lag * 1e6) as i64) / per_unit;
    let click = rng.random::<f64>();
    Value::Object(
        columns.iter().map(|(name, g)| (name.clone(), g.next(rng, click, time))).collect::<Map<_, _>>(),
    )
}

fn generators(options: &Options, stream: &Stream) -> Result<Vec<(String, Generator)>, String> {
    let defaults = Defaults { keys: options.users, clicks: options.clicks };
    if let Some((name, _)) = options.column.iter().find(|(n, _)| !stream.columns.iter().any(|c| c.name == *n))
    {
        let names: Vec<&str> = stream.columns.iter().map(|c| c.name.as_str()).collect();
        return Err(format!("--column {name}: the stream has no such column; it has {}", names.join(", ")));
    }
    stream
        .columns
        .iter()
        .map(|column| {
            if column.name == stream.event_time {
                return Ok((column.name.clone(), Generator::Time));
            }
            if let Some((name, given)) = options.column.iter().find(|(n, _)| *n == column.name) {
                return Ok((name.clone(), given.clone()));
            }
            let symbols = symbols(&stream.schema, &column.name);
            let made =
                generate::suggest(&column.name, &column.data_type, &symbols, column.nullable, defaults);
            made.map(|g| (column.name.clone(), g)).ok_or_else(|| {
                format!(
                    "column {} of type {} has no generator of its own: give one with --column",
                    column.name, column.data_type
                )
            })
        })
        .collect()
}

/// The schema as JSON, whether the server sent it as JSON or as text.
fn fields(schema: &Value) -> Vec<Value> {
    let parsed = schema.as_str().and_then(|s| serde_json::from_str::<Value>(s).ok());
    let schema = parsed.as_ref().unwrap_or(schema);
    schema.get("fields").and_then(Value::as_array).cloned().unwrap_or_default()
}

fn field_type(schema: &Value, column: &str) -> Option<Value> {
    let field = fields(schema).into_iter().find(|f| f.get("name").and_then(Value::as_str) == Some(column))?;
    let data_type = field.get("type")?.clone();
    match data_type {
        Value::Array(branches) => branches.into_iter().find(|b| b.as_str() != Some("null")),
        other => Some(other),
    }
}

fn symbols(schema: &Value, column: &str) -> Vec<String> {
    let symbols = field_type(schema, column).and_then(|t| t.get("symbols").cloned());
    serde_json::from_value(symbols.unwrap_or_default()).unwrap_or_default()
}

/// Microseconds in one unit of the event time's logical type.
fn unit_of(stream: &Stream) -> i64 {
    let logical = field_type(&stream.schema, &stream.event_time).and_then(|t| t.get("logicalType").cloned());
    match logical.as_ref().and_then(Value::as_str) {
        Some("timestamp-millis") => 1_000,
        _ => 1,
    }
}

fn bar(options: &Options) -> ProgressBar {
    let template = "{bar:32} {pos} events ({per_sec}) {elapsed_precise}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = match (options.quiet, options.duration) {
        (true, _) => ProgressBar::hidden(),
        (_, Some(seconds)) => ProgressBar::new((seconds * options.rate) as u64),
        (_, None) => ProgressBar::no_length(),
    };
    bar.with_style(style)
}

async fn send(options: &Options, request: reqwest::RequestBuilder) -> Result<Value, String> {
    let request = match &options.api_key {
        Some(key) => request.bearer_auth(key),
        None => request,
    };
    let reply = request.send().await.map_err(|e| {
        format!(
            "no server answers at {}: {e}\n  Start one with `millpond serve`, or name it with --url.",
            options.url
        )
    })?;
    let status = reply.status();
    let body: Value = reply.json().await.unwrap_or_default();
    if status.is_success() {
        return Ok(body);
    }
    let text = |name: &str| {
        body.pointer(&format!("/error/{name}")).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    Err(format!("the server refused ({status}): {}\n  {}", text("message"), text("hint")))
}
