//! The stream of an ingested group: every group is written through a log.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use millpond_engine::avro::ReaderSchema;
use millpond_engine::key;
use serde_json::{Value, json};

use super::{App, Error, streams};
use crate::catalog::{Error as CatalogError, FeatureSpec, GroupSpec, Name, StreamEntry, StreamSpec, types};

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
            (None, Some(features)) => record(spec.name.as_str(), features, &key, &event_time)?,
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

/// An Avro record of the columns: key and event time required, the rest nullable.
fn record(
    name: &str,
    features: &[FeatureSpec],
    key: &[String],
    event_time: &str,
) -> Result<Value, CatalogError> {
    let fields: Result<Vec<Value>, CatalogError> = features
        .iter()
        .map(|f| {
            let unknown = || CatalogError::invalid("features", format!("{}: there is no type {}", f.name, f.data_type), "types are boolean, int, bigint, float, double, decimal(p,s), string, binary, date, timestamp, array<…>, map<string,…>");
            let data_type = types::parse(&f.data_type).map_err(|_| unknown())?;
            let avro = avro(&data_type, &f.name).ok_or_else(unknown)?;
            let required = f.name == event_time || key.contains(&f.name);
            Ok(if required {
                json!({"name": f.name, "type": avro})
            } else {
                json!({"name": f.name, "type": ["null", avro], "default": null})
            })
        })
        .collect();
    Ok(json!({"type": "record", "name": name, "fields": fields?}))
}

/// `path` names nested records apart.
fn avro(data_type: &DataType, path: &str) -> Option<Value> {
    Some(match data_type {
        DataType::Boolean => json!("boolean"),
        DataType::Int32 => json!("int"),
        DataType::Int64 => json!("long"),
        DataType::Float32 => json!("float"),
        DataType::Float64 => json!("double"),
        DataType::Utf8 => json!("string"),
        DataType::Binary => json!("bytes"),
        DataType::Date32 => json!({"type": "int", "logicalType": "date"}),
        DataType::Timestamp(_, Some(_)) => json!({"type": "long", "logicalType": "timestamp-micros"}),
        DataType::Timestamp(_, None) => json!({"type": "long", "logicalType": "local-timestamp-micros"}),
        DataType::Decimal128(precision, scale) => {
            json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale})
        }
        DataType::List(item) => json!({"type": "array", "items": ["null", avro(item.data_type(), path)?]}),
        DataType::Map(entries, _) => {
            let DataType::Struct(fields) = entries.data_type() else { return None };
            let [_, value] = fields.as_ref() else { return None };
            json!({"type": "map", "values": ["null", avro(value.data_type(), path)?]})
        }
        DataType::Struct(fields) => {
            let fields: Option<Vec<Value>> = fields
                .iter()
                .map(|f| {
                    let inner = avro(f.data_type(), &format!("{path}_{}", f.name()))?;
                    Some(json!({"name": f.name(), "type": ["null", inner], "default": null}))
                })
                .collect();
            json!({"type": "record", "name": format!("{path}_record"), "fields": fields?})
        }
        _ => return None,
    })
}
