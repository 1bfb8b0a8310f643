//! What a pipeline computes and commits: harvest → watermarks → engine → one commit → what others see.
//!
//! Where a [`Writer`] is at hand, an epoch is written while the next one is computed. Each follows from what the
//! one before it computed, and none is handed over before the one before it is durable: where a write fails, what
//! was computed beyond it is forgotten with the engine. An epoch that writes the engine's state is waited
//! for, for the engine reads that state.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use millpond_engine::epoch::{Engine, Memory};
use millpond_engine::time::{Micros, Span};

use super::checkpoint::Checkpoints;
use super::gather::Gathered;
use super::halt::Stop;
use super::intake::{Ahead, Cost, Harvest, QUIET_STEP};
use super::journal::Committed;
use super::memory::Share;
use super::source::SourceStanding;
use super::status::{Board, SourceStatus, State};
use super::step::{self, Epoch, Losses, Stepped};
use super::watermarks::{self, SourceTime, Watermarks};
use super::writer::{Done, Job, Writer};
use crate::catalog::{GroupId, OnBadRecord, Stream, TimeMode};
use crate::store::Store;
use crate::store::commit::{Availability, EpochCommit, PartitionKey, Position};

/// Events further behind the clock than this on a live stream are probably a replay.
const OLD: Span = Span(24 * 3_600_000_000);

/// The journal is looked through for epochs that are old enough this often …
const FOLD_EVERY: Duration = Duration::from_secs(1);

/// … and so many times a thousand of them are folded at once: more than epochs can come in that time.
const FOLDS: usize = 4;

/// The engine of one pipeline with what it has committed.
pub struct Commits {
    /// The group.
    pub group: GroupId,
    /// Live or historical.
    pub time: TimeMode,
    /// Rows are inserted, so old event times are nothing odd.
    pub ingested: bool,
    /// Its streams, in the order of the query's sources, as they were when the pipeline was opened: what is
    /// looked at here (identity, watermark delay, what a bad record does) never changes while a stream
    /// exists. What does, a finish and a newer schema, is the intake's matter and no group's.
    pub streams: Vec<Arc<Stream>>,
    /// The engine, at the state that is computed.
    pub engine: Engine,
    /// What is computed: an epoch further than what is committed while that is being written.
    pub computed: Committed,
    /// What is committed.
    pub committed: Committed,
    /// Who writes an epoch while the next one is computed.
    pub writer: Option<Writer>,
    /// An epoch is being written.
    pub is_writing: bool,
    /// Another epoch waits to be computed: where none does, nothing is gained by having somebody else write.
    pub is_behind: bool,
    /// Where it is committed.
    pub store: Arc<Store>,
    /// A close goes through at most this many keys in one epoch.
    pub max_rows: usize,
    /// When the engine's state is written.
    pub checkpoints: Checkpoints,
    /// What that state takes of the memory.
    pub memory: Share,
    /// Watermarks that move without records are committed at least this far apart.
    pub min_age: Duration,
    /// Told what happens: metrics.
    pub observe: Observe,
    /// When the last epoch was committed.
    pub last_commit: Instant,
    /// How the sources stood after the last harvest.
    pub standing: Vec<SourceStanding>,
    /// Whether that was before the end of a backfill.
    pub backfilling: bool,
    /// What has been read since.
    pub ahead: Ahead,
    /// Told what an epoch takes: light traffic leaves time between two.
    pub cost: Cost,
    /// How long each epoch has a journal entry of its own.
    pub journal_age: Span,
    /// When the journal was last looked through for older ones.
    pub last_fold: Instant,
}

/// What a pipeline reports while it runs, for metrics.
pub enum Event<'a> {
    /// An epoch was committed.
    Committed(&'a EpochCommit, Losses, Timing),
    /// How the sources stand, and what the state takes of the memory.
    Shown(&'a [SourceStatus], Memory),
}

/// Called with each event.
pub type Observe = Box<dyn FnMut(Event<'_>) + Send>;

/// How long an epoch took.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// From its opening to its commit.
    pub total: Duration,
    /// The commit alone.
    pub commit: Duration,
}

impl Commits {
    /// True while a large close goes on: its next part must come before the next harvest.
    pub fn is_closing(&self) -> bool {
        self.computed.cursor.is_some()
    }

    /// Computes and commits what was gathered, if there is anything to commit. False: there was not.
    /// What the sources ran into comes back after what was gathered before it is committed.
    pub fn take(&mut self, harvest: Harvest, board: &Board) -> Result<bool, Stop> {
        let Harvest { started, gathered, backfilling, times, finishes, positions, standing, stop } = harvest;
        self.standing = standing;
        self.backfilling = backfilling;
        let quiet = times.iter().any(|time| time.quiet_for.is_some());
        let watermarks = self.watermarks(times, gathered.opened_at);
        // What is too much in memory goes where nothing else happens, too.
        let is_over = self.memory.is_over() && self.checkpoints.is_behind();
        let due = !gathered.is_empty() || finishes.is_some() || self.moves(&watermarks, quiet) || is_over;
        if due {
            let epoch = Epoch {
                watermarks,
                finishes,
                checkpoint: self.is_checkpoint(gathered.records as u64),
                modelled: self.modelled(backfilling),
                positions: self.moved(positions),
                ..self.epoch()
            };
            self.commit(gathered, epoch, started)?;
        }
        if due || stop.is_none() {
            self.show(board);
        }
        match stop {
            Some(stop) => Err(stop),
            None => Ok(due),
        }
    }

    /// Goes on with a large close: an epoch without records, under the clock of the one before.
    pub fn close_on(&mut self, board: &Board) -> Result<(), Stop> {
        let gathered = Gathered::new(self.computed.opened_at, self.streams.len());
        self.backfilling = self.time == TimeMode::Live && !self.computed.live;
        let epoch = Epoch { modelled: self.modelled(self.backfilling), ..self.epoch() };
        self.commit(gathered, epoch, Instant::now())?;
        self.show(board);
        Ok(())
    }

    /// Writes the state of what was committed since the last checkpoint: an epoch in which nothing else happens.
    pub fn checkpoint(&mut self) -> Result<(), Stop> {
        if !self.checkpoints.is_behind() {
            return Ok(());
        }
        let gathered = Gathered::new(self.computed.opened_at, self.streams.len());
        let backfilling = self.time == TimeMode::Live && !self.computed.live;
        let epoch = Epoch { modelled: self.modelled(backfilling), checkpoint: true, ..self.epoch() };
        self.commit(gathered, epoch, Instant::now())
    }

    /// An epoch in which nothing moves.
    fn epoch(&self) -> Epoch {
        Epoch {
            group: self.group,
            streams: self.streams.iter().map(|s| s.id).collect(),
            watermarks: self.computed.watermarks(),
            finishes: None,
            modelled: None,
            positions: Vec::new(),
            max_rows: self.max_rows,
            checkpoint: self.is_checkpoint(0),
            halting: self.streams.iter().map(|s| s.on_bad_record == OnBadRecord::Halt).collect(),
        }
    }

    /// Whether an epoch with this many records writes the state: it is time, or there is too much in memory.
    fn is_checkpoint(&self, records: u64) -> bool {
        self.checkpoints.is_due(records) || self.memory.is_over()
    }

    /// The delay that availability is modelled with, where it is.
    fn modelled(&self, backfilling: bool) -> Option<Span> {
        let delay = self.streams.iter().map(|s| s.watermark_delay).max().unwrap_or_default();
        (self.time == TimeMode::Historical || backfilling).then_some(delay)
    }

    fn watermarks(&self, mut times: Vec<SourceTime>, opened_at: Micros) -> Watermarks {
        for (time, previous) in times.iter_mut().zip(&self.computed.source_watermarks) {
            time.previous = *previous;
        }
        let live_bound = (self.time == TimeMode::Live).then_some(opened_at);
        watermarks::advance(self.computed.watermark, &times, live_bound)
    }

    /// True where the watermark moves without records, and long enough after the last commit.
    fn moves(&self, watermarks: &Watermarks, quiet: bool) -> bool {
        let apart = if quiet { QUIET_STEP } else { self.min_age };
        let is_due = watermarks.pipeline > self.computed.watermark || self.engine.is_due(&watermarks.sources);
        is_due && self.last_commit.elapsed() >= apart
    }

    /// The positions that are others than after the epoch before.
    fn moved(&self, positions: Vec<(PartitionKey, Position)>) -> Vec<(PartitionKey, Position)> {
        let moved = |(key, mut position): (PartitionKey, Position)| {
            let before = self.computed.positions.get(&key);
            position.last_record = position.last_record.or_else(|| before.and_then(|p| p.last_record));
            (before != Some(&position)).then_some((key, position))
        };
        positions.into_iter().filter_map(moved).collect()
    }

    /// Computes an epoch and writes it, or has it written: see above.
    fn commit(&mut self, gathered: Gathered, epoch: Epoch, started: Instant) -> Result<(), Stop> {
        let (records, checkpoint) = (gathered.records as u64, epoch.checkpoint);
        let taken = Instant::now();
        let stepped = step::step(&mut self.engine, &self.computed, gathered, epoch)?;
        // When a live epoch's rows are available is the store's to say; nothing that is computed asks.
        let available_at = match stepped.commit.availability {
            Availability::Live => stepped.commit.journal.opened_at,
            Availability::Modelled { clock, .. } => clock,
        };
        self.computed.advance(&stepped.commit, available_at);
        self.checkpoints.committed(checkpoint, records);
        let job = Job { stepped, started, taken };
        self.settle()?;
        match &self.writer {
            Some(writer) if self.is_behind && !checkpoint => {
                writer.send(job)?;
                self.is_writing = true;
            }
            _ => {
                let done = job.write(&self.store);
                self.written(done)?;
            }
        }
        self.memory.settle(&mut self.engine, checkpoint)?;
        if checkpoint && self.last_fold.elapsed() >= FOLD_EVERY {
            self.last_fold = Instant::now();
            self.fold()?;
        }
        Ok(())
    }

    /// Waits for the epoch that is being written, if there is one. True: there was.
    pub fn settle(&mut self) -> Result<bool, Stop> {
        let Some(writer) = self.writer.as_ref().filter(|_| self.is_writing) else { return Ok(false) };
        let done = writer.receive()?;
        self.is_writing = false;
        self.written(done).map(|()| true)
    }

    /// An epoch is durable.
    fn written(&mut self, done: Done) -> Result<(), Stop> {
        let Done { job: Job { stepped: Stepped { commit, losses }, started, taken }, result, took } = done;
        let available_at = result?.available_at;
        let timing = Timing { total: started.elapsed(), commit: took };
        self.last_commit = Instant::now();
        self.cost.store(taken.elapsed().as_micros() as u64, Ordering::Relaxed);
        for (ahead, counts) in self.ahead.iter().zip(&commit.journal.counts) {
            ahead.fetch_sub(counts.read, Ordering::Relaxed);
        }
        self.committed.advance(&commit, available_at);
        (self.observe)(Event::Committed(&commit, losses, timing));
        Ok(())
    }

    /// Folds what is old enough of the journal, a bounded part of it at a time.
    fn fold(&self) -> Result<(), Stop> {
        let before = Micros(self.computed.opened_at.0.saturating_sub(self.journal_age.0));
        for _ in 0..FOLDS {
            if !self.store.fold_journal(self.group, before)? {
                break;
            }
        }
        Ok(())
    }

    /// Publishes what is committed.
    pub fn show(&mut self, board: &Board) {
        let state = if self.backfilling { State::Backfilling } else { State::Running };
        let committed = &self.committed;
        let of = |(source, standing): (usize, &SourceStanding)| {
            let ahead = self.ahead.get(source).map_or(0, |ahead| ahead.load(Ordering::Relaxed));
            let position = |(partition, start): (u32, &i64)| {
                let key = PartitionKey { source: source as u16, partition };
                let offset = committed.positions.get(&key).map_or(*start, |p| p.offset);
                // What was applied is committed, and behind it there is nothing but markers.
                let clear = standing.clear.get(partition as usize).filter(|(next, _)| offset >= *next);
                clear.map_or(offset, |(_, clear_to)| offset.max(*clear_to))
            };
            SourceStatus {
                stream: standing.stream,
                positions: (0..).zip(&standing.starts).map(position).collect(),
                watermark: committed.source_watermarks.get(source).copied().unwrap_or(Micros::MIN),
                lag: standing.lag.max(ahead),
                blocked: standing.blocked.clone(),
            }
        };
        let sources: Vec<SourceStatus> = self.standing.iter().enumerate().map(of).collect();
        let live = self.time == TimeMode::Live && state == State::Running && !self.ingested;
        let old =
            live && committed.watermark > Micros::MIN && committed.watermark + OLD < committed.opened_at;
        let memory = self.memory.memory();
        (self.observe)(Event::Shown(&sources, memory));
        board.update(|status| {
            status.state = state;
            status.epoch = committed.epoch;
            status.watermark = committed.watermark;
            status.available_at = committed.available_at;
            status.closing = committed.cursor.is_some();
            status.warning = old.then(|| {
                "the events are more than a day older than the clock: a replay belongs in a stream with time=\"historical\"".to_owned()
            });
            status.sources = sources;
            status.memory = memory.bytes;
        });
    }
}
