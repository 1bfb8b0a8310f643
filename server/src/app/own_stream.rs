//! The stream of an ingested group: every group is written through a log.

use std::sync::Arc;

use arrow::datatypes::Schema;
use millpond_engine::avro::ReaderSchema;
use millpond_engine::key;
use serde_json::Value;

use super::{App, Error, declared, streams};
use crate::catalog::{ColumnSpec, Error as CatalogError, Format, GroupSpec, Name, StreamEntry, StreamSpec};

impl App {
    /// The log of an ingested group: the stream `<name>_<version>`, or the group's topic. True: it is new.
    pub(super) async fn own_stream(&self, spec: &GroupSpec) -> Result<(Arc<StreamEntry>, bool), Error> {
        let missing = |field: &'static str, hint: &str| {
            CatalogError::invalid(
                field,
                format!(
                    "feature group {} version {} does not exist, and to create it this is needed",
                    spec.name, spec.version
                ),
                hint,
            )
        };
        let key = spec.primary_key.clone().filter(|k| !k.is_empty());
        let key = key.ok_or_else(|| missing("primary_key", "give sql for a derived group; for one that rows are inserted into, give primary_key, event_time and features"))?;
        let event_time = spec
            .event_time
            .clone()
            .ok_or_else(|| missing("event_time", "name the column that holds the event time"))?;
        let schema = match (&spec.schema, &spec.features) {
            (Some(schema), _) => schema.clone(),
            (None, Some(features)) => {
                let columns: Vec<ColumnSpec> = features
                    .iter()
                    .map(|f| ColumnSpec {
                        name: f.name.clone(),
                        data_type: f.data_type.clone(),
                        nullable: f.name != event_time && !key.contains(&f.name),
                    })
                    .collect();
                declared::record(spec.name.as_str(), "features", &columns)?
            }
            (None, None) => {
                return Err(missing(
                    "features",
                    "give the columns as features=[{\"name\": …, \"type\": …}], or an Avro schema",
                )
                .into());
            }
        };
        check(&schema, &key, &event_time)?;
        let name = format!("{}_{}", spec.name, spec.version);
        let name = Name::try_from(name)
            .map_err(|e| CatalogError::invalid("name", e.to_string(), "choose a shorter name"))?;
        let stream = StreamSpec {
            subject: Some(format!("{}-value", spec.topic.as_deref().unwrap_or(name.as_str()))),
            name,
            schema: Some(schema),
            format: Format::Avro,
            topic: spec.topic.clone(),
            partitions: None,
            event_time,
            event_time_unit: None,
            watermark_delay: spec.watermark_delay.unwrap_or_default(),
            idle_timeout: None,
            idle_advance: false,
            max_future_skew: crate::catalog::Seconds(600.0),
            time: spec.time.unwrap_or_default(),
            on_bad_record: crate::catalog::OnBadRecord::Quarantine,
        };
        self.stream_for_group(stream).await
    }
}

/// Checks what the group asks of its schema before anything is registered or created for it.
fn check(schema: &Value, key: &[String], event_time: &str) -> Result<(), CatalogError> {
    let reader = ReaderSchema::parse(&streams::schema_text(schema), Some((event_time, None)))?;
    let refused = |message: String| {
        let names: Vec<&str> = reader.arrow().fields().iter().map(|f| f.name().as_str()).collect();
        let hint =
            format!("name columns of integers, text, dates or timestamps; there are {}", names.join(", "));
        CatalogError::invalid("primary_key", message, hint)
    };
    let column = |name: &String| {
        let found = reader.arrow().fields().find(name).map(|(_, field)| Arc::clone(field));
        found.ok_or_else(|| refused(format!("there is no column {name}")))
    };
    let columns = key.iter().map(column).collect::<Result<Vec<_>, _>>()?;
    key::check(&Schema::new(columns)).map_err(|e| refused(e.to_string()))
}
