//! HTTP: routes, handlers, errors.
