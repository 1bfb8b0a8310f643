//! Logs and metrics.

mod logs;
mod metrics;

pub use logs::init;
pub use metrics::{GroupMetrics, Metrics, SourceMetrics};
