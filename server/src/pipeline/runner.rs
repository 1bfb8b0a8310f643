//! The loop of one pipeline: read → decode → engine → commit, epoch after epoch, on its own thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millpond_engine::epoch::Engine;
use millpond_engine::time::{Micros, Span};

use super::control::{Backoff, Control};
use super::cut::{self, Limits, Standing};
use super::decode::{Decoded, Failure};
use super::gather::Gathered;
use super::halt::{Halt, Stop};
use super::journal::Committed;
use super::partition::Boundary;
use super::schemas::Lookup;
use super::source::{Chunk, Source};
use super::status::{Board, SourceStatus, State};
use super::step::{self, Epoch, bad_record};
use super::watermarks::{self, SourceTime, Watermarks};
use crate::catalog::{GroupId, OnBadRecord, TimeMode};
use crate::log::Budget;
use crate::store::Store;
use crate::store::commit::{EpochCommit, PartitionKey, Position};

/// A pipeline that has nothing to do looks up this often: to stop, to see the clock.
const LOOK_UP: Duration = Duration::from_millis(100);
/// A wholly quiet stream's watermark goes on with the clock in steps of this length.
const QUIET_STEP: Duration = Duration::from_secs(1);
/// Events further behind the clock than this on a live stream are probably a replay.
const OLD: Span = Span(24 * 3_600_000_000);

/// What a pipeline does not know by itself: time, and what the schema registry knows.
pub struct Surroundings {
    /// The wall clock.
    pub clock: Box<dyn Fn() -> Micros + Send>,
    /// The schema registry.
    pub lookup: Box<dyn FnMut(u32) -> Lookup + Send>,
}

/// One pipeline, open.
pub struct Pipeline {
    /// The group.
    pub group: GroupId,
    /// Live or historical.
    pub time: TimeMode,
    /// Rows are inserted, so old event times are nothing odd.
    pub ingested: bool,
    /// Its sources, in the order of the query.
    pub sources: Vec<Source>,
    /// Per source: where the backfill of a live group ends.
    pub backfill_ends: Vec<Boundary>,
    /// The engine, at the state that is committed.
    pub engine: Engine,
    /// What is committed.
    pub committed: Committed,
    /// Where it is committed.
    pub store: Arc<Store>,
    /// How large epochs become.
    pub limits: Limits,
    /// A close goes through at most this many keys in one epoch.
    pub max_rows: usize,
    /// Everything outside.
    pub surroundings: Surroundings,
    /// Told what happens: metrics.
    pub observe: Observe,
    /// Source watermarks when the pipeline was opened.
    pub restored: Vec<Micros>,
    /// When the last epoch was committed.
    pub last_commit: Instant,
}

/// What a pipeline reports while it runs, for metrics.
pub enum Event<'a> {
    /// An epoch was committed.
    Committed(&'a EpochCommit, Timing),
    /// How the sources stand.
    Shown(&'a [SourceStatus]),
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

/// How gathering ended.
struct Harvest {
    gathered: Gathered,
    /// What the sources ran into; what was gathered before it is good.
    stop: Option<Stop>,
}

impl Pipeline {
    /// Runs until it is told to stop (`Ok`) or a person must act. Waits out what only needs time.
    pub fn run(&mut self, control: &Control, board: &Board) -> Result<(), Halt> {
        let mut pause = Backoff::default();
        self.show(board);
        while !control.is_stopped() {
            self.take_changes(control);
            match self.turn(control, board) {
                Ok(true) => pause = Backoff::default(),
                Ok(false) => {
                    pause = Backoff::default();
                    self.wait(LOOK_UP);
                }
                Err(Stop::Halt(halt)) => return Err(halt),
                Err(Stop::Wait(reason)) => {
                    board.state(State::Waiting { reason });
                    control.sleep(pause.next());
                }
            }
        }
        Ok(())
    }

    /// One turn: gathers an epoch and commits it, if there is anything to commit. False: there was not.
    pub fn turn(&mut self, control: &Control, board: &Board) -> Result<bool, Stop> {
        let started = Instant::now();
        let closing = self.committed.cursor.is_some();
        let backfilling = self.is_backfilling();
        let boundaries = self.boundaries(backfilling);
        let Harvest { gathered, stop } = if closing {
            Harvest { gathered: self.open_epoch(), stop: None }
        } else {
            self.gather(&boundaries, control)
        };
        let watermarks =
            if closing { self.committed.watermarks() } else { self.watermarks(gathered.opened_at) };
        let finishes = if closing || stop.is_some() { None } else { self.finishes() };
        let due = closing || !gathered.is_empty() || finishes.is_some() || self.moves(&watermarks);
        if due {
            let commit = self.compute(gathered, watermarks, finishes, backfilling)?;
            self.commit(commit, started)?;
        }
        if due || stop.is_none() {
            self.show(board);
            self.tell_the_logs();
        }
        match stop {
            Some(stop) => Err(stop),
            None => Ok(due),
        }
    }

    fn open_epoch(&self) -> Gathered {
        let now = (self.surroundings.clock)().max(self.committed.opened_at);
        Gathered::new(now, self.sources.len())
    }

    /// Reads and decodes until the epoch is to be cut.
    fn gather(&mut self, boundaries: &[Option<Boundary>], control: &Control) -> Harvest {
        let mut gathered = self.open_epoch();
        let mut first = None;
        for source in &mut self.sources {
            source.open_epoch();
            source.decode.forget_unknown();
            if let Err(stop) = source.recount(gathered.opened_at) {
                return Harvest { gathered, stop: Some(stop) };
            }
        }
        loop {
            let read = match self.read_one(&mut gathered, boundaries) {
                Ok(read) => read,
                Err(stop) => return Harvest { gathered, stop: Some(stop) },
            };
            if gathered.is_empty() {
                if !read {
                    return Harvest { gathered, stop: None };
                }
                continue;
            }
            let standing = Standing {
                records: gathered.records,
                bytes: gathered.bytes,
                age: first.get_or_insert_with(Instant::now).elapsed(),
                since_commit: self.last_commit.elapsed(),
                drained: !read,
                must: control.is_stopped() || !read && self.passes(boundaries),
            };
            match cut::wait(&self.limits, &standing) {
                None => return Harvest { gathered, stop: None },
                Some(Duration::ZERO) => {}
                Some(wait) => self.wait(wait),
            }
        }
    }

    /// Applies one chunk: of the source whose watermark holds the others back. False: there is none.
    fn read_one(&mut self, gathered: &mut Gathered, boundaries: &[Option<Boundary>]) -> Result<bool, Stop> {
        let mut order: Vec<usize> = (0..self.sources.len()).collect();
        order.sort_by_key(|i| {
            let source = self.sources.get(*i);
            source.and_then(|s| {
                s.progress
                    .iter()
                    .map(|p| p.max_event_time)
                    .min()
                    .flatten()
                    .map(|t| t - s.stream.watermark_delay)
            })
        });
        let budget = Budget {
            records: self.limits.records.saturating_sub(gathered.records).max(1),
            bytes: self.limits.bytes.saturating_sub(gathered.bytes).max(1),
            wait: Duration::ZERO,
        };
        for at in order {
            let Some(source) = self.sources.get_mut(at) else { continue };
            let boundary = boundaries.get(at).and_then(Option::as_ref);
            if let Some(chunk) = source.next(boundary, budget)? {
                apply(source, chunk, gathered, &mut self.surroundings.lookup)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Where reading stops for a moment: the ends of the backfill, then the offsets of a finish.
    fn boundaries(&self, backfilling: bool) -> Vec<Option<Boundary>> {
        if backfilling {
            return self.backfill_ends.iter().cloned().map(Some).collect();
        }
        let of = |source: &Source| self.pending_finish(source).map(Boundary);
        self.sources.iter().map(of).collect()
    }

    /// A live group, before every partition has passed the end that it had when the group was created.
    fn is_backfilling(&self) -> bool {
        let passed = |(source, end): (&Source, &Boundary)| end.is_passed(&source.progress);
        let live = self.time == TimeMode::Live && !self.committed.live;
        live && !self.sources.iter().zip(&self.backfill_ends).all(passed)
    }

    fn passes(&self, boundaries: &[Option<Boundary>]) -> bool {
        let passed = |(source, boundary): (&Source, &Option<Boundary>)| {
            boundary.as_ref().is_none_or(|b| b.is_passed(&source.progress))
        };
        boundaries.iter().any(Option::is_some) && self.sources.iter().zip(boundaries).all(passed)
    }

    /// Finish offsets that have not been acted on yet.
    fn pending_finish(&self, source: &Source) -> Option<Vec<i64>> {
        let done = self.committed.finishes.get(usize::from(source.index)).and_then(Option::as_ref);
        source.stream.finish.clone().filter(|finish| Some(finish) != done)
    }

    /// What the journal is to remember, if all sources have come past their finish offsets and not
    /// all of these have been acted on.
    fn finishes(&self) -> Option<Vec<Option<Vec<i64>>>> {
        if self.is_backfilling() || !self.sources.iter().any(|s| self.pending_finish(s).is_some()) {
            return None;
        }
        let past =
            |s: &Source| s.stream.finish.as_ref().is_some_and(|f| Boundary(f.clone()).is_passed(&s.progress));
        self.sources.iter().all(past).then(|| self.sources.iter().map(|s| s.stream.finish.clone()).collect())
    }

    fn watermarks(&self, opened_at: Micros) -> Watermarks {
        let of = |source: &Source| {
            let at = usize::from(source.index);
            let advances = source.stream.idle_advance && source.stream.time == TimeMode::Live;
            let settle = source.stream.idle_timeout.unwrap_or(Span(QUIET_STEP.as_micros() as i64));
            let quiet =
                source.quiet_since().filter(|_| advances).map(|since| opened_at.0 - (since + settle).0);
            SourceTime {
                partitions: source.times(opened_at),
                delay: source.stream.watermark_delay,
                previous: self.committed.source_watermarks.get(at).copied().unwrap_or(Micros::MIN),
                restored: self.restored.get(at).copied().unwrap_or(Micros::MIN),
                quiet_for: quiet.filter(|q| *q > 0).map(Span),
            }
        };
        let sources: Vec<SourceTime> = self.sources.iter().map(of).collect();
        let live_bound = (self.time == TimeMode::Live).then_some(opened_at);
        watermarks::advance(self.committed.watermark, &sources, live_bound)
    }

    /// True where the watermark moves without records, and long enough after the last commit.
    fn moves(&self, watermarks: &Watermarks) -> bool {
        let quiet = self.sources.iter().any(|s| s.stream.idle_advance && s.quiet_since().is_some());
        let apart = if quiet { QUIET_STEP } else { self.limits.min_age };
        watermarks.pipeline > self.committed.watermark && self.last_commit.elapsed() >= apart
    }

    fn compute(
        &mut self,
        gathered: Gathered,
        watermarks: Watermarks,
        finishes: Option<Vec<Option<Vec<i64>>>>,
        backfilling: bool,
    ) -> Result<EpochCommit, Stop> {
        let delay = self.sources.iter().map(|s| s.stream.watermark_delay).max().unwrap_or_default();
        let modelled = self.time == TimeMode::Historical || backfilling;
        let epoch = Epoch {
            group: self.group,
            streams: self.sources.iter().map(|s| s.stream.id).collect(),
            watermarks,
            finishes,
            modelled: modelled.then_some(delay),
            positions: self.positions(&gathered),
            max_rows: self.max_rows,
            halting: self.sources.iter().map(|s| s.stream.on_bad_record == OnBadRecord::Halt).collect(),
        };
        step::step(&mut self.engine, &self.committed, gathered, epoch)
    }

    /// Where the partitions stand after the epoch, of those that moved.
    fn positions(&self, gathered: &Gathered) -> Vec<(PartitionKey, Position)> {
        let mut positions = Vec::new();
        for source in &self.sources {
            for (partition, progress) in (0..).zip(&source.progress) {
                let key = PartitionKey { source: source.index, partition };
                let before = self.committed.positions.get(&key);
                let last = gathered.last_record(key).or_else(|| before.and_then(|p| p.last_record));
                let position = Position {
                    offset: progress.next,
                    max_event_time: progress.max_event_time,
                    identity: source.identity.clone(),
                    last_record: last,
                };
                if before != Some(&position) {
                    positions.push((key, position));
                }
            }
        }
        positions
    }

    fn commit(&mut self, commit: EpochCommit, started: Instant) -> Result<(), Stop> {
        let begun = Instant::now();
        let done = self.store.commit(&commit)?;
        let timing = Timing { total: started.elapsed(), commit: begun.elapsed() };
        self.last_commit = Instant::now();
        self.committed.advance(&commit, done.available_at);
        (self.observe)(Event::Committed(&commit, timing));
        Ok(())
    }

    /// Shows others how far the group has come: what was read and is not committed is not in it.
    fn tell_the_logs(&mut self) {
        for source in &mut self.sources {
            let mine = self.committed.positions.iter().filter(|(key, _)| key.source == source.index);
            let positions: Vec<(u32, i64)> =
                mine.map(|(key, position)| (key.partition, position.offset)).collect();
            source.reader.committed(&positions);
        }
    }

    fn take_changes(&mut self, control: &Control) {
        for changed in control.take_changes() {
            for source in self.sources.iter_mut().filter(|s| s.stream.id == changed.id) {
                source.stream = Arc::clone(&changed);
            }
        }
    }

    /// Sleeps until a log has news, or the time is over.
    fn wait(&mut self, timeout: Duration) {
        // Several sources take turns: none of them sleeps while another has news for long.
        let share = timeout / self.sources.len().max(1) as u32;
        for source in &mut self.sources {
            source.reader.wait(share);
        }
    }

    /// Publishes what is committed.
    fn show(&mut self, board: &Board) {
        let state = if self.is_backfilling() { State::Backfilling } else { State::Running };
        let committed = &self.committed;
        let of = |source: &mut Source| {
            let (lag, blocked) = source.lag();
            let position = |partition| {
                let key = PartitionKey { source: source.index, partition };
                committed.positions.get(&key).map_or_else(|| source.start_of(partition), |p| p.offset)
            };
            SourceStatus {
                stream: source.stream.id,
                positions: (0..source.progress.len() as u32).map(position).collect(),
                watermark: committed
                    .source_watermarks
                    .get(usize::from(source.index))
                    .copied()
                    .unwrap_or(Micros::MIN),
                lag,
                blocked,
            }
        };
        let sources: Vec<SourceStatus> = self.sources.iter_mut().map(of).collect();
        let live = self.time == TimeMode::Live && state == State::Running && !self.ingested;
        let old =
            live && committed.watermark > Micros::MIN && committed.watermark + OLD < committed.opened_at;
        (self.observe)(Event::Shown(&sources));
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
        });
    }
}

/// Decodes a chunk and adds it to the epoch. What cannot be taken now goes back to the source.
fn apply(
    source: &mut Source,
    chunk: Chunk,
    gathered: &mut Gathered,
    lookup: &mut (dyn FnMut(u32) -> Lookup + Send),
) -> Result<(), Stop> {
    let partition = PartitionKey { source: source.index, partition: chunk.partition };
    let Chunk { partition: number, mut records } = chunk;
    let mut lookup = |id| lookup(id);
    let (opened_at, seen) = (gathered.opened_at, source.seen(number));
    let mut halt = None;
    let mut decoded = match source.decode.chunk(partition, &records, opened_at, seen, &mut lookup) {
        Ok(decoded) => decoded,
        Err(failure) => return Err(not_taken(source, Chunk { partition: number, records }, failure)),
    };
    if source.stream.on_bad_record == OnBadRecord::Halt
        && let Some(bad) = decoded.quarantine.first()
    {
        // What comes before it is good: it is committed, and the pipeline stands right before it.
        halt = Some(bad_record(number, bad.offset, &bad.detail));
        let rest = records.split_off(bad.offset);
        source.put_back(Chunk { partition: number, records: rest });
        decoded = match source.decode.chunk(partition, &records, opened_at, seen, &mut lookup) {
            Ok(decoded) => decoded,
            Err(failure) => return Err(not_taken(source, Chunk { partition: number, records }, failure)),
        };
    }
    take(source, number, partition, records, decoded, gathered);
    halt.map_or(Ok(()), |halt| Err(halt.into()))
}

fn take(
    source: &mut Source,
    number: u32,
    partition: PartitionKey,
    records: crate::log::Records,
    decoded: Decoded,
    gathered: &mut Gathered,
) {
    let Some(next) = records.records.last().map(|r| r.offset + 1) else { return };
    let from = source.progress.get(number as usize).map_or(0, |p| p.next);
    source.applied(number, next, decoded.max_event_time, gathered.opened_at);
    gathered.add(partition, from, records, decoded);
}

fn not_taken(source: &mut Source, chunk: Chunk, failure: Failure) -> Stop {
    source.put_back(chunk);
    match failure {
        Failure::NotYet(reason) => Stop::Wait(reason),
        Failure::Defect(error) => {
            Halt::new(error.to_string(), "this is a defect: report it with the stream's schema").into()
        }
    }
}
