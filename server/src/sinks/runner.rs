//! The thread of one sink: what is owed is brought there, and what fails is tried again.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use millpond_engine::time::Micros;
use parking_lot::Mutex;
use prometheus::{IntCounter, IntGauge};

use super::changelog::Topic;
use super::files::{Disk, Files};
use super::ledger::StoredLedger;
use super::protocol::{self, Found, Target};
use super::{Error, Parts};
use crate::catalog::{FeatureGroup, GroupEntry, GroupId, Sink, SinkId, SinkTarget, history};
use crate::store::commit::OutboxEntry;
use crate::store::{Signal, SinkProgress};

/// How often a topic's sink looks at the outbox: rows are there soon after they are committed.
const TOPIC_TICK: Duration = Duration::from_millis(50);
/// How often a sink of files does.
const FILES_TICK: Duration = Duration::from_millis(250);
/// The longest wait after failures.
const PATIENCE: Duration = Duration::from_mins(1);

/// Whether a sink goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It does.
    Running,
    /// The last try failed; it tries again by itself.
    Failing,
    /// Somebody has to look at it.
    Halted,
}

impl State {
    /// In lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Failing => "failing",
            Self::Halted => "halted",
        }
    }
}

/// How a sink stands.
#[derive(Debug, Clone)]
pub struct Status {
    /// The sink.
    pub sink: Sink,
    /// Whether it goes on.
    pub state: State,
    /// Why not.
    pub reason: Option<String>,
    /// What to do about it.
    pub mend: Option<&'static str>,
    /// Rows committed that it does not have yet.
    pub lag_rows: u64,
    /// When the oldest of them became available.
    pub oldest: Option<Micros>,
}

/// A sink that runs.
pub struct Runner {
    parts: Arc<Parts>,
    entry: Entry,
    state: Mutex<Standing>,
    wake: Signal,
    thread: Mutex<Option<JoinHandle<()>>>,
    rows: IntCounter,
    lag: IntGauge,
}

/// What the thread needs of its group.
struct Entry {
    def: FeatureGroup,
    features: SchemaRef,
    sink: Sink,
}

/// How the thread stands, for those who ask.
#[derive(Debug, Default)]
struct Standing {
    trouble: Option<(String, &'static str)>,
    halted: bool,
    /// Failures in a row.
    failures: u32,
    /// Tries that failed, ever.
    failed: u64,
    /// When the last try began.
    last: Option<Instant>,
    /// Somebody waits: do not wait for the interval, nor for patience.
    asked: bool,
    stop: Option<Stop>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// At once.
    Now,
    /// After one more try, unless the last one failed.
    Drained,
}

/// A target that is open.
enum Open {
    Topic(Box<Topic>),
    Files(Files<Disk>),
}

impl Runner {
    /// Starts the thread.
    pub fn start(parts: Arc<Parts>, entry: &GroupEntry, sink: &Sink) -> Result<Arc<Self>, Error> {
        let (rows, lag) = parts.metrics.sink(&entry.label(), sink.name.as_str());
        let features = Arc::clone(&entry.schema);
        let runner = Arc::new(Self {
            parts,
            entry: Entry { def: entry.def.clone(), features, sink: sink.clone() },
            state: Mutex::default(),
            wake: Signal::default(),
            thread: Mutex::default(),
            rows,
            lag,
        });
        let own = Arc::clone(&runner);
        let thread = std::thread::Builder::new().name(format!("sink-{}", sink.name));
        let thread = thread.spawn(move || own.run()).map_err(Error::disk(std::path::Path::new("thread")))?;
        *runner.thread.lock() = Some(thread);
        Ok(runner)
    }

    /// Its identity.
    pub fn sink(&self) -> SinkId {
        self.entry.sink.id
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        let owed = self.parts.store.sink_stats(self.group(), self.sink());
        let state = self.state.lock();
        Status {
            sink: self.entry.sink.clone(),
            state: match state.trouble {
                _ if state.halted => State::Halted,
                Some(_) => State::Failing,
                None => State::Running,
            },
            reason: state.trouble.as_ref().map(|(reason, _)| reason.clone()),
            mend: state.trouble.as_ref().map(|(_, mend)| *mend),
            lag_rows: owed.as_ref().map_or(0, |owed| owed.rows),
            oldest: owed.ok().and_then(|owed| owed.oldest),
        }
    }

    /// Asks for a try now; returns how many have failed so far.
    pub fn ask(&self) -> u64 {
        let mut state = self.state.lock();
        state.asked = true;
        let failed = state.failed;
        drop(state);
        self.wake.notify();
        failed
    }

    /// True where a try has failed since as many had.
    pub fn has_failed_since(&self, failed: u64) -> bool {
        self.state.lock().failed > failed
    }

    /// Tells the thread to end: at once, or after bringing over what is owed.
    pub fn stop(&self, drained: bool) {
        self.state.lock().stop = Some(if drained { Stop::Drained } else { Stop::Now });
        self.wake.notify();
    }

    /// Waits until the thread has ended. Blocks for as long as a request to the brokers may take.
    pub fn join(&self) {
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!(sink = %self.entry.sink.name, "the thread of a sink did not end as it should");
        }
    }

    /// Removes what it left behind outside its folder; its thread has ended.
    pub fn clear(&self) {
        if let SinkTarget::Files { .. } = self.entry.sink.target {
            Disk::forget(&self.parts.root, &staging(&self.entry.def, self.sink()));
        }
    }

    fn group(&self) -> GroupId {
        self.entry.def.id
    }

    fn run(&self) {
        let tick = match self.entry.sink.target {
            SinkTarget::Kafka { .. } => TOPIC_TICK,
            SinkTarget::Files { .. } => FILES_TICK,
        };
        let mut open = None;
        loop {
            let (stop, failing) = {
                let state = self.state.lock();
                (state.stop, state.failures > 0)
            };
            match stop {
                None if self.is_due() => self.attempt(&mut open),
                None => {}
                Some(Stop::Drained) if !failing => {
                    self.attempt(&mut open);
                    return;
                }
                Some(Stop::Drained | Stop::Now) => return,
            }
            self.wake.wait(tick);
        }
    }

    /// True where a try should begin now.
    fn is_due(&self) -> bool {
        let rows = self.parts.store.sink_stats(self.group(), self.sink()).map_or(0, |owed| owed.rows);
        self.lag.set(rows as i64);
        let mut state = self.state.lock();
        if std::mem::take(&mut state.asked) {
            return true;
        }
        let Some(waited) = state.last.map(|last| last.elapsed()) else {
            // Once per process, target and store are compared even if nothing is owed.
            return true;
        };
        if state.halted {
            return false;
        }
        if state.failures > 0 {
            return waited >= PATIENCE.min(Duration::from_secs(1 << state.failures.min(6)));
        }
        match self.entry.sink.target {
            SinkTarget::Kafka { .. } => rows > 0,
            SinkTarget::Files { .. } => {
                rows >= self.parts.rows as u64 || (rows > 0 && waited >= self.parts.interval)
            }
        }
    }

    fn attempt(&self, open: &mut Option<Open>) {
        let began = Instant::now();
        let mut moved = 0;
        let result = self.drain(open, &mut moved);
        if result.is_err() {
            // What it holds is not known any more: it is opened anew and asked.
            *open = None;
        }
        self.rows.inc_by(moved);
        let name = &self.entry.sink.name;
        let group = self.group().0;
        let mut state = self.state.lock();
        state.last = Some(began);
        match result {
            Ok(()) => {
                if state.failures > 0 {
                    tracing::info!(group, sink = %name, "the sink goes on");
                }
                state.trouble = None;
                state.halted = false;
                state.failures = 0;
            }
            Err(error) => {
                state.halted = matches!(error, Error::Halted(_));
                state.failures += 1;
                state.failed += 1;
                tracing::error!(group, sink = %name, halted = state.halted, %error, "a sink failed");
                state.trouble = Some((error.to_string(), error.mend()));
            }
        }
    }

    fn drain(&self, open: &mut Option<Open>, moved: &mut u64) -> Result<(), Error> {
        let ledger = StoredLedger { store: &self.parts.store, group: self.group(), sink: self.sink() };
        let fresh = open.is_none();
        let target = match open {
            Some(target) => target,
            None => open.insert(Open::new(&self.parts, &self.entry)?),
        };
        Ok(protocol::drain(target, &ledger, fresh, self.parts.rows, moved)?)
    }
}

impl Open {
    fn new(parts: &Parts, Entry { def, features, sink }: &Entry) -> Result<Self, Error> {
        Ok(match &sink.target {
            SinkTarget::Kafka { topic } => {
                Self::Topic(Box::new(Topic::open(parts, def, features, sink.id, topic)?))
            }
            SinkTarget::Files { format, path, partition_by } => Self::Files(Files {
                folder: Disk::open(&parts.root, path, &staging(def, sink.id))?,
                format: *format,
                partition_by: partition_by.clone(),
                history: history::schema(features),
            }),
        })
    }
}

/// What tells the unnamed files of one sink from those of others.
fn staging(def: &FeatureGroup, sink: SinkId) -> String {
    format!("{}-{}", def.uuid, sink.0)
}

impl Target for Open {
    type Error = Error;

    fn recover(&mut self, progress: SinkProgress) -> Result<Found, Error> {
        match self {
            Self::Topic(topic) => topic.recover(progress),
            Self::Files(files) => files.recover(progress),
        }
    }

    fn write(&mut self, entries: &[OutboxEntry]) -> Result<(), Error> {
        match self {
            Self::Topic(topic) => topic.write(entries),
            Self::Files(files) => files.write(entries),
        }
    }
}
