//! A server without a socket.

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Request};
use millpond::app::App;
use millpond::config::Config;
use millpond::http;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;

pub const ARROW: &str = "application/vnd.apache.arrow.stream";

/// The SQL of the first seed, as it stands there, over the stream `events`.
pub const CTR: &str = "SELECT user_id, SUM(clicks) / NULLIF(SUM(impressions), 0) as ctr \
    FROM TUMBLE(events, DESCRIPTOR(timestamp), INTERVAL '5' MINUTES) GROUP BY user_id, window_end";

pub struct Server {
    router: Router,
    _dir: TempDir,
}

pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The reply's JSON, if it is a success.
    pub fn ok(&self) -> Value {
        assert!(
            (200..300).contains(&self.status),
            "{}: {}",
            self.status,
            String::from_utf8_lossy(&self.body)
        );
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// Status and code of an error, which must say what is wrong and what to do.
    pub fn error(&self) -> (u16, String) {
        let error = &self.json()["error"];
        for part in ["message", "hint"] {
            assert!(!error[part].as_str().unwrap_or_default().is_empty(), "no {part}: {error}");
        }
        (self.status, error["code"].as_str().unwrap().to_owned())
    }
}

impl Server {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(configure: impl FnOnce(&mut Config)) -> Self {
        let dir = TempDir::new().unwrap();
        let mut config = Config { data_dir: dir.path().join("data"), ..Config::default() };
        configure(&mut config);
        let app = App::start(config).await.unwrap();
        let router = http::router(app);
        Self { router, _dir: dir }
    }

    pub async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        Reply { status, headers, body }
    }

    pub async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "localhost:7878");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.request("GET", path, &[], Body::empty()).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.request("DELETE", path, &[], Body::empty()).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        let headers = [("content-type", "application/json"), ("accept", "application/json")];
        self.request("POST", path, &headers, body.to_string()).await
    }

    /// The stream `events` of the first seed.
    pub async fn events(&self, time: &str) -> Value {
        self.post("/api/v1/streams", events(time)).await.ok()
    }

    /// Appends rows to `events` and returns the position.
    pub async fn append(&self, rows: Value) -> String {
        let reply = self.post("/api/v1/streams/events/records", json!({ "rows": rows })).await.ok();
        reply["position"].as_str().unwrap().to_owned()
    }

    /// Ends the replay of `events`; returns when `group` has emitted what follows from it.
    pub async fn finish(&self, group: &str, rows: u64) {
        let position = self.post("/api/v1/streams/events/finish", json!({})).await.ok();
        let position = position["position"].as_str().unwrap();
        self.post(
            &format!("/api/v1/feature-groups/{group}/1/wait?timeout=30&position={position}"),
            json!({}),
        )
        .await
        .ok();
        self.until(&format!("/api/v1/feature-groups/{group}/1/history"), |history| {
            history["rows"].as_array().unwrap().len() as u64 >= rows
        })
        .await;
    }

    /// Asks again until the answer is right; the last answer.
    pub async fn until(&self, path: &str, right: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let answer =
                self.request("GET", path, &[("accept", "application/json")], Body::empty()).await.ok();
            if right(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{path} stays {answer}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

pub fn events(time: &str) -> Value {
    json!({
        "name": "events",
        "schema": {"type": "record", "name": "Event", "fields": [
            {"name": "user_id", "type": "string"},
            {"name": "clicks", "type": "long"},
            {"name": "impressions", "type": "long"},
            {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}}
        ]},
        "event_time": "timestamp",
        "time": time
    })
}

pub fn event(user: &str, clicks: i64, impressions: i64, time: &str) -> Value {
    json!({"user_id": user, "clicks": clicks, "impressions": impressions, "timestamp": time})
}
