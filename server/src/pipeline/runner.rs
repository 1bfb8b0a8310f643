//! The loops of one pipeline: one thread reads and decodes epochs, another computes them, a few epochs behind, and a
//! third commits them, one behind that. Commits stay in order; what was read or computed ahead of a failure is
//! read again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::commits::Commits;
use super::control::{Backoff, Control};
use super::halt::{Halt, Stop};
use super::intake::{Harvest, Intake, Waiting};
use super::journal::Committed;
use super::status::{Board, State};
use super::writer::Writer;

/// A pipeline that has nothing to do looks up this often: to stop, to see the clock.
const LOOK_UP: Duration = Duration::from_millis(100);

/// So many epochs may wait to be computed: a large close takes as long as reading several.
const AHEAD: usize = 2;

/// Others are shown what is committed at most this often.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// One pipeline, open.
pub struct Pipeline {
    /// What reads.
    pub intake: Intake,
    /// What computes and commits.
    pub commits: Commits,
}

/// What is committed, on its way to those who show it to the logs.
#[derive(Default)]
struct Told(Mutex<Option<Committed>>);

impl Pipeline {
    /// Runs until it is told to stop (`Ok`) or a person must act. Waits out what only needs time.
    pub fn run(&mut self, control: &Control, board: &Board) -> Result<(), Halt> {
        self.commits.show(board);
        if let Err(Stop::Halt(halt)) = close(&mut self.commits, board) {
            return Err(halt);
        }
        let Self { intake, commits } = self;
        let (waiting, told, store) = (intake.waiting(), Told::default(), Arc::clone(&commits.store));
        let (send, receive) = bounded(AHEAD);
        let (writer, desk) = Writer::new();
        let name = std::thread::current().name().map(str::to_owned).unwrap_or_default();
        let named = |what| std::thread::Builder::new().name(name.replace("pipeline", what));
        std::thread::scope(|scope| {
            let told_too = &told;
            let reading = move || read(intake, control, &send, told_too);
            let reading = named("intake").spawn_scoped(scope, reading).map_err(no_thread)?;
            let writing = move || desk.run(&store);
            let writing = named("commit").spawn_scoped(scope, writing).map_err(no_thread);
            let done = writing.and_then(|writing| {
                commits.writer = Some(writer);
                let done = commit(commits, receive, &waiting, &told, board);
                commits.writer = None;
                joined(writing);
                done
            });
            // Whoever reads and waits for us need not any more.
            waiting.store(0, Ordering::Relaxed);
            joined(reading);
            done
        })?;
        // The next start is quicker with nothing to apply again.
        match self.commits.checkpoint() {
            Err(Stop::Halt(halt)) => Err(halt),
            Ok(()) | Err(Stop::Wait(_)) => Ok(()),
        }
    }

    /// One epoch by itself: what is gathered now, or the next part of a large close.
    #[cfg(test)]
    pub fn turn(&mut self, control: &Control, board: &Board) -> Result<bool, Stop> {
        if self.commits.is_closing() {
            return self.commits.close_on(board).map(|()| true);
        }
        let harvest = self.intake.gather(control);
        self.commits.take(harvest, board)
    }
}

/// Reads epoch after epoch, until it is told to stop or nobody wants them any more.
fn read(intake: &mut Intake, control: &Control, harvests: &Sender<Harvest>, told: &Told) {
    let (mut pause, waiting) = (Backoff::default(), intake.waiting());
    while !control.is_stopped() {
        let harvest = intake.gather(control);
        let (is_empty, stop) = (harvest.gathered.is_empty(), harvest.stop.clone());
        waiting.fetch_add(1, Ordering::Relaxed);
        if harvests.send(harvest).is_err() {
            return;
        }
        if let Some(committed) = told.0.lock().take() {
            intake.tell_the_logs(&committed);
        }
        match stop {
            Some(Stop::Halt(_)) => return,
            Some(Stop::Wait(_)) => control.sleep(pause.next()),
            None => {
                pause = Backoff::default();
                if is_empty {
                    intake.wait(LOOK_UP);
                }
            }
        }
    }
}

/// Computes and commits what was read, to the last of it: it is complete, and need not be read again.
fn commit(
    commits: &mut Commits,
    harvests: Receiver<Harvest>,
    waiting: &Waiting,
    told: &Told,
    board: &Board,
) -> Result<(), Halt> {
    let (mut told_at, mut told_epoch) = (Instant::now(), 0);
    loop {
        // Whoever waits for a commit sees it as soon as there is nothing else to compute.
        if harvests.is_empty() {
            settle(commits, board)?;
        }
        let Ok(harvest) = harvests.recv() else { break };
        waiting.fetch_sub(1, Ordering::Relaxed);
        commits.is_behind = !harvests.is_empty();
        let taken = take(commits, harvest, board);
        if told_epoch != commits.committed.epoch && told_at.elapsed() >= TELL_EVERY {
            (told_at, told_epoch) = (Instant::now(), commits.committed.epoch);
            *told.0.lock() = Some(commits.committed.clone());
        }
        match taken {
            Ok(_) => {}
            Err(Stop::Halt(halt)) => {
                // What was computed before what failed is committed.
                settle(commits, board)?;
                return Err(halt);
            }
            Err(Stop::Wait(reason)) => {
                settle(commits, board)?;
                board.state(State::Waiting { reason });
            }
        }
    }
    settle(commits, board)
}

/// Waits for the epoch that is being written, and shows it.
fn settle(commits: &mut Commits, board: &Board) -> Result<(), Halt> {
    match commits.settle() {
        Ok(true) => commits.show(board),
        Ok(false) | Err(Stop::Wait(_)) => {}
        Err(Stop::Halt(halt)) => return Err(halt),
    }
    Ok(())
}

/// Waits for a thread; its panic is ours.
fn joined(thread: ScopedJoinHandle<'_, ()>) {
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn no_thread(error: std::io::Error) -> Halt {
    Halt::new(
        format!("no thread can be started: {error}"),
        "raise the limit of threads or processes, and resume",
    )
}

/// Commits a harvest and the closes that it brings about.
fn take(commits: &mut Commits, harvest: Harvest, board: &Board) -> Result<bool, Stop> {
    let taken = commits.take(harvest, board);
    close(commits, board)?;
    taken
}

/// Goes on with a large close to its end.
fn close(commits: &mut Commits, board: &Board) -> Result<(), Stop> {
    while commits.is_closing() {
        commits.close_on(board)?;
    }
    Ok(())
}
