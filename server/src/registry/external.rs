//! A registry elsewhere, through `schema_registry_converter`.
//!
//! Its functions are called bare, without its encoders' caches: those have kept transient errors. What
//! does not answer is asked again; an id that the registry does not know is taken for unknown only
//! after a grace period (registries replicate, and a producer may be faster than its registry), and
//! not for ever.

use std::collections::HashMap;
use std::error::Error as _;
use std::future::Future;
use std::time::{Duration, Instant};

use millpond_engine::avro;
use parking_lot::Mutex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use schema_registry_converter::async_impl::schema_registry::{
    SrSettings, get_schema_by_id, get_schema_by_subject_and_version, post_schema,
};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{
    RawError, RegisteredReference, RegisteredSchema, SchemaType, SuppliedSchema,
};

use super::{Error, Kind, Latest, Schema, json};
use crate::config;

/// How long "there is no such id" is believed once it is final.
const NEGATIVE: Duration = Duration::from_secs(30);

/// References go no deeper than this: what does refers to itself.
const MAX_DEPTH: usize = 32;

/// Leaves what RFC 3986 calls unreserved.
const SUBJECT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

pub(super) struct External {
    url: String,
    settings: SrSettings,
    grace: Duration,
    /// When an id was first, and when it was last, said to be unknown.
    missing: Mutex<HashMap<u32, (Instant, Instant)>>,
    /// Its own runtime: pipeline threads have none, and connections must not die with a caller's.
    runtime: Option<tokio::runtime::Runtime>,
}

impl External {
    pub fn new(url: &str, config: &config::SchemaRegistry) -> Result<Self, Error> {
        let configuration = |e: &dyn std::fmt::Display| Error::Configuration(format!("{url}: {e}"));
        let mut parsed = url::Url::parse(url).map_err(|e| configuration(&e))?;
        let own = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let username =
            config.username.clone().or_else(|| Some(own(parsed.username())).filter(|u| !u.is_empty()));
        let password = config.password.clone().or_else(|| parsed.password().map(own));
        // The identity must not change with the credentials, nor show them.
        if parsed.set_username("").and_then(|()| parsed.set_password(None)).is_err() {
            return Err(Error::Configuration(format!("{url} is not an http URL")));
        }
        let url = parsed.as_str().trim_end_matches('/').to_owned();
        let seconds = |name: &str, value: f64| {
            Duration::try_from_secs_f64(value).map_err(|e| Error::Configuration(format!("{name}: {e}")))
        };
        let mut builder = SrSettings::new_builder(url.clone());
        builder.set_timeout(seconds("timeout", config.timeout)?);
        if let Some(username) = &username {
            builder.set_basic_authorization(username, password.as_deref());
        }
        let settings = builder.build().map_err(|e| Error::Configuration(format!("{url}: {e}")))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("schema-registry")
            .enable_all()
            .build()
            .map_err(|e| Error::Configuration(e.to_string()))?;
        let grace = seconds("unknown_grace", config.unknown_grace)?;
        Ok(Self { url, settings, grace, missing: Mutex::default(), runtime: Some(runtime) })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Asks for an id; blocks the thread.
    pub fn schema(&self, id: u32) -> Result<String, Error> {
        if let Some((first, last)) = self.missing.lock().get(&id)
            && first.elapsed() >= self.grace
            && last.elapsed() < NEGATIVE
        {
            return Err(Error::Unknown { id });
        }
        let settings = self.settings.clone();
        let (reply, answer) = std::sync::mpsc::channel();
        self.spawn(async move {
            // The caller waits for as long as the request may take.
            let found = match get_schema_by_id(id, &settings).await {
                Ok(found) => whole(&settings, found).await,
                Err(error) => Err(error),
            };
            let _ = reply.send(found);
        })?;
        let found = answer.recv().map_err(|_| self.unavailable("its thread ended"))?;
        match found {
            Ok(found) => {
                self.missing.lock().remove(&id);
                Ok(found.schema)
            }
            Err(error) => Err(match registry_code(&error) {
                Some(40403) => self.not_there(id),
                _ => self.failure(&error),
            }),
        }
    }

    fn not_there(&self, id: u32) -> Error {
        let now = Instant::now();
        let mut missing = self.missing.lock();
        let (first, last) = missing.entry(id).or_insert((now, now));
        *last = now;
        if now.duration_since(*first) >= self.grace {
            return Error::Unknown { id };
        }
        self.unavailable(&format!("it does not know schema {id} yet"))
    }

    pub async fn latest(&self, subject: &str) -> Result<Option<Latest>, Error> {
        let (settings, encoded) = (self.settings.clone(), encode(subject));
        let found = self
            .run(async move {
                whole(&settings, get_schema_by_subject_and_version(&settings, &encoded, None).await?).await
            })
            .await?;
        match found {
            Ok(found) => {
                let kind = match found.schema_type {
                    SchemaType::Avro => Kind::Avro,
                    SchemaType::Json => Kind::Json,
                    other => {
                        let message = format!("the latest schema of subject {subject} is {other:?}");
                        return Err(Error::InvalidSchema(message));
                    }
                };
                Ok(Some(Latest { id: found.id, kind, schema: found.schema }))
            }
            Err(error) => match registry_code(&error) {
                Some(40401 | 40402) => Ok(None),
                _ => Err(self.failure(&error)),
            },
        }
    }

    /// Registers a schema that stands by itself.
    pub async fn register(&self, subject: &str, schema: Schema) -> Result<u32, Error> {
        let kind = match schema.kind {
            Kind::Avro => SchemaType::Avro,
            Kind::Json => SchemaType::Json,
        };
        let supplied = SuppliedSchema::new(None, kind, schema.text);
        let (settings, encoded) = (self.settings.clone(), encode(subject));
        let found = self.run(async move { post_schema(&settings, encoded, supplied).await }).await?;
        found.map(|found| found.id).map_err(|error| {
            let said = error.source().map_or_else(|| error.error.clone(), ToString::to_string);
            match registry_code(&error) {
                // 409 itself, or codes that begin with it.
                Some(code) if code == 409 || code / 100 == 409 => {
                    Error::Incompatible { subject: subject.to_owned(), reasons: vec![said] }
                }
                Some(code) if code == 422 || code / 100 == 422 => Error::InvalidSchema(said),
                _ => self.failure(&error),
            }
        })
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.spawn(async move {
            // A caller that went away does not wait for the answer.
            let _ = reply.send(work.await);
        })?;
        answer.await.map_err(|_| self.unavailable("its thread ended"))
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> Result<(), Error> {
        let runtime = self.runtime.as_ref().ok_or_else(|| self.unavailable("it is shutting down"))?;
        runtime.spawn(work);
        Ok(())
    }

    fn failure(&self, error: &SRCError) -> Error {
        let mut detail = error.error.clone();
        let mut cause = error.source();
        while let Some(error) = cause {
            detail = format!("{detail}: {error}");
            cause = error.source();
        }
        self.unavailable(&detail)
    }

    fn unavailable(&self, detail: &str) -> Error {
        Error::Unavailable { registry: self.url.clone(), detail: detail.to_owned() }
    }
}

impl Drop for External {
    fn drop(&mut self) {
        // Waiting for the runtime is forbidden where this may run: on another runtime's thread.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A schema with what it refers to in it; as it is where it cannot be put together, for whoever reads it
/// to say so.
async fn whole(settings: &SrSettings, mut found: RegisteredSchema) -> Result<RegisteredSchema, SRCError> {
    // Depth first, without recursion: an asynchronous function that calls itself lives on the heap.
    let mut texts: HashMap<(String, u32), String> = HashMap::new();
    let mut open = vec![found.clone()];
    while let Some(schema) = open.last() {
        let key = |r: &RegisteredReference| (r.subject.clone(), r.version);
        if let Some(next) = schema.references.iter().find(|r| !texts.contains_key(&key(r))) {
            if open.len() > MAX_DEPTH {
                return Ok(found);
            }
            let subject = encode(&next.subject);
            let mut below = get_schema_by_subject_and_version(settings, &subject, Some(next.version)).await?;
            below.subject = Some(next.subject.clone());
            below.version = Some(next.version);
            open.push(below);
            continue;
        }
        let parts: Vec<(&str, &str)> = schema
            .references
            .iter()
            .filter_map(|r| Some((r.name.as_str(), texts.get(&key(r))?.as_str())))
            .collect();
        let text = match &schema.schema_type {
            SchemaType::Json => json::self_contained(&schema.schema, &parts).ok(),
            _ => {
                let parts: Vec<&str> = parts.iter().map(|(_, text)| *text).collect();
                avro::self_contained(&schema.schema, &parts).ok()
            }
        };
        let text = text.unwrap_or_else(|| schema.schema.clone());
        match open.pop() {
            Some(RegisteredSchema { subject: Some(subject), version: Some(version), .. })
                if !open.is_empty() =>
            {
                texts.insert((subject, version), text);
            }
            _ => found.schema = text,
        }
    }
    Ok(found)
}

fn encode(subject: &str) -> String {
    utf8_percent_encode(subject, SUBJECT).to_string()
}

/// The registry's own error code. A bare 404 without one is a wrong URL, not an unknown id.
fn registry_code(error: &SRCError) -> Option<u32> {
    error.source()?.downcast_ref::<RawError>().map(|raw| raw.error_code).filter(|code| *code != 0)
}
