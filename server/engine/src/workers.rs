//! Worker threads: what pieces of work that have nothing to do with each other are computed on.
//!
//! What comes out never depends on how many there are. Whoever brings work takes part in it: what no thread
//! has begun by then is done by the caller, so work is never stuck behind other work, nor where the operating
//! system gives no thread.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::key::KEY_GROUPS;

/// Less work than this many rows is not worth handing over: it takes some tens of microseconds.
const WORTHWHILE: usize = 4096;

/// Threads that engines share. They begin with the first work that is worth it, and end with the last engine.
pub struct Workers {
    threads: usize,
    worthwhile: usize,
    queue: OnceLock<Sender<Arc<Task>>>,
}

/// A piece of work, until somebody begins it.
struct Task(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Task {
    fn run(&self) {
        let work = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(work) = work {
            work();
        }
    }
}

impl Workers {
    /// So many threads for one engine, the caller's among them: at least one, at most one for each key group.
    pub fn new(threads: usize) -> Self {
        Self::from(threads, WORTHWHILE)
    }

    /// The same, for tests: work of any size is handed over.
    pub fn eager(threads: usize) -> Self {
        Self::from(threads, 0)
    }

    fn from(threads: usize, worthwhile: usize) -> Self {
        Self { threads: threads.clamp(1, KEY_GROUPS as usize), worthwhile, queue: OnceLock::new() }
    }

    /// How many threads compute one engine's work.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Whether work on so many rows is worth being divided.
    pub(crate) fn is_worthwhile(&self, rows: usize) -> bool {
        self.threads > 1 && rows >= self.worthwhile
    }

    /// Does all pieces of work; the results come in their order.
    ///
    /// A piece that panics does so here, in the caller.
    pub(crate) fn run<T: Send + 'static, W: FnOnce() -> T + Send + 'static>(
        &self,
        work: impl IntoIterator<Item = W>,
    ) -> Vec<T> {
        let mut work = work.into_iter();
        let Some(first) = work.next() else { return Vec::new() };
        let (done, results) = unbounded();
        let tasks: Vec<Arc<Task>> = (1..).zip(work).map(|(number, work)| task(number, work, &done)).collect();
        drop(done);
        let queue = self.queue();
        for task in &tasks {
            // Without a thread that listens, the caller does it.
            let _ = queue.send(Arc::clone(task));
        }
        let first = first();
        for task in &tasks {
            task.run();
        }
        // Each piece says how it ended, and then there is nobody left to wait for.
        let mut rest: Vec<(usize, std::thread::Result<T>)> = results.iter().collect();
        rest.sort_unstable_by_key(|(number, _)| *number);
        let rest = rest.into_iter().map(|(_, result)| result.unwrap_or_else(|panic| resume_unwind(panic)));
        std::iter::once(first).chain(rest).collect()
    }

    fn queue(&self) -> &Sender<Arc<Task>> {
        self.queue.get_or_init(|| {
            let (sender, tasks) = unbounded();
            for _ in 1..self.threads {
                let tasks: Receiver<Arc<Task>> = tasks.clone();
                let listen = move || tasks.iter().for_each(|task| task.run());
                if let Err(error) = std::thread::Builder::new().name("worker".into()).spawn(listen) {
                    // Those that are there, and the caller, do the work.
                    drop(error);
                    break;
                }
            }
            sender
        })
    }
}

fn task<T: Send + 'static>(
    number: usize,
    work: impl FnOnce() -> T + Send + 'static,
    done: &Sender<(usize, std::thread::Result<T>)>,
) -> Arc<Task> {
    let done = done.clone();
    Arc::new(Task(Mutex::new(Some(Box::new(move || {
        let result = catch_unwind(AssertUnwindSafe(work));
        // Nobody waits any more where the caller's own piece panicked.
        let _ = done.send((number, result));
    })))))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_work() {
        for threads in [1, 2, 7] {
            let workers = Workers::new(threads);
            for pieces in [0, 1, 2, 50] {
                let squares = workers.run((0..pieces).map(|n| move || n * n));
                assert_eq!(squares, (0..pieces).map(|n| n * n).collect::<Vec<u64>>());
            }
        }
    }

    /// Each waits for the other, so they are under way at once.
    #[test]
    fn work_is_done_on_several_threads() {
        let workers = Workers::new(2);
        let ((to_one, from_other), (to_other, from_one)) = (mpsc::channel(), mpsc::channel());
        let meet = |sender: mpsc::Sender<()>, receiver: mpsc::Receiver<()>| {
            move || {
                sender.send(()).unwrap();
                receiver.recv_timeout(Duration::from_mins(1)).unwrap();
                std::thread::current().id()
            }
        };
        let threads = workers.run([meet(to_other, from_other), meet(to_one, from_one)]);
        assert_eq!(threads.into_iter().collect::<HashSet<_>>().len(), 2);
    }

    #[test]
    fn a_panic_comes_out_where_the_work_was_brought_and_the_threads_go_on() {
        let workers = Workers::new(3);
        for bad in 0..5 {
            let run = || {
                workers.run((0..5).map(|n| {
                    move || {
                        assert!(n != bad, "piece {n} fails");
                        n
                    }
                }))
            };
            let panic = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
            assert_eq!(*panic.downcast::<String>().unwrap(), format!("piece {bad} fails"));
        }
        assert_eq!(workers.run((0..9).map(|n| move || n)), (0..9).collect::<Vec<_>>());
    }

    #[test]
    fn only_much_work_is_divided_and_only_among_several() {
        assert!(!Workers::new(1).is_worthwhile(usize::MAX));
        assert!(!Workers::new(2).is_worthwhile(10) && Workers::new(2).is_worthwhile(WORTHWHILE));
        assert!(Workers::eager(2).is_worthwhile(0));
        assert_eq!((Workers::new(0).threads(), Workers::new(1000).threads()), (1, 64));
    }
}
