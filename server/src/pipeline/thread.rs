//! The thread of one pipeline: opens it, runs it, and says how it ended. A panic ends one pipeline, visibly.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use millpond_engine::time::Micros;
use millpond_engine::workers::Workers;
use parking_lot::Mutex;
use tokio::sync::watch;
use uuid::Uuid;

use super::Error;
use super::checkpoint::Checkpoints;
use super::control::{Backoff, Control};
use super::cut::Limits;
use super::halt::{Halt, Stop};
use super::intake::Surroundings;
use super::memory::Budget;
use super::metrics::observer;
use super::open::{Parts, open};
use super::runner::Pipeline;
use super::schemas::Lookup;
use super::status::{Board, State, Status};
use crate::catalog::{GroupEntry, Stream, StreamId};
use crate::config::Config;
use crate::registry::{self, Registry};
use crate::store::Store;
use crate::telemetry::Metrics;

/// Light traffic leaves this many times as long as an epoch takes between two: a fifth of the time is commits.
const PAUSE: u32 = 4;

/// While there is always more to read, a commit comes at least this often.
const MAX_AGE: Duration = Duration::from_millis(250);

/// What all pipelines share.
pub struct Shared {
    /// What the server was told.
    pub config: Arc<Config>,
    /// RocksDB.
    pub store: Arc<Store>,
    /// Writers' schemas.
    pub registry: Arc<Registry>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What the state of all pipelines may take of the memory.
    pub budget: Arc<Budget>,
    /// What windows are computed on.
    pub workers: Arc<Workers>,
}

/// A pipeline with its thread, if it has one now. Its status can always be asked for, also while a
/// thread is being waited for.
pub struct Running {
    shared: Arc<Shared>,
    group: Arc<GroupEntry>,
    streams: Mutex<Vec<Arc<Stream>>>,
    board: Arc<Board>,
    thread: Mutex<Option<(JoinHandle<()>, Arc<Control>)>>,
}

impl Running {
    /// A pipeline without a thread.
    pub fn new(shared: Arc<Shared>, group: Arc<GroupEntry>, streams: Vec<Arc<Stream>>) -> Self {
        let board = Arc::new(Board::new(Status::new(State::Restoring)));
        Self { shared, group, streams: Mutex::new(streams), board, thread: Mutex::new(None) }
    }

    /// Starts the thread, after the one before has ended.
    pub fn start(&self) -> Result<(), Error> {
        let mut thread = self.thread.lock();
        end(&mut thread);
        let control = Arc::new(Control::default());
        self.board.state(State::Restoring);
        let (shared, group, streams) =
            (Arc::clone(&self.shared), Arc::clone(&self.group), self.streams.lock().clone());
        let (orders, board) = (Arc::clone(&control), Arc::clone(&self.board));
        let name = format!("pipeline {}", group.def.name);
        let run = move || guarded(&board, || run(&shared, &group, &streams, &orders, &board));
        *thread = Some((std::thread::Builder::new().name(name).spawn(run)?, control));
        Ok(())
    }

    /// Tells the thread to end, without waiting for it.
    pub fn tell_to_stop(&self) {
        if let Some((_, control)) = self.thread.lock().as_ref() {
            control.stop();
        }
    }

    /// Ends the thread after the commit at hand.
    pub fn stop(&self) {
        end(&mut self.thread.lock());
    }

    /// The same, and shows that a user wanted it.
    pub fn pause(&self) {
        let mut thread = self.thread.lock();
        end(&mut thread);
        self.board.state(State::Paused);
    }

    /// One of its streams may have changed.
    pub fn stream_changed(&self, stream: &Arc<Stream>) {
        for mine in self.streams.lock().iter_mut().filter(|mine| mine.id == stream.id) {
            *mine = Arc::clone(stream);
        }
        if let Some((_, control)) = self.thread.lock().as_ref() {
            control.change(Arc::clone(stream));
        }
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        self.board.get()
    }

    /// For those who wait.
    pub fn subscribe(&self) -> watch::Receiver<Status> {
        self.board.subscribe()
    }

    /// The stream of this identity, if the pipeline reads it.
    pub fn stream(&self, uuid: Uuid) -> Option<StreamId> {
        self.streams.lock().iter().find(|stream| stream.uuid == uuid).map(|stream| stream.id)
    }
}

fn end(thread: &mut Option<(JoinHandle<()>, Arc<Control>)>) {
    if let Some((thread, control)) = thread.take() {
        control.stop();
        // A panic was caught and shown inside.
        let _ = thread.join();
    }
}

/// Runs to the end, whatever it is, and shows it.
fn guarded(board: &Board, run: impl FnOnce() -> Result<(), Halt>) {
    let halt = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => return,
        Ok(Err(halt)) => halt,
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            Halt::new(
                format!("the pipeline failed unexpectedly: {text}"),
                "this is a defect: nothing of the epoch was committed; report it with the log, and resume",
            )
        }
    };
    tracing::error!(reason = halt.reason, mend = halt.mend, "pipeline halted");
    board.state(State::Halted(halt));
}

fn run(
    shared: &Shared,
    group: &GroupEntry,
    streams: &[Arc<Stream>],
    control: &Control,
    board: &Board,
) -> Result<(), Halt> {
    let mut pause = Backoff::default();
    while !control.is_stopped() {
        match open_with(shared, group, streams) {
            Ok(mut pipeline) => return pipeline.run(control, board),
            Err(Stop::Halt(halt)) => return Err(halt),
            Err(Stop::Wait(reason)) => {
                tracing::warn!(group = %group.def.name, reason, "the pipeline waits");
                board.state(State::Waiting { reason });
                control.sleep(pause.next());
            }
        }
    }
    Ok(())
}

fn open_with(shared: &Shared, group: &GroupEntry, streams: &[Arc<Stream>]) -> Result<Pipeline, Stop> {
    let settings = &shared.config.pipeline;
    let registry = Arc::clone(&shared.registry);
    let name = format!("millpond-{}", group.label());
    open(Parts {
        group,
        streams,
        open_log: &|stream| crate::log::open(stream, &name, &shared.store, &shared.config.kafka),
        store: &shared.store,
        workers: &shared.workers,
        limits: Limits {
            records: settings.max_epoch_records,
            bytes: settings.max_epoch_bytes,
            min_age: settings.min_age(),
            pause: PAUSE,
            max_age: MAX_AGE,
        },
        max_rows: settings.max_close_rows,
        memory: shared.budget.share(),
        checkpoints: Checkpoints::new(settings.checkpoint_age(), settings.checkpoint_records),
        journal_age: settings.journal_age(),
        surroundings: Surroundings {
            clock: Box::new(wall_clock),
            lookup: Box::new(move |id| lookup(&registry, id)),
        },
        observe: observer(&shared.metrics, group, streams),
    })
}

fn lookup(registry: &Registry, id: u32) -> Lookup {
    match registry.schema(id) {
        Ok(json) => Lookup::Known(json),
        Err(registry::Error::Unknown { .. }) => Lookup::Unknown,
        Err(error) => Lookup::NotYet(error.to_string()),
    }
}

fn wall_clock() -> Micros {
    Micros(chrono::Utc::now().timestamp_micros())
}
