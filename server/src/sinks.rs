//! Sinks: the rows of a group as a Kafka topic and as files, besides the online store and Delta.
//!
//! A sink takes the group's outbox in order, on a thread of its own, by the protocol of [`protocol`]. It
//! depends on nobody: not on Delta, not on other sinks, and no pipeline waits for it. What a sink
//! does not have yet stays in the outbox, and is shown as its lag.

mod changelog;
mod error;
mod files;
mod ledger;
pub mod protocol;
mod runner;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::runtime::Handle;

use crate::catalog::{GroupEntry, GroupId, SinkId, SinkTarget};
use crate::config;
use crate::registry::Registry;
use crate::store::Store;
use crate::telemetry::Metrics;

pub use changelog::{Changelog, key_subject, value_subject};
pub use error::Error;
pub use runner::{State, Status};

use runner::Runner;

/// How often a flush looks at what it waits for.
const LOOK: Duration = Duration::from_millis(20);

/// What all sinks are run with.
pub struct Parts {
    /// Folder below which all files lie.
    pub root: PathBuf,
    /// Files are written this often …
    pub interval: Duration,
    /// … or when this many rows are owed, which is also about what is written at once.
    pub rows: usize,
    /// The outboxes.
    pub store: Arc<Store>,
    /// Where the schemas of topics are registered.
    pub registry: Arc<Registry>,
    /// The brokers.
    pub kafka: config::Kafka,
    /// Where `sink_rows_total` and `sink_lag_rows` are counted.
    pub metrics: Arc<Metrics>,
    /// Whose requests are waited for: threads of sinks have no runtime of their own.
    pub runtime: Handle,
}

/// The sinks of all groups.
pub struct Sinks {
    parts: Arc<Parts>,
    running: RwLock<BTreeMap<(GroupId, SinkId), Arc<Runner>>>,
}

impl Sinks {
    /// None yet.
    pub fn new(parts: Parts) -> Self {
        Self { parts: Arc::new(parts), running: RwLock::default() }
    }

    /// Folder below which all files lie.
    pub fn root(&self) -> &std::path::Path {
        &self.parts.root
    }

    /// Starts the sinks of a group. Call it before the group's pipeline starts: what is committed from
    /// then on stays in the outbox until they have it.
    pub fn start(&self, entry: &GroupEntry) -> Result<(), Error> {
        let (group, store) = (entry.def.id, &self.parts.store);
        for known in store.sinks(group)? {
            // One that was dropped by a process that did not come to its end.
            if entry.def.sinks.iter().all(|sink| sink.id != known) {
                store.drop_sink(group, known)?;
            }
        }
        for sink in &entry.def.sinks {
            store.register_sink(group, sink.id)?;
            let runner = Runner::start(Arc::clone(&self.parts), entry, sink)?;
            self.running.write().insert((group, sink.id), runner);
        }
        Ok(())
    }

    /// How the sinks of a group stand, in the order of their identities.
    pub fn status(&self, group: GroupId) -> Vec<Status> {
        self.of(group).iter().map(|runner| runner.status()).collect()
    }

    /// Where a sink's rows are, as other programs want it: a topic, or a folder.
    pub fn location(&self, target: &SinkTarget) -> String {
        match target {
            SinkTarget::Kafka { topic } => topic.clone(),
            SinkTarget::Files { path, .. } => self.parts.root.join(path).display().to_string(),
        }
    }

    /// Brings what a group owes now to all of its sinks; true: they have it. False where one failed, or
    /// time ran out: its status says why, and it goes on by itself.
    pub async fn flush(&self, group: GroupId, timeout: Duration) -> Result<bool, Error> {
        let issued = self.parts.store.outbox_last_issued(group)?;
        let deadline = tokio::time::Instant::now() + timeout;
        let asked: Vec<_> = self.of(group).into_iter().map(|runner| (runner.ask(), runner)).collect();
        for (tries, runner) in asked {
            while self.parts.store.sink_progress(group, runner.sink())?.through < issued {
                if runner.has_failed_since(tries) || tokio::time::Instant::now() > deadline {
                    return Ok(false);
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(true)
    }

    /// Stops a group's sinks, or one of them, where they are. What they wrote stays. Blocks.
    pub fn forget(&self, group: GroupId, sink: Option<SinkId>) {
        let stopped: Vec<_> = {
            let mut running = self.running.write();
            let gone = |(of, id): &(GroupId, SinkId)| *of == group && sink.is_none_or(|sink| *id == sink);
            let keys: Vec<_> = running.keys().filter(|key| gone(key)).copied().collect();
            keys.iter().filter_map(|key| running.remove(key)).collect()
        };
        for runner in &stopped {
            runner.stop(false);
        }
        for runner in stopped {
            runner.join();
            runner.clear();
        }
    }

    /// Stops all sinks, after bringing them what is owed. What cannot be brought stays in the outbox,
    /// and that is no error: it is safe there. Blocks.
    pub fn stop(&self) {
        let all: Vec<_> = self.running.read().values().cloned().collect();
        for runner in &all {
            runner.stop(true);
        }
        for runner in &all {
            runner.join();
        }
    }

    fn of(&self, group: GroupId) -> Vec<Arc<Runner>> {
        let running = self.running.read();
        running.range((group, SinkId(0))..=(group, SinkId(u32::MAX))).map(|(_, r)| Arc::clone(r)).collect()
    }
}

#[cfg(test)]
mod tests;
