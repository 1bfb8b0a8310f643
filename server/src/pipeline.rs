//! Pipelines: what keeps one feature group up to date. One OS thread per group.
//!
//! The way of a record, top to bottom, one stage a file:
//!
//! ```text
//! source    reads partitions in step, up to a boundary   (log::Reader; partition: how far each has come)
//! decode    bytes → Arrow rows, or dead letters          (schemas: writers; judge: event times; tombstones)
//! intake    the next epoch, gathered from the sources    (gather: what it holds; cut: when it ends)
//! commits   engine → one commit → what others see        (step; watermarks, accounting, journal, status)
//! runner    the loops: one reads ahead, one commits      (control: orders; memory: what state takes)
//! ```
//!
//! [`open`] builds all this from what the last commit left in the store, so a start after `kill -9` is
//! the same as any other start. State is written at some epochs only ([`checkpoint`]); what came since is
//! applied again from the journal ([`replay`]).

mod accounting;
mod buffers;
mod changes;
mod checkpoint;
mod chunk;
mod commits;
mod control;
mod cut;
mod decode;
mod gather;
mod halt;
mod intake;
mod journal;
mod judge;
mod memory;
mod metrics;
mod open;
mod partition;
mod replay;
mod runner;
mod schemas;
mod source;
mod status;
mod step;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests;
mod thread;
mod tombstones;
mod watermarks;
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millpond_engine::workers::Workers;
use parking_lot::Mutex;

pub use decode::json_body;
pub use halt::Halt;
pub use status::{SourceStatus, State, Status};

use crate::catalog::{GroupEntry, GroupId, StreamEntry};
use crate::config::Config;
use crate::log::position::Position;
use crate::registry::Registry;
use crate::store::Store;
use crate::telemetry::Metrics;
use memory::Budget;
use thread::{Running, Shared};

/// Why a pipeline cannot be reached, or does not get where it is wanted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No pipeline was started for this group.
    #[error("feature group {} has no pipeline", .0.0)]
    NotFound(GroupId),
    /// The group does not read the position's stream.
    #[error("the position is not one of a stream that this feature group reads")]
    OtherStream,
    /// The time was over before the position was reached.
    #[error("the position was not reached within {:.1} s; the pipeline is {}", waited.as_secs_f64(), status.state.name())]
    Timeout {
        /// How long was waited.
        waited: Duration,
        /// How the pipeline stands.
        status: Box<Status>,
    },
    /// The pipeline stands still, so the position will not be reached.
    #[error("the pipeline is {}: {}", status.state.name(), status.state.reason().unwrap_or("resume it first"))]
    Standing {
        /// How the pipeline stands.
        status: Box<Status>,
    },
    /// The operating system gave no thread.
    #[error("no thread for the pipeline: {0}")]
    Thread(#[from] std::io::Error),
}

/// All pipelines of the server.
pub struct Pipelines {
    shared: Arc<Shared>,
    running: Mutex<BTreeMap<GroupId, Arc<Running>>>,
}

impl Pipelines {
    /// No pipelines yet.
    pub fn new(
        config: Arc<Config>,
        store: Arc<Store>,
        registry: Arc<Registry>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let budget = Budget::new(config.pipeline.memory_budget_bytes);
        let workers = Arc::new(Workers::new(config.pipeline.threads()));
        let shared = Arc::new(Shared { config, store, registry, metrics, budget, workers });
        Self { shared, running: Mutex::new(BTreeMap::new()) }
    }

    /// Starts the pipeline of a group (again, if it runs already: with the definition given). A group
    /// that is paused gets a pipeline that stands still.
    pub fn start(&self, group: &Arc<GroupEntry>, streams: &[Arc<StreamEntry>]) -> Result<(), Error> {
        let streams = streams.iter().map(|entry| Arc::new(entry.def.clone())).collect();
        let running = Arc::new(Running::new(Arc::clone(&self.shared), Arc::clone(group), streams));
        let before = self.running.lock().insert(group.def.id, Arc::clone(&running));
        if let Some(before) = before {
            before.stop();
        }
        if group.def.paused {
            running.pause();
            return Ok(());
        }
        running.start()
    }

    /// Ends a pipeline after the commit at hand and forgets it. Blocks until its thread has ended.
    pub fn stop(&self, group: GroupId) -> Result<(), Error> {
        let running = self.running.lock().remove(&group).ok_or(Error::NotFound(group))?;
        running.stop();
        Ok(())
    }

    /// Ends all pipelines. Blocks until their threads have ended.
    pub fn stop_all(&self) {
        let all = std::mem::take(&mut *self.running.lock());
        for running in all.values() {
            running.tell_to_stop();
        }
        for running in all.values() {
            running.stop();
        }
    }

    /// Stops a pipeline where it stands until it is resumed. Blocks for the commit at hand.
    pub fn pause(&self, group: GroupId) -> Result<(), Error> {
        self.find(group)?.pause();
        Ok(())
    }

    /// Starts a pipeline that was paused or halted again, from what is committed.
    pub fn resume(&self, group: GroupId) -> Result<(), Error> {
        self.find(group)?.start()
    }

    /// A stream has another definition now (a finish was set): tells the pipelines that read it.
    pub fn stream_changed(&self, stream: &Arc<StreamEntry>) {
        let def = Arc::new(stream.def.clone());
        for running in self.running.lock().values() {
            running.stream_changed(&def);
        }
    }

    /// How a pipeline stands.
    pub fn status(&self, group: GroupId) -> Option<Status> {
        self.running.lock().get(&group).map(|running| running.status())
    }

    /// Waits until a pipeline has committed everything before `position`, and the closes that this
    /// brought about: then the rows that follow from it are visible online and in the history.
    /// (A window that is still open has no row yet: more events, a heartbeat or a finish close it.)
    ///
    /// # Errors
    /// [`Error::Timeout`]; at once [`Error::Standing`] if the pipeline is paused or halted.
    pub async fn wait(
        &self,
        group: GroupId,
        position: &Position,
        timeout: Duration,
    ) -> Result<Status, Error> {
        let (mut board, stream) = {
            let running = self.find(group)?;
            (running.subscribe(), running.stream(position.stream).ok_or(Error::OtherStream)?)
        };
        let reached = |status: &Status| {
            !status.closing && position.is_reached_by(|partition| status.position(stream, partition))
        };
        let standing = |status: &Status| matches!(status.state, State::Paused | State::Halted(_));
        let found = {
            let there = board.wait_for(|status| reached(status) || standing(status));
            // Cloned at once: the guard would keep the pipeline from showing its next status.
            tokio::time::timeout(timeout, there).await.map(|found| found.map(|status| status.clone()))
        };
        let status = match found {
            Ok(Ok(status)) => status,
            Ok(Err(_)) => return Err(Error::NotFound(group)),
            Err(_) => {
                let status = Box::new(board.borrow().clone());
                return Err(Error::Timeout { waited: timeout, status });
            }
        };
        if reached(&status) { Ok(status) } else { Err(Error::Standing { status: Box::new(status) }) }
    }

    fn find(&self, group: GroupId) -> Result<Arc<Running>, Error> {
        self.running.lock().get(&group).cloned().ok_or(Error::NotFound(group))
    }
}

impl Drop for Pipelines {
    fn drop(&mut self) {
        self.stop_all();
    }
}
