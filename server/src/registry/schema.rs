//! A schema as it is supplied and kept: its text, what it is written in, and the schemas that it names.

use std::sync::Arc;

use millpond_engine::avro::{self, Normal, ReaderSchema, SchemaError, normalised};
use serde::{Deserialize, Serialize};

use super::{Error, json};

/// What a schema is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Kind {
    /// Avro.
    #[default]
    Avro,
    /// JSON Schema.
    Json,
}

/// A schema of another subject that a schema names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// The name under which it is named: of Avro a type's full name, of JSON Schema the text of a `$ref`.
    pub name: String,
    /// Where it is registered …
    pub subject: String,
    /// … and as which version.
    pub version: u32,
}

/// A schema as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// What it is written in.
    pub kind: Kind,
    /// Its text.
    pub text: String,
    /// What it names of others.
    pub references: Vec<Reference>,
}

/// A schema that the registry keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// As it was registered.
    pub schema: Schema,
    /// The ids of its references, in their order: schemas are never forgotten, versions may be.
    pub(super) parts: Vec<u32>,
    /// The same without references: what they name is in it.
    pub whole: Arc<str>,
    /// What tells it from others.
    pub(super) identity: String,
}

/// What is kept of a schema besides its text, where there is something to say.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Facets {
    #[serde(default)]
    pub schema_type: Kind,
    #[serde(default)]
    pub references: Vec<Reference>,
    /// Ids of the references.
    #[serde(default)]
    pub parts: Vec<u32>,
}

impl Schema {
    /// Avro that stands by itself.
    pub fn avro(text: impl Into<String>) -> Self {
        Self { kind: Kind::Avro, text: text.into(), references: Vec::new() }
    }

    /// A JSON Schema that stands by itself.
    pub fn json(text: impl Into<String>) -> Self {
        Self { kind: Kind::Json, ..Self::avro(text) }
    }
}

impl From<&str> for Schema {
    fn from(text: &str) -> Self {
        Self::avro(text)
    }
}

impl From<&String> for Schema {
    fn from(text: &String) -> Self {
        Self::avro(text)
    }
}

impl Stored {
    /// Parses a schema. `parts` are the schemas that its references mean, by id, in their order.
    pub(super) fn parse(schema: Schema, parts: &[(u32, Arc<Self>)]) -> Result<Self, Error> {
        let invalid = |e: SchemaError| Error::InvalidSchema(e.to_string());
        if let Some((reference, _)) =
            schema.references.iter().zip(parts).find(|(_, (_, part))| part.schema.kind != schema.kind)
        {
            let Reference { name, subject, .. } = reference;
            return Err(Error::InvalidSchema(format!(
                "{name} of subject {subject} is of another schema type"
            )));
        }
        let (normal, whole) = match schema.kind {
            Kind::Avro => {
                let normal = normalised(&schema.text, Normal::Text).map_err(invalid)?;
                let wholes: Vec<&str> = parts.iter().map(|(_, part)| &*part.whole).collect();
                let whole = avro::self_contained(&schema.text, &wholes).map_err(invalid)?;
                // Whether a stream can have it as its schema is asked when the stream is created.
                if let Err(error @ SchemaError::Parse(_)) = ReaderSchema::parse(&whole, None) {
                    return Err(invalid(error));
                }
                (normal, whole)
            }
            Kind::Json => {
                let named = schema.references.iter().zip(parts);
                let others = named.map(|(reference, (_, part))| (reference.name.as_str(), &*part.whole));
                let whole = json::self_contained(&schema.text, &others.collect::<Vec<_>>())?;
                (json::normalised(&schema.text)?, whole)
            }
        };
        // One text with other references is another schema.
        let references: Vec<String> =
            schema.references.iter().map(|r| format!("{}\n{}\n{}", r.name, r.subject, r.version)).collect();
        let identity = match (schema.kind, references.is_empty()) {
            (Kind::Avro, true) => normal,
            (kind, _) => format!("{kind:?}\n{normal}\n{}", references.join("\n")),
        };
        let parts = parts.iter().map(|(id, _)| *id).collect();
        Ok(Self { schema, parts, whole: whole.into(), identity })
    }

    /// The same for one that was parsed when it was registered: what is in the store is kept, whatever a
    /// later release thinks of it.
    pub(super) fn restored(schema: Schema, parts: &[(u32, Arc<Self>)]) -> Self {
        Self::parse(schema.clone(), parts).unwrap_or_else(|_| Self {
            whole: schema.text.as_str().into(),
            identity: schema.text.clone(),
            parts: parts.iter().map(|(id, _)| *id).collect(),
            schema,
        })
    }

    /// What is kept besides the text; `None`: nothing.
    pub(super) fn facets(&self) -> Option<Facets> {
        let Schema { kind, references, .. } = &self.schema;
        let plain = *kind == Kind::Avro && references.is_empty();
        (!plain).then(|| Facets {
            schema_type: *kind,
            references: references.clone(),
            parts: self.parts.clone(),
        })
    }
}
