//! Vectors a second for 1 and 100 entities, beside a static reply of the same server; memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use crate::report::Report;
use crate::server::Server;
use crate::{Options, Result, corpus};

/// Entities with a vector.
const ENTITIES: usize = 10_000;
const CONNECTIONS: usize = 8;

pub async fn run(options: &Options, report: &mut Report) -> Result<()> {
    let server = Server::start(options, &[]).await?;
    report.at_most("memory", "resident, idle", server.resident_mb()?, "MB", 100.0);
    fill(&server).await?;
    let fixed = load(options, &server, |_| ("GET", "/health".to_owned(), None)).await?;
    report.value("serving: static reply (/health)", "replies", fixed, "1/s");
    let one = load(options, &server, |i| {
        let body = json!({"entries": [{"user_id": user(i)}]});
        ("POST", "/api/v1/feature-views/ctr_fv/1/vectors".to_owned(), Some(body))
    })
    .await?;
    report.ratio("serving: vectors, 1 entity a request", "requests", one, "1/s", fixed, Some(0.5));
    let hundred = load(options, &server, |i| {
        let entries: Vec<Value> = (0..100).map(|k| json!({"user_id": user(i * 100 + k)})).collect();
        ("POST", "/api/v1/feature-views/ctr_fv/1/vectors".to_owned(), Some(json!({"entries": entries})))
    })
    .await?;
    report.ratio("serving: vectors, 100 entities a request", "requests", hundred, "1/s", fixed, None);
    report.ratio("serving: vectors, 100 entities a request", "vectors", hundred * 100.0, "1/s", fixed, None);
    report.value("memory", "resident, after serving", server.resident_mb()?, "MB");
    Ok(())
}

fn user(i: usize) -> String {
    format!("u{:09}", i % ENTITIES)
}

/// One closed window with a row for every entity.
async fn fill(server: &Server) -> Result<()> {
    server.post("/api/v1/streams", &corpus::stream(None)).await?;
    server.post("/api/v1/feature-groups", &json!({"name": "ctr", "sql": corpus::SQL})).await?;
    server
        .post(
            "/api/v1/feature-views",
            &json!({"name": "ctr_fv", "query": {"feature_group": {"name": "ctr"}}}),
        )
        .await?;
    for chunk in 0..10 {
        let rows: Vec<Value> = (0..ENTITIES / 10)
            .map(|i| {
                json!({"user_id": user(chunk * ENTITIES / 10 + i), "item_id": "item", "campaign_id": "cmp",
                    "event_type": "impression", "timestamp": corpus::START_MS, "price": 1.0})
            })
            .collect();
        server.post("/api/v1/streams/ads/records", &json!({"rows": rows})).await?;
    }
    let position = server.post("/api/v1/streams/ads/finish", &json!({})).await?;
    let token = position["position"].as_str().unwrap_or_default().to_owned();
    server
        .post(&format!("/api/v1/feature-groups/ctr/1/wait?position={token}&timeout=60"), &json!({}))
        .await?;
    let body = json!({"entries": [{"user_id": user(7)}]});
    let start = Instant::now();
    loop {
        let reply = server.post("/api/v1/feature-views/ctr_fv/1/vectors", &body).await?;
        if reply["vectors"][0]["status"] == "complete" || start.elapsed() > Duration::from_secs(20) {
            // Checked once: what is measured is a real vector.
            assert_eq!(reply["vectors"][0]["values"][0], 1, "{reply}");
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Requests a second over some keep-alive connections; `request(i)` makes the i-th one.
async fn load(
    options: &Options,
    server: &Server,
    request: impl Fn(usize) -> (&'static str, String, Option<Value>),
) -> Result<f64> {
    // Made before the clock starts, so that making them is not measured.
    let requests: Arc<Vec<(&'static str, String, Bytes)>> = Arc::new(
        (0..512)
            .map(|i| {
                let (method, path, body) = request(i);
                (method, path, body.map_or_else(Bytes::new, |b| Bytes::from(b.to_string())))
            })
            .collect(),
    );
    let (done, deadline) =
        (Arc::new(AtomicU64::new(0)), Instant::now() + Duration::from_secs_f64(options.seconds));
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for connection in 0..CONNECTIONS {
        let (requests, done, port) = (Arc::clone(&requests), Arc::clone(&done), server.port);
        tasks.spawn(async move {
            client(port, &requests, connection * 61, deadline, &done).await.map_err(|e| e.to_string())
        });
    }
    while let Some(result) = tasks.join_next().await {
        result??;
    }
    Ok(done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64())
}

async fn client(
    port: u16,
    requests: &[(&'static str, String, Bytes)],
    from: usize,
    deadline: Instant,
    done: &AtomicU64,
) -> Result<()> {
    let socket = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    socket.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    tokio::spawn(connection);
    let mut at = from;
    while Instant::now() < deadline {
        let (method, path, body) = &requests[at % requests.len()];
        at += 1;
        let request = hyper::Request::builder()
            .method(*method)
            .uri(path)
            .header("Host", format!("127.0.0.1:{port}"))
            .header("Content-Type", "application/json")
            .body(Full::new(body.clone()))?;
        let reply = sender.send_request(request).await?;
        if !reply.status().is_success() {
            return Err(format!("{} {path}: {}", method, reply.status()).into());
        }
        reply.into_body().collect().await?;
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
