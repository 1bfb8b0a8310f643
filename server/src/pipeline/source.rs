//! One source of a pipeline: reads its partitions in step, up to the boundary, one chunk at a time.

use std::sync::Arc;
use std::time::Duration;

use millpond_engine::time::Micros;
use millpond_engine::watermark::PartitionTime;

use super::buffers::Buffers;
use super::decode::{CHUNK, Decode};
use super::halt::{Halt, Stop};
use super::partition::{Boundary, Progress, reading_order};
use crate::catalog::{Stream, StreamId};
use crate::log::{Budget, Reader, Records, digest};
use crate::store::commit::Position;

/// A topic's partitions are counted again this often.
const RECOUNT: Duration = Duration::from_secs(30);

/// How one source stood after a harvest.
#[derive(Debug, Clone)]
pub struct SourceStanding {
    /// The stream.
    pub stream: StreamId,
    /// Records in the log that were not read.
    pub lag: u64,
    /// Partitions behind an open transaction.
    pub blocked: Vec<u32>,
    /// Where each partition begins that has no position yet.
    pub starts: Vec<i64>,
    /// For each partition the next offset to apply, and the offset before which there is no record from
    /// there on: behind the last record of a topic lie the markers of transactions.
    pub clear: Vec<(i64, i64)>,
}

/// One stream as a pipeline reads it.
pub struct Source {
    /// Position of the source in the query.
    pub index: u16,
    /// The stream, as it is now (a finish may be set while the pipeline runs).
    pub stream: Arc<Stream>,
    /// Its log.
    pub reader: Box<dyn Reader>,
    /// What turns its records into rows.
    pub decode: Decode,
    /// What tells its log from another one of the same name.
    pub identity: String,
    /// How far each partition has come.
    pub progress: Vec<Progress>,
    /// Where the group begins to read, by partition; 0 for partitions that came later.
    pub start: Vec<i64>,
    /// Of a stream of changes: up to here they are all read.
    pub complete: Option<Micros>,
    /// Memory for what is read.
    pub buffers: Buffers,
    cursors: Vec<Cursor>,
    /// Greatest event time or heartbeat of all partitions when the epoch was opened.
    seen: Option<Micros>,
    recount_at: std::time::Instant,
}

/// What was read of a partition and not applied yet, and what must be seen again first.
#[derive(Default)]
struct Cursor {
    /// Records read, beyond a boundary or waiting for a schema.
    pending: Records,
    /// The last record applied before this start: read again and compared.
    verify: Option<(i64, u64)>,
}

/// Records of one partition, in order, none of them applied.
pub struct Chunk {
    /// The partition.
    pub partition: u32,
    /// The records.
    pub records: Records,
}

impl Source {
    /// A source that begins where `positions` say (by partition), and at `start` where there is no
    /// position yet. Checks that the log is the one that was read before.
    pub fn open(
        index: u16,
        stream: Arc<Stream>,
        mut reader: Box<dyn Reader>,
        decode: Decode,
        positions: &[(u32, Position)],
        start: &[i64],
        now: Micros,
    ) -> Result<Self, Stop> {
        let identity = reader.identity()?;
        let mut source = Self {
            index,
            stream,
            reader,
            decode,
            identity,
            progress: Vec::new(),
            start: start.to_vec(),
            complete: None,
            buffers: Buffers::default(),
            cursors: Vec::new(),
            seen: None,
            recount_at: std::time::Instant::now() + RECOUNT,
        };
        let count = source.reader.partitions()?;
        if let Some((lost, _)) = positions.iter().find(|(partition, _)| *partition >= count) {
            return Err(source.replaced(format!("more than {lost} partitions"), format!("{count}")));
        }
        for partition in 0..count {
            let stored = positions.iter().find(|(p, _)| *p == partition).map(|(_, position)| position);
            source.begin(partition, stored, source.start_of(partition), now)?;
        }
        Ok(source)
    }

    /// Where a partition without a position begins.
    pub fn start_of(&self, partition: u32) -> i64 {
        self.start.get(partition as usize).copied().unwrap_or(0)
    }

    fn begin(
        &mut self,
        partition: u32,
        stored: Option<&Position>,
        start: i64,
        now: Micros,
    ) -> Result<(), Stop> {
        let Some(position) = stored else {
            self.reader.seek(partition, start)?;
            self.progress.push(Progress::new(start, None, now));
            self.cursors.push(Cursor::default());
            return Ok(());
        };
        if position.identity != self.identity {
            return Err(self.replaced(position.identity.clone(), self.identity.clone()));
        }
        let (first, end) = self.reader.range(partition)?;
        if position.offset < first {
            let log = self.stream.name.to_string();
            return Err(crate::log::Error::Gone { log, partition, wanted: position.offset, first }.into());
        }
        if position.offset > end {
            let was = format!("{} records or more in partition {partition}", position.offset);
            return Err(self.replaced(was, end.to_string()));
        }
        // Retention may have taken the last record; then there is nothing to compare.
        let verify = position.last_record.filter(|(offset, _)| *offset >= first);
        self.reader.seek(partition, verify.map_or(position.offset, |(offset, _)| offset))?;
        self.progress.push(Progress::new(position.offset, position.max_event_time, now));
        self.cursors.push(Cursor { pending: Records::default(), verify });
        Ok(())
    }

    /// The next chunk: of the partition with the least event time that has something before the
    /// boundary. `None`: nothing can be read now; `at_end` and `blocked` then say why.
    pub fn next(&mut self, boundary: Option<&Boundary>, budget: Budget) -> Result<Option<Chunk>, Stop> {
        // Asked before the last look: what came until then is seen by it.
        let complete = self.reader.complete_to()?;
        for partition in reading_order(&self.progress) {
            let limit = boundary.map(|b| b.of(partition as u32));
            if limit.is_some_and(|limit| self.progress.get(partition).is_some_and(|p| p.clear_to >= limit)) {
                continue;
            }
            if let Some(chunk) = self.read(partition as u32, limit, budget)? {
                return Ok(Some(chunk));
            }
        }
        self.look_at_ends()?;
        if self.progress.iter().all(|p| p.at_end) {
            self.complete = self.complete.max(complete);
        }
        Ok(None)
    }

    /// Whether all changes up to an instant are read; or all that there are, of a group whose own streams have
    /// come to their finish.
    pub fn has_all_up_to(&mut self, last: Option<Micros>) -> Result<bool, Stop> {
        if self.complete >= last {
            return Ok(true);
        }
        if !self.reader.is_finished()? {
            return Ok(false);
        }
        self.look_at_ends()?;
        Ok(self.progress.iter().all(|p| p.at_end))
    }

    /// Whether these are the rows of a group that the query looks up.
    pub fn is_changes(&self) -> bool {
        self.stream.changes_of.is_some()
    }

    fn read(&mut self, partition: u32, limit: Option<i64>, budget: Budget) -> Result<Option<Chunk>, Stop> {
        let Some(cursor) = self.cursors.get_mut(partition as usize) else { return Ok(None) };
        let mut records = std::mem::take(&mut cursor.pending);
        if records.records.is_empty() {
            let budget = Budget { records: budget.records.min(CHUNK), ..budget };
            records = self.buffers.take();
            self.reader.poll(partition, budget, &mut records)?;
            // Not delivered yet? Then it is still to come before anything else.
            if let Some(verify) = cursor.verify.take_if(|_| !records.records.is_empty()) {
                records = same(&self.stream, partition, verify, records)?;
            }
        }
        if let Some(limit) = limit {
            cursor.pending = records.split_off(limit);
            if let Some(progress) = self.progress.get_mut(partition as usize)
                && records.records.is_empty()
                && !cursor.pending.records.is_empty()
            {
                // Nothing but transaction markers is left before the boundary.
                progress.clear_to = limit;
            }
        }
        if records.records.is_empty() {
            self.buffers.give(std::iter::once(records));
            return Ok(None);
        }
        Ok(Some(Chunk { partition, records }))
    }

    /// Gives a chunk back, or the rest of it: the next `next` begins with it.
    pub fn put_back(&mut self, chunk: Chunk) {
        if let Some(cursor) = self.cursors.get_mut(chunk.partition as usize) {
            let mut records = chunk.records;
            // A boundary may have left something behind already: it comes after.
            for record in &cursor.pending.records {
                let (key, value) = (cursor.pending.key(record), cursor.pending.value(record));
                records.push(record.partition, record.offset, record.kind, key, value);
            }
            cursor.pending = records;
        }
    }

    /// An epoch begins: remembers how far event time has come.
    pub fn open_epoch(&mut self) {
        self.seen = self.progress.iter().filter_map(|p| p.max_event_time).max();
    }

    /// The greatest event time or heartbeat before what a partition gives next. Of the other partitions
    /// only what earlier epochs saw: how far they are read within this one is chance.
    pub fn seen(&self, partition: u32) -> Option<Micros> {
        self.seen.max(self.progress.get(partition as usize).and_then(|p| p.max_event_time))
    }

    /// A chunk was applied.
    pub fn applied(&mut self, partition: u32, next: i64, max_event_time: Option<Micros>, now: Micros) {
        if let Some(progress) = self.progress.get_mut(partition as usize) {
            progress.advance(next, max_event_time, now);
        }
    }

    /// Notes which partitions have nothing more to read.
    fn look_at_ends(&mut self) -> Result<(), Stop> {
        for end in self.reader.ends()? {
            let at = end.partition as usize;
            let waiting = self.cursors.get(at).is_some_and(|c| !c.pending.records.is_empty());
            if let Some(progress) = self.progress.get_mut(at) {
                progress.at_end = end.reached && !waiting;
                progress.blocked = end.blocked;
            }
        }
        Ok(())
    }

    /// Picks up partitions that were added to a topic: they begin at offset 0. Now and then.
    pub fn recount(&mut self, now: Micros) -> Result<(), Stop> {
        if self.stream.topic.is_none() || std::time::Instant::now() < self.recount_at {
            return Ok(());
        }
        self.recount_at = std::time::Instant::now() + RECOUNT;
        let count = self.reader.partitions()?;
        for partition in self.progress.len() as u32..count {
            self.begin(partition, None, 0, now)?;
        }
        Ok(())
    }

    /// What the watermark needs to know.
    pub fn times(&self, now: Micros) -> Vec<PartitionTime> {
        self.progress.iter().map(|p| p.time(now, self.stream.idle_timeout)).collect()
    }

    /// Since when all partitions have been quiet at their ends; `None`: some are not.
    pub fn quiet_since(&self) -> Option<Micros> {
        let quiet = self.progress.iter().all(|p| p.at_end && !p.blocked);
        if quiet { self.progress.iter().map(|p| p.quiet_since).max() } else { None }
    }

    /// How it stands, as far as the last look tells.
    pub fn standing(&mut self) -> SourceStanding {
        let (mut lag, mut blocked) = (0, Vec::new());
        let mut clear: Vec<(i64, i64)> = self.progress.iter().map(|p| (p.next, p.clear_to)).collect();
        for end in self.reader.ends().unwrap_or_default() {
            let all_applied = end.reached && !end.blocked && self.pending(end.partition) == 0;
            if let Some((next, clear_to)) = clear.get_mut(end.partition as usize) {
                if all_applied {
                    *clear_to = end.end.max(*clear_to);
                } else {
                    lag += (end.end - *next).max(0) as u64;
                }
            }
            blocked.extend(end.blocked.then_some(end.partition));
        }
        let starts = (0..self.progress.len() as u32).map(|partition| self.start_of(partition)).collect();
        SourceStanding { stream: self.stream.id, lag, blocked, starts, clear }
    }

    fn pending(&self, partition: u32) -> usize {
        self.cursors.get(partition as usize).map_or(0, |c| c.pending.records.len())
    }

    fn replaced(&self, was: String, is: String) -> Stop {
        crate::log::Error::Replaced { log: self.stream.name.to_string(), was, is }.into()
    }
}

/// Compares the first record read with the last one that was applied, and takes it off.
fn same(stream: &Stream, partition: u32, verify: (i64, u64), records: Records) -> Result<Records, Stop> {
    let (offset, hash) = verify;
    // Compaction may have taken it: then there is nothing to compare.
    let Some(first) = records.records.first().filter(|first| first.offset == offset) else {
        return Ok(records);
    };
    if digest::of_record(&records, first) != hash {
        let reason = format!(
            "record {offset} of partition {partition} of {} is not the one that was read before",
            stream.name
        );
        let mend = "the log was recreated or restored from elsewhere: bring the old one back and resume, or create the \
                    stream and a new version of the feature group anew";
        return Err(Halt::new(reason, mend).into());
    }
    let mut records = records;
    Ok(records.split_off(offset + 1))
}
