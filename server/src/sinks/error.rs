//! What can go wrong in a sink.

use std::path::{Path, PathBuf};

use arrow::error::ArrowError;
use millpond_engine::avro::Unwritable;

use super::protocol::{Halt, Interrupted};
use crate::{log, registry, store};

/// Why a sink cannot take rows.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody has to look at it: the sink stands still.
    #[error(transparent)]
    Halted(#[from] Halt),
    /// The topic failed.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// The schema registry failed.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The disk failed.
    #[error("{}: {source}", path.display())]
    Disk {
        /// Which file or folder.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// The rows cannot be written in the sink's format.
    #[error("the rows cannot be written: {0}")]
    Rows(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    /// An error of the disk at a path.
    pub fn disk(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Disk { path: path.to_owned(), source }
    }

    /// What to do about it; a sink that is not halted tries again by itself.
    pub fn mend(&self) -> &'static str {
        match self {
            Self::Halted(_) => "the reason says what to restore; or drop the sink",
            Self::Log(_) => {
                "see that the brokers answer and let Millpond write to the topic; nothing is lost"
            }
            Self::Registry(_) => "see that the schema registry answers and takes the topic's schemas",
            Self::Disk { .. } => "see that the folder can be written to and the disk has room",
            Self::Rows(_) => "drop the sink and choose another format",
            Self::Store(_) => "see the status of the group",
        }
    }
}

impl From<Interrupted<Error, store::Error>> for Error {
    fn from(interrupted: Interrupted<Error, store::Error>) -> Self {
        match interrupted {
            Interrupted::Target(error) => error,
            Interrupted::Ledger(error) => Self::Store(error),
            Interrupted::Halt(halt) => Self::Halted(halt),
        }
    }
}

impl From<ArrowError> for Error {
    fn from(error: ArrowError) -> Self {
        Self::Rows(error.to_string())
    }
}

impl From<Unwritable> for Error {
    fn from(error: Unwritable) -> Self {
        Self::Rows(error.to_string())
    }
}
