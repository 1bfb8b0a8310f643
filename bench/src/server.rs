//! The release binary as a child process, spoken to over HTTP.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Options, Result};

/// A running server with a data directory of its own; killed when dropped.
pub struct Server {
    child: Child,
    client: reqwest::Client,
    pub url: String,
    pub port: u16,
    _data: tempfile::TempDir,
}

/// What a pipeline may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Threads that it computes on.
    pub threads: usize,
    /// Bytes of its state in memory; the server's default if `None`.
    pub memory: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { threads: 1, memory: None }
    }
}

impl Server {
    /// Starts it and waits until it is ready.
    pub async fn start(options: &Options, extra: &[&str]) -> Result<Self> {
        Self::start_on(Limits::default(), options, extra).await
    }

    /// The same, with pipelines that are kept within limits.
    pub async fn start_on(limits: Limits, options: &Options, extra: &[&str]) -> Result<Self> {
        let data = tempfile::tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new(options.millpond.as_ref().ok_or("--millpond is missing")?)
            .args(["serve", "--log-filter", "warn", "--port", &port.to_string(), "--data-dir"])
            .arg(data.path())
            .args(extra)
            .env("MILLPOND_PIPELINE__THREADS", limits.threads.to_string())
            .envs(limits.memory.map(|bytes| ("MILLPOND_PIPELINE__MEMORY_BUDGET_BYTES", bytes.to_string())))
            .stdin(Stdio::null())
            .spawn()?;
        let client = reqwest::Client::builder().timeout(Duration::from_secs(120)).build()?;
        let server = Self { child, client, url: format!("http://127.0.0.1:{port}"), port, _data: data };
        let start = Instant::now();
        while !server
            .client
            .get(format!("{}/ready", server.url))
            .send()
            .await
            .is_ok_and(|r| r.status().is_success())
        {
            if start.elapsed() > Duration::from_secs(30) {
                return Err("the server did not become ready".into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(server)
    }

    pub async fn get(&self, path: &str) -> Result<Value> {
        reply(self.client.get(format!("{}{path}", self.url))).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        reply(self.client.post(format!("{}{path}", self.url)).json(body)).await
    }

    pub async fn post_bytes(&self, path: &str, content_type: &str, body: Vec<u8>) -> Result<Value> {
        reply(self.client.post(format!("{}{path}", self.url)).header("Content-Type", content_type).body(body))
            .await
    }

    /// Sum over a metric's lines in `/metrics`.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let text = self.client.get(format!("{}/metrics", self.url)).send().await?.text().await?;
        let values = text.lines().filter(|l| l.starts_with(name) && l[name.len()..].starts_with(['{', ' ']));
        Ok(values.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// Resident memory in MB.
    pub fn resident_mb(&self) -> Result<f64> {
        resident_mb(&Path::new("/proc").join(self.child.id().to_string()).join("status"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resident_mb(status: &Path) -> Result<f64> {
    let text = std::fs::read_to_string(status)?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kb: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kb / 1024.0)
}

async fn reply(request: reqwest::RequestBuilder) -> Result<Value> {
    let reply = request.send().await?;
    let status = reply.status();
    let text = reply.text().await?;
    if !status.is_success() {
        return Err(format!("{status}: {text}").into());
    }
    Ok(if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? })
}
