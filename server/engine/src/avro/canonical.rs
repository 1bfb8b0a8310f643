//! One text for all the ways to write the same schema.
//!
//! Avro's own parsing canonical form drops logical types, defaults and aliases; here they decide
//! what a record means, so they stay.

use serde_json::{Map, Value};

use super::reader::SchemaError;

/// What counts as the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normal {
    /// What decoding depends on: documentation and attributes of others are left out.
    Meaning,
    /// All that the author wrote, but for spelling: the registry's idea of the same schema.
    Text,
}

pub(super) const PRIMITIVES: [&str; 8] =
    ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];

/// The normalised JSON: full names, sorted attributes, no white space, primitives as plain names.
///
/// # Errors
/// [`SchemaError::Parse`] where the text is not JSON; whether it is Avro is not judged here.
pub fn normalised(json: &str, normal: Normal) -> Result<String, SchemaError> {
    // A bare primitive name is a schema too, and some clients send it without quotes.
    let value: Value = match serde_json::from_str(json) {
        Ok(value) => value,
        Err(_) if PRIMITIVES.contains(&json.trim()) => Value::String(json.trim().to_owned()),
        Err(error) => return Err(SchemaError::Parse(error.to_string())),
    };
    let mut out = String::with_capacity(json.len());
    write_sorted(&schema(&value, "", normal), &mut out);
    Ok(out)
}

fn schema(value: &Value, namespace: &str, normal: Normal) -> Value {
    match value {
        Value::String(name) => Value::String(reference(name, namespace)),
        Value::Array(branches) => branches.iter().map(|branch| schema(branch, namespace, normal)).collect(),
        Value::Object(object) => complex(object, namespace, normal),
        other => other.clone(),
    }
}

pub(super) fn reference(name: &str, namespace: &str) -> String {
    if PRIMITIVES.contains(&name) || name.contains('.') || namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}.{name}")
    }
}

fn complex(object: &Map<String, Value>, namespace: &str, normal: Normal) -> Value {
    let ty = object.get("type").unwrap_or(&Value::Null);
    let kind = ty.as_str().unwrap_or_default();
    let mut out = Map::new();
    let named = matches!(kind, "record" | "error" | "enum" | "fixed") && object.contains_key("name");
    let full = named.then(|| full_name(object, namespace));
    let inner =
        full.as_deref().map_or(namespace, |full| full.rsplit_once('.').map_or("", |(space, _)| space));
    for (key, value) in object {
        let value = match (key.as_str(), kind) {
            ("type" | "name" | "namespace", _) => continue,
            ("aliases", _) if named => aliases(value, inner),
            ("fields", "record" | "error") => match value {
                Value::Array(fields) => {
                    fields.iter().map(|field| record_field(field, inner, normal)).collect()
                }
                other => other.clone(),
            },
            ("items", "array") | ("values", "map") => schema(value, namespace, normal),
            ("symbols" | "default", "enum") | ("size", "fixed") => value.clone(),
            ("logicalType" | "precision" | "scale", _) => value.clone(),
            _ if normal == Normal::Text => value.clone(),
            _ => continue,
        };
        out.insert(key.clone(), value);
    }
    if out.get("logicalType").and_then(Value::as_str) == Some("decimal") {
        out.entry("scale").or_insert_with(|| 0.into());
    }
    if let Some(full) = full {
        out.insert("name".into(), full.into());
    }
    let ty = if matches!(kind, "record" | "error" | "enum" | "fixed" | "array" | "map") {
        ty.clone()
    } else {
        schema(ty, namespace, normal)
    };
    // {"type": "int"} is "int".
    if out.is_empty() && !matches!(kind, "record" | "error" | "enum" | "fixed" | "array" | "map") {
        return ty;
    }
    out.insert("type".into(), ty);
    Value::Object(out)
}

pub(super) fn full_name(object: &Map<String, Value>, enclosing: &str) -> String {
    let name = object.get("name").and_then(Value::as_str).unwrap_or_default();
    let namespace = object.get("namespace").and_then(Value::as_str).unwrap_or(enclosing);
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

fn aliases(value: &Value, namespace: &str) -> Value {
    match value {
        Value::Array(names) => names
            .iter()
            .map(|name| name.as_str().map_or_else(|| name.clone(), |name| reference(name, namespace).into()))
            .collect(),
        other => other.clone(),
    }
}

fn record_field(field: &Value, namespace: &str, normal: Normal) -> Value {
    let Value::Object(object) = field else { return field.clone() };
    let mut out = Map::new();
    for (key, value) in object {
        let value = match key.as_str() {
            "type" => schema(value, namespace, normal),
            "name" | "default" => value.clone(),
            "aliases" if value.as_array().is_some_and(Vec::is_empty) => continue,
            "aliases" => value.clone(),
            // Ignored by every reader in this place, but the author wrote it.
            _ if normal == Normal::Text => value.clone(),
            _ => continue,
        };
        out.insert(key.clone(), value);
    }
    Value::Object(out)
}

/// JSON with sorted keys, whatever order the map keeps.
fn write_sorted(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (i, (key, value)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                write_sorted(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_sorted(item, out);
            }
            out.push(']');
        }
        other => out.push_str(&other.to_string()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PLAIN: &str = r#"{"type":"record","name":"E","namespace":"a.b","fields":[
        {"name":"x","type":"int"},
        {"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":9}},
        {"name":"c","type":{"type":"enum","name":"C","symbols":["A","B"]}},
        {"name":"again","type":["null","C"],"default":null}]}"#;

    #[test]
    fn spelling_does_not_count() {
        let spelled = r#"{"fields":[
            {"type":{"type":"int"},"name":"x"},
            {"name":"d","type":{"scale":0,"precision":9,"type":"bytes","logicalType":"decimal"}},
            {"name":"c","type":{"type":"enum","symbols":["A","B"],"name":"a.b.C"}},
            {"name":"again","type":["null","a.b.C"],"default":null}],"name":"a.b.E","type":"record"}"#;
        for normal in [Normal::Meaning, Normal::Text] {
            assert_eq!(normalised(PLAIN, normal).unwrap(), normalised(spelled, normal).unwrap());
        }
    }

    #[test]
    fn documentation_counts_for_the_registry_only() {
        let documented = PLAIN.replace(r#""name":"x","#, r#""name":"x","doc":"how many","#);
        assert_eq!(
            normalised(PLAIN, Normal::Meaning).unwrap(),
            normalised(&documented, Normal::Meaning).unwrap()
        );
        assert_ne!(normalised(PLAIN, Normal::Text).unwrap(), normalised(&documented, Normal::Text).unwrap());
    }

    #[test]
    fn meaning_counts() {
        for (from, to) in [
            (r#""precision":9"#, r#""precision":8"#),
            (r#","default":null"#, ""),
            (r#""logicalType":"decimal","#, ""),
            (r#""name":"x","#, r#""name":"x","aliases":["y"],"#),
            (r#"["A","B"]"#, r#"["B","A"]"#),
        ] {
            let other = PLAIN.replace(from, to);
            assert_ne!(other, PLAIN, "{from} is there to be replaced");
            assert_ne!(
                normalised(PLAIN, Normal::Meaning).unwrap(),
                normalised(&other, Normal::Meaning).unwrap()
            );
        }
    }
}
