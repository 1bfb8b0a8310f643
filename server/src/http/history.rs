//! `/api/v1/feature-groups/{group}/{version}/history`: everything committed, drained to Delta or not.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Deserialize;
use utoipa::IntoParams;

use super::download::{self, Format, Rows};
use super::extract::{Path, Query};
use super::{Error, instant};
use crate::app::App;
use crate::offline::Range;

/// Which rows.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Select {
    /// From this event time …
    #[param(example = "2026-01-31T00:00:00Z")]
    start_time: Option<String>,
    /// … to before this one
    end_time: Option<String>,
    /// At most this many rows
    limit: Option<usize>,
}

/// Read a feature group's history
///
/// All rows ever committed, in no order. `Accept` chooses: Arrow IPC stream (default), Parquet, JSON.
#[utoipa::path(get, path = "/api/v1/feature-groups/{group}/{version}/history", tag = "feature groups", operation_id = "history",
    params(("group" = String, Path, example = "docs_ctr"), ("version" = u32, Path, example = 1), Select),
    responses((status = 200, description = "The rows", content(
        (Object = "application/json"),
        (Vec<u8> = "application/vnd.apache.arrow.stream"),
        (Vec<u8> = "application/vnd.apache.parquet")
    ))))]
pub async fn read(
    State(app): State<Arc<App>>,
    Path((name, version)): Path<(String, u32)>,
    Query(query): Query<Select>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let entry = app.catalog.group(&name, version)?;
    let format = Format::accepted(&headers)?;
    let range = Range {
        start: instant::parse_opt("start_time", query.start_time.as_deref())?,
        end: instant::parse_opt("end_time", query.end_time.as_deref())?,
    };
    let rows = app.offline.read(entry.def.id, range).await?;
    let schema = rows.schema();
    let rows: Rows = rows.map_err(|e| Error::Offline(e.into())).boxed();
    let rows = match query.limit {
        Some(limit) => first(rows, limit),
        None => rows,
    };
    download::respond(format, schema, rows).await
}

/// The first `limit` rows.
fn first(rows: Rows, limit: usize) -> Rows {
    let cut = rows.try_filter(|b| std::future::ready(b.num_rows() > 0)).scan(limit, |left, batch| {
        let batch = match batch {
            Ok(_) if *left == 0 => return std::future::ready(None),
            Ok(batch) => {
                let batch = batch.slice(0, batch.num_rows().min(*left));
                *left -= batch.num_rows();
                Ok(batch)
            }
            Err(e) => Err(e),
        };
        std::future::ready(Some(batch))
    });
    cut.boxed()
}
