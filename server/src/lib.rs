//! Millpond: a feature store server. The `millpond` command is in `main.rs`; [`app`] wires the stages.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::type_complexity,
        clippy::needless_pass_by_value,
        clippy::float_cmp
    )
)]

pub mod app;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod http;
pub mod log;
pub mod offline;
pub mod pipeline;
pub mod registry;
pub mod sinks;
pub mod store;
pub mod telemetry;
pub mod training;
