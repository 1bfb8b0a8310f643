//! `/subjects`: subjects and their versions.

use axum::body::Bytes;
use axum::extract::{Path, Query};
use axum::response::Response;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;

use super::Local;
use super::reply::{self, Failure, json};
use crate::registry::{Kind, Reference, Registered, Schema, Which};

/// Parameters of all routes; what one does not know it leaves.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Params {
    /// What is deleted softly counts too.
    #[serde(deserialize_with = "flag")]
    pub deleted: bool,
    /// Only what is deleted softly (`deleted_only` is what Python's client sends).
    #[serde(deserialize_with = "flag", alias = "deleted_only")]
    pub deleted_only: bool,
    /// What was deleted softly is deleted for good.
    #[serde(deserialize_with = "flag")]
    pub permanent: bool,
    /// Only subjects that begin so.
    pub subject_prefix: String,
    /// Only the latest version of each subject.
    #[serde(deserialize_with = "flag")]
    pub latest_only: bool,
    /// The registry's level where the subject has none.
    #[serde(deserialize_with = "flag")]
    pub default_to_global: bool,
    /// The greatest id given, too.
    #[serde(deserialize_with = "flag")]
    pub fetch_max_id: bool,
    /// With reasons.
    #[serde(deserialize_with = "flag")]
    pub verbose: bool,
    /// How many items of a list to leave out at its beginning …
    #[serde(deserialize_with = "count")]
    pub offset: Option<usize>,
    /// … and how many to give at most; negative: all.
    #[serde(deserialize_with = "count")]
    pub limit: Option<usize>,
}

impl Params {
    /// The part of a list that was asked for.
    pub fn page<T>(&self, items: Vec<T>) -> Vec<T> {
        items.into_iter().skip(self.offset.unwrap_or(0)).take(self.limit.unwrap_or(usize::MAX)).collect()
    }
}

/// As Java reads a boolean: `true` in any case (Python's clients send `True`), else false.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(String::deserialize(deserializer)?.eq_ignore_ascii_case("true"))
}

/// A number; what is none, or negative, is no limit.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    Ok(String::deserialize(deserializer)?.parse().ok())
}

/// A schema in a request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Supplied {
    schema: String,
    #[serde(default)]
    schema_type: Option<String>,
    #[serde(default)]
    references: Option<Vec<Reference>>,
}

impl Supplied {
    pub fn from_body(body: &Bytes) -> Result<Schema, Failure> {
        let supplied: Self = reply::parse(body)?;
        let kind = match supplied.schema_type.as_deref() {
            None | Some("AVRO") => Kind::Avro,
            Some("JSON") => Kind::Json,
            Some(other) => {
                return Err(Failure::Body(format!(
                    "Invalid schema type {other}: AVRO and JSON are supported"
                )));
            }
        };
        Ok(Schema { kind, text: supplied.schema, references: supplied.references.unwrap_or_default() })
    }
}

/// A version as the API shows it. `schemaType` is left out where it is AVRO, `references` where there are none.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    subject: String,
    version: u32,
    id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema_type: Option<Kind>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    references: Vec<Reference>,
    schema: String,
}

impl From<Registered> for Shown {
    fn from(found: Registered) -> Self {
        let Registered { subject, version, id, schema } = found;
        let Schema { kind, text, references } = schema.schema.clone();
        Self { subject, version, id, schema_type: shown_kind(kind), references, schema: text }
    }
}

/// What is said of a schema's type: nothing where it is Avro.
pub(super) fn shown_kind(kind: Kind) -> Option<Kind> {
    (kind != Kind::Avro).then_some(kind)
}

pub(super) async fn list(local: Local, Query(params): Query<Params>) -> Result<Response, Failure> {
    let found = local.run(move |registry| {
        let alive = registry.subjects(false);
        let mut found = registry.subjects(params.deleted || params.deleted_only);
        found.retain(|subject| {
            subject.starts_with(&params.subject_prefix) && !(params.deleted_only && alive.contains(subject))
        });
        Ok(params.page(found))
    });
    Ok(json(&found.await?))
}

pub(super) async fn versions(
    local: Local,
    Path(subject): Path<String>,
    Query(params): Query<Params>,
) -> Result<Response, Failure> {
    let found = local.run(move |registry| Ok(params.page(registry.versions(&subject, params.deleted)?)));
    Ok(json(&found.await?))
}

pub(super) async fn register(
    local: Local,
    Path(subject): Path<String>,
    body: Bytes,
) -> Result<Response, Failure> {
    let schema = Supplied::from_body(&body)?;
    let id = local.run(move |registry| registry.register(&subject, schema)).await?;
    Ok(json(&json!({ "id": id })))
}

pub(super) async fn lookup(
    local: Local,
    Path(subject): Path<String>,
    Query(params): Query<Params>,
    body: Bytes,
) -> Result<Response, Failure> {
    let schema = Supplied::from_body(&body)?;
    let found = local.run(move |registry| registry.lookup(&subject, schema, params.deleted)).await?;
    Ok(json(&Shown::from(found)))
}

pub(super) async fn delete(
    local: Local,
    Path(subject): Path<String>,
    Query(params): Query<Params>,
) -> Result<Response, Failure> {
    Ok(json(&local.run(move |registry| registry.delete_subject(&subject, params.permanent)).await?))
}

async fn find(local: Local, subject: String, version: &str, params: &Params) -> Result<Registered, Failure> {
    let (which, deleted): (Which, bool) = (version.parse()?, params.deleted);
    local.run(move |registry| registry.version(&subject, which, deleted)).await
}

pub(super) async fn version(
    local: Local,
    Path((subject, version)): Path<(String, String)>,
    Query(params): Query<Params>,
) -> Result<Response, Failure> {
    Ok(json(&Shown::from(find(local, subject, &version, &params).await?)))
}

pub(super) async fn text(
    local: Local,
    Path((subject, version)): Path<(String, String)>,
    Query(params): Query<Params>,
) -> Result<Response, Failure> {
    Ok(super::schemas::as_text(&find(local, subject, &version, &params).await?.schema.schema.text))
}

pub(super) async fn referenced_by(
    local: Local,
    Path((subject, version)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let which: Which = version.parse()?;
    Ok(json(&local.run(move |registry| registry.referenced_by(&subject, which)).await?))
}

pub(super) async fn delete_version(
    local: Local,
    Path((subject, version)): Path<(String, String)>,
    Query(params): Query<Params>,
) -> Result<Response, Failure> {
    let which: Which = version.parse()?;
    Ok(json(&local.run(move |registry| registry.delete_version(&subject, which, params.permanent)).await?))
}
