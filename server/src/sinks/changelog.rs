//! A group's changelog as a Kafka topic: one record for each row of the history, in the order of commits.
//!
//! Key and value are Avro in a Confluent frame, under the subjects `<topic>-key` (the primary key) and
//! `<topic>-value` (all columns of the history); a delete is a null value, so a compacted topic keeps what
//! holds. A write is one transaction: consumers with `isolation.level=read_committed` see each row once.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{Field, Schema, SchemaRef};
use millpond_engine::avro::{Bodies, Unwritable, avro_record, frame};
use millpond_engine::time::Span;
use uuid::Uuid;

use super::protocol::{Found, Target};
use super::{Error, Parts};
use crate::catalog::{FeatureGroup, SinkId, history};
use crate::config;
use crate::log::kafka::{self, TransactionalProducer};
use crate::offline::read;
use crate::store::SinkProgress;
use crate::store::commit::OutboxEntry;

/// How far clocks may have gone back, or be apart, for a record to be found by its time.
const SKEW: Span = Span(3_600_000_000);

/// What the records of a group's topic look like.
#[derive(Debug, Clone)]
pub struct Changelog {
    /// The columns of a value: the history's, those of the primary key never null.
    value: SchemaRef,
    /// The columns of the primary key, in key order.
    key: SchemaRef,
    /// Avro schema of the values.
    pub value_schema: String,
    /// Avro schema of the keys.
    pub key_schema: String,
}

impl Changelog {
    /// The records of a group with these features; `key` names the primary key, in order.
    ///
    /// # Errors
    /// Names a column that Avro cannot have.
    pub fn new(name: &str, features: &Schema, key: &[String]) -> Result<Self, Unwritable> {
        let history = history::schema(features);
        let required =
            |field: &Field| field.clone().with_nullable(field.is_nullable() && !key.contains(field.name()));
        let value: Vec<Field> = history.fields().iter().map(|field| required(field)).collect();
        let value = Schema::new(value);
        let columns = key.iter().filter_map(|name| value.field_with_name(name).ok().cloned());
        let key = Schema::new(columns.collect::<Vec<_>>());
        Ok(Self {
            value_schema: avro_record(name, &value)?.to_string(),
            key_schema: avro_record(&format!("{name}_key"), &key)?.to_string(),
            value: Arc::new(value),
            key: Arc::new(key),
        })
    }
}

/// A topic that is written to.
pub struct Topic {
    changelog: Changelog,
    kafka: config::Kafka,
    topic: String,
    writer: Uuid,
    key_id: u32,
    value_id: u32,
    producer: TransactionalProducer,
}

impl Topic {
    /// Registers the schemas and opens the producer: an earlier one of the same sink is fenced off. Blocks.
    pub fn open(
        parts: &Parts,
        def: &FeatureGroup,
        features: &Schema,
        sink: SinkId,
        topic: &str,
    ) -> Result<Self, Error> {
        let changelog = Changelog::new(def.name.as_str(), features, &def.primary_key)?;
        let register =
            |subject: String, schema: &str| parts.runtime.block_on(parts.registry.register(&subject, schema));
        let key_id = register(key_subject(topic), &changelog.key_schema)?;
        let value_id = register(value_subject(topic), &changelog.value_schema)?;
        let id = format!("millpond-{}-{}-{}", parts.store.uuid(), def.uuid, sink.0);
        let producer = TransactionalProducer::open(&parts.kafka, topic, &id, def.uuid)?;
        Ok(Self {
            changelog,
            kafka: parts.kafka.clone(),
            topic: topic.to_owned(),
            writer: def.uuid,
            key_id,
            value_id,
            producer,
        })
    }

    fn send(&self, entry: &OutboxEntry, key: &mut Vec<u8>, value: &mut Vec<u8>) -> Result<(), Error> {
        let values = read::conform(&entry.rows, &self.changelog.value)?;
        let keys = read::conform(&entry.rows, &self.changelog.key)?;
        let ops = values
            .column_by_name(history::OP)
            .and_then(|column| column.as_string_opt::<i32>())
            .ok_or_else(|| Error::Rows(format!("there is no column {}", history::OP)))?;
        let (key_bodies, value_bodies) = (Bodies::of(&keys)?, Bodies::of(&values)?);
        for row in 0..values.num_rows() {
            key.clear();
            frame(self.key_id, key);
            key_bodies.append(row, key);
            if ops.value(row) == history::DELETE {
                self.producer.send(entry.sequence, key, None)?;
                continue;
            }
            value.clear();
            frame(self.value_id, value);
            value_bodies.append(row, value);
            self.producer.send(entry.sequence, key, Some(value))?;
        }
        Ok(())
    }
}

/// Subject of a topic's keys.
pub fn key_subject(topic: &str) -> String {
    format!("{topic}-key")
}

/// Subject of a topic's values.
pub fn value_subject(topic: &str) -> String {
    format!("{topic}-value")
}

impl Target for Topic {
    type Error = Error;

    fn recover(&mut self, progress: SinkProgress) -> Result<Found, Error> {
        let since = progress.planned.map(|planned| planned.at - SKEW);
        let newest = kafka::newest(&self.kafka, &self.topic, self.writer, since)?.unwrap_or(0);
        Ok(judge(newest, progress))
    }

    fn write(&mut self, entries: &[OutboxEntry]) -> Result<(), Error> {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        self.producer.begin()?;
        for entry in entries {
            self.send(entry, &mut key, &mut value)?;
        }
        Ok(self.producer.commit()?)
    }
}

/// A transaction is in the topic whole or not at all, and its last record is of the plan's last sequence.
fn judge(newest: u64, progress: SinkProgress) -> Found {
    match progress.planned {
        _ if newest <= progress.through => Found::Nothing,
        Some(planned) if newest == planned.last => Found::All,
        _ => Found::Beyond(newest),
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;
    use millpond_engine::time::Micros;
    use serde_json::{Value, json};

    use super::*;
    use crate::store::Planned;

    #[test]
    fn the_schemas_of_a_topic() {
        let features = Schema::new(vec![
            Field::new("n", DataType::Int64, true),
            Field::new("b", DataType::Utf8, true),
            Field::new("a", DataType::Int64, false),
        ]);
        let changelog = Changelog::new("ctr", &features, &["a".into(), "b".into()]).unwrap();
        let key: Value = serde_json::from_str(&changelog.key_schema).unwrap();
        let expected = json!({"type": "record", "name": "ctr_key", "fields": [
            {"name": "a", "type": "long"}, {"name": "b", "type": "string"}
        ]});
        assert_eq!(key, expected);
        let value: Value = serde_json::from_str(&changelog.value_schema).unwrap();
        let fields = value["fields"].as_array().unwrap();
        assert_eq!(fields[0], json!({"name": "n", "type": ["null", "long"], "default": null}));
        assert_eq!(fields[1], json!({"name": "b", "type": "string"}));
        let names: Vec<&str> = fields.iter().map(|f| f["name"].as_str().unwrap()).collect();
        assert_eq!(
            names,
            ["n", "b", "a", "_event_time", "_event_date", "_available_at", "_modelled", "_commit", "_op"]
        );
    }

    #[test]
    fn a_topic_says_what_became_of_a_transaction() {
        let at = |through, last: u64| SinkProgress {
            through,
            planned: (last > 0).then_some(Planned { last, at: Micros(0) }),
        };
        assert_eq!(judge(0, at(0, 0)), Found::Nothing);
        assert_eq!(judge(5, at(5, 0)), Found::Nothing);
        assert_eq!(judge(5, at(5, 8)), Found::Nothing);
        assert_eq!(judge(0, at(5, 8)), Found::Nothing, "retention has taken what was there");
        assert_eq!(judge(8, at(5, 8)), Found::All);
        assert_eq!(judge(9, at(5, 8)), Found::Beyond(9));
        assert_eq!(judge(6, at(5, 0)), Found::Beyond(6));
    }
}
