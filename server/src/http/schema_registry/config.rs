//! `/config`, `/compatibility` and `/mode`.

use axum::body::Bytes;
use axum::extract::{Path, Query};
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::Local;
use super::reply::{self, Failure, json};
use super::subjects::{Params, Supplied};
use crate::registry::{Level, Schema, Which};

#[derive(Deserialize)]
struct Wanted {
    compatibility: String,
}

fn shown(level: Level) -> Response {
    json(&json!({ "compatibilityLevel": level }))
}

pub(super) async fn get(local: Local) -> Result<Response, Failure> {
    Ok(shown(local.run(|registry| Ok(registry.level())).await?))
}

pub(super) async fn get_subject(
    local: Local,
    Path(subject): Path<String>,
    Query(params): Query<Params>,
) -> Result<Response, Failure> {
    Ok(shown(local.run(move |registry| registry.subject_level(&subject, params.default_to_global)).await?))
}

pub(super) async fn put(local: Local, body: Bytes) -> Result<Response, Failure> {
    set(local, String::new(), &body).await
}

pub(super) async fn put_subject(
    local: Local,
    Path(subject): Path<String>,
    body: Bytes,
) -> Result<Response, Failure> {
    set(local, subject, &body).await
}

async fn set(local: Local, subject: String, body: &Bytes) -> Result<Response, Failure> {
    let level: Level = reply::parse::<Wanted>(body)?.compatibility.parse()?;
    local.run(move |registry| registry.set_level(&subject, Some(level))).await?;
    Ok(json(&json!({ "compatibility": level })))
}

pub(super) async fn delete(local: Local) -> Result<Response, Failure> {
    Ok(shown(local.run(|registry| registry.set_level("", None)).await?))
}

/// The level that was in force, as Confluent's registry replies.
pub(super) async fn delete_subject(local: Local, Path(subject): Path<String>) -> Result<Response, Failure> {
    let level = local.run(move |registry| {
        let level = registry.subject_level(&subject, false)?;
        registry.set_level(&subject, None)?;
        Ok(level)
    });
    Ok(shown(level.await?))
}

fn verdict(reasons: &[String], params: &Params) -> Response {
    if params.verbose {
        json(&json!({ "is_compatible": reasons.is_empty(), "messages": reasons }))
    } else {
        json(&json!({ "is_compatible": reasons.is_empty() }))
    }
}

pub(super) async fn compatible(
    local: Local,
    Path(subject): Path<String>,
    Query(params): Query<Params>,
    body: Bytes,
) -> Result<Response, Failure> {
    let schema = Supplied::from_body(&body)?;
    let reasons = local.run(move |registry| registry.incompatibilities(&subject, schema)).await?;
    Ok(verdict(&reasons, &params))
}

pub(super) async fn compatible_with(
    local: Local,
    Path((subject, version)): Path<(String, String)>,
    Query(params): Query<Params>,
    body: Bytes,
) -> Result<Response, Failure> {
    let (which, schema): (Which, Schema) = (version.parse()?, Supplied::from_body(&body)?);
    let reasons = local.run(move |registry| registry.incompatibilities_with(&subject, which, schema)).await?;
    Ok(verdict(&reasons, &params))
}

pub(super) async fn mode() -> Response {
    json(&json!({ "mode": "READWRITE" }))
}

pub(super) async fn put_mode(body: Bytes) -> Result<Response, Failure> {
    #[derive(Deserialize)]
    struct Mode {
        mode: String,
    }
    match reply::parse::<Mode>(&body)?.mode.as_str() {
        "READWRITE" => Ok(json(&json!({ "mode": "READWRITE" }))),
        other => Err(Failure::Unsupported(format!("mode {other} is not supported: the mode is READWRITE"))),
    }
}
