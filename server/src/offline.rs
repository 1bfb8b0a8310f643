//! The offline store: each feature group's full history as a Delta table, drained from the outbox.

pub mod durable;
pub mod protocol;
pub mod table;
