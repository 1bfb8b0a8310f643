//! Waking those who wait: a thread with a timeout, or a task.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

/// Set by whoever has news, taken by the one who waits. News that comes while nobody waits is kept.
#[derive(Debug, Default)]
pub struct Signal {
    set: Mutex<bool>,
    thread: Condvar,
    task: Notify,
}

impl Signal {
    /// Wakes the waiting thread or task, now or as soon as it waits.
    pub fn notify(&self) {
        *self.set.lock() = true;
        self.thread.notify_all();
        self.task.notify_one();
    }

    /// Blocks the thread until there is news or the time is over. True: there was news.
    pub fn wait(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut set = self.set.lock();
        while !*set {
            if self.thread.wait_until(&mut set, deadline).timed_out() {
                break;
            }
        }
        std::mem::take(&mut *set)
    }

    /// Waits for news in a task.
    pub async fn notified(&self) {
        loop {
            if std::mem::take(&mut *self.set.lock()) {
                return;
            }
            self.task.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn news_is_kept_and_taken_once() {
        let signal = Signal::default();
        assert!(!signal.wait(Duration::from_millis(1)));
        signal.notify();
        signal.notify();
        assert!(signal.wait(Duration::ZERO));
        assert!(!signal.wait(Duration::ZERO));
    }

    #[test]
    fn a_waiting_thread_wakes() {
        let signal = Arc::new(Signal::default());
        let waiting = Arc::clone(&signal);
        let thread = std::thread::spawn(move || waiting.wait(Duration::from_secs(30)));
        std::thread::sleep(Duration::from_millis(20));
        signal.notify();
        assert!(thread.join().is_ok_and(|news| news));
    }

    #[tokio::test]
    async fn a_waiting_task_wakes() {
        let signal = Arc::new(Signal::default());
        let waiting = Arc::clone(&signal);
        let task = tokio::spawn(async move { waiting.notified().await });
        tokio::task::yield_now().await;
        signal.notify();
        assert!(tokio::time::timeout(Duration::from_secs(30), task).await.is_ok());
    }
}
