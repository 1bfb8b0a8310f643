//! `/api/v1/feature-views/{view}/{version}/training-data` and `…/batch-data`.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use datafusion::execution::SendableRecordBatchStream;
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::download::{self, Format};
use super::error::ErrorBody;
use super::extract::{Optional, Path, Query};
use super::upload::{Quota, Upload};
use super::{Error, instant};
use crate::app::App;
use crate::offline::Range;
use crate::training::{self, BatchRequest, TrainingRequest};

/// How labels are joined.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Labels {
    /// The labels' event-time column
    #[param(example = "timestamp")]
    event_time: String,
    /// See only what was available then
    as_of: Option<String>,
    /// Put the serving keys first
    #[serde(default)]
    primary_key: bool,
    /// Put the labels' event time after them
    #[serde(default)]
    include_event_time: bool,
}

/// Which rows of the left-most group.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchQuery {
    /// From this event time …
    #[serde(default)]
    #[schema(example = "2026-01-31T00:00:00Z")]
    start_time: Option<String>,
    /// … to before this one
    #[serde(default)]
    end_time: Option<String>,
    /// Put the serving keys first
    #[serde(default)]
    primary_key: bool,
    /// Put the event time after them
    #[serde(default)]
    event_time: bool,
}

/// Join features, point in time, to labels
///
/// The body is a table of labels: serving keys, an event time, label columns. The reply has its rows in
/// its order: `[keys] [event time] features… labels…`, with the features as they were served then.
#[utoipa::path(post, path = "/api/v1/feature-views/{view}/{version}/training-data", tag = "feature views", operation_id = "training_data",
    params(("view" = String, Path, example = "docs_fv"), ("version" = u32, Path, example = 1), Labels),
    request_body(content(
        (Vec<u8> = "application/vnd.apache.arrow.stream"),
        (Vec<u8> = "application/vnd.apache.parquet")
    )),
    responses(
        (status = 200, description = "The table, as `Accept` asks", content(
            (Vec<u8> = "application/vnd.apache.arrow.stream"),
            (Vec<u8> = "application/vnd.apache.parquet"),
            (Object = "application/json")
        )),
        (status = 413, description = "`payload_too_large`: over the quota for uploads", body = ErrorBody)
    ))]
pub async fn training_data(
    State(app): State<Arc<App>>,
    Extension(quota): Extension<Arc<Quota>>,
    Path((name, version)): Path<(String, u32)>,
    Query(query): Query<Labels>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    let view = app.catalog.view(&name, version)?;
    let format = Format::accepted(&headers)?;
    let as_of = instant::parse_opt("as_of", query.as_of.as_deref())?;
    let uploads = app.config.data_dir.join("uploads");
    let upload = Upload::receive(&headers, body, &uploads, quota).await?;
    let read = tokio::task::spawn_blocking(move || upload.batches());
    let (schema, labels) = read
        .await
        .map_err(|e| Error::invalid(format!("the table cannot be read: {e}"), "send a whole table"))??;
    let request = TrainingRequest {
        event_time: query.event_time,
        as_of,
        primary_key: query.primary_key,
        include_event_time: query.include_event_time,
    };
    let rows =
        training::training_data(&app.offline, &view.def, training::rows(schema, labels), request).await?;
    table(format, rows).await
}

/// Read a view's features for every row of its left-most group
#[utoipa::path(post, path = "/api/v1/feature-views/{view}/{version}/batch-data", tag = "feature views", operation_id = "batch_data",
    params(("view" = String, Path, example = "docs_fv"), ("version" = u32, Path, example = 1)),
    request_body(content = BatchQuery, example = json!({"primary_key": true, "event_time": true})),
    responses((status = 200, description = "The table, as `Accept` asks", content(
        (Object = "application/json"),
        (Vec<u8> = "application/vnd.apache.arrow.stream"),
        (Vec<u8> = "application/vnd.apache.parquet")
    ))))]
pub async fn batch_data(
    State(app): State<Arc<App>>,
    Path((name, version)): Path<(String, u32)>,
    headers: HeaderMap,
    Optional(batch): Optional<BatchQuery>,
) -> Result<Response, Error> {
    let view = app.catalog.view(&name, version)?;
    let format = Format::accepted(&headers)?;
    let request = BatchRequest {
        range: Range {
            start: instant::parse_opt("start_time", batch.start_time.as_deref())?,
            end: instant::parse_opt("end_time", batch.end_time.as_deref())?,
        },
        primary_key: batch.primary_key,
        event_time: batch.event_time,
    };
    let rows = training::batch_data(&app.offline, &view.def, request).await?;
    table(format, rows).await
}

async fn table(format: Format, rows: SendableRecordBatchStream) -> Result<Response, Error> {
    let schema = rows.schema();
    let rows = rows.map_err(|e| Error::Training(e.into())).boxed();
    download::respond(format, schema, rows).await
}
