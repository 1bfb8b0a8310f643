//! What a pipeline reads: epochs gathered from its sources, one after the other.
//!
//! The intake knows nothing of what is committed: it goes on from what it has handed out, so that the
//! next epoch can be read and decoded while the one before is computed and committed ([`super::runner`]).
//! Where that one fails, the pipeline is opened anew from the store, and with it the intake.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use millpond_engine::time::{Micros, Span};

use super::buffers::Buffers;
use super::chunk::apply;
use super::control::Control;
use super::cut::{self, Limits, Standing};
use super::gather::Gathered;
use super::halt::Stop;
use super::journal::Committed;
use super::partition::Boundary;
use super::schemas::Lookup;
use super::source::{Source, SourceStanding};
use super::watermarks::SourceTime;
use crate::catalog::TimeMode;
use crate::log::Budget;
use crate::store::commit::{PartitionKey, Position};

/// A wholly quiet stream's watermark goes on with the clock in steps of this length.
pub const QUIET_STEP: Duration = Duration::from_secs(1);

/// What a pipeline does not know by itself: time, and what the schema registry knows.
pub struct Surroundings {
    /// The wall clock.
    pub clock: Box<dyn Fn() -> Micros + Send>,
    /// The schema registry.
    pub lookup: Box<dyn FnMut(u32) -> Lookup + Send>,
}

/// The sources of one pipeline, and how far it has been handed out what they hold.
pub struct Intake {
    sources: Vec<Source>,
    time: TimeMode,
    /// Per source: where the backfill of a live group ends.
    backfill_ends: Vec<Boundary>,
    /// The backfill of a live group is over for good.
    live: bool,
    /// Finish offsets that were handed out, per source.
    finishes: Vec<Option<Vec<i64>>>,
    /// `opened_at` of the last epoch: the next one's is not before it.
    opened_at: Micros,
    /// Source watermarks when the pipeline was opened.
    restored: Vec<Micros>,
    limits: Limits,
    surroundings: Surroundings,
    /// When the last epoch that held records was handed out.
    cut_at: Instant,
    buffers: Buffers,
    ahead: Ahead,
    waiting: Waiting,
    cost: Cost,
}

/// Per source: records that are read and not committed, beyond those of the epoch that is being committed.
pub type Ahead = Arc<[AtomicU64]>;

/// Epochs that were handed out and are not being computed yet.
pub type Waiting = Arc<AtomicUsize>;

/// What the last epoch took to be computed and committed, in microseconds.
pub type Cost = Arc<AtomicU64>;

/// One epoch as it was read, and how the sources stood right after it.
pub struct Harvest {
    /// When its gathering began.
    pub started: Instant,
    /// The records.
    pub gathered: Gathered,
    /// Availability is that of a backfill.
    pub backfilling: bool,
    /// What the sources say about time; [`SourceTime::previous`] is not theirs to know.
    pub times: Vec<SourceTime>,
    /// The sources have been read past these finish offsets, for the first time.
    pub finishes: Option<Vec<Option<Vec<i64>>>>,
    /// Where every partition stands.
    pub positions: Vec<(PartitionKey, Position)>,
    /// How the sources stand, for those who look.
    pub standing: Vec<SourceStanding>,
    /// What the sources ran into; what was gathered before it is good.
    pub stop: Option<Stop>,
}

impl Intake {
    /// An intake that goes on from what is committed.
    pub fn new(
        mut sources: Vec<Source>,
        time: TimeMode,
        backfill_ends: Vec<Boundary>,
        committed: &Committed,
        limits: Limits,
        surroundings: Surroundings,
    ) -> Self {
        let buffers = Buffers::default();
        for source in &mut sources {
            source.buffers = buffers.clone();
        }
        Self {
            ahead: sources.iter().map(|_| AtomicU64::new(0)).collect(),
            buffers,
            sources,
            time,
            backfill_ends,
            live: committed.live,
            finishes: committed.finishes.clone(),
            opened_at: committed.opened_at,
            restored: committed.source_watermarks.clone(),
            limits,
            surroundings,
            cut_at: Instant::now(),
            waiting: Waiting::default(),
            cost: Cost::default(),
        }
    }

    /// Where those who hand epochs on, and those who take them, say how many wait between them.
    pub fn waiting(&self) -> Waiting {
        Arc::clone(&self.waiting)
    }

    /// Where those who commit say what it cost.
    pub fn cost(&self) -> Cost {
        Arc::clone(&self.cost)
    }

    /// What is read ahead, for others to see.
    pub fn ahead(&self) -> Ahead {
        Arc::clone(&self.ahead)
    }

    /// Reads and decodes until the epoch is to be cut. It may be empty.
    pub fn gather(&mut self, control: &Control) -> Harvest {
        let started = Instant::now();
        self.take_changes(control);
        self.opened_at = (self.surroundings.clock)().max(self.opened_at);
        let backfilling = self.is_backfilling();
        let boundaries = self.boundaries(backfilling);
        let mut gathered = Gathered::with_buffers(self.opened_at, self.sources.len(), self.buffers.clone());
        let stop = self.fill(&mut gathered, &boundaries, control).err();
        if !gathered.is_empty() {
            self.cut_at = Instant::now();
        }
        let finishes = if stop.is_some() { None } else { self.take_finishes() };
        let positions = self.positions(&gathered);
        Harvest {
            started,
            backfilling,
            times: self.times(finishes.is_some()),
            finishes,
            positions,
            standing: self.standing(),
            gathered,
            stop,
        }
    }

    /// How the sources stand now.
    pub fn standing(&mut self) -> Vec<SourceStanding> {
        self.sources.iter_mut().map(Source::standing).collect()
    }

    /// Shows others how far the group has come: what was read and is not committed is not in it.
    pub fn tell_the_logs(&mut self, committed: &Committed) {
        for source in &mut self.sources {
            let mine = committed.positions.iter().filter(|(key, _)| key.source == source.index);
            let positions: Vec<(u32, i64)> =
                mine.map(|(key, position)| (key.partition, position.offset)).collect();
            source.reader.committed(&positions);
        }
    }

    /// Sleeps until a log has news, or the time is over.
    pub fn wait(&mut self, timeout: Duration) {
        // Several sources take turns: none of them sleeps while another has news for long.
        let share = timeout / self.sources.len().max(1) as u32;
        for source in &mut self.sources {
            source.reader.wait(share);
        }
    }

    fn fill(
        &mut self,
        gathered: &mut Gathered,
        boundaries: &[Option<Boundary>],
        control: &Control,
    ) -> Result<(), Stop> {
        let mut first = None;
        for source in &mut self.sources {
            source.open_epoch();
            source.decode.forget_unknown();
            source.recount(gathered.opened_at)?;
        }
        loop {
            let before: Vec<u64> = gathered.counts.iter().map(|counts| counts.read).collect();
            let read = self.read_one(gathered, boundaries)?;
            for ((ahead, counts), before) in self.ahead.iter().zip(&gathered.counts).zip(before) {
                ahead.fetch_add(counts.read - before, Ordering::Relaxed);
            }
            if gathered.is_empty() {
                if !read {
                    return Ok(());
                }
                continue;
            }
            let standing = Standing {
                records: gathered.records,
                bytes: gathered.bytes,
                age: first.get_or_insert_with(Instant::now).elapsed(),
                since_cut: self.cut_at.elapsed(),
                cost: Duration::from_micros(self.cost.load(Ordering::Relaxed)),
                drained: !read,
                behind: self.waiting.load(Ordering::Relaxed) > 0,
                must: control.is_stopped() || !read && self.passes(boundaries),
            };
            match cut::wait(&self.limits, &standing) {
                None => return Ok(()),
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
            let least = source.and_then(|s| {
                let least = s.progress.iter().map(|p| p.max_event_time).min().flatten();
                least.map(|t| t - s.stream.watermark_delay)
            });
            // Records need not wait for what they look up if that is read before them.
            (!source.is_some_and(Source::is_changes), least)
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
            let ends = self.backfill_ends.iter().zip(&self.sources);
            return ends.map(|(end, source)| (!source.is_changes()).then(|| end.clone())).collect();
        }
        let of = |source: &Source| self.pending_finish(source).map(Boundary);
        self.sources.iter().map(of).collect()
    }

    /// A live group, before every partition has passed the end that it had when the group was created.
    pub fn is_backfilling(&self) -> bool {
        let passed =
            |(source, end): (&Source, &Boundary)| source.is_changes() || end.is_passed(&source.progress);
        let live = self.time == TimeMode::Live && !self.live;
        live && !self.sources.iter().zip(&self.backfill_ends).all(passed)
    }

    fn passes(&self, boundaries: &[Option<Boundary>]) -> bool {
        let passed = |(source, boundary): (&Source, &Option<Boundary>)| {
            boundary.as_ref().is_none_or(|b| b.is_passed(&source.progress))
        };
        boundaries.iter().any(Option::is_some) && self.sources.iter().zip(boundaries).all(passed)
    }

    /// Finish offsets that have not been handed out yet.
    fn pending_finish(&self, source: &Source) -> Option<Vec<i64>> {
        let done = self.finishes.get(usize::from(source.index)).and_then(Option::as_ref);
        source.stream.finish.clone().filter(|finish| Some(finish) != done)
    }

    /// What the journal is to remember, if all sources have come past their finish offsets and not
    /// all of these have been handed out.
    fn take_finishes(&mut self) -> Option<Vec<Option<Vec<i64>>>> {
        if self.is_backfilling() || !self.sources.iter().any(|s| self.pending_finish(s).is_some()) {
            return None;
        }
        let past =
            |s: &Source| s.stream.finish.as_ref().is_some_and(|f| Boundary(f.clone()).is_passed(&s.progress));
        if !self.sources.iter().filter(|source| !source.is_changes()).all(past) {
            return None;
        }
        // Records that wait are joined now: with all that there is to be looked up.
        let last = self.last_event();
        let mut changes = self.sources.iter_mut().filter(|source| source.is_changes());
        // What fails here fails at the next read too.
        if !changes.all(|source| source.has_all_up_to(last).unwrap_or(false)) {
            return None;
        }
        self.finishes = self.sources.iter().map(|s| s.stream.finish.clone()).collect();
        Some(self.finishes.clone())
    }

    /// The greatest time of an event.
    fn last_event(&self) -> Option<Micros> {
        let events = self.sources.iter().filter(|source| !source.is_changes());
        events.flat_map(|source| &source.progress).filter_map(|p| p.max_event_time).max()
    }

    /// What the sources say about time; where they have come past a finish, nothing waits for what is looked up.
    fn times(&self, finished: bool) -> Vec<SourceTime> {
        let last = if finished { self.last_event() } else { None };
        let of = |source: &Source| {
            let at = usize::from(source.index);
            let advances = source.stream.idle_advance && source.stream.time == TimeMode::Live;
            let settle = source.stream.idle_timeout.unwrap_or(Span(QUIET_STEP.as_micros() as i64));
            let quiet =
                source.quiet_since().filter(|_| advances).map(|since| self.opened_at.0 - (since + settle).0);
            SourceTime {
                partitions: source.times(self.opened_at),
                delay: source.stream.watermark_delay,
                previous: Micros::MIN,
                restored: self.restored.get(at).copied().unwrap_or(Micros::MIN),
                quiet_for: quiet.filter(|q| *q > 0).map(Span),
                complete: source.is_changes().then(|| source.complete.max(last).unwrap_or(Micros::MIN)),
            }
        };
        self.sources.iter().map(of).collect()
    }

    /// Where the partitions stand. `last_record` is that of the epoch, where it has one.
    fn positions(&self, gathered: &Gathered) -> Vec<(PartitionKey, Position)> {
        let mut positions = Vec::new();
        for source in &self.sources {
            for (partition, progress) in (0..).zip(&source.progress) {
                let key = PartitionKey { source: source.index, partition };
                let position = Position {
                    offset: progress.next,
                    max_event_time: progress.max_event_time,
                    identity: source.identity.clone(),
                    last_record: gathered.last_record(key),
                };
                positions.push((key, position));
            }
        }
        positions
    }

    fn take_changes(&mut self, control: &Control) {
        for changed in control.take_changes() {
            for source in self.sources.iter_mut().filter(|s| s.stream.id == changed.id) {
                source.stream = Arc::clone(&changed);
            }
        }
    }
}
