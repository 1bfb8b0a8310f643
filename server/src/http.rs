//! HTTP: one router file, handler files that mirror the URLs, one match from errors to codes.
//!
//! A request passes [`admission::trace`] (id, span, panics) → [`auth`] (who may call) →
//! [`admission::layer`] (how much is in flight) → a deadline → its handler. Handlers read the request,
//! call `app`, `catalog`, `store` or `offline`, and shape the reply.

mod admission;
mod auth;
mod docs;
mod download;
mod error;
mod extract;
mod feature_groups;
mod feature_views;
mod flush;
mod health;
mod history;
mod instant;
mod journal;
mod metrics;
mod openapi;
mod quarantine;
mod records;
mod router;
mod rows;
pub mod schema_registry;
mod sinks;
mod streams;
mod training;
mod upload;
mod vectors;

pub use error::{Code, Error, ErrorBody};
pub use router::{api, openapi_json, router};
