//! What can go wrong in the store.

use std::path::PathBuf;

use crate::catalog::GroupId;

/// Why the store cannot do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another process has the data directory.
    #[error("{} is in use by {}", dir.display(), pid.map_or_else(|| "another process".to_owned(), |p| format!("process {p}")))]
    InUse {
        /// The data directory.
        dir: PathBuf,
        /// Who holds it, where it says so.
        pid: Option<u32>,
    },
    /// The directory was written by a newer release.
    #[error("{} has format {found}; this release knows formats up to {known}: use a newer Millpond", dir.display())]
    Newer {
        /// The data directory.
        dir: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this release reads.
        known: u32,
    },
    /// A write or its fsync failed. What reached the disk is unknown: nothing is written any more
    /// until the process is started again.
    #[error("the store failed while writing and must be opened again: {0}")]
    Fatal(String),
    /// RocksDB failed to read, or refused an operation.
    #[error("the store failed: {0}")]
    Database(String),
    /// Bytes that the codec of their column family did not write.
    #[error("the store holds what it did not write in '{family}': {detail}")]
    Corrupt {
        /// Column family.
        family: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// A producer's batch is not the next one, nor the last one again.
    #[error("the last batch of this producer has sequence {last}: send {}", last.saturating_add(1))]
    Sequence {
        /// The last sequence taken.
        last: u64,
    },
    /// An epoch that does not follow the last one committed.
    #[error("epoch {found} does not follow the last one committed: {expected} is next")]
    Epoch {
        /// What would follow.
        expected: u64,
        /// What was given.
        found: u64,
    },
    /// Rows of a group whose row schema was not registered.
    #[error("feature group {} was not registered with the store", .0.0)]
    Unregistered(GroupId),
    /// A column type that a row cannot hold.
    #[error("column '{column}' of type {data_type} cannot be stored")]
    Type {
        /// The column.
        column: String,
        /// Its Arrow type.
        data_type: arrow::datatypes::DataType,
    },
    /// Rows that are not of the group's schema, or whose parts do not match in length.
    #[error("the rows do not fit the group: {0}")]
    Rows(String),
    /// The file system failed.
    #[error("{}: {detail}", path.display())]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What the system says.
        detail: String,
    },
}

impl Error {
    /// True where only opening the store again helps.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Fatal(_))
    }

    pub(super) fn corrupt(family: &'static str, detail: impl Into<String>) -> Self {
        Self::Corrupt { family, detail: detail.into() }
    }
}

impl From<rocksdb::Error> for Error {
    fn from(e: rocksdb::Error) -> Self {
        Self::Database(e.into_string())
    }
}
