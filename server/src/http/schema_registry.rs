//! `/schema-registry`: the embedded registry with Confluent's HTTP API, errors and content types, so
//! that its clients and serializers work unchanged.
//!
//! <https://docs.confluent.io/platform/current/schema-registry/develop/api.html>. Avro and JSON
//! Schema, with references; one context; the mode is always READWRITE.

mod config;
mod reply;
mod schemas;
mod subjects;

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::routing::{get, post};

use self::reply::Failure;
use crate::registry::{Embedded, Registry};

/// The routes, to be nested under `/schema-registry`. They bring their state with them.
pub fn router<S: Clone + Send + Sync + 'static>(registry: Arc<Registry>) -> Router<S> {
    Router::new()
        .route("/", get(async || reply::json(&serde_json::json!({}))))
        .route("/subjects", get(subjects::list))
        .route("/subjects/{subject}", post(subjects::lookup).delete(subjects::delete))
        .route("/subjects/{subject}/versions", get(subjects::versions).post(subjects::register))
        .route(
            "/subjects/{subject}/versions/{version}",
            get(subjects::version).delete(subjects::delete_version),
        )
        .route("/subjects/{subject}/versions/{version}/schema", get(subjects::text))
        .route("/subjects/{subject}/versions/{version}/referencedby", get(subjects::referenced_by))
        .route("/schemas", get(schemas::list))
        .route("/schemas/types", get(schemas::types))
        .route("/schemas/ids/{id}", get(schemas::schema))
        .route("/schemas/ids/{id}/schema", get(schemas::text))
        .route("/schemas/ids/{id}/subjects", get(schemas::subjects))
        .route("/schemas/ids/{id}/versions", get(schemas::versions))
        .route("/config", get(config::get).put(config::put).delete(config::delete))
        .route(
            "/config/{subject}",
            get(config::get_subject).put(config::put_subject).delete(config::delete_subject),
        )
        .route("/compatibility/subjects/{subject}/versions", post(config::compatible))
        .route("/compatibility/subjects/{subject}/versions/{version}", post(config::compatible_with))
        // One context, the default one.
        .route("/contexts", get(async || reply::json(&["."])))
        .route("/mode", get(config::mode).put(config::put_mode))
        .route("/mode/{subject}", get(config::mode).put(config::put_mode))
        .fallback(async || Failure::NoRoute)
        .with_state(registry)
}

/// The embedded registry behind the routes.
struct Local(Arc<Registry>);

impl Local {
    /// Runs `work` where it may block: a change is a synced write.
    async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce(&Embedded) -> Result<T, crate::registry::Error> + Send + 'static,
    ) -> Result<T, Failure> {
        let done = tokio::task::spawn_blocking(move || match self.0.embedded() {
            Some(embedded) => work(embedded).map_err(Failure::from),
            None => Err(Failure::External(self.0.identity().to_owned())),
        });
        done.await.map_err(|e| Failure::Task(e.to_string()))?
    }
}

impl FromRequestParts<Arc<Registry>> for Local {
    type Rejection = Failure;

    async fn from_request_parts(_: &mut Parts, registry: &Arc<Registry>) -> Result<Self, Failure> {
        Ok(Self(Arc::clone(registry)))
    }
}

#[cfg(test)]
mod tests;
