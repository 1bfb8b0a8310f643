//! Every route.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::http::Uri;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::{Extension, Router};
use tower_http::compression::CompressionLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::admission::{self, Admission};
use super::auth::{self, Guard};
use super::upload::Quota;
use super::vectors::{self, Plans};
use super::{
    Error, docs, feature_groups, feature_views, flush, health, history, journal, metrics, openapi,
    quarantine, records, rows, schema_registry, sinks, streams, training,
};
use crate::app::App;
use crate::log::writer::Writer;

/// What answers from memory or from a few reads.
const QUICK: Duration = Duration::from_mins(1);
/// What waits for others or reads whole tables.
const LONG: Duration = Duration::from_hours(1);

fn quick() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(health::health))
        .routes(routes!(health::ready))
        .routes(routes!(metrics::show))
        .routes(routes!(streams::list, streams::create))
        .routes(routes!(streams::show, streams::remove))
        .routes(routes!(records::append, records::raw))
        .routes(routes!(streams::heartbeat))
        .routes(routes!(streams::finish))
        .routes(routes!(quarantine::list))
        .routes(routes!(quarantine::accounting))
        .routes(routes!(feature_groups::list, feature_groups::create))
        .routes(routes!(feature_groups::pause))
        .routes(routes!(feature_groups::resume))
        .routes(routes!(rows::show))
        .routes(routes!(journal::explain))
        .routes(routes!(journal::epochs))
        .routes(routes!(journal::late))
        .routes(routes!(feature_views::list, feature_views::create))
        .routes(routes!(feature_views::show, feature_views::remove))
        .routes(routes!(vectors::one))
        .routes(routes!(vectors::many))
}

fn long() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default()
        .routes(routes!(feature_groups::show, feature_groups::remove))
        .routes(routes!(flush::flush))
        .routes(routes!(sinks::remove))
        .routes(routes!(feature_groups::wait))
        .routes(routes!(rows::list))
        .routes(routes!(history::read))
        .routes(routes!(training::training_data))
        .routes(routes!(training::batch_data))
}

/// The document of all routes.
pub fn api() -> OpenApi {
    let mut api = quick().merge(long()).into_openapi();
    openapi::complete(&mut api);
    api
}

/// The document as it is committed and as `millpond openapi` prints it.
pub fn openapi_json() -> String {
    api().to_pretty_json().unwrap_or_default()
}

/// The server: every route behind the layers that all requests pass, the outermost last.
pub fn router(app: Arc<App>) -> Router {
    let guard = Arc::new(Guard::new(&app.config));
    let admission = Arc::new(Admission::new(&app.config));
    let quick = quick()
        .split_for_parts()
        .0
        .merge(registry(&app))
        .layer(from_fn_with_state(QUICK, admission::deadline));
    let long = long().split_for_parts().0.layer(from_fn_with_state(LONG, admission::deadline));
    Router::new()
        .merge(quick)
        .merge(long)
        // Read by browsers, now and then, from afar too; vectors and tables are not worth the CPU.
        .merge(docs::router(api()).layer(CompressionLayer::new()))
        .fallback(async |uri: Uri| Error::NoRoute(uri.path().to_owned()))
        .method_not_allowed_fallback(async |uri: Uri| Error::NoMethod(uri.path().to_owned()))
        .layer(Extension(Arc::new(Plans::default())))
        .layer(Extension(Arc::new(Quota::new(app.config.http.max_upload_bytes))))
        .layer(Extension(Arc::new(Writer::new(Arc::clone(&app.store), app.config.kafka.clone()))))
        .layer(DefaultBodyLimit::max(app.config.http.max_body_bytes))
        .layer(from_fn_with_state(admission, admission::layer))
        .layer(from_fn_with_state(guard, auth::layer))
        .layer(from_fn(admission::trace))
        .with_state(app)
}

/// The Confluent API has errors of its own, and a document of its own elsewhere.
fn registry(app: &App) -> Router<Arc<App>> {
    Router::new().nest("/schema-registry", schema_registry::router(Arc::clone(&app.registry)))
}
