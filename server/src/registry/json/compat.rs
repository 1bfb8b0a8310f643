//! Whether one JSON Schema takes every value that another one takes.
//!
//! The rules follow from what the keywords mean, and give what Confluent's registry gives for the common
//! changes (its names for them are used). Where both have a keyword whose meaning cannot be compared piece
//! by piece (`not`, `allOf`, `patternProperties`, …) it has to be the same in both.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{NO_ASSERTION, TYPES, invalid};
use crate::registry::Error;

/// Compared as they stand: what the one asks the other must ask too.
const WHOLE: [&str; 19] = [
    "$ref",
    "not",
    "allOf",
    "if",
    "then",
    "else",
    "patternProperties",
    "propertyNames",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "contains",
    "unevaluatedProperties",
    "unevaluatedItems",
    "prefixItems",
    "additionalItems",
    "contentEncoding",
    "pattern",
    "format",
];
/// A number that the reader must not have smaller, …
const UPPER: [&str; 6] =
    ["maxLength", "maxItems", "maxProperties", "maximum", "exclusiveMaximum", "maxContains"];
/// … and one that it must not have greater.
const LOWER: [&str; 6] =
    ["minLength", "minItems", "minProperties", "minimum", "exclusiveMinimum", "minContains"];

/// Everything that keeps `reader` from taking what `writer` takes; empty: it takes it. Both stand by
/// themselves.
pub fn compatibility(reader: &str, writer: &str) -> Result<Vec<String>, Error> {
    let parse = |text: &str| serde_json::from_str::<Value>(text).map_err(|e| invalid(e.to_string()));
    let mut found = Vec::new();
    differences(&parse(reader)?, &parse(writer)?, "#", &mut found);
    Ok(found)
}

/// A schema without what asks nothing; `None`: it takes nothing.
fn asserted(schema: &Value) -> Option<Map<String, Value>> {
    match schema {
        Value::Bool(false) => None,
        Value::Object(object) => {
            let mut object = object.clone();
            object.retain(|key, _| !NO_ASSERTION.contains(&key.as_str()));
            Some(object)
        }
        _ => Some(Map::new()),
    }
}

fn differences(reader: &Value, writer: &Value, path: &str, found: &mut Vec<String>) {
    let Some(w) = asserted(writer) else { return };
    let Some(r) = asserted(reader) else {
        found.push(format!("NOTHING_ALLOWED: {path}: the reader takes no value here"));
        return;
    };
    if r == w || r.is_empty() {
        return;
    }
    // A value that the writer takes is one of some branch, so the reader must take each of them.
    if let Some((keyword, branches)) = union(&w) {
        if union(&r) == Some((keyword, branches)) {
            let rest = |of: &Map<String, Value>| without(of, keyword);
            return differences(&rest(&r), &rest(&w), path, found);
        }
        for branch in branches {
            differences(reader, &both(&w, keyword, branch), path, found);
        }
        return;
    }
    if let Some((keyword, branches)) = union(&r) {
        let takes = branches.iter().any(|branch| {
            let mut reasons = Vec::new();
            differences(&both(&r, keyword, branch), writer, path, &mut reasons);
            reasons.is_empty()
        });
        if !takes {
            found.push(format!("SUM_TYPE_NARROWED: {path}: no branch of the reader's {keyword} takes it"));
        }
        return;
    }
    plain(&r, &w, path, found);
}

fn union(schema: &Map<String, Value>) -> Option<(&'static str, &Vec<Value>)> {
    ["oneOf", "anyOf"].into_iter().find_map(|keyword| Some((keyword, schema.get(keyword)?.as_array()?)))
}

fn without(schema: &Map<String, Value>, keyword: &str) -> Value {
    let mut rest = schema.clone();
    rest.remove(keyword);
    Value::Object(rest)
}

/// One branch of a union together with what stands beside the union.
fn both(schema: &Map<String, Value>, keyword: &str, branch: &Value) -> Value {
    let Some(mut all) = asserted(branch) else { return Value::Bool(false) };
    for (key, value) in schema {
        if key == keyword {
            continue;
        }
        match all.get(key) {
            None => {
                all.insert(key.clone(), value.clone());
            }
            Some(there) if there == value => {}
            // Two that say something of the same cannot be one: kept apart, compared as they stand.
            Some(_) => {
                let beside = Value::Object(Map::from_iter([(key.clone(), value.clone())]));
                let list = all.entry("allOf").or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(list) = list {
                    list.push(beside);
                }
            }
        }
    }
    Value::Object(all)
}

/// Without unions.
fn plain(r: &Map<String, Value>, w: &Map<String, Value>, path: &str, found: &mut Vec<String>) {
    let mut differ = |what: &str, message: String| found.push(format!("{what}: {path}: {message}"));
    let (to, from) = (types(r), types(w));
    let lost: Vec<&str> = from.difference(&to).copied().collect();
    if !lost.is_empty() {
        differ("TYPE_CHANGED", format!("the reader does not take {}", lost.join(", ")));
        return;
    }
    if let Some(allowed) = values(r) {
        match values(w) {
            Some(given) => {
                let lost: Vec<String> =
                    given.iter().filter(|value| !allowed.contains(value)).map(|v| v.to_string()).collect();
                if !lost.is_empty() {
                    differ("ENUM_ARRAY_NARROWED", format!("the reader does not take {}", lost.join(", ")));
                }
            }
            None => differ("ENUM_ARRAY_CHANGED", "the reader takes some values only".to_owned()),
        }
    }
    for keyword in WHOLE {
        let (Some(asked), given) = (r.get(keyword), w.get(keyword)) else { continue };
        if given != Some(asked) {
            differ("CHANGED", format!("the reader has {keyword} {asked}, which the writer has not"));
        }
    }
    for keyword in ["exclusiveMinimum", "exclusiveMaximum"] {
        // Draft 4: it says how the bound beside it is meant.
        if r.get(keyword) == Some(&Value::Bool(true)) && w.get(keyword) != r.get(keyword) {
            differ("NARROWED", format!("the reader has {keyword}"));
        }
    }
    let number = |of: &Map<String, Value>, keyword: &str| of.get(keyword).and_then(Value::as_f64);
    for (keywords, smaller) in [(UPPER, true), (LOWER, false)] {
        for keyword in keywords {
            let Some(asked) = number(r, keyword) else { continue };
            let fits = number(w, keyword).is_some_and(|g| if smaller { g <= asked } else { g >= asked });
            if !fits {
                differ("NARROWED", format!("the reader has {keyword} {asked}, the writer goes further"));
            }
        }
    }
    if let Some(asked) = number(r, "multipleOf")
        && number(w, "multipleOf").is_none_or(|given| given % asked != 0.0)
    {
        differ("NARROWED", format!("the reader has multipleOf {asked}"));
    }
    if r.get("uniqueItems") == Some(&Value::Bool(true)) && w.get("uniqueItems") != Some(&Value::Bool(true)) {
        differ("NARROWED", "the reader wants unique items".to_owned());
    }
    if from.contains("array") {
        items(r, w, path, found);
    }
    if from.contains("object") {
        properties(r, w, path, found);
    }
}

/// The types that a schema takes; every number that is an integer is a number.
fn types(schema: &Map<String, Value>) -> BTreeSet<&str> {
    let mut types: BTreeSet<&str> = match (schema.get("type"), values(schema)) {
        (Some(Value::String(name)), _) => BTreeSet::from([name.as_str()]),
        (Some(Value::Array(names)), _) => names.iter().filter_map(Value::as_str).collect(),
        (_, Some(values)) => values.into_iter().map(type_of).collect(),
        _ => TYPES.into_iter().collect(),
    };
    if types.contains("number") {
        types.insert("integer");
    }
    types
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The only values that a schema takes, where it lists them.
fn values(schema: &Map<String, Value>) -> Option<Vec<&Value>> {
    match (schema.get("const"), schema.get("enum")) {
        (Some(value), _) => Some(vec![value]),
        (None, Some(Value::Array(values))) => Some(values.iter().collect()),
        _ => None,
    }
}

const ANYTHING: &Value = &Value::Bool(true);

fn items(r: &Map<String, Value>, w: &Map<String, Value>, path: &str, found: &mut Vec<String>) {
    let (to, from) = (r.get("items").unwrap_or(ANYTHING), w.get("items").unwrap_or(ANYTHING));
    if let (None, Some(Value::Array(places))) = (r.get("prefixItems"), w.get("prefixItems")) {
        for (at, place) in places.iter().enumerate() {
            differences(to, place, &format!("{path}/prefixItems/{at}"), found);
        }
    }
    match (to, from) {
        _ if to == from => {}
        // A schema for each place: of other lists nothing is known.
        (Value::Array(_), _) => found.push(format!("CHANGED: {path}/items: the places have other schemas")),
        (to, Value::Array(places)) => {
            for (at, place) in places.iter().enumerate() {
                differences(to, place, &format!("{path}/items/{at}"), found);
            }
            let rest = w.get("additionalItems").unwrap_or(ANYTHING);
            differences(to, rest, &format!("{path}/additionalItems"), found);
        }
        _ => differences(to, from, &format!("{path}/items"), found),
    }
}

fn properties(r: &Map<String, Value>, w: &Map<String, Value>, path: &str, found: &mut Vec<String>) {
    let of = |schema: &Map<String, Value>| match schema.get("properties") {
        Some(Value::Object(properties)) => properties.clone(),
        _ => Map::new(),
    };
    let required = |schema: &Map<String, Value>| -> BTreeSet<String> {
        let names = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        names.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let (to, from) = (of(r), of(w));
    let (open_to, open_from) = (
        r.get("additionalProperties").unwrap_or(ANYTHING),
        w.get("additionalProperties").unwrap_or(ANYTHING),
    );
    // A name that one of these patterns fits need not be what the writer takes under other names.
    let patterns: Vec<&Value> =
        w.get("patternProperties").and_then(Value::as_object).into_iter().flat_map(Map::values).collect();
    let names: BTreeSet<&String> = to.keys().chain(from.keys()).collect();
    for name in names {
        let path = format!("{path}/properties/{name}");
        match (to.get(name), from.get(name)) {
            (Some(to), Some(from)) => differences(to, from, &path, found),
            (Some(to), None) => {
                let mut reasons = Vec::new();
                for from in patterns.iter().copied().chain([open_from]) {
                    differences(to, from, &path, &mut reasons);
                }
                if !reasons.is_empty() {
                    found.push(format!(
                        "PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL: {path}: the writer may have it with any content"
                    ));
                }
            }
            (None, Some(from)) => {
                let mut reasons = Vec::new();
                differences(open_to, from, &path, &mut reasons);
                if !reasons.is_empty() {
                    found.push(format!(
                        "PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL: {path}: the reader does not take it"
                    ));
                }
            }
            (None, None) => {}
        }
    }
    differences(open_to, open_from, &format!("{path}/additionalProperties"), found);
    if r.get("patternProperties").is_none() {
        for from in patterns {
            differences(open_to, from, &format!("{path}/patternProperties"), found);
        }
    }
    for name in required(r).difference(&required(w)) {
        // A reader that has a default for it gets by without.
        if to.get(name).and_then(|property| property.get("default")).is_none() {
            found.push(format!(
                "REQUIRED_ATTRIBUTE_ADDED: {path}: the reader requires {name}, the writer does not"
            ));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests;
