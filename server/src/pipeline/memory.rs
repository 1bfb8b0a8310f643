//! How much memory the state of all pipelines takes, and which of them are to leave some of it in the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use millpond_engine::epoch::{Engine, Error, Memory};

/// Measuring goes through all slices of a state: it is not done more often, but at checkpoints.
const MEASURE: Duration = Duration::from_millis(20);

/// Where the system does not say how much memory it has, it is taken to be this much.
const MACHINE: usize = 4 << 30;

/// What the state of all pipelines together may take.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    taken: AtomicUsize,
    pipelines: AtomicUsize,
}

impl Budget {
    /// So many bytes; `None`: a quarter of the memory that the process may use.
    pub fn new(limit: Option<usize>) -> Arc<Self> {
        let limit = limit.unwrap_or_else(|| machine() / 4);
        Arc::new(Self { limit, taken: AtomicUsize::new(0), pipelines: AtomicUsize::new(0) })
    }

    /// Another pipeline's part.
    pub fn share(self: &Arc<Self>) -> Share {
        self.pipelines.fetch_add(1, Ordering::Relaxed);
        Share { budget: Arc::clone(self), memory: Memory::default(), measured: None }
    }
}

/// What one pipeline takes of the budget.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    memory: Memory,
    measured: Option<Instant>,
}

impl Share {
    /// An even part of the budget.
    fn even(&self) -> usize {
        self.budget.limit / self.budget.pipelines.load(Ordering::Relaxed).max(1)
    }

    /// Whether state is to be written early, so that it may be let go of: the budget is spent, and this
    /// pipeline takes more than an even part of it. One of them does where it is spent.
    pub fn is_over(&self) -> bool {
        self.budget.taken.load(Ordering::Relaxed) > self.budget.limit && self.memory.evictable > self.even()
    }

    /// What the state takes, as last measured.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// After an epoch was committed: measures, and right after a durable checkpoint lets go of what is too
    /// much. Half of an even part stays, so that it is not too much again at once.
    pub fn settle(&mut self, engine: &mut Engine, checkpoint: bool) -> Result<(), Error> {
        if !checkpoint && self.measured.is_some_and(|at| at.elapsed() < MEASURE) {
            return Ok(());
        }
        self.measure(engine.memory());
        if checkpoint && self.is_over() {
            engine.evict(self.even() / 2)?;
            self.measure(engine.memory());
        }
        Ok(())
    }

    fn measure(&mut self, memory: Memory) {
        self.budget.taken.fetch_add(memory.bytes, Ordering::Relaxed);
        self.budget.taken.fetch_sub(self.memory.bytes, Ordering::Relaxed);
        self.memory = memory;
        self.measured = Some(Instant::now());
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.taken.fetch_sub(self.memory.bytes, Ordering::Relaxed);
        self.budget.pipelines.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The memory that the process may use: the machine's, or less where a container is given less.
fn machine() -> usize {
    let kilobytes = |text: &str| -> Option<usize> {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<usize>().ok()?.checked_mul(1024)
    };
    let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| kilobytes(&text));
    let own = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let own = own.and_then(|text| text.trim().parse().ok());
    total.unwrap_or(MACHINE).min(own.unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(share: &mut Share, bytes: usize, evictable: usize) {
        share.measure(Memory { bytes, evictable });
    }

    #[test]
    fn who_takes_more_than_an_even_part_of_a_spent_budget_lets_go() {
        let budget = Budget::new(Some(100));
        let (mut one, mut other) = (budget.share(), budget.share());
        takes(&mut one, 80, 80);
        takes(&mut other, 20, 20);
        assert!(!one.is_over() && !other.is_over(), "there is enough for both");
        takes(&mut other, 30, 30);
        assert!(one.is_over() && !other.is_over());
        takes(&mut one, 80, 40);
        assert!(!one.is_over(), "writing what cannot be let go of would not help");
        takes(&mut one, 80, 80);
        drop(other);
        assert!(!one.is_over(), "what a pipeline took is free again when it ends");
        takes(&mut one, 101, 101);
        assert!(one.is_over());
    }

    #[test]
    fn a_machine_has_some_memory() {
        assert!(Budget::new(None).limit > 1 << 20);
    }
}
