//! JSON Schema, as far as a registry looks into it: whether it is one, whether two are the same, and
//! ([`compatibility`]) whether one takes what the other takes.

mod compat;
mod expand;

pub use compat::compatibility;
pub use expand::self_contained;
use serde_json::Value;

use super::Error;

const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];

/// Keywords that ask nothing of a value.
const NO_ASSERTION: [&str; 14] = [
    "title",
    "description",
    "$comment",
    "examples",
    "default",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$id",
    "id",
    "$schema",
    "$anchor",
    "$defs",
    "definitions",
];

fn invalid(message: impl Into<String>) -> Error {
    Error::InvalidSchema(message.into())
}

/// One text for all the ways to write the same schema: sorted, without white space.
pub fn normalised(schema: &str) -> Result<String, Error> {
    let mut value: Value = serde_json::from_str(schema).map_err(|e| invalid(e.to_string()))?;
    value.sort_all_objects();
    Ok(value.to_string())
}

/// Checks the keywords that decide what a schema means to us, at every depth.
fn check(schema: &Value, path: &str) -> Result<(), Error> {
    let object = match schema {
        Value::Bool(_) => return Ok(()),
        Value::Object(object) => object,
        other => return Err(invalid(format!("{path}: a schema is an object or a boolean, not {other}"))),
    };
    let is_type = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
    match object.get("type") {
        None => {}
        Some(Value::Array(names)) if !names.is_empty() && names.iter().all(is_type) => {}
        Some(name) if is_type(name) => {}
        Some(other) => return Err(invalid(format!("{path}: {other} is not a type"))),
    }
    match object.get("required") {
        // Draft 3 has a boolean here, on the property itself.
        None | Some(Value::Bool(_)) => {}
        Some(Value::Array(names)) if names.iter().all(Value::is_string) => {}
        Some(_) => return Err(invalid(format!("{path}: required is not a list of names"))),
    }
    for keyword in ["properties", "patternProperties", "$defs", "definitions"] {
        match object.get(keyword) {
            None => {}
            Some(Value::Object(schemas)) => {
                for (name, schema) in schemas {
                    check(schema, &format!("{path}/{keyword}/{name}"))?;
                }
            }
            Some(_) => return Err(invalid(format!("{path}: {keyword} is not an object"))),
        }
    }
    for keyword in ["allOf", "anyOf", "oneOf"] {
        match object.get(keyword) {
            None => {}
            Some(Value::Array(schemas)) if !schemas.is_empty() => {
                for (at, schema) in schemas.iter().enumerate() {
                    check(schema, &format!("{path}/{keyword}/{at}"))?;
                }
            }
            Some(_) => return Err(invalid(format!("{path}: {keyword} is not a list of schemas"))),
        }
    }
    for keyword in ["additionalProperties", "not"] {
        if let Some(schema) = object.get(keyword) {
            check(schema, &format!("{path}/{keyword}"))?;
        }
    }
    match object.get("items") {
        // Until draft 2019-09 a list of schemas, one for each place.
        Some(Value::Array(schemas)) => schemas.iter().try_for_each(|s| check(s, &format!("{path}/items"))),
        Some(schema) => check(schema, &format!("{path}/items")),
        None => Ok(()),
    }
}
