//! `/api/v1/feature-groups/{group}/{version}/rows`: what is online.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use millpond_engine::epoch::Op;
use millpond_engine::key;
use millpond_engine::time::Micros;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Json, Path, Query};
use super::{Error, download};
use crate::app::App;
use crate::catalog::{GroupEntry, TimeMode};
use crate::store::{OnlineVersions, ReadView, RowRef};

/// Bytes of a reply that are sent together.
const PART: usize = 64 << 10;

/// Which of a key's rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Which {
    /// The greatest event time.
    #[default]
    Latest,
    /// The one before it.
    Previous,
}

impl Which {
    /// That row of a key, as of an instant.
    pub fn of<'v>(
        self,
        versions: &'v OnlineVersions<'_>,
        as_of: Micros,
    ) -> Result<Option<RowRef<'v>>, Error> {
        Ok(match self {
            Self::Latest => versions.latest(as_of)?,
            Self::Previous => versions.previous(as_of)?,
        })
    }
}

/// Which rows.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Select {
    /// `latest` (default) or `previous`
    #[serde(default)]
    #[param(inline)]
    which: Which,
    /// At most this many; all by default
    #[param(example = 10)]
    limit: Option<usize>,
}

/// Online rows.
#[derive(Debug, Serialize, ToSchema)]
pub struct OnlineRows {
    /// Features with `_event_time`, `_available_at`, `_commit` and `_op`, in the order of the encoded keys
    #[schema(value_type = Vec<Object>)]
    rows: Vec<Map<String, Value>>,
    /// The instant that the reply is good for
    as_of: Option<String>,
}

/// The online rows of one key.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyRows {
    /// The greatest event time; null: none
    #[schema(value_type = Option<Object>)]
    latest: Option<Map<String, Value>>,
    /// The one before it; null: none
    #[schema(value_type = Option<Object>)]
    previous: Option<Map<String, Value>>,
    /// The instant that the reply is good for
    as_of: Option<String>,
}

/// The instant that a read of a group is good for; `None`: a historical group without rows yet.
pub fn as_of(view: &ReadView, group: &GroupEntry) -> Option<Micros> {
    match group.def.time {
        TimeMode::Live => Some(view.as_of()),
        TimeMode::Historical => view.clock(group.def.id),
    }
}

/// List online rows
#[utoipa::path(get, path = "/api/v1/feature-groups/{group}/{version}/rows", tag = "feature groups", operation_id = "online_rows",
    params(("group" = String, Path, example = "docs_ctr"), ("version" = u32, Path, example = 1), Select),
    responses((status = 200, description = "One row a key", body = OnlineRows)))]
pub async fn list(
    State(app): State<Arc<App>>,
    Path((name, version)): Path<(String, u32)>,
    Query(query): Query<Select>,
) -> Result<Response, Error> {
    let entry = online(&app, &name, version)?;
    let limit = query.limit.unwrap_or(usize::MAX);
    let (parts, body) = download::channel();
    // All keys may be many: they are written as they are read.
    tokio::task::spawn_blocking(move || {
        if let Err(error) = write(&app, &entry, query.which, limit, &parts) {
            tracing::warn!(%error, "a list of rows was broken off");
            let _ = parts.blocking_send(Err(std::io::Error::other(error)));
        }
    });
    Ok(([(header::CONTENT_TYPE, download::JSON)], body).into_response())
}

fn write(
    app: &App,
    entry: &GroupEntry,
    which: Which,
    limit: usize,
    parts: &download::Parts,
) -> Result<(), Error> {
    let view = app.store.view();
    let at = as_of(&view, entry);
    let mut out = b"{\"rows\":[".to_vec();
    let mut written = 0;
    for found in view.scan(entry.def.id, None)? {
        let (_, versions) = found?;
        let Some(row) = which.of(&versions, at.unwrap_or(Micros::MIN))? else { continue };
        if written == limit {
            break;
        }
        if written > 0 {
            out.push(b',');
        }
        written += 1;
        serde_json::to_writer(&mut out, &object(&row)?).map_err(|e| Error::Internal(e.to_string()))?;
        if out.len() > PART && parts.blocking_send(Ok(std::mem::take(&mut out).into())).is_err() {
            return Ok(());
        }
    }
    let as_of = serde_json::json!(at.map(|t| t.to_string()));
    out.extend_from_slice(format!("],\"as_of\":{as_of}}}").as_bytes());
    let _ = parts.blocking_send(Ok(out.into()));
    Ok(())
}

/// Show one key's online rows
///
/// A compound key is a JSON array in key order, percent-encoded.
#[utoipa::path(get, path = "/api/v1/feature-groups/{group}/{version}/rows/{key}", tag = "feature groups", operation_id = "online_row",
    params(("group" = String, Path, example = "docs_ctr"), ("version" = u32, Path, example = 1), ("key" = String, Path, example = "u1")),
    responses((status = 200, description = "Its latest and previous row", body = KeyRows)))]
pub async fn show(
    State(app): State<Arc<App>>,
    Path((name, version, text)): Path<(String, u32, String)>,
) -> Result<Json<KeyRows>, Error> {
    let entry = online(&app, &name, version)?;
    let key = key::from_alone(&entry.key_schema(), &text)?;
    let view = app.store.view();
    let at = as_of(&view, &entry);
    let found = view.multi_get(&[(entry.def.id, &key)])?.pop().flatten();
    let (mut latest, mut previous) = (None, None);
    if let (Some(versions), Some(at)) = (&found, at) {
        latest = versions.latest(at)?.map(|row| object(&row)).transpose()?;
        previous = versions.previous(at)?.map(|row| object(&row)).transpose()?;
    }
    Ok(Json(KeyRows { latest, previous, as_of: at.map(|t| t.to_string()) }))
}

fn online(app: &App, name: &str, version: u32) -> Result<Arc<GroupEntry>, Error> {
    let entry = app.catalog.group(name, version)?;
    if entry.def.online_enabled {
        return Ok(entry);
    }
    Err(Error::unsupported(
        format!("{} has no online rows", entry.label()),
        "read its history, or create a version with online_enabled=true",
    ))
}

/// A row with the contract's own columns.
pub fn object(row: &RowRef<'_>) -> Result<Map<String, Value>, Error> {
    let mut object = Map::new();
    for (column, field) in row.schema().fields().iter().enumerate() {
        object.insert(field.name().clone(), row.value(column)?.json()?);
    }
    object.insert("_event_time".to_owned(), Value::String(row.event_time.to_string()));
    object.insert("_available_at".to_owned(), Value::String(row.available_at.to_string()));
    object.insert("_commit".to_owned(), Value::from(row.commit));
    object.insert("_op".to_owned(), Value::from(if row.op == Op::Upsert { "upsert" } else { "delete" }));
    Ok(object)
}
