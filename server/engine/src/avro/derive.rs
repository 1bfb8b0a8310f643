//! The Avro type of an Arrow type: the contract's table, read from right to left.

use arrow::datatypes::{DataType, Schema};
use serde_json::{Value, json};

/// The Avro type of a value at rest; `None`: the contract has none. `path` names nested records apart.
///
/// Items of arrays, values of maps and fields of records are unions with null, null first.
pub fn avro_type(data_type: &DataType, path: &str) -> Option<Value> {
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
        DataType::List(item) => {
            json!({"type": "array", "items": ["null", avro_type(item.data_type(), path)?]})
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(fields) = entries.data_type() else { return None };
            let [_, value] = fields.as_ref() else { return None };
            json!({"type": "map", "values": ["null", avro_type(value.data_type(), path)?]})
        }
        DataType::Struct(fields) => {
            let fields: Option<Vec<Value>> = fields
                .iter()
                .map(|f| {
                    let inner = avro_type(f.data_type(), &format!("{path}_{}", f.name()))?;
                    Some(json!({"name": f.name(), "type": ["null", inner], "default": null}))
                })
                .collect();
            json!({"type": "record", "name": format!("{path}_record"), "fields": fields?})
        }
        _ => return None,
    })
}

/// A column that no field of an Avro record can stand for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// Avro's names are letters, digits and underscores.
    #[error("'{0}' is not a name in Avro: letters, digits and underscores, not beginning with a digit")]
    Name(String),
    /// A type that the contract does not have.
    #[error("column {column}: Avro has no type for {data_type}")]
    Type {
        /// The column.
        column: String,
        /// Its type.
        data_type: String,
    },
}

/// The record whose fields are these columns; one that may be null is a union with null, its default.
///
/// # Errors
/// Names the first column that Avro cannot have.
pub fn avro_record(name: &str, columns: &Schema) -> Result<Value, Unwritable> {
    let mut fields = Vec::with_capacity(columns.fields().len());
    for field in columns.fields() {
        check_names(field.name(), field.data_type())?;
        let avro = avro_type(field.data_type(), field.name()).ok_or_else(|| Unwritable::Type {
            column: field.name().clone(),
            data_type: field.data_type().to_string(),
        })?;
        fields.push(if field.is_nullable() {
            json!({"name": field.name(), "type": ["null", avro], "default": null})
        } else {
            json!({"name": field.name(), "type": avro})
        });
    }
    Ok(json!({"type": "record", "name": name, "fields": fields}))
}

fn check_names(name: &str, data_type: &DataType) -> Result<(), Unwritable> {
    let mut bytes = name.bytes();
    let head = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !head || !bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(Unwritable::Name(name.to_owned()));
    }
    match data_type {
        DataType::Struct(fields) => fields.iter().try_for_each(|f| check_names(f.name(), f.data_type())),
        DataType::List(item) => check_names("item", item.data_type()),
        DataType::Map(entries, _) => check_names("entries", entries.data_type()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Field;

    use super::*;

    #[test]
    fn a_record_of_columns() {
        let columns = Schema::new(vec![
            Field::new("user", DataType::Utf8, false),
            Field::new("n", DataType::Int64, true),
        ]);
        let expected = json!({"type": "record", "name": "r", "fields": [
            {"name": "user", "type": "string"},
            {"name": "n", "type": ["null", "long"], "default": null}
        ]});
        assert_eq!(avro_record("r", &columns), Ok(expected));
    }

    #[test]
    fn columns_that_avro_cannot_have_are_named() {
        let one =
            |name: &str, data_type| avro_record("r", &Schema::new(vec![Field::new(name, data_type, true)]));
        assert_eq!(one("süß", DataType::Utf8), Err(Unwritable::Name("süß".into())));
        assert_eq!(one("1a", DataType::Utf8), Err(Unwritable::Name("1a".into())));
        assert_eq!(one("", DataType::Utf8), Err(Unwritable::Name(String::new())));
        let nested = DataType::Struct(vec![Field::new("a b", DataType::Utf8, true)].into());
        assert_eq!(one("s", nested), Err(Unwritable::Name("a b".into())));
        assert!(matches!(one("u", DataType::UInt8), Err(Unwritable::Type { column, .. }) if column == "u"));
    }
}
