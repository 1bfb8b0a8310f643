//! What a pipeline says about itself, and how others wait for it.

use millpond_engine::time::Micros;
use tokio::sync::watch;

use super::halt::Halt;
use crate::catalog::StreamId;

/// What a pipeline is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Opens its logs and applies what was committed since the last checkpoint again. What is committed is
    /// served meanwhile; what the status says of it is not known yet.
    Restoring,
    /// Reads, computes and commits.
    Running,
    /// The same, over what lay in the log when the group was created.
    Backfilling,
    /// Something it needs does not answer (the broker, the schema registry); it tries again by itself.
    Waiting {
        /// What does not answer.
        reason: String,
    },
    /// Stopped by a user.
    Paused,
    /// Stopped by what happened; goes on only after someone acted and resumed it.
    Halted(Halt),
}

/// How one source stands: what is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceStatus {
    /// The stream.
    pub stream: StreamId,
    /// The next offset per partition: everything before it is committed.
    pub positions: Vec<i64>,
    /// Its watermark; `Micros::MIN` before the first statement.
    pub watermark: Micros,
    /// Records in the log that are not committed yet, as far as is known.
    pub lag: u64,
    /// Partitions behind a transaction that is still open.
    pub blocked: Vec<u32>,
}

/// How a pipeline stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// The last epoch committed; 0: none.
    pub epoch: u64,
    /// The watermark of the pipeline; `Micros::MIN` before the first statement.
    pub watermark: Micros,
    /// When the last epoch's rows became available.
    pub available_at: Option<Micros>,
    /// A large close is under way: more rows of windows that have ended are to come.
    pub closing: bool,
    /// Something odd that stops nothing, such as events far older than the clock on a live stream.
    pub warning: Option<String>,
    /// Its sources, in the order of the definition.
    pub sources: Vec<SourceStatus>,
    /// Bytes of the engine's state in memory, about.
    pub memory: usize,
}

impl State {
    /// The name in HTTP and in the docs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Restoring => "restoring",
            Self::Running => "running",
            Self::Backfilling => "backfilling",
            Self::Waiting { .. } => "waiting",
            Self::Paused => "paused",
            Self::Halted(_) => "halted",
        }
    }

    /// What happened, where it is not just running.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Waiting { reason } | Self::Halted(Halt { reason, .. }) => Some(reason),
            Self::Restoring | Self::Running | Self::Backfilling | Self::Paused => None,
        }
    }

    /// What to do about it.
    pub fn mend(&self) -> Option<&str> {
        match self {
            Self::Halted(Halt { mend, .. }) => Some(mend),
            _ => None,
        }
    }
}

impl Status {
    /// A pipeline that has not begun.
    pub fn new(state: State) -> Self {
        Self {
            state,
            epoch: 0,
            watermark: Micros::MIN,
            available_at: None,
            closing: false,
            warning: None,
            sources: Vec::new(),
            memory: 0,
        }
    }

    /// Records not yet committed, over all sources.
    pub fn lag(&self) -> u64 {
        self.sources.iter().map(|s| s.lag).sum()
    }

    /// The next offset of a stream's partition, of the mention that is furthest behind where the stream is
    /// mentioned more than once; 0 where nothing is known.
    pub fn position(&self, stream: StreamId, partition: u32) -> i64 {
        let mentions = self.sources.iter().filter(|s| s.stream == stream);
        mentions.map(|s| s.positions.get(partition as usize).copied().unwrap_or(0)).min().unwrap_or(0)
    }
}

/// Publishes a pipeline's status: readers never wait for the pipeline.
#[derive(Debug)]
pub struct Board(watch::Sender<Status>);

impl Board {
    /// A board that shows `status`.
    pub fn new(status: Status) -> Self {
        Self(watch::Sender::new(status))
    }

    /// What it shows now.
    pub fn get(&self) -> Status {
        self.0.borrow().clone()
    }

    /// Changes what it shows and wakes those who wait, if it differs.
    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        self.0.send_if_modified(|status| {
            let before = status.clone();
            change(status);
            *status != before
        });
    }

    /// Changes only the state.
    pub fn state(&self, state: State) {
        self.update(|status| status.state = state);
    }

    /// For those who wait.
    pub fn subscribe(&self) -> watch::Receiver<Status> {
        self.0.subscribe()
    }
}
