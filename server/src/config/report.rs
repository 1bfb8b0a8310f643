//! `millpond config`: each value, where it came from, secrets hidden.

use std::fmt::Write as _;

use figment::Figment;
use figment::value::{Dict, Value};

use super::Config;

/// One line a value: `key = value   # source`.
pub fn report(config: &Config, figment: &Figment) -> String {
    let mut lines = Vec::new();
    // Flattened from the typed configuration, so that what is shown is what is used.
    if let Ok(Value::Dict(_, dict)) = Value::serialize(config) {
        collect("", &dict, figment, &mut lines);
    }
    let width = lines.iter().map(|(left, _)| left.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for (left, source) in lines {
        let _ = writeln!(out, "{left:width$}  # {source}");
    }
    out
}

fn collect(prefix: &str, dict: &Dict, figment: &Figment, lines: &mut Vec<(String, String)>) {
    for (name, value) in dict {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            Value::Dict(_, inner) => collect(&key, inner, figment, lines),
            value => lines.push((format!("{key} = {}", shown(&key, value)), source(&key, figment))),
        }
    }
}

fn shown(key: &str, value: &Value) -> String {
    let secret = ["api_key", "password", "secret", "token", "jaas", "key_pem", "oauthbearer"];
    match value {
        Value::Empty(..) => "(not set)".to_owned(),
        _ if secret.iter().any(|s| key.contains(s)) => "(hidden)".to_owned(),
        Value::String(_, s) => format!("{s:?}"),
        Value::Num(_, n) => {
            let whole = n.to_u128().map(|n| n.to_string()).or_else(|| n.to_i128().map(|n| n.to_string()));
            whole.or_else(|| n.to_f64().map(|f| f.to_string())).unwrap_or_default()
        }
        Value::Bool(_, b) => b.to_string(),
        Value::Char(_, c) => format!("{c:?}"),
        Value::Array(_, items) => {
            let items: Vec<String> = items.iter().map(|v| shown(key, v)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Dict(..) => String::new(),
    }
}

fn source(key: &str, figment: &Figment) -> String {
    match figment.find_metadata(key) {
        Some(metadata) if metadata.name.contains("Config") => "default".to_owned(),
        Some(metadata) => match &metadata.source {
            Some(figment::Source::File(path)) => format!("file {}", path.display()),
            _ if metadata.name.contains("environment") => "environment".to_owned(),
            _ => metadata.name.to_string(),
        },
        None => "default".to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::result_large_err)]
mod tests {
    use super::super::{Flags, load};
    use super::*;

    #[test]
    fn flags_beat_environment_beats_file_beats_default() {
        figment::Jail::expect_with(|jail| {
            jail.create_file(
                "m.toml",
                "data_dir = \"/file\"\n[log]\nfilter = \"debug\"\n[kafka]\nsasl_username = \"u\"\n[http]\nmax_in_flight = 9\n",
            )?;
            jail.set_env("MILLPOND_LOG__FILTER", "warn");
            jail.set_env("MILLPOND_DATA_DIR", "/env");
            jail.set_env("MILLPOND_API_KEY", "12345");
            jail.set_env("MILLPOND_URL", "http://elsewhere");
            jail.set_env("MILLPOND_CACHE", "/cache");
            jail.set_env("KAFKA_BOOTSTRAP_SERVERS", "broker:9092");
            jail.set_env("MILLPOND_KAFKA__SECURITY_PROTOCOL", "SSL");
            let flags = Flags {
                config: Some("m.toml".into()),
                data_dir: Some("/flag".into()),
                port: Some(99),
                ..Flags::default()
            };
            let (config, figment) = load(&flags).unwrap();
            assert_eq!(config.data_dir.to_str(), Some("/flag"));
            assert_eq!(config.log.filter, "warn");
            assert_eq!(config.http.max_in_flight, 9);
            assert_eq!(config.http.listen.to_string(), "127.0.0.1:99");
            assert_eq!(config.api_key.as_deref(), Some("12345"));
            let kafka: Vec<_> = config.kafka.librdkafka().collect();
            assert!(kafka.contains(&("bootstrap.servers".to_owned(), "broker:9092")));
            assert!(kafka.contains(&("security.protocol".to_owned(), "SSL")));
            assert!(kafka.contains(&("sasl.username".to_owned(), "u")));
            let text = report(&config, &figment);
            let line = |key: &str| text.lines().find(|l| l.starts_with(key)).unwrap().to_owned();
            assert!(line("data_dir").ends_with("# command line"), "{text}");
            assert!(line("log.filter").ends_with("# environment"), "{text}");
            assert!(line("http.max_in_flight").contains("# file"), "{text}");
            assert!(line("log.format").ends_with("# default"), "{text}");
            assert!(line("api_key").contains("(hidden)"), "{text}");
            assert!(line("http.max_in_flight = 9 ").contains("# file"), "{text}");
            assert!(line("http.max_body_bytes = 10485760 ").ends_with("# default"), "{text}");
            Ok(())
        });
    }

    #[test]
    fn an_empty_key_is_no_key() {
        figment::Jail::expect_with(|jail| {
            jail.set_env("MILLPOND_API_KEY", "");
            assert_eq!(load(&Flags::default()).unwrap().0.api_key, None);
            Ok(())
        });
    }

    #[test]
    fn unknown_keys_are_errors() {
        figment::Jail::expect_with(|jail| {
            jail.set_env("MILLPOND_HTTP__LISTENN", "x");
            let error = load(&Flags::default()).unwrap_err().to_string();
            assert!(error.contains("listenn"), "{error}");
            Ok(())
        });
    }
}
