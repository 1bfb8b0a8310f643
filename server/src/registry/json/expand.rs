//! JSON Schemas that refer to other places, made to stand by themselves.

use serde_json::{Map, Value, json};

use super::{NO_ASSERTION, check, invalid};
use crate::registry::Error;

/// More schemas than this in one are an accident or an attack: references multiply.
const MAX_NODES: usize = 10_000;

/// Checks a schema and puts in the place of each `$ref` what it refers to: a part of the schema itself, or
/// one of `others`, which stand by themselves, by its name. What refers to something that it is part of
/// stays as it is.
///
/// # Errors
/// [`Error::InvalidSchema`]: it is not one, or refers to what is not there.
pub fn self_contained(schema: &str, others: &[(&str, &str)]) -> Result<String, Error> {
    let root: Value = serde_json::from_str(schema).map_err(|e| invalid(e.to_string()))?;
    check(&root, "#")?;
    let mut parsed = Vec::with_capacity(others.len());
    for (name, text) in others {
        let other: Value = serde_json::from_str(text).map_err(|e| invalid(e.to_string()))?;
        parsed.push((*name, other));
    }
    let mut expand = Expand { root: &root, others: &parsed, open: Vec::new(), nodes: 0 };
    let mut whole = expand.value(&root)?;
    if let Value::Object(object) = &mut whole {
        // What was defined to be referred to is where it is referred to, unless it is within itself.
        if !mentions_ref(object) {
            object.remove("$defs");
            object.remove("definitions");
        }
    }
    Ok(whole.to_string())
}

fn mentions_ref(object: &Map<String, Value>) -> bool {
    let inside = |value: &Value| match value {
        Value::Object(object) => mentions_ref(object),
        Value::Array(values) => values.iter().filter_map(Value::as_object).any(mentions_ref),
        _ => false,
    };
    let schemas =
        |key: &str| !matches!(key, "$defs" | "definitions" | "enum" | "const" | "default" | "examples");
    let mut parts = object.iter().filter(|(key, _)| schemas(key));
    object.get("$ref").is_some_and(Value::is_string) || parts.any(|(_, value)| inside(value))
}

struct Expand<'a> {
    root: &'a Value,
    others: &'a [(&'a str, Value)],
    /// The references that are being followed.
    open: Vec<String>,
    nodes: usize,
}

impl Expand<'_> {
    fn value(&mut self, value: &Value) -> Result<Value, Error> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(invalid(format!("more than {MAX_NODES} values once references are followed")));
        }
        match value {
            Value::Object(object) => match object.get("$ref") {
                Some(Value::String(reference)) => self.reference(object, reference),
                _ => self.object(object),
            },
            Value::Array(values) => values.iter().map(|value| self.value(value)).collect(),
            other => Ok(other.clone()),
        }
    }

    fn object(&mut self, object: &Map<String, Value>) -> Result<Value, Error> {
        let mut out = Map::new();
        for (key, value) in object {
            let value = match (key.as_str(), value) {
                // These are values, not schemas: what looks like a reference in them is none.
                ("enum" | "const" | "default" | "examples" | "required", value) => value.clone(),
                // Here the keys are names of the author's, not keywords.
                (
                    "properties" | "patternProperties" | "dependentSchemas" | "$defs" | "definitions",
                    Value::Object(schemas),
                ) => {
                    let expanded =
                        schemas.iter().map(|(name, schema)| Ok((name.clone(), self.value(schema)?)));
                    Value::Object(expanded.collect::<Result<_, Error>>()?)
                }
                (_, value) => self.value(value)?,
            };
            out.insert(key.clone(), value);
        }
        Ok(Value::Object(out))
    }

    /// What a reference refers to; what else is asked of the value stands beside it.
    fn reference(&mut self, object: &Map<String, Value>, reference: &str) -> Result<Value, Error> {
        let found = self.target(object, reference)?;
        let mut beside = object.clone();
        beside.retain(|key, _| !NO_ASSERTION.contains(&key.as_str()) && key != "$ref");
        if beside.is_empty() || found.get("$ref").is_some() {
            return Ok(found);
        }
        Ok(json!({"allOf": [found, self.object(&beside)?]}))
    }

    fn target(&mut self, object: &Map<String, Value>, reference: &str) -> Result<Value, Error> {
        if let Some((_, other)) = self.others.iter().find(|(name, _)| *name == reference) {
            return Ok(other.clone());
        }
        let missing = || invalid(format!("$ref {reference} refers to nothing that is known here"));
        let place = reference.strip_prefix('#').ok_or_else(missing)?;
        if self.open.iter().any(|open| open == reference) {
            return Ok(Value::Object(object.clone()));
        }
        let target = self.root.pointer(place).ok_or_else(missing)?;
        self.open.push(reference.to_owned());
        let expanded = self.value(target);
        self.open.pop();
        expanded
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn whole(schema: &Value, others: &[(&str, &str)]) -> Result<Value, Error> {
        Ok(serde_json::from_str(&self_contained(&schema.to_string(), others)?).unwrap())
    }

    #[test]
    fn references_are_followed() {
        let schema = json!({"type": "object", "properties": {
            "a": {"$ref": "#/$defs/money"}, "b": {"$ref": "other.json"}, "c": {"enum": [{"$ref": "x"}]},
        }, "$defs": {"money": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}}, "n": {"type": "number"}}});
        let expected = json!({"type": "object", "properties": {
            "a": {"type": "object", "properties": {"n": {"type": "number"}}},
            "b": {"type": "string"}, "c": {"enum": [{"$ref": "x"}]},
        }});
        assert_eq!(whole(&schema, &[("other.json", r#"{"type":"string"}"#)]), Ok(expected));
        assert!(whole(&schema, &[]).is_err(), "other.json is not known");
    }

    #[test]
    fn what_is_within_itself_stays() {
        let list = json!({"$ref": "#/definitions/list", "definitions": {
            "list": {"properties": {"next": {"$ref": "#/definitions/list"}}}}});
        let found = whole(&list, &[]).unwrap();
        assert_eq!(found["properties"]["next"], json!({"$ref": "#/definitions/list"}));
        let root = json!({"properties": {"child": {"$ref": "#"}}});
        assert!(whole(&root, &[]).is_ok());
    }

    #[test]
    fn what_multiplies_is_refused() {
        let mut defs = json!({"d0": {"type": "string"}});
        for i in 1..30 {
            let below = json!({"$ref": format!("#/$defs/d{}", i - 1)});
            defs[format!("d{i}")] = json!({"anyOf": [below, below]});
        }
        let bomb = json!({"$ref": "#/$defs/d29", "$defs": defs});
        assert!(matches!(whole(&bomb, &[]), Err(Error::InvalidSchema(_))));
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        for bad in [
            "",
            "{",
            "[]",
            "3",
            r#"{"type":"integr"}"#,
            r#"{"type":[]}"#,
            r#"{"properties":[]}"#,
            r#"{"properties":{"a":3}}"#,
            r#"{"required":"a"}"#,
            r#"{"anyOf":[]}"#,
            r##"{"$ref":"#/nowhere"}"##,
            r#"{"items":{"type":"text"}}"#,
        ] {
            assert!(matches!(self_contained(bad, &[]), Err(Error::InvalidSchema(_))), "{bad}");
        }
        for good in
            ["true", "{}", r#"{"type":["null","string"]}"#, r#"{"properties":{"$ref":{"type":"string"}}}"#]
        {
            assert!(self_contained(good, &[]).is_ok(), "{good}");
        }
    }
}
