//! The schema registry: embedded by default, external by URL; one face for both.
//!
//! A schema never changes once it has an id, so what was learnt is kept: in memory, and for an
//! external registry in the store too, so that a registry that is down stops nobody who meets only
//! known ids.

mod embedded;
mod external;
mod json;
mod level;
mod schema;
mod subjects;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::config;
use crate::store::{SchemaChange, Store};

pub use embedded::Embedded;
pub use level::Level;
pub use schema::{Kind, Reference, Schema, Stored};
pub use subjects::{Registered, Which};

use external::External;

/// Identity of the embedded registry in the store's keys.
const EMBEDDED: &str = "embedded";

/// Why the registry cannot do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The registry does not know the id, and has had time to learn it.
    #[error("Schema {id} not found")]
    Unknown {
        /// Schema id.
        id: u32,
    },
    /// The registry does not answer, or does not know the id yet: ask again later.
    #[error("the schema registry {registry} is not available: {detail}")]
    Unavailable {
        /// Its URL.
        registry: String,
        /// What happened.
        detail: String,
    },
    /// No such subject.
    #[error("Subject '{0}' not found.")]
    NoSubject(String),
    /// The subject has no such version.
    #[error("Version {0} not found.")]
    NoVersion(u32),
    /// The subject does not have this schema.
    #[error("Schema not found")]
    NoSchema,
    /// Deleted softly already.
    #[error("Subject '{0}' was soft deleted. Set permanent=true to delete permanently")]
    SubjectDeleted(String),
    /// Only what was deleted softly can be deleted for good.
    #[error("Subject '{0}' was not deleted first before being permanently deleted")]
    SubjectNotDeleted(String),
    /// Deleted softly already.
    #[error("Subject '{0}' Version {1} was soft deleted. Set permanent=true to delete permanently")]
    VersionDeleted(String, u32),
    /// Only what was deleted softly can be deleted for good.
    #[error("Subject '{0}' Version {1} was not deleted first before being permanently deleted")]
    VersionNotDeleted(String, u32),
    /// Others refer to it.
    #[error("One or more references exist to the schema {{magic=1,keytype=SCHEMA,subject={0},version={1}}}.")]
    Referenced(String, u32),
    /// The subject follows the registry's level.
    #[error("Subject '{0}' does not have subject-level compatibility configured")]
    NoConfig(String),
    /// Not a schema, or it refers to what is not there.
    #[error("Invalid schema: {0}")]
    InvalidSchema(String),
    /// Not a version number.
    #[error(
        "The specified version '{0}' is not a valid version id. Allowed values are between [1, 2^31-1] and the string \"latest\""
    )]
    InvalidVersion(String),
    /// Not a compatibility level.
    #[error(
        "Invalid compatibility level '{0}'. Valid values are none, backward, forward, full, backward_transitive, forward_transitive, and full_transitive"
    )]
    InvalidLevel(String),
    /// The subject's compatibility level forbids the schema.
    #[error("Schema being registered is incompatible with an earlier schema for subject \"{subject}\", details: [{}]", reasons.join("; "))]
    Incompatible {
        /// The subject.
        subject: String,
        /// Each difference, with the version that it is from.
        reasons: Vec<String>,
    },
    /// The configuration of an external registry cannot be used.
    #[error("schema_registry: {0}")]
    Configuration(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] crate::store::Error),
}

/// The latest schema of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latest {
    /// Its id.
    pub id: u32,
    /// What it is written in.
    pub kind: Kind,
    /// Its text, standing by itself: what it refers to is in it.
    pub schema: String,
}

/// Where writers' schemas come from and readers' schemas are registered.
pub struct Registry {
    identity: String,
    backend: Backend,
    store: Arc<Store>,
    /// By id; schemas are never unlearnt.
    known: RwLock<HashMap<u32, Arc<str>>>,
}

enum Backend {
    Embedded(Embedded),
    External(External),
}

impl Registry {
    /// The registry of this configuration: external where it has a URL.
    pub fn open(config: &config::SchemaRegistry, store: Arc<Store>) -> Result<Self, Error> {
        let (identity, backend) = match &config.url {
            None => (EMBEDDED.to_owned(), Backend::Embedded(Embedded::open(Arc::clone(&store))?)),
            Some(url) => {
                let external = External::new(url, config)?;
                (external.url().to_owned(), Backend::External(external))
            }
        };
        Ok(Self { identity, backend, store, known: RwLock::default() })
    }

    /// What tells this registry from others: ids mean something only within one. `embedded`, or the
    /// URL without credentials.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The embedded registry, if it is that one.
    pub fn embedded(&self) -> Option<&Embedded> {
        match &self.backend {
            Backend::Embedded(embedded) => Some(embedded),
            Backend::External(_) => None,
        }
    }

    /// The schema of an id, standing by itself: what it refers to is in it. Blocks while an external registry is asked (up to its timeout), and may
    /// be called from any thread.
    ///
    /// # Errors
    /// [`Error::Unknown`] is final for the records at hand; [`Error::Unavailable`] is not.
    pub fn schema(&self, id: u32) -> Result<Arc<str>, Error> {
        if let Some(schema) = self.known.read().get(&id) {
            return Ok(Arc::clone(schema));
        }
        let schema: Arc<str> = match &self.backend {
            Backend::Embedded(embedded) => {
                Arc::clone(&embedded.schema(id).ok_or(Error::Unknown { id })?.whole)
            }
            Backend::External(external) => match self.store.schema_by_id(&self.identity, id)? {
                Some(schema) => schema.into(),
                None => {
                    let schema = external.schema(id)?;
                    self.store
                        .put_schemas(&self.identity, &[SchemaChange::PutSchema { id, schema: &schema }])?;
                    schema.into()
                }
            },
        };
        self.known.write().insert(id, Arc::clone(&schema));
        Ok(schema)
    }

    /// A subject's latest schema; `None`: there is no such subject.
    pub async fn latest(&self, subject: &str) -> Result<Option<Latest>, Error> {
        match &self.backend {
            Backend::Embedded(embedded) => match embedded.version(subject, Which::Latest, false) {
                Ok(found) => Ok(Some(Latest {
                    id: found.id,
                    kind: found.schema.schema.kind,
                    schema: found.schema.whole.to_string(),
                })),
                Err(Error::NoSubject(_) | Error::NoVersion(_)) => Ok(None),
                Err(error) => Err(error),
            },
            Backend::External(external) => external.latest(subject).await,
        }
    }

    /// Registers a schema under a subject, unless it is there: its id either way.
    ///
    /// # Errors
    /// [`Error::Incompatible`] where the subject's level forbids it.
    pub async fn register(&self, subject: &str, schema: impl Into<Schema>) -> Result<u32, Error> {
        let schema = schema.into();
        match &self.backend {
            // A synced write of some hundred microseconds, seldom: not worth a thread.
            Backend::Embedded(embedded) => embedded.register(subject, schema),
            Backend::External(external) => external.register(subject, schema).await,
        }
    }
}

/// A JSON Schema made to stand by itself: what it refers to within itself is where it is referred to.
pub fn json_schema(text: &str) -> Result<String, Error> {
    json::self_contained(text, &[])
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("identity", &self.identity).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
