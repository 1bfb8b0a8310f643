//! The thread that commits: it writes one epoch while the next one is computed.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::halt::{Halt, Stop};
use super::step::Stepped;
use crate::store::commit::Committed;
use crate::store::{self, Store};

/// An epoch on its way into the store.
pub struct Job {
    /// What is written.
    pub stepped: Stepped,
    /// When the epoch was opened …
    pub started: Instant,
    /// … and when it began to be computed.
    pub taken: Instant,
}

/// An epoch that was written, or not.
pub struct Done {
    /// What was to be written.
    pub job: Job,
    /// How it went.
    pub result: Result<Committed, store::Error>,
    /// How long it took.
    pub took: Duration,
}

/// Where epochs are handed over, one at a time.
pub struct Writer {
    jobs: Sender<Job>,
    done: Receiver<Done>,
}

/// The other end of a [`Writer`], for its thread.
pub struct Desk {
    jobs: Receiver<Job>,
    done: Sender<Done>,
}

impl Job {
    /// Writes the epoch here and now.
    pub fn write(self, store: &Store) -> Done {
        let begun = Instant::now();
        let result = store.commit(&self.stepped.commit);
        Done { job: self, result, took: begun.elapsed() }
    }
}

impl Writer {
    /// Both ends.
    pub fn new() -> (Self, Desk) {
        let ((jobs, todo), (finished, done)) = (bounded(1), bounded(1));
        (Self { jobs, done }, Desk { jobs: todo, done: finished })
    }

    /// Hands an epoch over; the one before it was received.
    pub fn send(&self, job: Job) -> Result<(), Stop> {
        self.jobs.send(job).map_err(|_| gone())
    }

    /// Waits for the epoch that was handed over.
    pub fn receive(&self) -> Result<Done, Stop> {
        self.done.recv().map_err(|_| gone())
    }
}

impl Desk {
    /// Writes epochs until no more can come.
    pub fn run(self, store: &Store) {
        for job in self.jobs {
            if self.done.send(job.write(store)).is_err() {
                return;
            }
        }
    }
}

fn gone() -> Stop {
    Halt::new(
        "the thread that commits has ended",
        "this is a defect: nothing of the epoch was committed; report it with the log, and resume",
    )
    .into()
}
