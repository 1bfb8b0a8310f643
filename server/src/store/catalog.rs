//! Definitions as the catalog wrote them, and ids that are never given twice.

use super::bytes::{Bytes, VERSION};
use super::db::{Batch, Family};
use super::{Error, Store, keys};

/// What is defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A stream; its version is always 1.
    Stream,
    /// A feature group.
    Group,
    /// A feature view.
    View,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Stream => 1,
            Self::Group => 2,
            Self::View => 3,
        }
    }
}

impl Store {
    /// The next id for a catalog object; on disk before it is given.
    pub fn next_id(&self) -> Result<u32, Error> {
        let mut last = self.last_id.lock();
        let id = *last + 1;
        self.db.put(Family::Meta, b"last_id", &[&[VERSION][..], &id.to_le_bytes()].concat())?;
        *last = id;
        Ok(id)
    }

    /// Writes a definition, replacing the one of the same kind, name and version.
    pub fn put_definition(&self, kind: Kind, name: &str, version: u32, json: &[u8]) -> Result<(), Error> {
        let key = keys::definition(kind.code(), name, version);
        self.db.put(Family::Catalog, &key, &[&[VERSION], json].concat())
    }

    /// Removes a definition.
    pub fn delete_definition(&self, kind: Kind, name: &str, version: u32) -> Result<(), Error> {
        let mut batch = Batch::new(&self.db);
        batch.delete(Family::Catalog, &keys::definition(kind.code(), name, version))?;
        self.db.write(batch)
    }

    /// All definitions of a kind, by name and version.
    pub fn definitions(&self, kind: Kind) -> Result<Vec<Vec<u8>>, Error> {
        self.db
            .scan(Family::Catalog, &[kind.code()], None)?
            .map(|_, v| Ok(Bytes::open("catalog", v)?.rest().to_vec()))
            .collect()
    }
}
