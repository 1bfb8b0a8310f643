//! Configuration: flag > environment > file > default. Unknown keys are errors.

mod report;
mod sources;
mod text;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use millpond_engine::time::Span;
use serde::{Deserialize, Serialize};

pub use report::report;
pub use sources::{Error, Flags, load};
use text::{opt_text, text, texts};

/// More threads are taken for a pipeline only where they are asked for.
const MOST_THREADS: usize = 8;

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where RocksDB and, by default, the Delta tables live.
    pub data_dir: PathBuf,
    /// Bearer key that every request must carry; needed where others than the local user can reach the server.
    #[serde(deserialize_with = "opt_text")]
    pub api_key: Option<String>,
    /// The HTTP server.
    pub http: Http,
    /// Kafka, for streams with a topic.
    pub kafka: Kafka,
    /// The schema registry.
    pub schema_registry: SchemaRegistry,
    /// RocksDB.
    pub store: Store,
    /// Delta Lake.
    pub offline: Offline,
    /// Files of groups' sinks.
    pub sinks: Sinks,
    /// Pipelines.
    pub pipeline: Pipeline,
    /// Logs.
    pub log: Log,
}

/// The HTTP server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Address and port.
    pub listen: SocketAddr,
    /// Names under which the server may be called besides localhost (the `Host` header).
    pub allowed_hosts: Vec<String>,
    /// Serve others than the local user without an API key.
    pub insecure: bool,
    /// Largest JSON body in bytes.
    pub max_body_bytes: usize,
    /// Largest Arrow or Parquet body in bytes; it is streamed to disk.
    pub max_upload_bytes: u64,
    /// Requests under way at once; more get 429.
    pub max_in_flight: usize,
}

/// Kafka: `bootstrap_servers` and any property of librdkafka, written with `_` for `.`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kafka {
    /// Brokers, comma-separated. `KAFKA_BOOTSTRAP_SERVERS` is understood as well.
    #[serde(deserialize_with = "opt_text")]
    pub bootstrap_servers: Option<String>,
    /// Passed through: `security_protocol` is librdkafka's `security.protocol`.
    #[serde(flatten, deserialize_with = "texts")]
    pub properties: BTreeMap<String, String>,
}

/// The schema registry: embedded under `/schema-registry`, or external by URL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SchemaRegistry {
    /// URL of an external registry; without it the embedded one is used.
    #[serde(deserialize_with = "opt_text")]
    pub url: Option<String>,
    /// User for Basic authentication.
    #[serde(deserialize_with = "opt_text")]
    pub username: Option<String>,
    /// Password for Basic authentication.
    #[serde(deserialize_with = "opt_text")]
    pub password: Option<String>,
    /// How long an unknown schema id is asked for again before its records are quarantined, seconds.
    pub unknown_grace: f64,
    /// Timeout of one request, seconds.
    pub timeout: f64,
}

/// RocksDB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// Block cache in bytes.
    pub block_cache_bytes: usize,
    /// Memtable of a column family in bytes.
    pub memtable_bytes: usize,
}

/// Delta Lake.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Offline {
    /// Folder of the Delta tables; default: `delta` in the data directory.
    pub root: Option<PathBuf>,
    /// The outbox is drained this often, seconds …
    pub drain_interval: f64,
    /// … or when it holds this many rows.
    pub drain_rows: u64,
}

/// Sinks of files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sinks {
    /// Folder below which all of them write; default: `sinks` in the data directory.
    pub root: Option<PathBuf>,
    /// What is owed is written this often, seconds, or when it is `offline.drain_rows` rows.
    pub interval: f64,
}

/// Pipelines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pipeline {
    /// An epoch takes at most this many records …
    pub max_epoch_records: usize,
    /// … and about this many bytes …
    pub max_epoch_bytes: usize,
    /// … and epochs are at least this far apart when traffic is light, seconds: more where a commit is slow.
    pub min_epoch_age: f64,
    /// A close emits at most this many rows in one epoch.
    pub max_close_rows: usize,
    /// State is written at least this often, seconds: a restart applies what came since again …
    pub checkpoint_interval: f64,
    /// … or after this many records.
    pub checkpoint_records: u64,
    /// What the state of all pipelines together may take of the memory, about; what is more lies in RocksDB
    /// alone. Default: a quarter of the memory that the process may use.
    pub memory_budget_bytes: Option<usize>,
    /// Each epoch has a journal entry of its own for this long, seconds; later a thousand share one.
    pub journal_retention: f64,
    /// Threads that the windows of one pipeline are computed on, which changes no result; 0: half of the cores, at
    /// most eight.
    pub threads: usize,
}

/// Logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// A filter such as `info` or `info,millpond=debug`.
    #[serde(deserialize_with = "text")]
    pub filter: String,
    /// Text or JSON.
    pub format: LogFormat,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: sources::default_data_dir(),
            api_key: None,
            http: Http::default(),
            kafka: Kafka::default(),
            schema_registry: SchemaRegistry::default(),
            store: Store::default(),
            offline: Offline::default(),
            sinks: Sinks::default(),
            pipeline: Pipeline::default(),
            log: Log::default(),
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7878)),
            allowed_hosts: Vec::new(),
            insecure: false,
            max_body_bytes: 10 << 20,
            max_upload_bytes: 4 << 30,
            max_in_flight: 1024,
        }
    }
}

impl Default for SchemaRegistry {
    fn default() -> Self {
        Self { url: None, username: None, password: None, unknown_grace: 10.0, timeout: 5.0 }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self { block_cache_bytes: 64 << 20, memtable_bytes: 16 << 20 }
    }
}

impl Default for Offline {
    fn default() -> Self {
        Self { root: None, drain_interval: 10.0, drain_rows: 65_536 }
    }
}

impl Default for Sinks {
    fn default() -> Self {
        Self { root: None, interval: 10.0 }
    }
}

impl Default for Pipeline {
    fn default() -> Self {
        Self {
            max_epoch_records: 65_536,
            max_epoch_bytes: 16 << 20,
            min_epoch_age: 0.005,
            max_close_rows: 65_536,
            checkpoint_interval: 10.0,
            checkpoint_records: 4_000_000,
            memory_budget_bytes: None,
            journal_retention: 86_400.0,
            threads: 0,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Text }
    }
}

impl Config {
    /// Folder of the Delta tables.
    pub fn offline_root(&self) -> PathBuf {
        self.offline.root.clone().unwrap_or_else(|| self.data_dir.join("delta"))
    }

    /// Folder of the sinks' files, as an absolute path.
    pub fn sinks_root(&self) -> PathBuf {
        let root = self.sinks.root.clone().unwrap_or_else(|| self.data_dir.join("sinks"));
        std::path::absolute(&root).unwrap_or(root)
    }
}

impl Kafka {
    /// Property names as librdkafka writes them, with their values; `bootstrap.servers` among them.
    pub fn librdkafka(&self) -> impl Iterator<Item = (String, &str)> {
        let servers = self.bootstrap_servers.as_deref().map(|s| ("bootstrap.servers".to_owned(), s));
        servers.into_iter().chain(self.properties.iter().map(|(k, v)| (k.replace('_', "."), v.as_str())))
    }
}

impl Offline {
    /// Time between two drains.
    pub fn interval(&self) -> Duration {
        Duration::try_from_secs_f64(self.drain_interval).unwrap_or(Duration::from_secs(10))
    }
}

impl Sinks {
    /// Time between two writes of a sink of files.
    pub fn interval(&self) -> Duration {
        Duration::try_from_secs_f64(self.interval).unwrap_or(Duration::from_secs(10))
    }
}

impl Pipeline {
    /// Least age of an epoch under light traffic.
    pub fn min_age(&self) -> Duration {
        Duration::try_from_secs_f64(self.min_epoch_age).unwrap_or(Duration::from_millis(5))
    }

    /// How long each epoch has a journal entry of its own.
    pub fn journal_age(&self) -> Span {
        Span((self.journal_retention.max(0.0) * 1e6) as i64)
    }

    /// Threads that the windows of one pipeline are computed on. Reading and committing take threads, too.
    pub fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        if self.threads == 0 { (cores() / 2).clamp(1, MOST_THREADS) } else { self.threads }
    }

    /// Greatest time between two checkpoints.
    pub fn checkpoint_age(&self) -> Duration {
        Duration::try_from_secs_f64(self.checkpoint_interval).unwrap_or(Duration::from_secs(10))
    }
}

impl SchemaRegistry {
    /// How long an unknown id is asked for again.
    pub fn grace(&self) -> Duration {
        Duration::try_from_secs_f64(self.unknown_grace).unwrap_or(Duration::from_secs(10))
    }

    /// Timeout of one request.
    pub fn request_timeout(&self) -> Duration {
        Duration::try_from_secs_f64(self.timeout).unwrap_or(Duration::from_secs(5))
    }
}
