//! Structured logs on standard error: text for a terminal, JSON for a collector.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt};

use crate::config::LogFormat;

/// Libraries that say at `info` what only their authors want to know.
const QUIET: &str = "buoyant_kernel=warn,deltalake_core=warn,datafusion=warn,rdkafka=warn";

/// Starts logging. `filter` is a `tracing` filter such as `info,millpond=debug`; one that cannot be
/// read falls back to `info` rather than keeping the server from starting.
pub fn init(filter: &str, format: LogFormat) {
    // What the user names comes last and wins.
    let filter = EnvFilter::try_new(format!("{QUIET},{filter}")).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second call (tests start several servers in one process) keeps the first subscriber.
    let _ = match format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
}
