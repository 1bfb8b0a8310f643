//! The embedded log as a [`Reader`]: partitions in RocksDB.

use std::sync::Arc;
use std::time::Duration;

use millpond_engine::time::Micros;

use super::{Budget, Error, PartitionEnd, Reader, Records};
use crate::catalog::{ChangesOf, Stream, StreamId, TimeMode};
use crate::store::{Signal, Store};

/// One stream's partitions, read in place.
pub struct EmbeddedReader {
    store: Arc<Store>,
    stream: StreamId,
    name: String,
    identity: String,
    /// Of a log of changes: the group, and its time.
    changes: Option<(ChangesOf, TimeMode)>,
    /// The next offset of each partition; `None` before its first `seek`.
    next: Vec<Option<i64>>,
    news: Arc<Signal>,
}

impl EmbeddedReader {
    /// Opens a stream without a topic.
    pub fn open(store: Arc<Store>, stream: &Stream) -> Self {
        let news = store.watch_logs(&[stream.id]);
        Self {
            identity: format!("embedded:{}/{}", store.uuid(), stream.uuid),
            stream: stream.id,
            changes: stream.changes_of.clone().map(|of| (of, stream.time)),
            name: stream.name.to_string(),
            next: vec![None; stream.partitions as usize],
            news,
            store,
        }
    }

    fn missing(&self, partition: u32) -> Error {
        Error::Missing { log: self.name.clone(), detail: format!("it has no partition {partition}") }
    }
}

impl Reader for EmbeddedReader {
    fn partitions(&mut self) -> Result<u32, Error> {
        Ok(self.next.len() as u32)
    }

    fn seek(&mut self, partition: u32, offset: i64) -> Result<(), Error> {
        let missing = self.missing(partition);
        *self.next.get_mut(partition as usize).ok_or(missing)? = Some(offset);
        Ok(())
    }

    fn poll(&mut self, partition: u32, budget: Budget, into: &mut Records) -> Result<usize, Error> {
        let Some(Some(next)) = self.next.get_mut(partition as usize) else { return Ok(0) };
        let before = into.records.len();
        let count = self.store.read_log(self.stream, partition, *next, budget, into)?;
        if let Some(first) = into.records.get(before)
            && first.offset > *next
        {
            let (wanted, first) = (*next, first.offset);
            into.records.truncate(before);
            return Err(Error::Gone { log: self.name.clone(), partition, wanted, first });
        }
        if let Some(last) = into.records.last().filter(|_| count > 0) {
            *next = last.offset + 1;
        }
        Ok(count)
    }

    fn ends(&mut self) -> Result<Vec<PartitionEnd>, Error> {
        let mut ends = Vec::with_capacity(self.next.len());
        for (partition, next) in (0..).zip(&self.next) {
            let Some(next) = next else { continue };
            let end = self.store.log_end(self.stream, partition)?;
            ends.push(PartitionEnd { partition, end, reached: *next >= end, blocked: false });
        }
        Ok(ends)
    }

    fn range(&mut self, partition: u32) -> Result<(i64, i64), Error> {
        Ok(self.store.log_range(self.stream, partition)?)
    }

    fn identity(&mut self) -> Result<String, Error> {
        Ok(self.identity.clone())
    }

    fn complete_to(&mut self) -> Result<Option<Micros>, Error> {
        let Some((of, time)) = &self.changes else { return Ok(None) };
        Ok(self.store.complete_to(of.group, *time, of.backfills)?)
    }

    fn is_finished(&mut self) -> Result<bool, Error> {
        let Some((of, _)) = &self.changes else { return Ok(false) };
        Ok(self.store.is_finished(of.group)?)
    }

    fn wait(&mut self, timeout: Duration) {
        self.news.wait(timeout);
    }
}
