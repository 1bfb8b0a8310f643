//! Why a pipeline stops until someone acts, or waits until something comes back.

use millpond_engine::epoch;

use crate::{log, store};

/// A pipeline stands still until a person acts: what happened, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halt {
    /// What happened.
    pub reason: String,
    /// What to do about it.
    pub mend: String,
}

/// Why the pipeline's loop cannot go on as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Until a person acts.
    Halt(Halt),
    /// Until it works again: tried again by itself, with growing pauses.
    Wait(String),
}

impl Halt {
    /// A halt.
    pub fn new(reason: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { reason: reason.into(), mend: mend.into() }
    }
}

impl From<Halt> for Stop {
    fn from(halt: Halt) -> Self {
        Self::Halt(halt)
    }
}

impl From<log::Error> for Stop {
    fn from(error: log::Error) -> Self {
        use log::Error as E;
        let mend = match &error {
            E::Unavailable { .. } => return Self::Wait(error.to_string()),
            E::Store(_) => return Self::Halt(of_store(&error.to_string())),
            E::Gone { .. } => {
                "records were deleted before they were read, so the features cannot be right any more: raise the \
                 retention, and create a new version of the feature group, which begins at what is left"
            }
            E::Replaced { .. } => {
                "the log was recreated or truncated, so what was read cannot be read again: bring the old one back \
                 and resume, or create the stream and a new version of the feature group anew"
            }
            E::Missing { .. } => "create the topic again from a backup and resume, or drop the feature group",
            E::Configuration { .. } => {
                "mend the configuration (`millpond config` shows it) and start the server again"
            }
        };
        Self::Halt(Halt::new(error.to_string(), mend))
    }
}

impl From<store::Error> for Stop {
    fn from(error: store::Error) -> Self {
        Self::Halt(of_store(&error.to_string()))
    }
}

impl From<epoch::Error> for Stop {
    fn from(error: epoch::Error) -> Self {
        Self::Halt(Halt::new(
            error.to_string(),
            "this is a defect: nothing of the epoch was committed; report it with the group's definition, and resume \
             after an upgrade",
        ))
    }
}

fn of_store(reason: &str) -> Halt {
    Halt::new(reason, "check the disk, then start the server again: nothing that was committed is lost")
}
