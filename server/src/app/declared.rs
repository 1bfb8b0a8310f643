//! Columns that are declared by name and type, as the Avro record that stands for them everywhere else.

use millpond_engine::avro::avro_type;
use serde_json::{Value, json};

use crate::catalog::{ColumnSpec, Error as CatalogError, TimeUnit, entry, types};

/// The record of a stream of JSON. The event time may be null or missing here: such records are set
/// aside for that and not for their form. With a unit it is a number (or ISO text).
pub fn json_record(
    name: &str,
    schema: Option<&Value>,
    event_time: &str,
    unit: Option<TimeUnit>,
) -> Result<Value, CatalogError> {
    let hint = "give the columns as [{\"name\": \"user_id\", \"type\": \"string\", \"nullable\": false}, …]";
    let missing = || CatalogError::invalid("schema", "a stream of JSON needs its columns", hint);
    let schema = schema.ok_or_else(missing)?;
    let columns: Vec<ColumnSpec> = serde_json::from_value(schema.clone())
        .map_err(|e| CatalogError::invalid("schema", format!("these are no columns: {e}"), hint))?;
    let plain = columns.into_iter().map(|column| {
        let is_time = column.name == event_time;
        let number = is_time && unit.is_some() && column.data_type == "timestamp";
        let data_type = if number { "bigint".to_owned() } else { column.data_type };
        ColumnSpec { nullable: column.nullable || is_time, data_type, ..column }
    });
    record(name, "schema", &plain.collect::<Vec<_>>())
}

/// An Avro record of the columns. `what` names them where they are refused.
pub fn record(name: &str, what: &'static str, columns: &[ColumnSpec]) -> Result<Value, CatalogError> {
    let field = |column: &ColumnSpec| {
        let unknown = || {
            let message = format!("{}: there is no type {}", column.name, column.data_type);
            CatalogError::invalid(what, message, entry::TYPES)
        };
        let data_type = types::parse(&column.data_type).map_err(|_| unknown())?;
        let avro = avro_type(&data_type, &column.name).ok_or_else(unknown)?;
        Ok(if column.nullable {
            json!({"name": column.name, "type": ["null", avro], "default": null})
        } else {
            json!({"name": column.name, "type": avro})
        })
    };
    let fields: Vec<Value> = columns.iter().map(field).collect::<Result<_, CatalogError>>()?;
    Ok(json!({"type": "record", "name": name, "fields": fields}))
}
