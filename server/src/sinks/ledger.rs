//! The store's side of a sink.

use millpond_engine::time::Micros;

use super::protocol::Ledger;
use crate::catalog::{GroupId, SinkId};
use crate::store::commit::OutboxEntry;
use crate::store::{self, SinkProgress, Store};

/// A group's outbox as one of its sinks sees it.
pub struct StoredLedger<'a> {
    /// The store.
    pub store: &'a Store,
    /// The group.
    pub group: GroupId,
    /// The sink.
    pub sink: SinkId,
}

impl Ledger for StoredLedger<'_> {
    type Error = store::Error;

    fn progress(&self) -> Result<SinkProgress, store::Error> {
        self.store.sink_progress(self.group, self.sink)
    }

    fn keep(&self, progress: SinkProgress) -> Result<u64, store::Error> {
        self.store.put_sink_progress(self.group, self.sink, progress)
    }

    fn issued(&self) -> Result<u64, store::Error> {
        self.store.outbox_last_issued(self.group)
    }

    fn entries(&self, after: u64, through: u64, rows: usize) -> Result<Vec<OutboxEntry>, store::Error> {
        let view = self.store.view();
        let mut count = 0;
        let mut entries = Vec::new();
        for entry in view.outbox(self.group, Some(after))? {
            let entry = entry?;
            if entry.sequence > through {
                break;
            }
            count += entry.rows.num_rows();
            entries.push(entry);
            if count >= rows {
                break;
            }
        }
        Ok(entries)
    }

    fn now(&self) -> Micros {
        self.store.wall()
    }
}
