//! A registered JSON Schema as the Avro record that stands for a stream's columns everywhere else.

use serde_json::{Map, Value, json};

use crate::catalog::{Error as CatalogError, TimeUnit};

const HINT: &str = "a stream's records are objects whose properties have one type each: a string, a number, an integer, a boolean, \
                    an array, or an object with named properties or with values of one type; null beside it is fine";

/// The record of a JSON Schema that stands by itself. The event time may be null or missing here, as with
/// declared columns; with a unit it is a number (or ISO text).
pub fn record(
    name: &str,
    schema: &Value,
    event_time: &str,
    unit: Option<TimeUnit>,
) -> Result<Value, CatalogError> {
    let mut columns = fields(object(schema).ok_or_else(|| refused("#", "not an object"))?, "")?;
    for column in &mut columns {
        if column.name == event_time {
            column.nullable = true;
            if unit.is_some()
                && matches!(column.avro.get("logicalType"), Some(Value::String(t)) if t == TIMESTAMP)
            {
                column.avro = json!("long");
            }
        }
    }
    Ok(
        json!({"type": "record", "name": name, "fields": columns.iter().map(Column::field).collect::<Vec<_>>()}),
    )
}

const TIMESTAMP: &str = "timestamp-micros";

/// A property.
struct Column {
    name: String,
    avro: Value,
    nullable: bool,
}

impl Column {
    fn field(&self) -> Value {
        if self.nullable {
            json!({"name": self.name, "type": ["null", self.avro], "default": null})
        } else {
            json!({"name": self.name, "type": self.avro})
        }
    }
}

fn refused(path: &str, what: impl std::fmt::Display) -> CatalogError {
    CatalogError::invalid("schema", format!("{path}: {what} cannot be a column"), HINT)
}

/// An object with named properties.
fn object(schema: &Value) -> Option<&Map<String, Value>> {
    let object = schema.as_object()?;
    let is_object = object.get("type").is_none_or(|ty| ty == "object") && object.contains_key("properties");
    is_object.then_some(object)
}

fn fields(object: &Map<String, Value>, path: &str) -> Result<Vec<Column>, CatalogError> {
    for keyword in ["allOf", "anyOf", "oneOf", "$ref", "patternProperties"] {
        if object.contains_key(keyword) {
            return Err(refused(if path.is_empty() { "#" } else { path }, keyword));
        }
    }
    let required = |name: &str| {
        let names = object.get("required").and_then(Value::as_array);
        names.is_some_and(|names| names.iter().any(|required| required == name))
    };
    let properties = object.get("properties").and_then(Value::as_object);
    let mut columns = Vec::new();
    for (name, schema) in properties.into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && name.chars().next().is_some_and(|c| !c.is_ascii_digit());
        if !plain {
            return Err(refused(&path, "a name other than of letters, digits and _"));
        }
        let (avro, nullable) = column(schema, &path)?;
        columns.push(Column { name: name.clone(), avro, nullable: nullable || !required(name) });
    }
    Ok(columns)
}

/// The type of a property, and whether it takes null.
fn column(schema: &Value, path: &str) -> Result<(Value, bool), CatalogError> {
    let Value::Object(object) = schema else { return Err(refused(path, "any value")) };
    for keyword in ["oneOf", "anyOf"] {
        let Some(Value::Array(branches)) = object.get(keyword) else { continue };
        let null = |branch: &&Value| branch.get("type").is_some_and(|ty| ty == "null");
        let rest: Vec<&Value> = branches.iter().filter(|branch| !null(branch)).collect();
        return match rest[..] {
            [one] => column(one, path).map(|(avro, nullable)| (avro, nullable || branches.len() > 1)),
            _ => Err(refused(path, format!("{keyword} of several types"))),
        };
    }
    let names: Vec<&str> = match object.get("type") {
        Some(Value::String(name)) => vec![name.as_str()],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => listed(object).into_iter().collect(),
    };
    let nullable = names.contains(&"null");
    let mut types = names.iter().copied().filter(|name| *name != "null");
    let avro = match (types.next(), types.next()) {
        (Some(ty), None) => typed(ty, object, path)?,
        // Every integer is a number.
        (Some("integer"), Some("number")) | (Some("number"), Some("integer")) if types.next().is_none() => {
            json!("double")
        }
        (Some(_), Some(_)) => return Err(refused(path, format!("one of {}", names.join(", ")))),
        (None, _) => {
            let what =
                ["$ref", "allOf", "not", "if"].into_iter().find(|keyword| object.contains_key(*keyword));
            return Err(refused(path, what.unwrap_or("a value without a type")));
        }
    };
    Ok((avro, nullable))
}

/// The type of values that are listed, if they have one.
fn listed(object: &Map<String, Value>) -> Option<&'static str> {
    let values = match (object.get("const"), object.get("enum")) {
        (Some(value), _) => vec![value],
        (None, Some(Value::Array(values))) => values.iter().collect(),
        _ => return None,
    };
    let all = |is: fn(&Value) -> bool| !values.is_empty() && values.iter().all(|value| is(value));
    if all(Value::is_string) {
        Some("string")
    } else if all(Value::is_i64) {
        Some("integer")
    } else if all(Value::is_boolean) {
        Some("boolean")
    } else {
        None
    }
}

fn typed(ty: &str, object: &Map<String, Value>, path: &str) -> Result<Value, CatalogError> {
    let text = |keyword: &str| object.get(keyword).and_then(Value::as_str).unwrap_or_default();
    Ok(match ty {
        "boolean" => json!("boolean"),
        "integer" => json!("long"),
        "number" => json!("double"),
        "string" => match (text("format"), text("contentEncoding")) {
            ("date-time", _) => json!({"type": "long", "logicalType": TIMESTAMP}),
            ("date", _) => json!({"type": "int", "logicalType": "date"}),
            (_, "base64") => json!("bytes"),
            _ => json!("string"),
        },
        "array" => {
            let items = object.get("items").ok_or_else(|| refused(path, "an array of anything"))?;
            let (avro, _) = column(items, &format!("{path}[]"))?;
            json!({"type": "array", "items": ["null", avro]})
        }
        "object" => {
            if let Some(object) = self::object(&Value::Object(object.clone())) {
                // Lists of fields have no names of their own: the path tells them apart.
                let name = path.replace('.', "__").replace("[]", "_item").replace("{}", "_value") + "_record";
                let fields: Vec<Value> = fields(object, path)?.iter().map(Column::field).collect();
                return Ok(json!({"type": "record", "name": name, "fields": fields}));
            }
            match object.get("additionalProperties") {
                Some(values @ Value::Object(_)) => {
                    let (avro, _) = column(values, &format!("{path}{{}}"))?;
                    json!({"type": "map", "values": ["null", avro]})
                }
                _ => return Err(refused(path, "an object of anything")),
            }
        }
        other => return Err(refused(path, other)),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millpond_engine::avro::ReaderSchema;

    use super::*;

    fn types(schema: &Value, event_time: &str, unit: Option<TimeUnit>) -> Vec<String> {
        let record = record("r", schema, event_time, unit).unwrap();
        let reader =
            ReaderSchema::parse(&record.to_string(), Some((event_time, unit.map(TimeUnit::engine)))).unwrap();
        let of = |f: &std::sync::Arc<arrow::datatypes::Field>| {
            let name = crate::catalog::types::name(f.data_type()).unwrap();
            format!("{} {name}{}", f.name(), if f.is_nullable() { "" } else { " not null" })
        };
        reader.arrow().fields().iter().map(of).collect()
    }

    #[test]
    fn every_type_has_its_column() {
        let schema = json!({"type": "object", "required": ["user", "at", "n", "either"], "properties": {
            "user": {"type": "string", "maxLength": 9},
            "n": {"type": "integer"},
            "x": {"type": ["number", "null"]},
            "either": {"oneOf": [{"type": "null"}, {"type": "boolean"}]},
            "kind": {"enum": ["a", "b"]},
            "day": {"type": "string", "format": "date"},
            "raw": {"type": "string", "contentEncoding": "base64"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "by_name": {"type": "object", "additionalProperties": {"type": "integer"}},
            "device": {"type": "object", "required": ["os"], "properties": {
                "os": {"type": "string"}, "screens": {"type": "array", "items": {"type": "object", "properties": {
                    "w": {"type": "integer"}}}}}},
            "at": {"type": "string", "format": "date-time"},
        }});
        let mut found = types(&schema, "at", None);
        found.sort();
        assert_eq!(
            found,
            [
                "at timestamp not null",
                "by_name map<string,bigint>",
                "day date",
                "device struct<os:string,screens:array<struct<w:bigint>>>",
                "either boolean",
                "kind string",
                "n bigint not null",
                "raw binary",
                "tags array<string>",
                "user string not null",
                "x double",
            ]
        );
    }

    #[test]
    fn an_event_time_may_be_a_number() {
        for at in [json!({"type": "integer"}), json!({"type": "string", "format": "date-time"})] {
            let schema = json!({"properties": {"at": at}});
            assert_eq!(types(&schema, "at", Some(TimeUnit::Millis)), ["at timestamp not null"]);
        }
    }

    #[test]
    fn what_cannot_be_a_column_is_named() {
        for (schema, named) in [
            (json!({"type": "array"}), "#"),
            (json!({"properties": {"a": true}}), "a"),
            (json!({"properties": {"a": {"type": ["string", "integer"]}}}), "a"),
            (json!({"properties": {"a": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}}), "a"),
            (json!({"properties": {"a": {"type": "array"}}}), "a"),
            (json!({"properties": {"a": {"type": "object"}}}), "a"),
            (json!({"properties": {"a": {"type": "array", "items": {"type": "object"}}}}), "a[]"),
            (json!({"properties": {"a": {"$ref": "#/properties/a"}}}), "a"),
            (json!({"properties": {"a-b": {"type": "string"}}}), "a-b"),
            (json!({"properties": {}, "allOf": [{"required": ["a"]}]}), "#"),
        ] {
            let error = record("r", &schema, "at", None).unwrap_err().to_string();
            assert!(error.contains(&format!("{named}: ")), "{schema}: {error}");
        }
    }
}
