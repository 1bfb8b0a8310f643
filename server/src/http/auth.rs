//! Who may call (invariant 9): with an API key whoever has it, without one only programs on this machine.
//!
//! On loopback every web page that a local browser shows can send requests here. So without a key a
//! foreign `Host` (DNS rebinding) or `Origin` (a page of another site) is refused. With a key the
//! name does not matter, but a browser repeats Basic credentials by itself, so a foreign `Origin` is
//! refused with those too.

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use subtle::ConstantTimeEq as _;

use super::Error;
use crate::config::Config;

/// Routes that say nothing about anyone's data: probes of orchestrators call them without a key.
const OPEN: [&str; 2] = ["/health", "/ready"];

/// Decides who may call.
#[derive(Debug)]
pub struct Guard {
    rule: Rule,
    /// Lower-case host names (with or without port) allowed besides the local ones.
    hosts: Vec<String>,
}

#[derive(Debug)]
enum Rule {
    /// The SHA-256 of the key: comparing digests hides the key's length too.
    Key([u8; 32]),
    /// No key: only under a local name.
    Local,
    /// No key, reachable by others, and told to be.
    Insecure,
}

impl Guard {
    /// The rule that a configuration asks for.
    pub fn new(config: &Config) -> Self {
        let rule = match &config.api_key {
            Some(key) => Rule::Key(Sha256::digest(key).into()),
            None if config.http.insecure && !config.http.listen.ip().is_loopback() => Rule::Insecure,
            None => Rule::Local,
        };
        Self { rule, hosts: config.http.allowed_hosts.iter().map(|h| h.to_ascii_lowercase()).collect() }
    }

    /// Whether a request may pass.
    pub fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Error> {
        if OPEN.contains(&uri.path()) {
            return Ok(());
        }
        let host = host(uri, headers);
        match &self.rule {
            Rule::Key(digest) => match credentials(headers) {
                Credentials::None => Err(Error::Unauthorized("this server wants an API key")),
                Credentials::Bearer(key) => verify(digest, &key),
                Credentials::Basic(key) => {
                    verify(digest, &key).and_then(|()| self.check_origin(&host, headers))
                }
            },
            Rule::Local => {
                self.check_host(&host)?;
                self.check_origin(&host, headers)
            }
            Rule::Insecure => self.check_origin(&host, headers),
        }
    }

    fn check_host(&self, host: &str) -> Result<(), Error> {
        if is_local(host) || self.is_allowed(host) {
            return Ok(());
        }
        Err(Error::Forbidden {
            message: format!("without an API key this server is not called '{host}'"),
            hint: "call it localhost or 127.0.0.1, add the name to http.allowed_hosts, or configure an api_key",
        })
    }

    /// A page may call the server that it came from, and those of allowed names may.
    fn check_origin(&self, host: &str, headers: &HeaderMap) -> Result<(), Error> {
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        let origin = origin.to_str().unwrap_or("null").to_ascii_lowercase();
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if authority.is_some_and(|a| a == host || self.is_allowed(a)) {
            return Ok(());
        }
        Err(Error::Forbidden {
            message: format!("a web page of '{origin}' may not call this server"),
            hint: "add its host to http.allowed_hosts if it should",
        })
    }

    fn is_allowed(&self, host: &str) -> bool {
        self.hosts.iter().any(|allowed| allowed == host || allowed == without_port(host))
    }
}

/// The layer: refuses before anything of the body is read.
pub async fn layer(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Result<Response, Error> {
    guard.check(request.uri(), request.headers())?;
    Ok(next.run(request).await)
}

/// `Host`, or the authority of an HTTP/2 request; lower case.
fn host(uri: &Uri, headers: &HeaderMap) -> String {
    let named = headers.get(header::HOST).and_then(|h| h.to_str().ok());
    named.or_else(|| uri.authority().map(Authority::as_str)).unwrap_or_default().to_ascii_lowercase()
}

fn is_local(host: &str) -> bool {
    matches!(without_port(host), "localhost" | "127.0.0.1" | "[::1]")
}

/// `[::1]:80` is `[::1]`; what follows the colon must be a port.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

enum Credentials {
    None,
    Bearer(Vec<u8>),
    Basic(Vec<u8>),
}

/// Bearer; or Basic with the key as the password, whatever the user, as registry clients send it.
fn credentials(headers: &HeaderMap) -> Credentials {
    let Some((scheme, rest)) =
        headers.get(header::AUTHORIZATION).and_then(|h| h.to_str().ok()).and_then(|h| h.split_once(' '))
    else {
        return Credentials::None;
    };
    if scheme.eq_ignore_ascii_case("bearer") {
        return Credentials::Bearer(rest.trim().as_bytes().to_vec());
    }
    let decoded = STANDARD.decode(rest.trim()).unwrap_or_default();
    match decoded.iter().position(|b| *b == b':') {
        Some(colon) if scheme.eq_ignore_ascii_case("basic") => {
            Credentials::Basic(decoded.into_iter().skip(colon + 1).collect())
        }
        _ => Credentials::None,
    }
}

fn verify(digest: &[u8; 32], key: &[u8]) -> Result<(), Error> {
    let given: [u8; 32] = Sha256::digest(key).into();
    if bool::from(digest.ct_eq(&given)) { Ok(()) } else { Err(Error::Unauthorized("the API key is wrong")) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    fn guard(key: Option<&str>, allowed: &[&str]) -> Guard {
        let mut config = Config { api_key: key.map(str::to_owned), ..Config::default() };
        config.http.allowed_hosts = allowed.iter().map(|h| (*h).to_owned()).collect();
        Guard::new(&config)
    }

    fn status(guard: &Guard, path: &str, headers: &[(&str, &str)]) -> u16 {
        let headers: HeaderMap =
            headers.iter().map(|(n, v)| (n.parse::<HeaderName>().unwrap(), v.parse().unwrap())).collect();
        match guard.check(&path.parse().unwrap(), &headers) {
            Ok(()) => 200,
            Err(e) => e.reply().code.status().as_u16(),
        }
    }

    #[test]
    fn without_a_key_only_local_names_pass() {
        let guard = guard(None, &["pond.lan", "proxy.example:8443"]);
        let table = [
            ("localhost", 200),
            ("localhost:7878", 200),
            ("LOCALHOST:1", 200),
            ("127.0.0.1", 200),
            ("127.0.0.1:7878", 200),
            ("[::1]", 200),
            ("[::1]:7878", 200),
            ("pond.lan:7878", 200),
            ("proxy.example:8443", 200),
            ("proxy.example", 403),
            ("evil.example", 403),
            ("localhost.evil.example", 403),
            ("127.0.0.1.evil.example:7878", 403),
            ("localhost:evil", 403),
            ("127.0.0.2", 403),
            ("", 403),
        ];
        for (host, wanted) in table {
            assert_eq!(status(&guard, "/api/v1/streams", &[("host", host)]), wanted, "Host: {host}");
        }
        assert_eq!(status(&guard, "/api/v1/streams", &[]), 403, "no Host at all");
        assert_eq!(status(&guard, "http://localhost/api/v1/streams", &[]), 200, "HTTP/2 authority");
    }

    #[test]
    fn without_a_key_only_our_own_pages_pass() {
        let guard = guard(None, &["app.lan"]);
        let table = [
            ("http://localhost:7878", 200),
            ("HTTP://LOCALHOST:7878", 200),
            ("http://app.lan", 200),
            ("https://app.lan:444", 200),
            ("http://localhost:3000", 403),
            ("http://evil.example", 403),
            ("null", 403),
            ("file://", 403),
        ];
        for (origin, wanted) in table {
            let headers = [("host", "localhost:7878"), ("origin", origin)];
            assert_eq!(status(&guard, "/docs/", &headers), wanted, "Origin: {origin}");
        }
    }

    #[test]
    fn with_a_key_the_key_decides() {
        let guard = guard(Some("s3:cret"), &[]);
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let table = [
            (String::new(), 401),
            ("Bearer s3:cret".to_owned(), 200),
            ("bearer s3:cret".to_owned(), 200),
            ("Bearer s3:cre".to_owned(), 401),
            ("Bearer s3:cret1".to_owned(), 401),
            ("Bearer ".to_owned(), 401),
            ("s3:cret".to_owned(), 401),
            (basic("anyone:s3:cret"), 200),
            (basic(":s3:cret"), 200),
            (basic("s3:cret"), 401),
            (basic("no colon"), 401),
            ("Basic !!!".to_owned(), 401),
            ("Digest s3:cret".to_owned(), 401),
        ];
        for (value, wanted) in table {
            let headers = [("host", "pond.example"), ("authorization", value.as_str())];
            assert_eq!(status(&guard, "/api/v1/streams", &headers), wanted, "Authorization: {value}");
        }
        let foreign = |auth: &str| {
            status(
                &guard,
                "/",
                &[("host", "pond"), ("origin", "http://evil.example"), ("authorization", auth)],
            )
        };
        assert_eq!(foreign("Bearer s3:cret"), 200, "a page must have been given the key");
        assert_eq!(foreign(&basic("u:s3:cret")), 403, "a browser sends these by itself");
    }

    #[test]
    fn probes_need_nothing() {
        for guard in [guard(Some("k"), &[]), guard(None, &[])] {
            for path in ["/health", "/ready"] {
                assert_eq!(status(&guard, path, &[("host", "10.0.0.7:80"), ("origin", "http://x")]), 200);
            }
            assert_ne!(status(&guard, "/metrics", &[("host", "10.0.0.7:80")]), 200);
        }
    }

    #[test]
    fn insecure_has_no_names_but_still_no_foreign_pages() {
        let mut config = Config::default();
        config.http.insecure = true;
        config.http.listen = ([0, 0, 0, 0], 7878).into();
        let guard = Guard::new(&config);
        assert_eq!(status(&guard, "/metrics", &[("host", "10.0.0.7")]), 200);
        assert_eq!(status(&guard, "/metrics", &[("host", "10.0.0.7"), ("origin", "http://evil")]), 403);
        config.http.listen = ([127, 0, 0, 1], 7878).into();
        assert_eq!(
            status(&Guard::new(&config), "/metrics", &[("host", "evil")]),
            403,
            "loopback stays strict"
        );
    }
}
