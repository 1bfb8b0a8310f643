//! The loop of one pipeline: the next epoch is read and decoded while the one before is computed and
//! committed. Commits stay in order; what was read ahead of a failure is read again.

use std::time::Duration;

use super::commits::Commits;
use super::control::{Backoff, Control};
use super::halt::{Halt, Stop};
use super::intake::{Harvest, Intake};
use super::status::{Board, State};

/// A pipeline that has nothing to do looks up this often: to stop, to see the clock.
const LOOK_UP: Duration = Duration::from_millis(100);

/// One pipeline, open.
pub struct Pipeline {
    /// What reads.
    pub intake: Intake,
    /// What computes and commits.
    pub commits: Commits,
}

impl Pipeline {
    /// Runs until it is told to stop (`Ok`) or a person must act. Waits out what only needs time.
    pub fn run(&mut self, control: &Control, board: &Board) -> Result<(), Halt> {
        let mut pause = Backoff::default();
        let mut ahead = None;
        self.commits.show(board, self.intake.is_backfilling());
        if let Err(Stop::Halt(halt)) = close(&mut self.commits, board) {
            return Err(halt);
        }
        while !control.is_stopped() {
            let harvest = ahead.take().unwrap_or_else(|| self.intake.gather(control));
            let taken = if harvest.gathered.is_empty() || harvest.stop.is_some() {
                self.take(harvest, board)
            } else {
                let (taken, next) = self.take_and_gather(harvest, control, board);
                ahead = Some(next);
                taken
            };
            self.intake.tell_the_logs(&self.commits.committed);
            match taken {
                Ok(true) => pause = Backoff::default(),
                Ok(false) => {
                    pause = Backoff::default();
                    self.intake.wait(LOOK_UP);
                }
                Err(Stop::Halt(halt)) => return Err(halt),
                Err(Stop::Wait(reason)) => {
                    board.state(State::Waiting { reason });
                    control.sleep(pause.next());
                }
            }
        }
        // What was read ahead is complete: it need not be read again after the next start.
        // The next start is quicker with nothing to apply again.
        let taken = ahead.map_or(Ok(false), |harvest| self.take(harvest, board));
        match taken.and_then(|_| self.commits.checkpoint()) {
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

    /// Commits a harvest and the closes that it brings about.
    fn take(&mut self, harvest: Harvest, board: &Board) -> Result<bool, Stop> {
        take(&mut self.commits, harvest, board)
    }

    /// The same, while the next harvest is gathered.
    fn take_and_gather(
        &mut self,
        harvest: Harvest,
        control: &Control,
        board: &Board,
    ) -> (Result<bool, Stop>, Harvest) {
        let Self { intake, commits } = self;
        std::thread::scope(|scope| {
            let gathering = scope.spawn(|| intake.gather(control));
            let taken = take(commits, harvest, board);
            match gathering.join() {
                Ok(next) => (taken, next),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

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
