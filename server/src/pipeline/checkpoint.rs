//! When a pipeline writes its engine's state. Between two checkpoints an epoch writes only what it makes
//! visible or owes, and a restart applies the epochs since the last one again ([`super::replay`]).

use std::time::{Duration, Instant};

/// When state is written.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    interval: Duration,
    records: u64,
    /// In every epoch: what was read cannot be read again, or there is no state.
    always: bool,
    /// Records since the last checkpoint.
    since: u64,
    /// Epochs since the last checkpoint.
    epochs: u64,
    last: Instant,
}

impl Checkpoints {
    /// At least this often, and after this many records.
    pub fn new(interval: Duration, records: u64) -> Self {
        Self { interval, records, always: false, since: 0, epochs: 0, last: Instant::now() }
    }

    /// The same in every epoch.
    pub fn always(self) -> Self {
        Self { always: true, ..self }
    }

    /// These epochs were applied again at the start.
    pub fn replayed(&mut self, epochs: u64, records: u64) {
        self.epochs += epochs;
        self.since += records;
    }

    /// Whether an epoch with this many records is to write the state.
    pub fn is_due(&self, records: u64) -> bool {
        self.always || self.since + records >= self.records || self.last.elapsed() >= self.interval
    }

    /// Whether a restart would have to apply anything again.
    pub fn is_behind(&self) -> bool {
        self.epochs > 0
    }

    /// An epoch was committed.
    pub fn committed(&mut self, checkpoint: bool, records: u64) {
        if checkpoint {
            (self.since, self.epochs, self.last) = (0, 0, Instant::now());
        } else {
            self.since += records;
            self.epochs += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_so_many_records_or_so_long() {
        let mut checkpoints = Checkpoints::new(Duration::from_hours(1), 100);
        assert!(!checkpoints.is_due(99) && checkpoints.is_due(100));
        checkpoints.committed(false, 60);
        assert!(checkpoints.is_behind() && !checkpoints.is_due(39) && checkpoints.is_due(40));
        checkpoints.committed(true, 40);
        assert!(!checkpoints.is_behind() && !checkpoints.is_due(99));
        assert!(Checkpoints::new(Duration::ZERO, u64::MAX).is_due(0));
        assert!(checkpoints.always().is_due(0));
    }
}
