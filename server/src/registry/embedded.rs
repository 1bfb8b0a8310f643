//! The embedded registry: [`Subjects`] over the store's `schemas` column family.
//!
//! A schema keeps its id for good, also when every version that had it is deleted: records with the
//! id may be in a log.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use super::subjects::{Registration, Subjects, Version};
use super::{EMBEDDED, Error, Level, Registered, Schema, Stored, Which};
use crate::store::{self, SchemaChange, Store};

/// The embedded registry. Reads are in memory; each change is one synced write.
pub struct Embedded {
    store: Arc<Store>,
    subjects: RwLock<Subjects>,
}

impl Embedded {
    /// Reads what the store has.
    pub(super) fn open(store: Arc<Store>) -> Result<Self, Error> {
        let mut subjects = Subjects::default();
        let mut facets: HashMap<u32, Vec<u8>> = store.schema_facets(EMBEDDED)?.into_iter().collect();
        for (id, schema) in store.schemas(EMBEDDED)? {
            let facets = facets.remove(&id).map(|facets| from_json(&facets)).transpose()?;
            subjects.restore(id, schema, facets.unwrap_or_default())?;
        }
        for entry in store.subject_entries(EMBEDDED)? {
            subjects.put_version(&entry.subject, entry.version, from_json(&entry.document)?);
        }
        for (subject, config) in store.registry_config(EMBEDDED)? {
            subjects.set_level(&subject, Some(from_json(&config)?));
        }
        Ok(Self { store, subjects: RwLock::new(subjects) })
    }

    /// The schema of an id.
    pub fn schema(&self, id: u32) -> Option<Arc<Stored>> {
        self.subjects.read().schema(id)
    }

    /// The greatest id given.
    pub fn max_id(&self) -> u32 {
        self.subjects.read().max_id()
    }

    /// All subjects, on demand with those that are deleted softly.
    pub fn subjects(&self, deleted: bool) -> Vec<String> {
        self.subjects.read().subjects(deleted)
    }

    /// The versions of a subject.
    pub fn versions(&self, subject: &str, deleted: bool) -> Result<Vec<u32>, Error> {
        self.subjects.read().versions(subject, deleted)
    }

    /// One version of a subject.
    pub fn version(&self, subject: &str, which: Which, deleted: bool) -> Result<Registered, Error> {
        self.subjects.read().version(subject, which, deleted)
    }

    /// Subject and version of each place where an id is registered.
    pub fn uses(&self, id: u32, deleted: bool) -> Result<Vec<(String, u32)>, Error> {
        self.subjects.read().uses(id, deleted)
    }

    /// The version of a subject that has this schema, compared normalised.
    pub fn lookup(
        &self,
        subject: &str,
        schema: impl Into<Schema>,
        deleted: bool,
    ) -> Result<Registered, Error> {
        let subjects = self.subjects.read();
        subjects.lookup(subject, &subjects.parse(schema.into())?, deleted)
    }

    /// The ids of the schemas that refer to a version of a subject.
    pub fn referenced_by(&self, subject: &str, which: Which) -> Result<Vec<u32>, Error> {
        let subjects = self.subjects.read();
        let found = subjects.version(subject, which, false)?;
        Ok(subjects.referenced_by(subject, found.version))
    }

    /// Registers a schema, unless the subject has it: its id either way.
    pub fn register(&self, subject: &str, schema: impl Into<Schema>) -> Result<u32, Error> {
        let mut subjects = self.subjects.write();
        let parsed = subjects.parse(schema.into())?;
        let (id, version, schema) = match subjects.register(subject, parsed)? {
            Registration::Exists { id } => return Ok(id),
            Registration::New { id, version, schema } => (id, version, schema),
        };
        let document = Version { id, deleted: false };
        let json = to_json(&document)?;
        let mut changes = vec![SchemaChange::PutVersion { subject, version, document: &json }];
        let facets = schema.as_ref().and_then(|schema| schema.facets());
        let facets = facets.map(|facets| to_json(&facets)).transpose()?;
        let text = schema.as_ref().map(|schema| schema.schema.text.as_str());
        changes.extend(text.map(|schema| SchemaChange::PutSchema { id, schema }));
        changes.extend(facets.as_deref().map(|document| SchemaChange::PutFacets { id, document }));
        self.store.put_schemas(EMBEDDED, &changes)?;
        if let Some(schema) = schema {
            subjects.put_schema(id, schema);
        }
        subjects.put_version(subject, version, document);
        Ok(id)
    }

    /// What keeps a schema from being the subject's next version.
    pub fn incompatibilities(&self, subject: &str, schema: impl Into<Schema>) -> Result<Vec<String>, Error> {
        let subjects = self.subjects.read();
        subjects.incompatibilities(subject, &subjects.parse(schema.into())?)
    }

    /// The same against one version, by the subject's level.
    pub fn incompatibilities_with(
        &self,
        subject: &str,
        which: Which,
        schema: impl Into<Schema>,
    ) -> Result<Vec<String>, Error> {
        let subjects = self.subjects.read();
        let schema = subjects.parse(schema.into())?;
        let old = subjects.version(subject, which, false)?;
        subjects.effective_level(subject).check(&schema, &old.schema)
    }

    /// Deletes all versions of a subject: softly, then for good. Returns their numbers.
    pub fn delete_subject(&self, subject: &str, permanent: bool) -> Result<Vec<u32>, Error> {
        let mut subjects = self.subjects.write();
        let versions = subjects.delete_subject(subject, permanent)?;
        self.delete(&mut subjects, subject, &versions, permanent)?;
        if permanent {
            self.store.put_schemas(EMBEDDED, &[SchemaChange::DeleteConfig { subject }])?;
            subjects.set_level(subject, None);
        }
        Ok(versions.into_iter().map(|(number, _)| number).collect())
    }

    /// Deletes one version: softly, then for good. Returns its number.
    pub fn delete_version(&self, subject: &str, which: Which, permanent: bool) -> Result<u32, Error> {
        let mut subjects = self.subjects.write();
        let version = subjects.delete_version(subject, which, permanent)?;
        self.delete(&mut subjects, subject, &[version], permanent)?;
        Ok(version.0)
    }

    fn delete(
        &self,
        subjects: &mut Subjects,
        subject: &str,
        versions: &[(u32, Version)],
        permanent: bool,
    ) -> Result<(), Error> {
        let mut documents = Vec::with_capacity(versions.len());
        for (_, version) in versions {
            documents.push(to_json(&Version { deleted: true, ..*version })?);
        }
        let changes: Vec<SchemaChange<'_>> = versions
            .iter()
            .zip(&documents)
            .map(|((version, _), document)| {
                if permanent {
                    SchemaChange::DeleteVersion { subject, version: *version }
                } else {
                    SchemaChange::PutVersion { subject, version: *version, document }
                }
            })
            .collect();
        self.store.put_schemas(EMBEDDED, &changes)?;
        for (number, version) in versions {
            if permanent {
                subjects.remove_version(subject, *number)
            } else {
                subjects.put_version(subject, *number, Version { deleted: true, ..*version })
            }
        }
        Ok(())
    }

    /// The registry's level.
    pub fn level(&self) -> Level {
        self.subjects.read().effective_level("")
    }

    /// A subject's own level; the one that it follows where `default` is true.
    pub fn subject_level(&self, subject: &str, default: bool) -> Result<Level, Error> {
        let subjects = self.subjects.read();
        match subjects.level(subject) {
            Some(level) => Ok(level),
            None if default => Ok(subjects.effective_level(subject)),
            None => Err(Error::NoConfig(subject.to_owned())),
        }
    }

    /// Sets a level, the registry's for the empty subject; `None` takes it away. Returns the level
    /// that was in force.
    pub fn set_level(&self, subject: &str, level: Option<Level>) -> Result<Level, Error> {
        let mut subjects = self.subjects.write();
        let before = subjects.effective_level(subject);
        let config = level.map(|level| to_json(&level)).transpose()?;
        let change = match &config {
            Some(config) => SchemaChange::PutConfig { subject, config },
            None => SchemaChange::DeleteConfig { subject },
        };
        self.store.put_schemas(EMBEDDED, &[change])?;
        subjects.set_level(subject, level);
        Ok(before)
    }
}

fn to_json<T: serde::Serialize>(document: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(document).map_err(|e| corrupt(&e))
}

fn from_json<T: serde::de::DeserializeOwned>(document: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(document).map_err(|e| corrupt(&e))
}

fn corrupt(error: &serde_json::Error) -> Error {
    Error::Store(store::Error::Corrupt { family: "schemas", detail: error.to_string() })
}
