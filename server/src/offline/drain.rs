//! The drain: one task that goes round the groups and brings what they owe to Delta.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::group::{Group, StoredOutbox};
use super::protocol::{self, DeltaLog, Drained};
use super::{Error, Offline, maintenance};

/// How often the groups are looked at.
const TICK: Duration = Duration::from_millis(500);
/// The longest wait after failures.
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs until it is told to stop or nobody holds the offline store any more.
pub(super) async fn run(offline: Weak<Offline>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            _ = stop.changed() => return,
        }
        let Some(offline) = offline.upgrade() else { return };
        for group in offline.all() {
            if *stop.borrow() {
                return;
            }
            match offline.is_due(&group) {
                Ok(true) => {
                    // Logged and kept in the group's state by `drain`.
                    let _ = offline.drain(&group).await;
                }
                Ok(false) => {}
                Err(error) => tracing::error!(group = %group.spec.name, %error, "the outbox cannot be read"),
            }
        }
    }
}

impl Offline {
    /// True where a drain should begin now.
    fn is_due(&self, group: &Group) -> Result<bool, Error> {
        let rows = self.store.outbox_stats(group.def.id)?.rows;
        if let Some(metrics) = &group.metrics {
            metrics.outbox_rows.set(rows as i64);
        }
        let state = group.state.lock();
        if state.halted {
            return Ok(false);
        }
        let waited = state.last.map(|last| last.elapsed());
        if state.failures > 0 {
            let wait = PATIENCE.min(Duration::from_secs(1 << state.failures.min(6)));
            return Ok(waited.is_none_or(|waited| waited >= wait));
        }
        // Once per process, table and store are compared even if nothing is owed.
        let late = waited.is_none_or(|waited| waited >= self.options.interval);
        Ok(!state.checked || rows >= self.options.rows as u64 || (rows > 0 && late))
    }

    /// Drains one group: all that it owes now.
    pub(super) async fn drain(&self, group: &Group) -> Result<Drained, Error> {
        let result = self.attempt(group).await;
        let mut state = group.state.lock();
        state.last = Some(Instant::now());
        state.checked = true;
        match &result {
            Ok(drained) => {
                state.version = drained.version;
                state.trouble = None;
                state.halted = false;
                state.failures = 0;
                if drained.rows > 0 {
                    tracing::debug!(group = %group.spec.name, rows = drained.rows, version = drained.version, "drained");
                }
            }
            Err(error) => {
                state.halted = matches!(error, Error::Halted(_));
                state.failures += 1;
                state.trouble = Some(error.to_string());
                tracing::error!(group = %group.spec.name, halted = state.halted, %error, "the drain failed");
            }
        }
        result
    }

    async fn attempt(&self, group: &Group) -> Result<Drained, Error> {
        let outbox = StoredOutbox { store: &self.store, group: group.def.id };
        let mut table = group.draining.lock().await;
        let before = match table.newest().await {
            Ok(Some(before)) => before.version(),
            // A group that never had a row has no table either.
            Ok(None) if self.store.outbox_last_issued(group.def.id)? == 0 => return Ok(Drained::default()),
            Ok(None) => None,
            Err(error) => {
                table.forget();
                return Err(error.into());
            }
        };
        let mut drained = Drained::default();
        let done = protocol::drain(&mut *table, &outbox, self.options.rows, &mut drained).await;
        // A drain that fails half-way has brought its first half over.
        if let Some(metrics) = &group.metrics {
            metrics.offline_rows.inc_by(drained.rows);
        }
        if let Err(error) = done {
            table.forget();
            return Err(error.into());
        }
        let now = Instant::now();
        let vacuumed = *group.state.lock().vacuumed.get_or_insert(now);
        let due = maintenance::due(before.unwrap_or(0), drained.version.unwrap_or(0), Some(vacuumed), now);
        if let Some(loaded) = table.loaded() {
            if let Err(error) = maintenance::run(loaded, due).await {
                tracing::warn!(group = %group.spec.name, %error, "table maintenance failed");
            }
            if due.vacuum {
                group.state.lock().vacuumed = Some(now);
            }
            if due.compact || due.vacuum {
                let newest = table.load().await?;
                return Ok(Drained { version: Some(newest.version), ..drained });
            }
        }
        Ok(drained)
    }

    /// All groups, in the order of their ids.
    pub(super) fn all(&self) -> Vec<Arc<Group>> {
        self.groups.read().values().cloned().collect()
    }
}
