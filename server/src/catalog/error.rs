//! What a definition can be refused for.

use millpond_engine::{avro, sql};

/// Why an object cannot be created, changed or found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of the request cannot be used.
    #[error("{field}: {message}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        message: String,
        /// What to write instead.
        hint: String,
    },
    /// There is no such object.
    #[error("there is no {kind} {name}")]
    NotFound {
        /// `stream`, `feature group` or `feature view`.
        kind: &'static str,
        /// Its name, with the version where it has one.
        name: String,
        /// Names that are near.
        hint: String,
    },
    /// There is one of that name and version with another definition.
    #[error("{kind} {name} exists with another definition: {}", diff.join("; "))]
    Conflict {
        /// `stream`, `feature group` or `feature view`.
        kind: &'static str,
        /// Its name, with the version where it has one.
        name: String,
        /// One line a difference.
        diff: Vec<String>,
        /// What to do.
        hint: String,
    },
    /// Others depend on the object.
    #[error("{kind} {name} is used by {}", by.join(", "))]
    InUse {
        /// `stream` or `feature group`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Who uses it.
        by: Vec<String>,
    },
    /// The SQL is refused.
    #[error(transparent)]
    Sql(#[from] sql::Error),
    /// The schema is refused.
    #[error(transparent)]
    Schema(#[from] avro::SchemaError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] crate::store::Error),
    /// A stored definition cannot be read: written by another version, or damaged.
    #[error("the stored definition of {what} cannot be used: {detail}")]
    Stored {
        /// Which object.
        what: String,
        /// Why.
        detail: String,
    },
}

impl Error {
    /// A field that cannot be used, with what to write instead.
    pub fn invalid(field: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Invalid { field, message: message.into(), hint: hint.into() }
    }
}
