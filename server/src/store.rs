//! The store: one RocksDB database, a column family per concern.

pub mod commit;

/// Why the store cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// RocksDB failed; an fsync error is fatal.
    #[error("the store failed: {0}")]
    Database(String),
}
