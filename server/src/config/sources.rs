//! Where values come from, and the order in which they win.

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Json, Serialized, Toml};

use super::Config;

/// Values given on the command line; `None` leaves the matter to the sources below.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
    /// Configuration file, TOML or JSON
    #[arg(long, short, value_name = "FILE", env = "MILLPOND_CONFIG")]
    pub config: Option<PathBuf>,
    /// Folder of the data [default: $XDG_DATA_HOME/millpond]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address and port to listen on [default: 127.0.0.1:7878]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Port to listen on, on the address of --listen
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Serve others than the local user without an API key
    #[arg(long)]
    pub insecure: bool,
    /// Brokers of the streams with a topic
    #[arg(long, value_name = "HOST:PORT,…")]
    pub kafka_bootstrap_servers: Option<String>,
    /// URL of an external schema registry; without it the embedded one is used
    #[arg(long, value_name = "URL")]
    pub schema_registry_url: Option<String>,
    /// What is logged, such as info or info,millpond=debug [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log_filter: Option<String>,
    /// How it is logged: text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file that was named is not there.
    #[error("there is no configuration file {0}")]
    NoFile(PathBuf),
    /// A value or a key is wrong; says which and where it stands.
    #[error("the configuration cannot be used: {0}")]
    Invalid(Box<figment::Error>),
}

/// `$XDG_DATA_HOME/millpond`, else `~/.local/share/millpond`, else `./millpond-data`.
pub fn default_data_dir() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("XDG_DATA_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".local/share")))
        .map_or_else(|| PathBuf::from("millpond-data"), |dir| dir.join("millpond"))
}

/// Reads all sources. The figment that comes with the result knows where each value came from.
pub fn load(flags: &Flags) -> Result<(Config, Figment), Error> {
    let mut figment = Figment::from(Serialized::defaults(Config::default()));
    if let Some(file) = &flags.config {
        figment = merge_file(figment, file)?;
    }
    // MILLPOND_URL is the client's, MILLPOND_BIN and MILLPOND_CACHE are the scripts', MILLPOND_CONFIG says
    // where this comes from: none is a setting of the server.
    let ours = Env::prefixed("MILLPOND_").ignore(&["url", "config", "log", "bin", "cache"]).split("__");
    let brokers = Env::raw().only(&["KAFKA_BOOTSTRAP_SERVERS"]).map(|_| "kafka.bootstrap_servers".into());
    figment = figment.merge(brokers).merge(ours);
    figment = merge_flags(figment, flags);
    let config = figment.extract().map_err(|e| Error::Invalid(Box::new(e)))?;
    Ok((config, figment))
}

fn merge_file(figment: Figment, file: &Path) -> Result<Figment, Error> {
    if !file.is_file() {
        return Err(Error::NoFile(file.to_owned()));
    }
    let json = file.extension().is_some_and(|e| e.eq_ignore_ascii_case("json"));
    Ok(if json { figment.merge(Json::file(file)) } else { figment.merge(Toml::file(file)) })
}

fn merge_flags(mut figment: Figment, flags: &Flags) -> Figment {
    let flag = |figment: Figment, key: &str, value: Option<&str>| match value {
        Some(value) => figment.merge(named("command line", Serialized::default(key, value))),
        None => figment,
    };
    figment = flag(figment, "data_dir", flags.data_dir.as_ref().and_then(|d| d.to_str()));
    figment = flag(figment, "http.listen", flags.listen.as_deref());
    if let Some(port) = flags.port {
        let listen: std::net::SocketAddr =
            figment.extract_inner("http.listen").unwrap_or_else(|_| super::Http::default().listen);
        let listen = std::net::SocketAddr::new(listen.ip(), port).to_string();
        figment = flag(figment, "http.listen", Some(&listen));
    }
    if flags.insecure {
        figment = figment.merge(named("command line", Serialized::default("http.insecure", true)));
    }
    figment = flag(figment, "kafka.bootstrap_servers", flags.kafka_bootstrap_servers.as_deref());
    figment = flag(figment, "schema_registry.url", flags.schema_registry_url.as_deref());
    figment = flag(figment, "log.filter", flags.log_filter.as_deref());
    flag(figment, "log.format", flags.log_format.as_deref())
}

/// A provider under a name of our own, for `millpond config`.
struct Named<P>(&'static str, P);

fn named<P: figment::Provider>(name: &'static str, provider: P) -> Named<P> {
    Named(name, provider)
}

impl<P: figment::Provider> figment::Provider for Named<P> {
    fn metadata(&self) -> figment::Metadata {
        figment::Metadata::named(self.0)
    }
    fn data(&self) -> Result<figment::value::Map<figment::Profile, figment::value::Dict>, figment::Error> {
        self.1.data()
    }
}
