//! `/api/v1/feature-views`: what a model reads.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Error;
use super::error::ErrorBody;
use super::extract::{Json, Path};
use crate::app::{self, App};
use crate::catalog::{ViewEntry, ViewSpec, types};

/// A feature view.
#[derive(Debug, Serialize, ToSchema)]
pub struct ViewBody {
    /// Identity, never reused
    id: u32,
    /// Identity across stores
    #[schema(value_type = String)]
    uuid: Uuid,
    /// Name
    #[schema(example = "docs_fv")]
    name: String,
    /// Version
    version: u32,
    /// For people
    description: String,
    /// The features, in the order they are served
    features: Vec<Selected>,
    /// Names under which entries carry keys
    serving_keys: Vec<String>,
    /// Label columns of its training data
    labels: Vec<String>,
    /// SHA-256 over the definition
    definition_hash: String,
    /// When it was created
    created_at: String,
}

/// A feature of a view.
#[derive(Debug, Serialize, ToSchema)]
pub struct Selected {
    /// Name in the view
    name: String,
    /// Type
    #[serde(rename = "type")]
    data_type: String,
    /// The group that it comes from
    feature_group: String,
    /// The group's version
    version: u32,
    /// The group's column
    column: String,
}

/// All feature views.
#[derive(Debug, Serialize, ToSchema)]
pub struct ViewList {
    feature_views: Vec<ViewBody>,
}

impl ViewBody {
    /// What a view looks like from outside.
    pub fn new(entry: &ViewEntry) -> Self {
        let def = &entry.def;
        let features = def.features.iter().zip(entry.schema.fields()).filter_map(|(feature, field)| {
            let group = def.groups.get(feature.group)?;
            Some(Selected {
                name: feature.name.clone(),
                data_type: types::name(field.data_type()).unwrap_or_else(|_| field.data_type().to_string()),
                feature_group: group.name.to_string(),
                version: group.version,
                column: feature.column.clone(),
            })
        });
        Self {
            id: def.id.0,
            uuid: def.uuid,
            name: def.name.to_string(),
            version: def.version,
            description: def.description.clone(),
            features: features.collect(),
            serving_keys: entry.serving_keys().into_iter().map(|(name, _)| name).collect(),
            labels: def.labels.clone(),
            definition_hash: def.definition_hash.clone(),
            created_at: def.created_at.to_string(),
        }
    }
}

/// List feature views
#[utoipa::path(get, path = "/api/v1/feature-views", tag = "feature views", operation_id = "list_feature_views",
    responses((status = 200, description = "All feature views", body = ViewList)))]
pub async fn list(State(app): State<Arc<App>>) -> Json<ViewList> {
    Json(ViewList { feature_views: app.catalog.snapshot().views().map(|v| ViewBody::new(v)).collect() })
}

/// Create a feature view
///
/// With the definition of the view that exists, it is returned.
#[utoipa::path(post, path = "/api/v1/feature-views", tag = "feature views", operation_id = "create_feature_view",
    request_body(content = ViewSpec, example = json!({
        "name": "docs_fv",
        "query": {"feature_group": {"name": "docs_ctr", "version": 1}}
    })),
    responses(
        (status = 201, description = "Created", body = ViewBody),
        (status = 200, description = "It exists with this definition", body = ViewBody),
        (status = 404, description = "`not_found`: a feature group of the query", body = ErrorBody),
        (status = 409, description = "It exists with another definition: `conflict`", body = ErrorBody)
    ))]
pub async fn create(
    State(app): State<Arc<App>>,
    Json(spec): Json<ViewSpec>,
) -> Result<impl IntoResponse, Error> {
    let catalog = Arc::clone(&app.catalog);
    let created = tokio::task::spawn_blocking(move || catalog.get_or_create_view(&spec, app::now()));
    let (entry, created) = created.await.map_err(|e| Error::Internal(e.to_string()))??;
    Ok((if created { StatusCode::CREATED } else { StatusCode::OK }, Json(ViewBody::new(&entry))))
}

/// Show a feature view
#[utoipa::path(get, path = "/api/v1/feature-views/{view}/{version}", tag = "feature views", operation_id = "get_feature_view",
    params(("view" = String, Path, example = "docs_fv"), ("version" = u32, Path, example = 1)),
    responses((status = 200, description = "The view", body = ViewBody)))]
pub async fn show(
    State(app): State<Arc<App>>,
    Path((name, version)): Path<(String, u32)>,
) -> Result<Json<ViewBody>, Error> {
    Ok(Json(ViewBody::new(&*app.catalog.view(&name, version)?)))
}

/// Drop a feature view; its feature groups stay
#[utoipa::path(delete, path = "/api/v1/feature-views/{view}/{version}", tag = "feature views", operation_id = "drop_feature_view",
    params(("view" = String, Path, example = "docs_fv"), ("version" = u32, Path, example = 1)),
    responses((status = 204, description = "Dropped")))]
pub async fn remove(
    State(app): State<Arc<App>>,
    Path((name, version)): Path<(String, u32)>,
) -> Result<StatusCode, Error> {
    let catalog = Arc::clone(&app.catalog);
    let dropped = tokio::task::spawn_blocking(move || catalog.drop_view(&name, version));
    dropped.await.map_err(|e| Error::Internal(e.to_string()))??;
    Ok(StatusCode::NO_CONTENT)
}
