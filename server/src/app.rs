//! The application: every part, wired in the order of a record's way.
//!
//! ```text
//! log → decode → engine → commit (pipelines) → online rows (store) and outbox → drain → Delta (offline)
//!                                                                             └──→ topics, files (sinks)
//! ```
//!
//! What touches several parts at once, such as creating a group, is decided in [`streams`] and
//! [`groups`]; handlers and commands call these and nothing below them.

mod changes;
mod declared;
mod groups;
mod json_schema;
mod own_stream;
mod sinks;
mod streams;

use std::sync::Arc;

use millpond_engine::time::Micros;

pub use self::streams::written_by_others;
use crate::catalog::{self, Catalog};
use crate::config::Config;
use crate::offline::Offline;
use crate::pipeline::Pipelines;
use crate::registry::Registry;
use crate::sinks::{Parts, Sinks};
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::{log, offline, pipeline, registry, store};

/// A running Millpond.
pub struct App {
    /// What it was told.
    pub config: Arc<Config>,
    /// RocksDB.
    pub store: Arc<Store>,
    /// Definitions.
    pub catalog: Arc<Catalog>,
    /// Writer schemas.
    pub registry: Arc<Registry>,
    /// The pipelines of all groups.
    pub pipelines: Arc<Pipelines>,
    /// Delta Lake.
    pub offline: Arc<Offline>,
    /// Topics and files of groups.
    pub sinks: Arc<Sinks>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Get-or-create calls take turns, so that two of the same name make one object.
    creating: tokio::sync::Mutex<()>,
}

/// Why something that touches several parts failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The definition is refused.
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    /// The schema registry refuses or does not answer.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The log refuses or does not answer.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// A pipeline cannot be started or reached.
    #[error(transparent)]
    Pipeline(#[from] pipeline::Error),
    /// The offline store failed.
    #[error(transparent)]
    Offline(#[from] offline::Error),
    /// A sink cannot be started.
    #[error(transparent)]
    Sink(#[from] crate::sinks::Error),
    /// A sink does not take the last rows of a group that is to be dropped.
    #[error("sink {sink} of feature group {group} does not have all rows: {reason}")]
    Behind {
        /// The group.
        group: String,
        /// The sink.
        sink: String,
        /// Why.
        reason: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A metric could not be registered.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
    /// A background task did not end as it should.
    #[error("a background task failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl App {
    /// Opens the data directory and starts every pipeline, the drain and the sinks.
    pub async fn start(config: Config) -> Result<Arc<Self>, Error> {
        let config = Arc::new(config);
        let metrics = Arc::new(Metrics::new()?);
        let options = store::Options {
            block_cache: config.store.block_cache_bytes,
            memtable: config.store.memtable_bytes,
            ..store::Options::default()
        };
        let dir = config.data_dir.clone();
        let store = tokio::task::spawn_blocking(move || Store::open(&dir, &options)).await??;
        let registry = Arc::new(Registry::open(&config.schema_registry, Arc::clone(&store))?);
        let catalog = Arc::new(Catalog::open(Arc::clone(&store))?);
        let offline = Offline::start(offline_options(&config, &metrics), Arc::clone(&store))?;
        let sinks = Arc::new(Sinks::new(Parts {
            root: config.sinks_root(),
            interval: config.sinks.interval(),
            rows: usize::try_from(config.offline.drain_rows).unwrap_or(usize::MAX),
            store: Arc::clone(&store),
            registry: Arc::clone(&registry),
            kafka: config.kafka.clone(),
            metrics: Arc::clone(&metrics),
            runtime: tokio::runtime::Handle::current(),
        }));
        let pipelines = Arc::new(Pipelines::new(
            Arc::clone(&config),
            Arc::clone(&store),
            Arc::clone(&registry),
            Arc::clone(&metrics),
        ));
        let app = Arc::new(Self {
            config,
            store,
            catalog,
            registry,
            pipelines,
            offline,
            sinks,
            metrics,
            creating: tokio::sync::Mutex::new(()),
        });
        app.follow_all()?;
        for group in app.catalog.snapshot().groups() {
            app.start_group(group)?;
        }
        Ok(app)
    }

    /// Stops in the order of a record's way: pipelines, drain and sinks, store. What is committed stays.
    pub async fn stop(&self) -> Result<(), Error> {
        let pipelines = Arc::clone(&self.pipelines);
        tokio::task::spawn_blocking(move || pipelines.stop_all()).await?;
        let sinks = Arc::clone(&self.sinks);
        let sinks = tokio::task::spawn_blocking(move || sinks.stop());
        self.offline.stop().await?;
        sinks.await?;
        self.store.close()?;
        Ok(())
    }
}

fn offline_options(config: &Config, metrics: &Arc<Metrics>) -> offline::Options {
    offline::Options {
        root: config.offline_root().display().to_string(),
        interval: config.offline.interval(),
        rows: usize::try_from(config.offline.drain_rows).unwrap_or(usize::MAX),
        metrics: Some(Arc::clone(metrics)),
        ..offline::Options::local(&config.data_dir)
    }
}

/// The wall clock; below this line time is an argument.
pub fn now() -> Micros {
    Micros(chrono::Utc::now().timestamp_micros())
}
