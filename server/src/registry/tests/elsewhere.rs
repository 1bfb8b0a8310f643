//! An external registry that fails in the ways that they do.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use parking_lot::Mutex;

use super::*;

/// What the fake replies next, how often it was asked, and with what credentials.
#[derive(Default)]
struct Fake {
    reply: Mutex<(u16, String)>,
    asked: AtomicU32,
    authorization: Mutex<Option<String>>,
}

impl Fake {
    fn says(&self, status: u16, body: &str) {
        *self.reply.lock() = (status, body.to_owned());
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn answer(State(fake): State<Arc<Fake>>, headers: HeaderMap) -> impl IntoResponse {
    fake.asked.fetch_add(1, Ordering::SeqCst);
    *fake.authorization.lock() = headers.get("authorization").map(|v| v.to_str().unwrap().to_owned());
    let (status, body) = fake.reply.lock().clone();
    (StatusCode::from_u16(status).unwrap(), body)
}

struct Setup {
    fake: Arc<Fake>,
    url: String,
    _runtime: tokio::runtime::Runtime,
    dir: tempfile::TempDir,
}

fn setup() -> Setup {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let fake = Arc::new(Fake::default());
    let app = Router::new().fallback(get(answer).post(answer)).with_state(Arc::clone(&fake));
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    runtime.spawn(async move { axum::serve(listener, app).await });
    Setup { fake, url, _runtime: runtime, dir: tempfile::tempdir().unwrap() }
}

fn config(url: &str, grace: f64) -> config::SchemaRegistry {
    config::SchemaRegistry {
        url: Some(url.to_owned()),
        username: None,
        password: None,
        unknown_grace: grace,
        timeout: 2.0,
    }
}

const UNKNOWN: &str = r#"{"error_code":40403,"message":"Schema not found"}"#;

#[test]
fn trouble_is_asked_about_again_and_schemas_are_kept() {
    let it = setup();
    let store = Store::open(it.dir.path(), &Options::default()).unwrap();
    let registry = Registry::open(&config(&it.url, 60.0), Arc::clone(&store)).unwrap();
    // None of these is an answer; a bare 404 is a wrong URL.
    for (status, body) in [(500, "oops"), (503, ""), (404, "not here"), (401, "{}"), (200, "<html>")] {
        it.fake.says(status, body);
        assert!(matches!(registry.schema(7), Err(Error::Unavailable { .. })), "{status} {body}");
    }
    it.fake.says(200, r#"{"schema":"\"string\""}"#);
    assert_eq!(&*registry.schema(7).unwrap(), r#""string""#);
    let asked = it.fake.asked();
    it.fake.says(500, "down for good");
    assert_eq!(&*registry.schema(7).unwrap(), r#""string""#);
    // Another process, the registry still down: the store has it.
    drop(registry);
    let registry = Registry::open(&config(&it.url, 60.0), Arc::clone(&store)).unwrap();
    assert_eq!(&*registry.schema(7).unwrap(), r#""string""#);
    assert_eq!(it.fake.asked(), asked);
    // Ids of one registry mean nothing in another.
    let other = Registry::open(&config(&format!("{}/other", it.url), 60.0), store).unwrap();
    assert!(other.schema(7).is_err());
}

#[test]
fn an_unknown_id_is_final_after_the_grace_period_only() {
    let it = setup();
    let store = Store::open(it.dir.path(), &Options::default()).unwrap();
    let registry = Registry::open(&config(&it.url, 0.2), store).unwrap();
    it.fake.says(404, UNKNOWN);
    assert!(matches!(registry.schema(9), Err(Error::Unavailable { .. })));
    std::thread::sleep(Duration::from_millis(250));
    assert_eq!(registry.schema(9), Err(Error::Unknown { id: 9 }));
    // Believed for a while, without asking.
    let asked = it.fake.asked();
    assert_eq!(registry.schema(9), Err(Error::Unknown { id: 9 }));
    assert_eq!(it.fake.asked(), asked);
    // An outage in between does not make another id final.
    it.fake.says(503, "");
    assert!(matches!(registry.schema(10), Err(Error::Unavailable { .. })));
    std::thread::sleep(Duration::from_millis(250));
    it.fake.says(404, UNKNOWN);
    assert!(matches!(registry.schema(10), Err(Error::Unavailable { .. })));
}

#[test]
fn credentials_go_with_the_request_and_not_into_the_identity() {
    let it = setup();
    let store = Store::open(it.dir.path(), &Options::default()).unwrap();
    let with = it.url.replace("http://", "http://me:se%20cret@");
    let registry = Registry::open(&config(&with, 60.0), Arc::clone(&store)).unwrap();
    assert_eq!(registry.identity(), it.url);
    it.fake.says(200, r#"{"schema":"\"string\""}"#);
    registry.schema(1).unwrap();
    assert_eq!(it.fake.authorization.lock().as_deref(), Some("Basic bWU6c2UgY3JldA=="));
    let mut settings = config(&it.url, 60.0);
    settings.username = Some("me".into());
    settings.password = Some("se cret".into());
    Registry::open(&settings, store).unwrap().schema(2).unwrap();
    assert_eq!(it.fake.authorization.lock().as_deref(), Some("Basic bWU6c2UgY3JldA=="));
}

#[test]
fn what_a_schema_refers_to_is_asked_for_and_kept() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let asked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&asked);
    let serve = move |uri: axum::http::Uri| {
        counted.fetch_add(1, Ordering::SeqCst);
        let reply = |schema: &str, references: &[(&str, &str)]| {
            let named = |(name, subject): &(&str, &str)| serde_json::json!({"name": name, "subject": subject, "version": 1});
            let references: Vec<_> = references.iter().map(named).collect();
            (
                StatusCode::OK,
                serde_json::json!({"id": 1, "version": 1, "schema": schema, "references": references})
                    .to_string(),
            )
        };
        let reply = match uri.path() {
            "/schemas/ids/7" => reply(ORDER, &[("geo.Address", "address"), ("geo.Country", "a country")]),
            "/subjects/address/versions/1" => reply(ADDRESS, &[("geo.Country", "a country")]),
            "/subjects/a%20country/versions/1" => reply(COUNTRY, &[]),
            "/schemas/ids/8" => reply(r#""a.Loop""#, &[("a.Loop", "loop")]),
            "/subjects/loop/versions/1" => reply(r#""a.Loop""#, &[("a.Loop", "loop"), ("b", "deeper")]),
            _ => (StatusCode::SERVICE_UNAVAILABLE, String::new()),
        };
        async move { reply }
    };
    let app = Router::new().fallback(get(serve));
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    runtime.spawn(async move { axum::serve(listener, app).await });
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &Options::default()).unwrap();
    let registry = Registry::open(&config(&url, 60.0), Arc::clone(&store)).unwrap();
    let whole = registry.schema(7).unwrap();
    let reader = millpond_engine::avro::ReaderSchema::parse(&whole, None).unwrap();
    assert_eq!(reader.arrow().fields().len(), 2);
    assert_eq!(asked.load(Ordering::SeqCst), 3, "each once");
    // The whole is kept: nothing is asked for again.
    let registry = Registry::open(&config(&url, 60.0), store).unwrap();
    assert_eq!(registry.schema(7).unwrap(), whole);
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    // One that refers to itself ends, and is what it is.
    assert_eq!(&*registry.schema(8).unwrap(), r#""a.Loop""#);
}

#[tokio::test(flavor = "multi_thread")]
async fn subjects_are_asked_for_and_registered() {
    let it = tokio::task::spawn_blocking(setup).await.unwrap();
    let store = Store::open(it.dir.path(), &Options::default()).unwrap();
    let registry = Registry::open(&config(&it.url, 60.0), store).unwrap();
    it.fake.says(404, r#"{"error_code":40401,"message":"Subject not found"}"#);
    assert_eq!(registry.latest("a/b").await, Ok(None));
    it.fake.says(200, r#"{"subject":"a/b","version":1,"id":3,"schema":"\"string\""}"#);
    let latest = Latest { id: 3, kind: Kind::Avro, schema: r#""string""#.to_owned() };
    assert_eq!(registry.latest("a/b").await, Ok(Some(latest)));
    assert_eq!(registry.register("a/b", r#""string""#).await, Ok(3));
    it.fake.says(409, r#"{"error_code":409,"message":"incompatible, says the registry"}"#);
    let error = registry.register("a/b", r#""int""#).await.unwrap_err();
    assert!(
        matches!(&error, Error::Incompatible { reasons, .. } if reasons[0].contains("says the registry"))
    );
    it.fake.says(422, r#"{"error_code":42201,"message":"no Avro"}"#);
    assert!(matches!(registry.register("a/b", "x").await, Err(Error::InvalidSchema(_))));
    it.fake.says(500, "");
    assert!(matches!(registry.latest("a/b").await, Err(Error::Unavailable { .. })));
    // A thread of an async runtime may ask too, as long as it may block.
    assert!(matches!(registry.schema(4), Err(Error::Unavailable { .. })));
    tokio::task::spawn_blocking(move || drop(it)).await.unwrap();
}
