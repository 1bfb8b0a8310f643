//! Schemas by registry: the embedded registry's tables, and the cache of an external one.
//!
//! `registry` is the registry's identity: `embedded`, or the URL of an external one. Each value is a
//! version byte and the text (schemas, configuration) or document (subject versions) as given.

use super::bytes::{Bytes, VERSION};
use super::db::{Batch, Family};
use super::{Error, Store, keys};

/// One change of the schema tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SchemaChange<'a> {
    /// The schema of an id.
    PutSchema { id: u32, schema: &'a str },
    /// What the registry keeps of an id besides its schema: a document of its own.
    PutFacets { id: u32, document: &'a [u8] },
    /// A version of a subject: a document of the registry's own.
    PutVersion { subject: &'a str, version: u32, document: &'a [u8] },
    /// Forgets a version of a subject.
    DeleteVersion { subject: &'a str, version: u32 },
    /// Configuration of a subject; the empty subject is the registry's.
    PutConfig { subject: &'a str, config: &'a [u8] },
    /// Forgets the configuration of a subject.
    DeleteConfig { subject: &'a str },
}

/// One version of a subject, as the registry wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectEntry {
    /// The subject.
    pub subject: String,
    /// Its version.
    pub version: u32,
    /// The registry's document.
    pub document: Vec<u8>,
}

impl Store {
    /// The schema of an id, if the registry's table or cache has it.
    pub fn schema_by_id(&self, registry: &str, id: u32) -> Result<Option<String>, Error> {
        let value = self.db.get(Family::Schemas, &keys::schema(registry, id))?;
        value.map(|v| text(&v)).transpose()
    }

    /// All schemas of a registry by id.
    pub fn schemas(&self, registry: &str) -> Result<Vec<(u32, String)>, Error> {
        self.by_id(&keys::registry(registry, b'i'), text)
    }

    /// What a registry keeps of its ids besides their schemas, by id.
    pub fn schema_facets(&self, registry: &str) -> Result<Vec<(u32, Vec<u8>)>, Error> {
        self.by_id(&keys::registry(registry, b'f'), |v| Ok(Bytes::open("schemas", v)?.rest().to_vec()))
    }

    fn by_id<T>(
        &self,
        prefix: &[u8],
        read: impl Fn(&[u8]) -> Result<T, Error>,
    ) -> Result<Vec<(u32, T)>, Error> {
        let bad = || Error::corrupt("schemas", "a key is not a schema id");
        self.db
            .scan(Family::Schemas, prefix, None)?
            .map(|k, v| {
                let id = k.strip_prefix(prefix).and_then(|id| id.try_into().ok()).ok_or_else(bad)?;
                Ok((u32::from_be_bytes(id), read(v)?))
            })
            .collect()
    }

    /// Applies all changes as one synced batch.
    pub fn put_schemas(&self, registry: &str, changes: &[SchemaChange<'_>]) -> Result<(), Error> {
        let mut batch = Batch::new(&self.db);
        let value = |bytes: &[u8]| [&[VERSION], bytes].concat();
        for change in changes {
            match *change {
                SchemaChange::PutSchema { id, schema } => {
                    batch.put(Family::Schemas, &keys::schema(registry, id), &value(schema.as_bytes()))?;
                }
                SchemaChange::PutFacets { id, document } => {
                    batch.put(Family::Schemas, &keys::schema_facets(registry, id), &value(document))?;
                }
                SchemaChange::PutVersion { subject, version, document } => {
                    let key = keys::subject_version(registry, subject, version);
                    batch.put(Family::Schemas, &key, &value(document))?;
                }
                SchemaChange::DeleteVersion { subject, version } => {
                    batch.delete(Family::Schemas, &keys::subject_version(registry, subject, version))?;
                }
                SchemaChange::PutConfig { subject, config } => {
                    batch.put(Family::Schemas, &keys::subject_config(registry, subject), &value(config))?;
                }
                SchemaChange::DeleteConfig { subject } => {
                    batch.delete(Family::Schemas, &keys::subject_config(registry, subject))?;
                }
            }
        }
        self.db.write(batch)
    }

    /// All versions of all subjects of a registry, by subject and version.
    pub fn subject_entries(&self, registry: &str) -> Result<Vec<SubjectEntry>, Error> {
        let prefix = keys::registry(registry, b's');
        self.db
            .scan(Family::Schemas, &prefix, None)?
            .map(|k, v| {
                let (subject, version) = keys::parse_subject_version(&prefix, k)?;
                Ok(SubjectEntry { subject, version, document: Bytes::open("schemas", v)?.rest().to_vec() })
            })
            .collect()
    }

    /// All configuration of a registry by subject; the empty subject is the registry's own.
    pub fn registry_config(&self, registry: &str) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let prefix = keys::registry(registry, b'c');
        self.db
            .scan(Family::Schemas, &prefix, None)?
            .map(|k, v| {
                let subject = k.strip_prefix(prefix.as_slice()).unwrap_or_default();
                let subject = String::from_utf8_lossy(subject).into_owned();
                Ok((subject, Bytes::open("schemas", v)?.rest().to_vec()))
            })
            .collect()
    }
}

fn text(value: &[u8]) -> Result<String, Error> {
    let text = Bytes::open("schemas", value)?.rest();
    String::from_utf8(text.to_vec()).map_err(|_| Error::corrupt("schemas", "a schema is not UTF-8"))
}
