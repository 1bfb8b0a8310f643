//! What others tell a pipeline's thread, and how long it pauses before it tries again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::catalog::Stream;
use crate::store::Signal;

/// Orders for one run of a pipeline.
#[derive(Debug, Default)]
pub struct Control {
    stopped: AtomicBool,
    changes: Mutex<Vec<Arc<Stream>>>,
    news: Signal,
}

impl Control {
    /// Tells the pipeline to end after the commit at hand.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.news.notify();
    }

    /// True once it was told to.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// One of its streams has another definition now (a finish was set).
    pub fn change(&self, stream: Arc<Stream>) {
        self.changes.lock().push(stream);
    }

    /// The changes since the last call, in order.
    pub fn take_changes(&self) -> Vec<Arc<Stream>> {
        std::mem::take(&mut self.changes.lock())
    }

    /// Sleeps, unless the pipeline is told to stop.
    pub fn sleep(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.is_stopped() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            self.news.wait(left);
        }
    }
}

/// Pauses between attempts: from 50 ms, doubling, up to 5 s.
#[derive(Debug, Default)]
pub struct Backoff(u32);

impl Backoff {
    /// How long to wait before the next attempt.
    pub fn next(&mut self) -> Duration {
        let pause = Duration::from_millis(50 << self.0).min(Duration::from_secs(5));
        self.0 = (self.0 + 1).min(7);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..10).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
    }

    #[test]
    fn a_pipeline_that_is_told_to_stop_does_not_sleep() {
        let control = Control::default();
        control.stop();
        let begun = Instant::now();
        control.sleep(Duration::from_mins(1));
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}
