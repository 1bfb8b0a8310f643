//! The `OpenAPI` document: what the handlers' annotations do not say by themselves.

use axum::http::StatusCode;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{Modify, OpenApi as _};

use super::error::{BadRow, Code, ErrorBody};
use crate::catalog::{FeatureSpec, GroupRef, JoinSpec, QuerySpec};

/// Title, tags, security and the schema of errors.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Millpond",
        description = "A feature store server: events in, feature vectors and training data out.\n\n\
            Durations are seconds, instants RFC 3339. Every error is `{\"error\": {\"code\", \"message\", \"hint\"}}` \
            with a code from one closed set. The schema registry \
            under `/schema-registry` speaks Confluent's API. Without an API key only programs on the same machine may call."
    ),
    tags(
        (name = "streams", description = "Append-only logs of events with a schema and an event time"),
        (name = "feature groups", description = "Versioned tables of features, kept up to date by a pipeline"),
        (name = "feature views", description = "What a model reads: vectors and training data"),
        (name = "server", description = "Health and metrics")
    ),
    components(schemas(ErrorBody, BadRow, GroupRef, JoinSpec, QuerySpec, FeatureSpec)),
    security(("bearer" = []), ("basic" = [])),
    modifiers(&Security)
)]
struct Document;

struct Security;

impl Modify for Security {
    fn modify(&self, api: &mut OpenApi) {
        let components = api.components.get_or_insert_default();
        let mut bearer = Http::new(HttpAuthScheme::Bearer);
        bearer.description = Some("The API key, where the server has one".to_owned());
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        let mut basic = Http::new(HttpAuthScheme::Basic);
        basic.description = Some("The API key as the password, whatever the user".to_owned());
        components.add_security_scheme("basic", SecurityScheme::Http(basic));
    }
}

/// What the routes are added to.
pub fn base() -> OpenApi {
    Document::openapi()
}

/// Adds the errors that every route of the API can answer with.
pub fn complete(api: &mut OpenApi) {
    for (path, item) in &mut api.paths.paths {
        let everywhere: &[Code] = if path.starts_with("/api/") {
            &[
                Code::InvalidRequest,
                Code::Unauthorized,
                Code::Forbidden,
                Code::TooManyRequests,
                Code::Internal,
                Code::Unavailable,
                Code::Timeout,
            ]
        } else {
            &[]
        };
        let named: &[Code] =
            if path.starts_with("/api/") && path.contains('{') { &[Code::NotFound] } else { &[] };
        for operation in [&mut item.get, &mut item.post, &mut item.delete].into_iter().flatten() {
            for code in everywhere.iter().chain(named) {
                add(operation, code.status());
            }
        }
    }
}

/// The status with every code that can stand under it, unless the handler says more itself.
fn add(operation: &mut Operation, status: StatusCode) {
    let codes = Code::ALL.iter().filter(|c| c.status() == status);
    let names: Vec<String> =
        codes.filter_map(|c| Some(format!("`{}`", serde_json::to_value(c).ok()?.as_str()?))).collect();
    let response = error(&names.join(", "));
    operation.responses.responses.entry(status.as_str().to_owned()).or_insert(RefOr::T(response));
}

fn error(description: &str) -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
    ResponseBuilder::new().description(description).content("application/json", content).build()
}
