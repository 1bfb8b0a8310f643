//! What the embedded registry knows, in memory, and its decisions. No I/O: a change is decided here,
//! written by [`super::Embedded`], and only then applied here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::schema::{Facets, Reference, Schema, Stored};
use super::{Error, Level};

/// A version of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The subject.
    pub subject: String,
    /// Its version.
    pub version: u32,
    /// Id of the schema, the same under every subject.
    pub id: u32,
    /// The schema.
    pub schema: Arc<Stored>,
}

/// Which version of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The greatest that is not deleted.
    Latest,
    /// This one.
    Number(u32),
}

impl std::str::FromStr for Which {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            // Confluent's own clients send -1 for it.
            "latest" | "-1" => Ok(Self::Latest),
            _ => match text.parse() {
                Ok(number) if (1..=i32::MAX as u32).contains(&number) => Ok(Self::Number(number)),
                _ => Err(Error::InvalidVersion(text.to_owned())),
            },
        }
    }
}

/// What a version refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Version {
    /// Schema id.
    pub id: u32,
    /// Deleted softly: not listed, but its number is never given again and it can be looked at.
    #[serde(default)]
    pub deleted: bool,
}

/// What registering comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Registration {
    /// The subject has the schema.
    Exists { id: u32 },
    /// A new version; `schema` where the id is new too.
    New { id: u32, version: u32, schema: Option<Arc<Stored>> },
}

/// All subjects.
#[derive(Debug, Default)]
pub(super) struct Subjects {
    schemas: BTreeMap<u32, Arc<Stored>>,
    /// What tells a schema from others → id.
    ids: HashMap<String, u32>,
    subjects: BTreeMap<String, BTreeMap<u32, Version>>,
    levels: HashMap<String, Level>,
}

impl Subjects {
    pub fn put_schema(&mut self, id: u32, schema: Arc<Stored>) {
        self.ids.entry(schema.identity.clone()).or_insert(id);
        self.schemas.insert(id, schema);
    }

    /// Reads a schema that is in the store; its references are here already, for they have lower ids.
    pub fn restore(&mut self, id: u32, text: String, facets: Facets) -> Result<(), Error> {
        let Facets { schema_type, references, parts } = facets;
        let parts = parts
            .into_iter()
            .map(|part| Ok((part, self.schema(part).ok_or(Error::Unknown { id: part })?)))
            .collect::<Result<Vec<_>, Error>>()?;
        let schema = Schema { kind: schema_type, text, references };
        self.put_schema(id, Arc::new(Stored::restored(schema, &parts)));
        Ok(())
    }

    /// A schema with what it refers to.
    pub fn parse(&self, schema: Schema) -> Result<Stored, Error> {
        let find = |reference: &Reference| {
            let Reference { subject, version, .. } = reference;
            let found = self.version(subject, Which::Number(*version), false);
            let missing = || {
                Error::InvalidSchema(format!(
                    "No schema reference found for subject \"{subject}\" and version {version}"
                ))
            };
            found.map(|found| (found.id, found.schema)).map_err(|_| missing())
        };
        let parts = schema.references.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        Stored::parse(schema, &parts)
    }

    /// The ids of the schemas that refer to a version and are in use.
    pub fn referenced_by(&self, subject: &str, version: u32) -> Vec<u32> {
        let refers = |schema: &Stored| {
            schema.schema.references.iter().any(|r| r.subject == subject && r.version == version)
        };
        let used =
            |id: u32| self.subjects.values().flat_map(BTreeMap::values).any(|v| v.id == id && !v.deleted);
        let referring = self.schemas.iter().filter(|(id, schema)| refers(schema) && used(**id));
        referring.map(|(id, _)| *id).collect()
    }

    pub fn put_version(&mut self, subject: &str, number: u32, version: Version) {
        self.subjects.entry(subject.to_owned()).or_default().insert(number, version);
    }

    pub fn remove_version(&mut self, subject: &str, number: u32) {
        if let Some(versions) = self.subjects.get_mut(subject) {
            versions.remove(&number);
            if versions.is_empty() {
                self.subjects.remove(subject);
            }
        }
    }

    /// The empty subject is the registry itself.
    pub fn set_level(&mut self, subject: &str, level: Option<Level>) {
        match level {
            Some(level) => self.levels.insert(subject.to_owned(), level),
            None => self.levels.remove(subject),
        };
    }

    pub fn level(&self, subject: &str) -> Option<Level> {
        self.levels.get(subject).copied()
    }

    pub fn effective_level(&self, subject: &str) -> Level {
        self.level(subject).or_else(|| self.level("")).unwrap_or_default()
    }

    pub fn schema(&self, id: u32) -> Option<Arc<Stored>> {
        self.schemas.get(&id).cloned()
    }

    pub fn max_id(&self) -> u32 {
        self.schemas.last_key_value().map_or(0, |(id, _)| *id)
    }

    pub fn subjects(&self, deleted: bool) -> Vec<String> {
        let listed =
            self.subjects.iter().filter(|(_, versions)| deleted || versions.values().any(|v| !v.deleted));
        listed.map(|(subject, _)| subject.clone()).collect()
    }

    pub fn versions(&self, subject: &str, deleted: bool) -> Result<Vec<u32>, Error> {
        let found: Vec<u32> = self.listed(subject, deleted).map(|(number, _)| number).collect();
        if found.is_empty() { Err(Error::NoSubject(subject.to_owned())) } else { Ok(found) }
    }

    pub fn version(&self, subject: &str, which: Which, deleted: bool) -> Result<Registered, Error> {
        self.versions(subject, deleted)?;
        let mut listed = self.listed(subject, deleted);
        let found = match which {
            Which::Latest => listed.last().ok_or_else(|| Error::NoSubject(subject.to_owned())),
            Which::Number(wanted) => {
                listed.find(|(number, _)| *number == wanted).ok_or(Error::NoVersion(wanted))
            }
        };
        let (version, Version { id, .. }) = found?;
        let schema = self.schema(id).ok_or(Error::Unknown { id })?;
        Ok(Registered { subject: subject.to_owned(), version, id, schema })
    }

    /// Subject and version of each place where an id is registered.
    pub fn uses(&self, id: u32, deleted: bool) -> Result<Vec<(String, u32)>, Error> {
        if !self.schemas.contains_key(&id) {
            return Err(Error::Unknown { id });
        }
        let all = self.subjects.iter().flat_map(|(s, versions)| versions.iter().map(move |(n, v)| (s, n, v)));
        let used = all.filter(|(_, _, v)| v.id == id && (deleted || !v.deleted));
        Ok(used.map(|(subject, number, _)| (subject.clone(), *number)).collect())
    }

    pub fn lookup(&self, subject: &str, schema: &Stored, deleted: bool) -> Result<Registered, Error> {
        self.versions(subject, deleted)?;
        let id = *self.ids.get(&schema.identity).ok_or(Error::NoSchema)?;
        let (number, _) =
            self.listed(subject, deleted).filter(|(_, v)| v.id == id).last().ok_or(Error::NoSchema)?;
        self.version(subject, Which::Number(number), deleted)
    }

    pub fn register(&self, subject: &str, schema: Stored) -> Result<Registration, Error> {
        let id = self.ids.get(&schema.identity).copied();
        if let Some(id) = id
            && self.listed(subject, false).any(|(_, version)| version.id == id)
        {
            return Ok(Registration::Exists { id });
        }
        let reasons = self.incompatibilities(subject, &schema)?;
        if !reasons.is_empty() {
            return Err(Error::Incompatible { subject: subject.to_owned(), reasons });
        }
        let last = self.subjects.get(subject).and_then(|versions| versions.last_key_value());
        let version = last.map_or(1, |(number, _)| number + 1);
        Ok(match id {
            Some(id) => Registration::New { id, version, schema: None },
            None => Registration::New { id: self.max_id() + 1, version, schema: Some(Arc::new(schema)) },
        })
    }

    /// What keeps a schema from being the subject's next version.
    pub fn incompatibilities(&self, subject: &str, schema: &Stored) -> Result<Vec<String>, Error> {
        let level = self.effective_level(subject);
        let mut earlier: Vec<(u32, Version)> = self.listed(subject, false).collect();
        if !level.is_transitive() {
            earlier = earlier.split_off(earlier.len().saturating_sub(1));
        }
        let mut reasons = Vec::new();
        for (number, version) in earlier {
            let old = self.schema(version.id).ok_or(Error::Unknown { id: version.id })?;
            let found = level.check(schema, &old)?;
            reasons.extend(found.into_iter().map(|reason| format!("version {number}: {reason}")));
        }
        Ok(reasons)
    }

    /// The versions that deleting a subject takes away.
    pub fn delete_subject(&self, subject: &str, permanent: bool) -> Result<Vec<(u32, Version)>, Error> {
        let all: Vec<_> = self.listed(subject, true).collect();
        let alive: Vec<_> = self.listed(subject, false).collect();
        match (all.is_empty(), alive.is_empty(), permanent) {
            (true, ..) => Err(Error::NoSubject(subject.to_owned())),
            (_, true, false) => Err(Error::SubjectDeleted(subject.to_owned())),
            (_, false, true) => Err(Error::SubjectNotDeleted(subject.to_owned())),
            (_, false, false) => {
                self.unreferenced(subject, alive.iter().map(|(number, _)| *number))?;
                Ok(alive)
            }
            (_, true, true) => Ok(all),
        }
    }

    /// The version that deleting it takes away.
    pub fn delete_version(
        &self,
        subject: &str,
        which: Which,
        permanent: bool,
    ) -> Result<(u32, Version), Error> {
        let found = self.version(subject, which, true)?;
        let found = match which {
            // Never the latest of the deleted ones by the name of the latest.
            Which::Latest => self.version(subject, which, false)?,
            Which::Number(_) => found,
        };
        let number = found.version;
        let deleted = !self.listed(subject, false).any(|(n, _)| n == number);
        match (deleted, permanent) {
            (true, false) => Err(Error::VersionDeleted(subject.to_owned(), number)),
            (false, true) => Err(Error::VersionNotDeleted(subject.to_owned(), number)),
            _ => {
                self.unreferenced(subject, std::iter::once(number))?;
                Ok((number, Version { id: found.id, deleted }))
            }
        }
    }

    /// Whether versions of a subject may go: no schema that is in use refers to one of them.
    fn unreferenced(&self, subject: &str, mut versions: impl Iterator<Item = u32>) -> Result<(), Error> {
        match versions.find(|version| !self.referenced_by(subject, *version).is_empty()) {
            Some(version) => Err(Error::Referenced(subject.to_owned(), version)),
            None => Ok(()),
        }
    }

    fn listed(&self, subject: &str, deleted: bool) -> impl Iterator<Item = (u32, Version)> {
        let versions = self.subjects.get(subject).into_iter().flatten();
        versions
            .map(|(number, version)| (*number, *version))
            .filter(move |(_, version)| deleted || !version.deleted)
    }
}
