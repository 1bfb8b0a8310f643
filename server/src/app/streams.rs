//! Creating, ending and dropping streams.

use std::sync::Arc;

use millpond_engine::avro::{self, ReaderSchema};
use millpond_engine::time::Span;
use serde_json::Value;
use uuid::Uuid;

use super::{App, Error, declared, json_schema, now};
use crate::catalog::{Error as CatalogError, Format, Seconds, Stream, StreamEntry, StreamId, StreamSpec};
use crate::log;
use crate::registry::{self, Kind, Latest, Schema};

/// More partitions than this in an embedded log are a mistake.
const MAX_PARTITIONS: u32 = 1024;

impl App {
    /// The stream that `spec` asks for: the one that exists with the same definition (false), or a
    /// new one (true). Another reader schema moves the stream to it where the registry finds it compatible.
    pub async fn get_or_create_stream(&self, spec: StreamSpec) -> Result<(Arc<StreamEntry>, bool), Error> {
        let _turn = self.creating.lock().await;
        self.stream_for_group(spec).await
    }

    /// The same, for a caller that has its turn already.
    pub(super) async fn stream_for_group(&self, spec: StreamSpec) -> Result<(Arc<StreamEntry>, bool), Error> {
        check(&spec)?;
        let log_name = spec.topic.clone().unwrap_or_else(|| spec.name.to_string());
        let subject = spec.subject.clone().unwrap_or_else(|| format!("{log_name}-value"));
        let existing = self.catalog.stream(spec.name.as_str()).ok();
        let (spec, json) = match (spec.format, &existing, &spec.schema) {
            (Format::Avro | Format::Changes, ..) | (_, Some(_), None) => (spec, Columns::Declared),
            (Format::Json, ..) => self.columns_of_json(spec, &subject).await?,
        };
        if let Some(existing) = &existing {
            same(existing, &spec, &subject)?;
            let Some(schema) = &spec.schema else { return Ok((Arc::clone(existing), false)) };
            let reader = parse(&spec, &schema_text(schema))?;
            if reader.normalised_sha256() == existing.reader.normalised_sha256() {
                return Ok((Arc::clone(existing), false));
            }
            if spec.format == Format::Json {
                readable(existing, &schema_text(schema))?;
            }
        }
        let (schema_id, schema) = match &spec.schema {
            Some(schema) if spec.format == Format::Json => {
                let id = match json {
                    Columns::Declared => 0,
                    Columns::Registered(id) => id,
                    Columns::ToRegister(text) => self.registry.register(&subject, Schema::json(text)).await?,
                };
                (id, schema_text(schema))
            }
            Some(schema) => {
                let text = schema_text(schema);
                parse(&spec, &text)?;
                (self.registry.register(&subject, &text).await?, text)
            }
            None => {
                let latest = self.latest(&subject).await?;
                if latest.kind != Kind::Avro {
                    let message = format!("the latest schema of subject {subject} is a JSON Schema");
                    return Err(CatalogError::invalid("format", message, "say format=\"json\"").into());
                }
                (latest.id, latest.schema)
            }
        };
        parse(&spec, &schema)?;
        let created = existing.is_none();
        let def = match existing {
            Some(existing) => Stream { schema, schema_id, ..existing.def.clone() },
            None => {
                let partitions = match &spec.topic {
                    Some(topic) => {
                        log::kafka::ensure_topic(&self.config.kafka, topic, spec.partitions).await?
                    }
                    None => spec.partitions.unwrap_or(1),
                };
                Stream {
                    id: StreamId(self.catalog.next_id()?),
                    uuid: Uuid::new_v4(),
                    name: spec.name,
                    topic: spec.topic,
                    partitions,
                    subject,
                    schema,
                    schema_id,
                    format: spec.format,
                    event_time: spec.event_time,
                    event_time_unit: spec.event_time_unit,
                    watermark_delay: spec.watermark_delay.into(),
                    idle_timeout: spec.idle_timeout.map(Span::from),
                    idle_advance: spec.idle_advance,
                    max_future_skew: spec.max_future_skew.into(),
                    time: spec.time,
                    on_bad_record: spec.on_bad_record,
                    created_at: now(),
                    finish: None,
                    changes_of: None,
                }
            }
        };
        Ok((self.catalog.put_stream(def)?, created))
    }

    /// Of a stream of JSON the Avro record in the place of what was said of its columns: a list of them, a
    /// JSON Schema, or nothing, which means the subject's latest one.
    async fn columns_of_json(&self, spec: StreamSpec, subject: &str) -> Result<(StreamSpec, Columns), Error> {
        let (name, unit) = (spec.name.as_str(), spec.event_time_unit);
        let (record, columns) = match &spec.schema {
            Some(schema) if is_json_schema(schema) => {
                let text = schema_text(schema);
                let record = json_schema::record(name, &parsed(&text)?, &spec.event_time, unit)?;
                (record, Columns::ToRegister(text))
            }
            Some(_) => {
                let declared = declared::json_record(name, spec.schema.as_ref(), &spec.event_time, unit)?;
                (declared, Columns::Declared)
            }
            None => {
                let latest = self.latest(subject).await?;
                if latest.kind != Kind::Json {
                    let message = format!("the latest schema of subject {subject} is no JSON Schema");
                    let hint = "declare the columns, or leave the format out for records in Avro";
                    return Err(CatalogError::invalid("schema", message, hint).into());
                }
                let record = json_schema::record(name, &parsed(&latest.schema)?, &spec.event_time, unit)?;
                (record, Columns::Registered(latest.id))
            }
        };
        Ok((StreamSpec { schema: Some(record), ..spec }, columns))
    }

    async fn latest(&self, subject: &str) -> Result<Latest, Error> {
        self.registry.latest(subject).await?.ok_or_else(|| {
            CatalogError::invalid(
                "schema",
                format!("the schema registry has no subject {subject}"),
                "give the Avro schema with the stream, or register it first",
            )
            .into()
        })
    }

    /// Marks the end of a bounded replay: once past `offsets` (the log's ends where `None`), pipelines
    /// close the windows that are open. The stream stays open.
    pub async fn finish_stream(&self, name: &str, offsets: Option<Vec<i64>>) -> Result<Vec<i64>, Error> {
        let _turn = self.creating.lock().await;
        let entry = self.catalog.stream(name)?;
        written_by_others(&entry)?;
        let ends = match offsets {
            Some(offsets) => offsets,
            None => self.log_ends(&entry).await?,
        };
        let def = Stream { finish: Some(ends.clone()), ..entry.def.clone() };
        let entry = self.catalog.put_stream(def)?;
        self.pipelines.stream_changed(&entry);
        Ok(ends)
    }

    /// Drops a stream that no group reads, with its embedded log; a topic is left alone.
    pub async fn drop_stream(&self, name: &str) -> Result<(), Error> {
        let _turn = self.creating.lock().await;
        self.drop_log(name)
    }

    /// The same, for a caller that has its turn already.
    pub(super) fn drop_log(&self, name: &str) -> Result<(), Error> {
        let entry = self.catalog.drop_stream(name)?;
        self.store.drop_log(entry.def.id)?;
        Ok(())
    }

    /// The offset after the last record of each partition.
    pub async fn log_ends(&self, entry: &Arc<StreamEntry>) -> Result<Vec<i64>, Error> {
        self.offsets(entry, log::At::End).await
    }

    /// Offsets of each partition at one place of the log.
    pub(super) async fn offsets(&self, entry: &Arc<StreamEntry>, at: log::At) -> Result<Vec<i64>, Error> {
        let (entry, store, kafka) = (Arc::clone(entry), Arc::clone(&self.store), self.config.kafka.clone());
        Ok(tokio::task::spawn_blocking(move || log::offsets(&entry.def, at, &store, &kafka)).await??)
    }
}

/// Refuses what nobody but the server may do with a stream of changes.
pub fn written_by_others(entry: &StreamEntry) -> Result<(), CatalogError> {
    let Some(of) = &entry.def.changes_of else { return Ok(()) };
    Err(CatalogError::invalid(
        "stream",
        format!("{} holds the changes of feature group {} version {}", entry.def.name, of.name, of.version),
        "insert into the group, or into the streams that it reads",
    ))
}

fn check(spec: &StreamSpec) -> Result<(), CatalogError> {
    if spec.format == Format::Changes {
        let hint = "avro or json: streams of changes are made where a group is looked up";
        return Err(CatalogError::invalid("format", "changes are written by the server alone", hint));
    }
    let span = |field: &'static str, seconds: Seconds| {
        if seconds.0.is_finite() && (0.0..=3_153_600_000.0).contains(&seconds.0) {
            return Ok(());
        }
        Err(CatalogError::invalid(
            field,
            format!("{} is not a length of time", seconds.0),
            "give seconds, zero or more",
        ))
    };
    span("watermark_delay", spec.watermark_delay)?;
    span("max_future_skew", spec.max_future_skew)?;
    spec.idle_timeout.map_or(Ok(()), |s| span("idle_timeout", s))?;
    if let Some(partitions) = spec.partitions
        && !(1..=MAX_PARTITIONS).contains(&partitions)
    {
        return Err(CatalogError::invalid(
            "partitions",
            format!("{partitions} partitions cannot be made"),
            format!("give 1 to {MAX_PARTITIONS}"),
        ));
    }
    Ok(())
}

/// Where a stream's columns come from, if its records are JSON.
enum Columns {
    /// They were declared: no registry knows them.
    Declared,
    /// A JSON Schema of this id.
    Registered(u32),
    /// A JSON Schema that comes with the stream.
    ToRegister(String),
}

/// A schema as an object is a JSON Schema; declared columns are a list.
fn is_json_schema(schema: &Value) -> bool {
    let is_schema = |value: &Value| value.get("properties").is_some_and(Value::is_object);
    match schema {
        Value::String(text) => serde_json::from_str::<Value>(text).is_ok_and(|value| is_schema(&value)),
        schema => is_schema(schema),
    }
}

/// A JSON Schema that stands by itself.
fn parsed(text: &str) -> Result<Value, Error> {
    let whole = registry::json_schema(text)?;
    serde_json::from_str(&whole).map_err(|e| registry::Error::InvalidSchema(e.to_string()).into())
}

/// Checks that a stream of JSON can move to other columns: its old records must stay readable.
fn readable(existing: &StreamEntry, schema: &str) -> Result<(), CatalogError> {
    let broken = avro::compatibility(schema, &existing.def.schema)?;
    if broken.is_empty() {
        return Ok(());
    }
    Err(CatalogError::Conflict {
        kind: "stream",
        name: existing.def.name.to_string(),
        diff: broken.iter().map(ToString::to_string).collect(),
        hint: "a stream's columns may be left out, or added as nullable ones; else create another stream"
            .to_owned(),
    })
}

fn parse(spec: &StreamSpec, schema: &str) -> Result<ReaderSchema, CatalogError> {
    let unit = spec.event_time_unit.map(crate::catalog::TimeUnit::engine);
    Ok(ReaderSchema::parse(schema, Some((&spec.event_time, unit)))?)
}

/// A schema may come as JSON or as text that holds JSON, as registry clients send it.
pub(super) fn schema_text(schema: &Value) -> String {
    match schema {
        Value::String(text) if text.trim_start().starts_with(['{', '"', '[']) => text.clone(),
        other => other.to_string(),
    }
}

/// Compares what was asked for with what exists; the schema is the registry's matter.
fn same(existing: &StreamEntry, spec: &StreamSpec, subject: &str) -> Result<(), CatalogError> {
    let def = &existing.def;
    let mut diff = Vec::new();
    let mut compare = |what: &str, was: String, asked: String| {
        if was != asked {
            diff.push(format!("{what}: {was} is not {asked}"));
        }
    };
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "(none)".to_owned());
    let span =
        |value: Option<Span>| value.map_or("(none)".to_owned(), |s| format!("{} s", Seconds::from(s).0));
    compare("topic", text(&def.topic), text(&spec.topic));
    compare(
        "format",
        format!("{:?}", def.format).to_lowercase(),
        format!("{:?}", spec.format).to_lowercase(),
    );
    compare("subject", def.subject.clone(), subject.to_owned());
    if let Some(partitions) = spec.partitions {
        compare("partitions", def.partitions.to_string(), partitions.to_string());
    }
    compare("event_time", def.event_time.clone(), spec.event_time.clone());
    compare("event_time_unit", format!("{:?}", def.event_time_unit), format!("{:?}", spec.event_time_unit));
    compare("watermark_delay", span(Some(def.watermark_delay)), span(Some(spec.watermark_delay.into())));
    compare("idle_timeout", span(def.idle_timeout), span(spec.idle_timeout.map(Span::from)));
    compare("idle_advance", def.idle_advance.to_string(), spec.idle_advance.to_string());
    compare("max_future_skew", span(Some(def.max_future_skew)), span(Some(spec.max_future_skew.into())));
    compare("time", format!("{:?}", def.time).to_lowercase(), format!("{:?}", spec.time).to_lowercase());
    compare(
        "on_bad_record",
        format!("{:?}", def.on_bad_record).to_lowercase(),
        format!("{:?}", spec.on_bad_record).to_lowercase(),
    );
    if diff.is_empty() {
        return Ok(());
    }
    Err(CatalogError::Conflict {
        kind: "stream",
        name: def.name.to_string(),
        diff,
        hint: "streams have no versions: choose another name, or drop the stream first".to_owned(),
    })
}
