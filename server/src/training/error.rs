//! What can go wrong in making training data.

use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use datafusion::error::DataFusionError;

use crate::offline;

/// Why there is no training data.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The labels lack a column that the join needs.
    #[error("the labels have no column '{column}', which is {purpose}; their columns are {found}")]
    Missing {
        /// What is missing.
        column: String,
        /// What it is for.
        purpose: String,
        /// The columns that there are.
        found: String,
    },
    /// A key column of a type that never equals the group's key.
    #[error("the labels' column '{column}' is {found}, but the key of {group} is {wanted}: cast it")]
    KeyType {
        /// The labels' column.
        column: String,
        /// Its type.
        found: DataType,
        /// The feature group.
        group: String,
        /// The key's type.
        wanted: DataType,
    },
    /// The event time is no time.
    #[error("the labels' column '{column}' is {found}, not a timestamp: cast it")]
    TimeType {
        /// The labels' column.
        column: String,
        /// Its type.
        found: DataType,
    },
    /// The offline store failed.
    #[error(transparent)]
    Offline(#[from] offline::Error),
    /// Sorting, joining or reading failed.
    #[error("the join failed: {0}")]
    Query(#[from] DataFusionError),
    /// The labels cannot be read.
    #[error("the labels cannot be read: {0}")]
    Arrow(#[from] ArrowError),
}

impl Error {
    /// True where the request is to be changed, and not the server looked at.
    pub fn is_callers(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::KeyType { .. } | Self::TimeType { .. } | Self::Arrow(_))
    }
}
