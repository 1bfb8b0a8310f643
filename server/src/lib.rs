//! Millpond: a feature store server. The `millpond` command is in `main.rs`; [`app`] wires the stages.

pub mod app;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod http;
pub mod log;
pub mod offline;
pub mod pipeline;
pub mod registry;
pub mod store;
pub mod telemetry;
pub mod training;
