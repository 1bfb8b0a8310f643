//! `millpond serve`.

use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;

use crate::app::App;
use crate::config::{self, Config};
use crate::{http, telemetry};

/// Requests under way at shutdown are given this long.
const DRAIN: Duration = Duration::from_secs(10);

pub fn run(flags: &config::Flags) -> Result<(), String> {
    let (config, _) = config::load(flags).map_err(|e| e.to_string())?;
    telemetry::init(&config.log.filter, config.log.format);
    guard(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("the runtime cannot be started: {e}"))?;
    runtime.block_on(serve(config))
}

/// Deny by default: without a key only the local user is served.
fn guard(config: &Config) -> Result<(), String> {
    if config.http.listen.ip().is_loopback() {
        return Ok(());
    }
    if config.api_key.is_none() && !config.http.insecure {
        return Err(format!(
            "{} can be reached by others than you, and there is no API key.\n  Set MILLPOND_API_KEY, or listen on 127.0.0.1, or say --insecure.",
            config.http.listen
        ));
    }
    tracing::warn!(
        listen = %config.http.listen,
        "requests and keys cross the network unencrypted: put a TLS proxy in front of Millpond"
    );
    Ok(())
}

async fn serve(config: Config) -> Result<(), String> {
    let listen = config.http.listen;
    // Bound before the data is opened: a taken port is the commonest mistake and should cost nothing.
    let listener = TcpListener::bind(listen).await.map_err(|e| taken(listen, &e))?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    let dir = config.data_dir.clone();
    let app = App::start(config).await.map_err(|e| e.to_string())?;
    tracing::info!(data_dir = %dir.display(), "data");
    tracing::info!("serving on http://{address} (API page: http://{address}/docs)");
    let router = http::router(Arc::clone(&app));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    // A vector is one small packet: without this it may wait 40 ms for company.
    let listener = listener.tap_io(|connection| {
        let _ = connection.set_nodelay(true);
    });
    let server = axum::serve(listener, router).with_graceful_shutdown(async move {
        signal().await;
        tracing::info!("stopping: requests under way are finished");
        let _ = stop.send(true);
    });
    let mut stopped = stopped;
    let overdue = async move {
        let _ = stopped.wait_for(|stop| *stop).await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        result = server => result.map_err(|e| format!("the server failed: {e}"))?,
        () = overdue => tracing::warn!("requests were still under way after {} s", DRAIN.as_secs()),
    }
    app.stop().await.map_err(|e| e.to_string())?;
    tracing::info!("stopped");
    Ok(())
}

fn taken(listen: std::net::SocketAddr, error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::AddrInUse {
        return format!(
            "port {} is taken: another program listens on {listen}.\n  Choose another one with --port (make demo: PORT=7979).",
            listen.port()
        );
    }
    format!("cannot listen on {listen}: {error}")
}

async fn signal() {
    let interrupt = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! { () = interrupt => {}, () = terminate => {} }
}
