//! The offline store: each feature group's full history as a Delta table.
//!
//! Rows are owed to it in the outbox (RocksDB, in the batch of the epoch that made them) and brought
//! there by the [`drain`], every ten seconds or 64k rows, by the protocol of [`protocol`]. A
//! [`read`](Offline::read) adds the outbox to the table, so what is committed is readable at once.
//! Only here and in `training` is delta-rs named.
//!
//! All of it runs on threads of its own: a large read or join never delays the serving of vectors.

mod drain;
pub mod durable;
mod error;
pub mod group;
pub mod maintenance;
pub mod protocol;
pub mod read;
pub mod table;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use futures::TryStreamExt;
use parking_lot::RwLock;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;

use crate::catalog::{FeatureGroup, GroupId};
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::training::sort::Workspace;

pub use error::Error;
pub use group::Group;
pub use read::Range;

/// How the offline store is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder of the tables, or the URL of a place in an object store.
    pub root: String,
    /// Options of that object store.
    pub storage: HashMap<String, String>,
    /// A group is drained this often …
    pub interval: Duration,
    /// … or when it owes this many rows, which is also about what one commit takes.
    pub rows: usize,
    /// Bytes that one read or join may sort in memory.
    pub memory: usize,
    /// Folder for what does not fit; emptied at start.
    pub spill: PathBuf,
    /// Threads for all of it.
    pub threads: usize,
    /// Where `outbox_rows` and `offline_rows_total` are counted; `None`: nowhere.
    pub metrics: Option<Arc<Metrics>>,
}

impl Options {
    /// Tables under `data/delta`, on the local disk.
    pub fn local(data: &std::path::Path) -> Self {
        Self {
            root: data.join("delta").display().to_string(),
            storage: HashMap::new(),
            interval: Duration::from_secs(10),
            rows: 65_536,
            memory: 256 << 20,
            spill: data.join("spill"),
            threads: 2,
            metrics: None,
        }
    }
}

/// The offline store of all groups.
pub struct Offline {
    store: Arc<Store>,
    options: Options,
    groups: RwLock<BTreeMap<GroupId, Arc<Group>>>,
    runtime: Option<Runtime>,
    stop: watch::Sender<bool>,
}

/// What a flush did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flushed {
    /// Version of the table; `None`: the group never had a row.
    pub delta_version: Option<u64>,
    /// Rows that the flush itself brought there.
    pub rows: u64,
}

/// How a group's drain stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Version of the table after the last drain.
    pub delta_version: Option<u64>,
    /// Why it stands still or failed last, with what to do.
    pub trouble: Option<String>,
    /// True: it does not go on by itself.
    pub halted: bool,
}

impl Offline {
    /// Starts the drain. Groups are added with [`register`](Self::register).
    pub fn start(options: Options, store: Arc<Store>) -> Result<Arc<Self>, Error> {
        if options.spill.exists() {
            std::fs::remove_dir_all(&options.spill)?;
        }
        std::fs::create_dir_all(&options.spill)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.threads)
            .thread_name("offline")
            .enable_all()
            .build()?;
        let (stop, stopped) = watch::channel(false);
        let offline =
            Arc::new(Self { store, options, groups: RwLock::default(), runtime: Some(runtime), stop });
        offline.handle()?.spawn(drain::run(Arc::downgrade(&offline), stopped));
        Ok(offline)
    }

    /// Makes a group known; `features` are its features with the primary key, as the engine makes
    /// them. Its table is made with its first row.
    pub fn register(&self, def: &FeatureGroup, features: &SchemaRef) -> Result<(), Error> {
        let group =
            Group::new(Arc::new(def.clone()), Arc::clone(features), self.store.uuid(), &self.options)?;
        self.groups.write().insert(def.id, Arc::new(group));
        Ok(())
    }

    /// A registered group.
    pub fn group(&self, id: GroupId) -> Result<Arc<Group>, Error> {
        self.groups.read().get(&id).cloned().ok_or(Error::UnknownGroup(id.0))
    }

    /// The path or URL of a group's table.
    pub fn location(&self, id: GroupId) -> Result<String, Error> {
        Ok(self.group(id)?.location())
    }

    /// How a group's drain stands; `None` for a group that is not registered.
    pub fn status(&self, id: GroupId) -> Option<Status> {
        let group = self.group(id).ok()?;
        let state = group.state.lock();
        Some(Status { delta_version: state.version, trouble: state.trouble.clone(), halted: state.halted })
    }

    /// Version of a group's table after its last drain.
    pub fn delta_version(&self, id: GroupId) -> Option<u64> {
        self.status(id)?.delta_version
    }

    /// Brings all that a group owes to Delta, now.
    pub async fn flush(self: &Arc<Self>, id: GroupId) -> Result<Flushed, Error> {
        let group = self.group(id)?;
        let offline = Arc::clone(self);
        let drained = self.on_threads(async move { offline.drain(&group).await }).await?;
        Ok(Flushed { delta_version: drained.version, rows: drained.rows })
    }

    /// The rows of a group's history with an event time in the range: the table and the outbox,
    /// all columns of [`history::schema`](crate::catalog::history::schema). No order is meant.
    pub async fn read(
        self: &Arc<Self>,
        id: GroupId,
        range: Range,
    ) -> Result<SendableRecordBatchStream, Error> {
        let group = self.group(id)?;
        let offline = Arc::clone(self);
        let rows = self.on_threads(async move {
            let workspace = offline.workspace()?;
            let schema = Arc::clone(&group.history);
            group.scan(workspace.session(), offline.store.view(), schema, range).await
        });
        self.carry(rows.await?)
    }

    /// Forgets a group that is being dropped. Its table stays for whoever reads it, unless `purge`.
    /// What it still owes should have been flushed before.
    pub async fn forget(self: &Arc<Self>, id: GroupId, purge: bool) -> Result<(), Error> {
        let group = self.group(id)?;
        self.groups.write().remove(&id);
        if !purge {
            return Ok(());
        }
        self.on_threads(async move {
            // A drain that is under way ends first.
            let mut table = group.draining.lock().await;
            table.remove().await.map_err(Error::from)
        })
        .await
    }

    /// Stops the drain after bringing everything to Delta. What cannot be brought stays in the
    /// outbox, and that is no error: it is safe there.
    pub async fn stop(self: &Arc<Self>) -> Result<(), Error> {
        self.stop.send_replace(true);
        let offline = Arc::clone(self);
        self.on_threads(async move {
            for group in offline.all() {
                if !group.state.lock().halted && offline.store.outbox_stats(group.def.id)?.rows > 0 {
                    let _ = offline.drain(&group).await;
                }
            }
            Ok(())
        })
        .await
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    pub(crate) fn spill(&self) -> &std::path::Path {
        &self.options.spill
    }

    /// A share of memory and a place to spill, for one read or join.
    pub(crate) fn workspace(&self) -> Result<Workspace, Error> {
        Ok(Workspace::new(self.options.memory, &self.options.spill)?)
    }

    fn handle(&self) -> Result<&Handle, Error> {
        self.runtime
            .as_ref()
            .map(Runtime::handle)
            .ok_or_else(|| std::io::Error::other("the server is stopping").into())
    }

    /// Runs a future on the offline store's own threads.
    pub(crate) async fn on_threads<T: Send + 'static, E: From<Error> + Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, E> {
        match self.handle()?.spawn(work).await {
            Ok(result) => result,
            Err(error) => Err(Error::Io(std::io::Error::other(error)).into()),
        }
    }

    /// Carries a stream over from the own threads to whoever reads it, a few batches ahead.
    pub(crate) fn carry(
        &self,
        mut rows: SendableRecordBatchStream,
    ) -> Result<SendableRecordBatchStream, Error> {
        let mut builder = RecordBatchReceiverStreamBuilder::new(rows.schema(), 2);
        let send = builder.tx();
        let work = async move {
            while let Some(batch) = rows.try_next().await? {
                if send.send(Ok(batch)).await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        builder.spawn_on(work, self.handle()?);
        Ok(builder.build())
    }
}

impl Drop for Offline {
    fn drop(&mut self) {
        // A runtime must not be waited for where the last handle is dropped by a task.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
