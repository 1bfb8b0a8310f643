//! Schemas that name types of other schemas, made to stand by themselves.
//!
//! A registry keeps a schema with references: types that it names and others define. Here each such type
//! is defined where it is named first, so that everything else sees one schema. The types are found as
//! Confluent's registry finds them: by full name, among all that the referenced schemas define.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::canonical::{PRIMITIVES, full_name, reference};
use super::reader::SchemaError;

/// The schema with the types of `others` that it uses defined in it. `others` stand by themselves.
///
/// # Errors
/// [`SchemaError::Parse`] where one of the texts is not JSON; whether the result is Avro is not judged here.
pub fn self_contained(schema: &str, others: &[&str]) -> Result<String, SchemaError> {
    if others.is_empty() {
        return Ok(schema.to_owned());
    }
    let parse = |text: &str| serde_json::from_str(text).map_err(|e| SchemaError::Parse(e.to_string()));
    let mut inline = Inline::default();
    for other in others {
        inline.collect(&parse(other)?, "");
    }
    Ok(inline.value(&parse(schema)?, "").to_string())
}

#[derive(Default)]
struct Inline {
    /// Full name → definition, its name and namespace written out.
    library: HashMap<String, Value>,
    /// Full names that are defined in the result so far.
    defined: HashSet<String>,
    /// How many definitions of the library are being written, one within the other.
    within: usize,
}

fn is_named(kind: &str) -> bool {
    matches!(kind, "record" | "error" | "enum" | "fixed")
}

fn kind(object: &Map<String, Value>) -> &str {
    object.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn namespace_of(full: &str) -> &str {
    full.rsplit_once('.').map_or("", |(namespace, _)| namespace)
}

impl Inline {
    /// Puts every type that a schema defines into the library.
    fn collect(&mut self, value: &Value, namespace: &str) {
        match value {
            Value::Array(branches) => branches.iter().for_each(|branch| self.collect(branch, namespace)),
            Value::Object(object) if is_named(kind(object)) => {
                let full = full_name(object, namespace);
                let inner = namespace_of(&full).to_owned();
                for field in object.get("fields").and_then(Value::as_array).into_iter().flatten() {
                    self.collect(field.get("type").unwrap_or(&Value::Null), &inner);
                }
                let mut definition = object.clone();
                definition.insert("name".into(), full.rsplit('.').next().unwrap_or_default().into());
                definition.insert("namespace".into(), inner.into());
                self.library.entry(full).or_insert(Value::Object(definition));
            }
            Value::Object(object) => {
                for part in ["type", "items", "values"] {
                    self.collect(object.get(part).unwrap_or(&Value::Null), namespace);
                }
            }
            _ => {}
        }
    }

    fn value(&mut self, value: &Value, namespace: &str) -> Value {
        match value {
            Value::String(name) => self.name(name, namespace),
            Value::Array(branches) => branches.iter().map(|branch| self.value(branch, namespace)).collect(),
            Value::Object(object) => self.object(object, namespace),
            other => other.clone(),
        }
    }

    /// A name: the definition where it is the library's and comes for the first time.
    fn name(&mut self, name: &str, namespace: &str) -> Value {
        let full = reference(name, namespace);
        if PRIMITIVES.contains(&name) || self.defined.contains(&full) {
            return name.into();
        }
        match self.library.get(&full).cloned() {
            Some(definition) => {
                self.within += 1;
                let written = self.value(&definition, namespace);
                self.within -= 1;
                written
            }
            None => name.into(),
        }
    }

    fn object(&mut self, object: &Map<String, Value>, namespace: &str) -> Value {
        let kind = kind(object);
        if !is_named(kind) {
            let mut out = object.clone();
            let parts: &[&str] = match kind {
                "array" => &["items"],
                "map" => &["values"],
                _ => &["type"],
            };
            for part in parts {
                if let Some(value) = object.get(*part) {
                    out.insert((*part).into(), self.value(value, namespace));
                }
            }
            return Value::Object(out);
        }
        let full = full_name(object, namespace);
        // A type of the library may come with another one that holds it, and be there already.
        if !self.defined.insert(full.clone()) && self.within > 0 {
            return full.into();
        }
        let inner = namespace_of(&full);
        let mut out = object.clone();
        if let Some(Value::Array(fields)) = object.get("fields") {
            out.insert("fields".into(), fields.iter().map(|field| self.field(field, inner)).collect());
        }
        Value::Object(out)
    }

    fn field(&mut self, field: &Value, namespace: &str) -> Value {
        let (Value::Object(object), Some(ty)) = (field, field.get("type")) else { return field.clone() };
        let mut out = object.clone();
        out.insert("type".into(), self.value(ty, namespace));
        Value::Object(out)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::avro::{Normal, compatibility, normalised};

    fn same(found: &str, expected: &Value) {
        assert!(apache_avro::Schema::parse_str(found).is_ok(), "{found}");
        let normal = |text: &str| normalised(text, Normal::Text).unwrap();
        assert_eq!(normal(found), normal(&expected.to_string()));
    }

    fn country() -> Value {
        json!({"type": "enum", "name": "geo.Country", "symbols": ["PL", "DE"]})
    }

    fn address() -> Value {
        json!({"type": "record", "name": "Address", "namespace": "geo", "fields": [
            {"name": "city", "type": "string"},
            {"name": "country", "type": country()},
        ]})
    }

    #[test]
    fn a_type_is_defined_where_it_is_named_first() {
        let order = json!({"type": "record", "name": "Order", "namespace": "shop", "fields": [
            {"name": "from", "type": "geo.Address"},
            {"name": "to", "type": ["null", "geo.Address"], "default": null},
            {"name": "via", "type": {"type": "array", "items": "geo.Country"}},
        ]});
        let whole = self_contained(&order.to_string(), &[&address().to_string()]).unwrap();
        same(
            &whole,
            &json!({"type": "record", "name": "shop.Order", "fields": [
                {"name": "from", "type": address()},
                {"name": "to", "type": ["null", "geo.Address"], "default": null},
                {"name": "via", "type": {"type": "array", "items": "geo.Country"}},
            ]}),
        );
    }

    #[test]
    fn a_part_that_comes_before_its_whole_is_defined_once() {
        let order = json!({"type": "record", "name": "Order", "namespace": "geo", "fields": [
            {"name": "country", "type": "Country"},
            {"name": "to", "type": {"type": "map", "values": "Address"}},
        ]});
        let whole = self_contained(&order.to_string(), &[&address().to_string()]).unwrap();
        let rest = json!({"type": "record", "name": "geo.Address", "fields": [
            {"name": "city", "type": "string"},
            {"name": "country", "type": "geo.Country"},
        ]});
        same(
            &whole,
            &json!({"type": "record", "name": "geo.Order", "fields": [
                {"name": "country", "type": country()},
                {"name": "to", "type": {"type": "map", "values": rest}},
            ]}),
        );
    }

    #[test]
    fn a_name_alone_is_the_type_itself() {
        let whole = self_contained(r#""geo.Address""#, &[&address().to_string()]).unwrap();
        same(&whole, &address());
        let union = self_contained(r#"["null", "geo.Country"]"#, &[&address().to_string()]).unwrap();
        same(&union, &json!(["null", country()]));
    }

    #[test]
    fn what_nobody_defines_stays_a_name() {
        let order =
            json!({"type": "record", "name": "Order", "fields": [{"name": "a", "type": "geo.Street"}]});
        let whole = self_contained(&order.to_string(), &[&address().to_string()]).unwrap();
        assert!(apache_avro::Schema::parse_str(&whole).is_err());
        assert!(self_contained("{", &["{}"]).is_err());
    }

    #[test]
    fn a_type_within_itself_is_named_again() {
        let list = json!({"type": "record", "name": "List", "fields": [
            {"name": "next", "type": ["null", "List"], "default": null}]});
        let holder =
            json!({"type": "record", "name": "Holder", "fields": [{"name": "list", "type": "List"}]});
        let whole = self_contained(&holder.to_string(), &[&list.to_string()]).unwrap();
        same(
            &whole,
            &json!({"type": "record", "name": "Holder", "fields": [{"name": "list", "type": list}]}),
        );
        assert!(compatibility(&whole, &whole).unwrap().is_empty());
    }
}
