//! Columns that are declared by name and type, as the Avro record that stands for them everywhere else.

use arrow::datatypes::DataType;
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
        let avro = avro(&data_type, &column.name).ok_or_else(unknown)?;
        Ok(if column.nullable {
            json!({"name": column.name, "type": ["null", avro], "default": null})
        } else {
            json!({"name": column.name, "type": avro})
        })
    };
    let fields: Vec<Value> = columns.iter().map(field).collect::<Result<_, CatalogError>>()?;
    Ok(json!({"type": "record", "name": name, "fields": fields}))
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
