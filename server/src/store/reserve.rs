//! Keeps the commit clock's reservation ahead of the wall clock, as long as someone reads.
//!
//! `as_of` may go no further than what is on disk, so that the next process begins after it. While
//! there are reads, a thread extends the reservation before it ends; the first read after a quiet time
//! extends it itself. A store that nobody reads writes nothing.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};
use millpond_engine::time::{Micros, Span};
use parking_lot::Mutex;

use super::Error;
use super::bytes::VERSION;
use super::clock::{CommitClock, RESERVE};
use super::db::{Db, Family};

pub(super) const KEY: &[u8] = b"clock_reserved";

const HALF: Span = Span(RESERVE.0 / 2);

pub(super) struct Reserver {
    poke: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

struct Shared {
    db: Arc<Db>,
    clock: Arc<CommitClock>,
    /// One extension at a time: the reservation on disk never goes back. True: closed.
    closed: Mutex<bool>,
}

impl Reserver {
    pub fn start(db: Arc<Db>, clock: Arc<CommitClock>) -> Result<Self, Error> {
        let (poke, pokes) = bounded::<()>(1);
        let shared = Arc::new(Shared { db, clock, closed: Mutex::new(false) });
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("millpond-clock".to_owned())
            .spawn(move || {
                for () in pokes {
                    own.extend(HALF);
                }
            })
            .map_err(|e| Error::Database(format!("the clock's thread cannot be started: {e}")))?;
        Ok(Self { poke: Some(poke), thread: Some(thread), shared })
    }

    /// Called before each read: cheap, unless the reservation has run out.
    pub fn ensure(&self) {
        let (now, reserved) = (self.shared.clock.wall(), self.shared.clock.reserved());
        if now > reserved {
            self.shared.extend(Span(0));
        } else if now + HALF > reserved
            && let Some(poke) = &self.poke
        {
            // Full: the thread has been told already.
            let _ = poke.try_send(());
        }
    }

    /// Gives back what was reserved and not used.
    pub fn close(&self) -> Result<(), Error> {
        let mut closed = self.shared.closed.lock();
        *closed = true;
        put(&self.shared.db, self.shared.clock.freeze())
    }
}

impl Drop for Reserver {
    fn drop(&mut self) {
        self.poke = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported already; the reservation on disk is still a bound.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Extends the reservation if it ends within `margin`. If it cannot be written, `as_of` stays
    /// where it is.
    fn extend(&self, margin: Span) {
        let closed = self.closed.lock();
        let now = self.clock.wall();
        if *closed || now + margin < self.clock.reserved() {
            return;
        }
        let until = now + RESERVE;
        match put(&self.db, until) {
            Ok(()) => self.clock.set_reserved(until),
            Err(e) => tracing::error!(error = %e, "the clock cannot be reserved"),
        }
    }
}

fn put(db: &Db, until: Micros) -> Result<(), Error> {
    db.put(Family::Meta, KEY, &[&[VERSION][..], &until.0.to_le_bytes()].concat())
}
