//! `/schemas`: schemas by id.

use axum::extract::{Path, Query};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Local;
use super::reply::{Failure, json};
use super::subjects::{Params, Shown, shown_kind};
use crate::registry::{Error, Schema, Which};

/// The schema itself, as it was registered.
pub(super) fn as_text(schema: &str) -> Response {
    ([(header::CONTENT_TYPE, "application/vnd.schemaregistry.v1+json")], schema.to_owned()).into_response()
}

/// An id that is no number is an id that nobody has.
fn parse(id: &str) -> Result<u32, Failure> {
    id.parse().map_err(|_| Failure::Registry(Error::NoSchema))
}

pub(super) async fn types() -> Response {
    json(&["JSON", "AVRO"])
}

pub(super) async fn list(local: Local, Query(params): Query<Params>) -> Result<Response, Failure> {
    let found = local.run(move |registry| {
        let mut found = Vec::new();
        let subjects = registry.subjects(params.deleted);
        for subject in subjects.iter().filter(|subject| subject.starts_with(&params.subject_prefix)) {
            let mut versions = registry.versions(subject, params.deleted)?;
            if params.latest_only {
                versions = versions.split_off(versions.len().saturating_sub(1));
            }
            for version in versions {
                found.push(Shown::from(registry.version(subject, Which::Number(version), params.deleted)?));
            }
        }
        Ok(found)
    });
    Ok(json(&found.await?))
}

pub(super) async fn schema(
    local: Local,
    Path(id): Path<String>,
    Query(params): Query<Params>,
) -> Result<Response, Failure> {
    let id = parse(&id)?;
    let reply = local.run(move |registry| {
        let schema = registry.schema(id).ok_or(Error::Unknown { id })?;
        let Schema { kind, text, references } = &schema.schema;
        let mut reply = serde_json::Map::from_iter([("schema".to_owned(), json!(text))]);
        if let Some(kind) = shown_kind(*kind) {
            reply.insert("schemaType".into(), json!(kind));
        }
        if !references.is_empty() {
            reply.insert("references".into(), json!(references));
        }
        if params.fetch_max_id {
            reply.insert("maxId".into(), registry.max_id().into());
        }
        Ok(reply)
    });
    Ok(json(&reply.await?))
}

pub(super) async fn text(local: Local, Path(id): Path<String>) -> Result<Response, Failure> {
    let id = parse(&id)?;
    let found = local.run(move |registry| registry.schema(id).ok_or(Error::Unknown { id })).await?;
    Ok(as_text(&found.schema.text))
}

pub(super) async fn subjects(
    local: Local,
    Path(id): Path<String>,
    Query(params): Query<Params>,
) -> Result<Response, Failure> {
    let id = parse(&id)?;
    let deleted = params.deleted;
    let uses = local.run(move |registry| registry.uses(id, deleted)).await?;
    let mut subjects: Vec<String> = uses.into_iter().map(|(subject, _)| subject).collect();
    subjects.dedup();
    Ok(json(&params.page(subjects)))
}

pub(super) async fn versions(
    local: Local,
    Path(id): Path<String>,
    Query(params): Query<Params>,
) -> Result<Response, Failure> {
    let id = parse(&id)?;
    let deleted = params.deleted;
    let uses = local.run(move |registry| registry.uses(id, deleted)).await?;
    let shown = uses.into_iter().map(|(subject, version)| json!({ "subject": subject, "version": version }));
    Ok(json(&params.page(shown.collect())))
}
