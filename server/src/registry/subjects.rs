//! What the embedded registry knows, in memory, and its decisions. No I/O: a change is decided here,
//! written by [`super::Embedded`], and only then applied here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use millpond_engine::avro::{Normal, ReaderSchema, normalised};

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
    /// The schema as it was registered.
    pub schema: Arc<str>,
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
    New { id: u32, version: u32, schema: Option<String> },
}

/// All subjects.
#[derive(Debug, Default)]
pub(super) struct Subjects {
    schemas: BTreeMap<u32, Arc<str>>,
    /// Normalised text → id.
    ids: HashMap<String, u32>,
    subjects: BTreeMap<String, BTreeMap<u32, Version>>,
    levels: HashMap<String, Level>,
}

/// A schema that parses, with what it is compared by.
pub(super) struct Parsed {
    pub text: String,
    normal: String,
}

impl Parsed {
    pub fn new(schema: &str) -> Result<Self, Error> {
        let invalid = |e: &dyn std::fmt::Display| Error::InvalidSchema(e.to_string());
        let normal = normalised(schema, Normal::Text).map_err(|e| invalid(&e))?;
        // Whether a stream can have it as its schema is asked when the stream is created.
        match ReaderSchema::parse(schema, None) {
            Err(error @ millpond_engine::avro::SchemaError::Parse(_)) => Err(invalid(&error)),
            _ => Ok(Self { text: schema.to_owned(), normal }),
        }
    }
}

impl Subjects {
    pub fn put_schema(&mut self, id: u32, schema: &str) {
        if let Ok(normal) = normalised(schema, Normal::Text) {
            self.ids.entry(normal).or_insert(id);
        }
        self.schemas.insert(id, schema.into());
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

    pub fn schema(&self, id: u32) -> Option<Arc<str>> {
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

    pub fn lookup(&self, subject: &str, schema: &Parsed, deleted: bool) -> Result<Registered, Error> {
        self.versions(subject, deleted)?;
        let id = *self.ids.get(&schema.normal).ok_or(Error::NoSchema)?;
        let (number, _) =
            self.listed(subject, deleted).filter(|(_, v)| v.id == id).last().ok_or(Error::NoSchema)?;
        self.version(subject, Which::Number(number), deleted)
    }

    pub fn register(&self, subject: &str, schema: Parsed) -> Result<Registration, Error> {
        let id = self.ids.get(&schema.normal).copied();
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
            None => Registration::New { id: self.max_id() + 1, version, schema: Some(schema.text) },
        })
    }

    /// What keeps a schema from being the subject's next version.
    pub fn incompatibilities(&self, subject: &str, schema: &Parsed) -> Result<Vec<String>, Error> {
        let level = self.effective_level(subject);
        let mut earlier: Vec<(u32, Version)> = self.listed(subject, false).collect();
        if !level.is_transitive() {
            earlier = earlier.split_off(earlier.len().saturating_sub(1));
        }
        let mut reasons = Vec::new();
        for (number, version) in earlier {
            let old = self.schema(version.id).ok_or(Error::Unknown { id: version.id })?;
            let found = level.check(&schema.text, &old)?;
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
            (_, false, false) => Ok(alive),
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
            _ => Ok((number, Version { id: found.id, deleted })),
        }
    }

    fn listed(&self, subject: &str, deleted: bool) -> impl Iterator<Item = (u32, Version)> {
        let versions = self.subjects.get(subject).into_iter().flatten();
        versions
            .map(|(number, version)| (*number, *version))
            .filter(move |(_, version)| deleted || !version.deleted)
    }
}
