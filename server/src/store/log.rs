//! The embedded log: appends with one sync for all that wait, reads without an allocation per record.
//!
//! Offsets are given out under a short lock; then whoever comes first writes everything that is
//! waiting as one batch, and the others find their records written. So records become readable in the
//! order of their offsets, and never before they are on disk.

mod place;
mod record;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Weak};

use millpond_engine::time::Micros;
use parking_lot::{Mutex, RwLock};
use rocksdb::ReadOptions;

use super::db::{Batch, Db, Family, Scan};
use super::producers::{Judged, Producer, ProducerBatch, Producers};
use super::signal::Signal;
use super::{Error, Store, keys};
use crate::catalog::StreamId;
use crate::log::{Budget, Records};

pub(super) use self::place::Place;
pub use self::record::NewRecord;
use self::record::{appended, put_record, read_record, stamp};

/// Where an append ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// For each partition appended to, in the order given: the offset after the batch's last record.
    pub ends: Vec<(u32, i64)>,
    /// True: this batch had been appended before, and this is its first reply.
    pub duplicate: bool,
}

#[derive(Debug, Default)]
pub(super) struct Logs(Mutex<HashMap<StreamId, Arc<StreamLog>>>);

impl Logs {
    fn of(&self, stream: StreamId) -> Arc<StreamLog> {
        Arc::clone(self.0.lock().entry(stream).or_default())
    }
}

/// One stream's log.
#[derive(Debug, Default)]
struct StreamLog {
    queue: Mutex<Queue>,
    /// Held by the one who writes for all.
    writer: Mutex<()>,
    /// Everything up to this ticket is on disk.
    written: AtomicU64,
    /// What is on disk, by partition.
    ends: RwLock<BTreeMap<u32, End>>,
    waiting: Mutex<Vec<Weak<Signal>>>,
}

/// Where a partition ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    /// The offset after the last record.
    offset: i64,
    /// When that record was appended, as far as it is known.
    appended: Micros,
}

/// What has an offset and is not yet written.
#[derive(Debug, Default)]
struct Queue {
    /// Where each partition will end.
    next: BTreeMap<u32, End>,
    /// One ticket per append.
    ticket: u64,
    blocks: Vec<Block>,
    producers: Producers,
}

/// Encoded records that go to one partition.
#[derive(Debug)]
struct Block {
    partition: u32,
    first: i64,
    appended: Micros,
    bytes: Vec<u8>,
    /// Where each record ends in `bytes`.
    ends: Vec<usize>,
}

impl Block {
    fn encode(partition: u32, records: &[NewRecord<'_>]) -> Self {
        let size = records.iter().map(|r| 22 + r.key.map_or(0, <[u8]>::len) + r.value.len()).sum();
        let mut bytes = Vec::with_capacity(size);
        let ends = records
            .iter()
            .map(|record| {
                put_record(record, &mut bytes);
                bytes.len()
            })
            .collect();
        Self { partition, first: 0, appended: Micros::MIN, bytes, ends }
    }

    fn end(&self) -> End {
        End { offset: self.first + self.ends.len() as i64, appended: self.appended }
    }

    /// Puts the block after what `end` says, appended at `now` or, where that is before `end`, then.
    fn follow(&mut self, end: End, now: Micros) {
        self.first = end.offset;
        self.appended = if self.ends.is_empty() { end.appended } else { end.appended.max(now) };
    }

    /// Calls `each` with offset and bytes of every record.
    fn records(&mut self, mut each: impl FnMut(i64, &[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let mut start = 0;
        for (offset, end) in (self.first..).zip(&self.ends) {
            let record = self.bytes.get_mut(start..*end).unwrap_or_default();
            stamp(record, self.appended);
            each(offset, record)?;
            start = *end;
        }
        Ok(())
    }
}

impl StreamLog {
    /// Where a partition ends on disk.
    fn end(&self, db: &Db, stream: StreamId, partition: u32) -> Result<End, Error> {
        if let Some(end) = self.ends.read().get(&partition) {
            return Ok(*end);
        }
        let mut ends = self.ends.write();
        // Looked up under the lock: a writer may have come first.
        if let Some(end) = ends.get(&partition) {
            return Ok(*end);
        }
        let mut rows = db.rocks().raw_iterator_cf(db.family(Family::Log)?);
        rows.seek_for_prev(keys::log(stream, partition, i64::MAX));
        rows.status()?;
        let ours = keys::log(stream, partition, 0);
        let end = match rows.item().filter(|(key, _)| key.get(..8) == ours.get(..8)) {
            None => End { offset: 0, appended: Micros::MIN },
            Some((key, value)) => {
                let appended = appended(value)?.unwrap_or(Micros::MIN);
                End { offset: keys::log_offset(key)? + 1, appended }
            }
        };
        ends.insert(partition, end);
        Ok(end)
    }

    /// Returns when everything up to `ticket` is on disk.
    fn write_through(&self, db: &Db, stream: StreamId, ticket: u64) -> Result<(), Error> {
        if self.written.load(SeqCst) >= ticket {
            return Ok(());
        }
        let _writer = self.writer.lock();
        if self.written.load(SeqCst) >= ticket {
            return Ok(());
        }
        let (mut blocks, producers, ticket) = {
            let mut queue = self.queue.lock();
            (std::mem::take(&mut queue.blocks), queue.producers.take_changed(), queue.ticket)
        };
        let mut batch = Batch::new(db);
        for block in &mut blocks {
            let partition = block.partition;
            block.records(|offset, record| {
                batch.put(Family::Log, &keys::log(stream, partition, offset), record)
            })?;
        }
        for (id, producer) in &producers {
            batch.put(Family::Producers, &keys::producer(stream, id), &producer.encode())?;
        }
        db.write(batch)?;
        let mut ends = self.ends.write();
        for block in &blocks {
            ends.insert(block.partition, block.end());
        }
        drop(ends);
        self.written.store(ticket, SeqCst);
        self.notify();
        Ok(())
    }

    fn notify(&self) {
        self.waiting.lock().retain(|waiting| waiting.upgrade().inspect(|signal| signal.notify()).is_some());
    }
}

impl Store {
    /// Appends records to the partitions of a stream, all or nothing, and returns when they are on disk.
    ///
    /// # Errors
    /// [`Error::Sequence`]: the producer's batch is neither the next one nor the last one again (a
    /// producer that is not known, or was not heard for seven days, may begin anywhere).
    pub fn append(
        &self,
        stream: StreamId,
        parts: &[(u32, Vec<NewRecord<'_>>)],
        producer: Option<ProducerBatch<'_>>,
    ) -> Result<Appended, Error> {
        let log = self.logs.of(stream);
        let mut blocks: Vec<Block> = parts.iter().map(|(p, records)| Block::encode(*p, records)).collect();
        for block in &blocks {
            log.end(&self.db, stream, block.partition)?;
        }
        let mut queue = log.queue.lock();
        let now = self.clock.wall();
        if let Some(batch) = &producer {
            match queue.producers.judge(&self.db, stream, batch, now)? {
                Judged::New => {}
                Judged::Again { ends, ticket } => {
                    drop(queue);
                    log.write_through(&self.db, stream, ticket)?;
                    return Ok(Appended { ends, duplicate: true });
                }
            }
        }
        queue.ticket += 1;
        let ticket = queue.ticket;
        for block in &mut blocks {
            let on_disk = log.end(&self.db, stream, block.partition)?;
            let next = queue.next.entry(block.partition).or_insert(on_disk);
            block.follow(*next, now);
            *next = block.end();
        }
        let ends: Vec<(u32, i64)> = blocks.iter().map(|b| (b.partition, b.end().offset)).collect();
        if let Some(batch) = producer {
            let producer = Producer {
                sequence: batch.sequence,
                digest: batch.digest,
                at: now,
                ends: ends.clone(),
                ticket,
            };
            queue.producers.put(batch.id, producer, log.written.load(SeqCst));
        }
        queue.blocks.extend(blocks);
        drop(queue);
        log.write_through(&self.db, stream, ticket)?;
        Ok(Appended { ends, duplicate: false })
    }

    /// Reads records of one partition from an offset on, appending to `into`; returns their number.
    /// Does not wait: see [`Self::watch_logs`]. Stops before a record that would go over the budget's
    /// bytes, but always reads one if there is one.
    pub fn read_log(
        &self,
        stream: StreamId,
        partition: u32,
        from: i64,
        budget: Budget,
        into: &mut Records,
    ) -> Result<usize, Error> {
        let end = self.log_end(stream, partition)?;
        if from >= end || budget.records == 0 {
            return Ok(0);
        }
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(keys::log(stream, partition, end).to_vec());
        // A backfill reads everything once: it must not push the online rows out of the cache.
        options.fill_cache(false);
        let rows = self.db.rocks().raw_iterator_cf_opt(self.db.family(Family::Log)?, options);
        let mut scan = Scan::new(rows, &keys::log(stream, partition, from));
        let (mut count, mut size) = (0, 0_usize);
        while count < budget.records {
            let Some((key, value)) = scan.advance()? else { break };
            size = size.saturating_add(value.len());
            if count > 0 && size > budget.bytes {
                break;
            }
            read_record(partition, keys::log_offset(key)?, value, into)?;
            count += 1;
        }
        Ok(count)
    }

    /// First offset and offset after the last of what can be read.
    pub fn log_range(&self, stream: StreamId, partition: u32) -> Result<(i64, i64), Error> {
        let end = self.log_end(stream, partition)?;
        let mut prefix = keys::log(stream, partition, 0).to_vec();
        prefix.truncate(8);
        let mut scan = self.db.scan(Family::Log, &prefix, None)?;
        let first = scan.advance()?.map(|(key, _)| keys::log_offset(key)).transpose()?;
        Ok((first.unwrap_or(end).min(end), end))
    }

    /// The offset after the last record that can be read.
    pub fn log_end(&self, stream: StreamId, partition: u32) -> Result<i64, Error> {
        Ok(self.logs.of(stream).end(&self.db, stream, partition)?.offset)
    }

    /// The offset of the first record that was appended at or after an instant; the end of the
    /// partition where there is none. Records of which it is not known are taken to have been appended
    /// when the first was of which it is: they are all there from `at` on, or none is.
    pub fn log_offset_at(&self, stream: StreamId, partition: u32, at: Micros) -> Result<i64, Error> {
        let (first, end) = self.log_range(stream, partition)?;
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(keys::log(stream, partition, end).to_vec());
        let mut rows = self.db.rocks().raw_iterator_cf_opt(self.db.family(Family::Log)?, options);
        // Appends are in the order of their times, so halves will do: what is below `low` came before
        // `at` or does not say when, what is from `high` on came at or after it.
        let (mut low, mut high, mut before) = (first, end, None);
        while low < high {
            let middle = low + (high - low) / 2;
            rows.seek(keys::log(stream, partition, middle));
            rows.status()?;
            let Some((key, value)) = rows.item() else {
                high = middle;
                continue;
            };
            let (offset, appended) = (keys::log_offset(key)?, appended(value)?);
            if appended.is_some_and(|appended| appended >= at) {
                high = middle;
            } else {
                (low, before) = (offset + 1, appended);
            }
        }
        // Nothing below says that it came before: nothing that does not say it may be left out.
        Ok(if before.is_none() { first } else { low })
    }

    /// A signal that is set whenever one of the streams gets records. Look at the log after taking it
    /// and before waiting: news from before is not in it.
    pub fn watch_logs(&self, streams: &[StreamId]) -> Arc<Signal> {
        let signal = Arc::new(Signal::default());
        for stream in streams {
            self.logs.of(*stream).waiting.lock().push(Arc::downgrade(&signal));
        }
        signal
    }

    /// Removes a stream's records, producers and dead letters, and wakes those who wait for it.
    pub fn drop_log(&self, stream: StreamId) -> Result<(), Error> {
        let log = self.logs.of(stream);
        let _writer = log.writer.lock();
        let mut queue = log.queue.lock();
        let mut batch = Batch::new(&self.db);
        for family in [Family::Log, Family::Producers, Family::Quarantine] {
            batch.delete_prefix(family, &keys::number(stream.0))?;
        }
        self.db.write(batch)?;
        let ticket = queue.ticket;
        *queue = Queue { ticket, ..Queue::default() };
        log.ends.write().clear();
        log.written.store(ticket, SeqCst);
        drop(queue);
        log.notify();
        self.logs.0.lock().remove(&stream);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
