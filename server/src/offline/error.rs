//! What can go wrong in the offline store.

use datafusion::error::DataFusionError;
use deltalake::DeltaTableError;

use super::protocol::{Halt, Interrupted};
use crate::catalog::types::BadType;
use crate::store;

/// Why the offline store cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The group is not registered here.
    #[error("feature group {0} has no offline store")]
    UnknownGroup(u32),
    /// The configured root is neither a folder nor a URL of an object store.
    #[error("'{root}' is not a place for Delta tables: {detail}")]
    Root {
        /// As configured.
        root: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A column has a type that Delta does not have.
    #[error(transparent)]
    Type(#[from] BadType),
    /// Somebody has to look at it: the drain of the group stands still.
    #[error(transparent)]
    Halted(#[from] Halt),
    /// Delta or the storage below it failed; it is tried again.
    #[error("the Delta table failed: {0}")]
    Delta(#[from] DeltaTableError),
    /// A query over the history failed.
    #[error("reading the history failed: {0}")]
    Query(#[from] DataFusionError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The disk failed, or the server is stopping.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl From<Interrupted<DeltaTableError, store::Error>> for Error {
    fn from(interrupted: Interrupted<DeltaTableError, store::Error>) -> Self {
        match interrupted {
            Interrupted::Table(e) => Self::Delta(e),
            Interrupted::Outbox(e) => Self::Store(e),
            Interrupted::Halt(halt) => Self::Halted(halt),
        }
    }
}
