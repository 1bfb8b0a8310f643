//! `/docs`: Swagger UI from the binary, so that it works without a network; `/openapi.json` beside it.

use axum::Router;
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerUi};

/// The page and the document.
pub fn router<S: Clone + Send + Sync + 'static>(api: OpenApi) -> Router<S> {
    let config = Config::new(["/openapi.json"])
        .persist_authorization(true)
        .display_request_duration(true)
        .validator_url("none");
    SwaggerUi::new("/docs").url("/openapi.json", api).config(config).into()
}
