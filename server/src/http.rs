//! HTTP: routes, handlers, errors.

pub mod schema_registry;
