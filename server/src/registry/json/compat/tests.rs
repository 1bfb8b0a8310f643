use proptest::prelude::*;
use serde_json::json;

use super::*;

fn kinds(reader: &Value, writer: &Value) -> Vec<String> {
    let found = compatibility(&reader.to_string(), &writer.to_string()).unwrap();
    found.iter().map(|reason| reason.split(':').next().unwrap().to_owned()).collect()
}

fn closed(properties: &Value) -> Value {
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

#[test]
fn properties_come_and_go_as_in_confluents_registry() {
    let one = json!({"a": {"type": "integer"}});
    let two = json!({"a": {"type": "integer"}, "b": {"type": "string"}});
    let open = |properties: &Value| json!({"type": "object", "properties": properties});
    // Closed: more may be read than was written, less may not.
    assert!(kinds(&closed(&two), &closed(&one)).is_empty());
    assert_eq!(kinds(&closed(&one), &closed(&two)), ["PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL"]);
    // Open: what was written under the new name may have been anything.
    assert_eq!(kinds(&open(&two), &open(&one)), ["PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL"]);
    assert!(kinds(&open(&one), &open(&two)).is_empty());
    assert!(kinds(&open(&json!({"a": {"type": "integer"}, "b": true})), &open(&one)).is_empty());
    let mut required = closed(&two);
    required["required"] = json!(["b"]);
    assert_eq!(kinds(&required, &closed(&two)), ["REQUIRED_ATTRIBUTE_ADDED"]);
    assert!(kinds(&closed(&two), &required).is_empty());
    required["properties"]["b"]["default"] = json!("x");
    assert!(kinds(&required, &closed(&two)).is_empty());
    assert!(kinds(&open(&one), &closed(&one)).is_empty());
    assert_eq!(kinds(&closed(&one), &open(&one)), ["NOTHING_ALLOWED"]);
}

#[test]
fn types_enums_bounds_and_unions() {
    // (reader, writer, what is in the way)
    let table = [
        (json!({"type": "number"}), json!({"type": "integer"}), None),
        (json!({"type": "integer"}), json!({"type": "number"}), Some("TYPE_CHANGED")),
        (json!({"type": ["string", "null"]}), json!({"type": "string"}), None),
        (json!({"type": "string"}), json!({"type": ["string", "null"]}), Some("TYPE_CHANGED")),
        (json!({"enum": ["a", "b"]}), json!({"enum": ["a"]}), None),
        (json!({"enum": ["a"]}), json!({"enum": ["a", "b"]}), Some("ENUM_ARRAY_NARROWED")),
        (json!({"type": "string", "enum": ["a"]}), json!({"type": "string"}), Some("ENUM_ARRAY_CHANGED")),
        (json!({"type": "string"}), json!({"const": "a"}), None),
        (json!({"maximum": 5}), json!({"maximum": 4}), None),
        (json!({"maximum": 4}), json!({"maximum": 5}), Some("NARROWED")),
        (json!({"minLength": 1}), json!({}), Some("NARROWED")),
        (json!({"multipleOf": 2}), json!({"multipleOf": 4}), None),
        (json!({"multipleOf": 4}), json!({"multipleOf": 2}), Some("NARROWED")),
        (json!({"pattern": "a"}), json!({"pattern": "b"}), Some("CHANGED")),
        (json!({}), json!({"not": {"type": "null"}}), None),
        (json!({"not": {"type": "null"}}), json!({}), Some("CHANGED")),
        (json!({"items": {"type": "number"}}), json!({"items": {"type": "integer"}}), None),
        (json!({"items": {"type": "integer"}}), json!({"items": {"type": "number"}}), Some("TYPE_CHANGED")),
        (json!({"oneOf": [{"type": "null"}, {"type": "string"}]}), json!({"type": "string"}), None),
        (json!({"oneOf": [{"type": "null"}]}), json!({"type": "string"}), Some("SUM_TYPE_NARROWED")),
        (
            json!({"type": ["null", "number"]}),
            json!({"anyOf": [{"type": "null"}, {"type": "integer"}]}),
            None,
        ),
        (json!({"type": "number"}), json!({"anyOf": [{"type": "null"}]}), Some("TYPE_CHANGED")),
        (json!(false), json!({"type": "null"}), Some("NOTHING_ALLOWED")),
        (json!({"type": "null"}), json!(false), None),
        (json!(true), json!({"type": "null"}), None),
        (json!({"title": "new"}), json!({"title": "old"}), None),
    ];
    for (reader, writer, expected) in table {
        let found = kinds(&reader, &writer);
        assert_eq!(found.first().map(String::as_str), expected, "{reader} reading {writer}: {found:?}");
    }
}

/// Whether a schema takes a value, by the definition of its keywords.
fn takes(schema: &Value, value: &Value) -> bool {
    let Value::Object(schema) = schema else { return *schema != Value::Bool(false) };
    let number = |keyword: &str| schema.get(keyword).and_then(Value::as_f64);
    let is = |name: &Value| match (name.as_str().unwrap(), value) {
        ("number", Value::Number(_)) => true,
        ("integer", Value::Number(n)) => n.as_f64().unwrap().fract() == 0.0,
        ("string", Value::String(_)) | ("null", Value::Null) | ("object", Value::Object(_)) => true,
        ("array", Value::Array(_)) => true,
        _ => false,
    };
    let ty = match schema.get("type") {
        None => true,
        Some(Value::Array(names)) => names.iter().any(is),
        Some(name) => is(name),
    };
    let bounds = match value {
        Value::Number(n) => {
            let n = n.as_f64().unwrap();
            number("maximum").is_none_or(|max| n <= max) && number("minimum").is_none_or(|min| n >= min)
        }
        Value::String(s) => number("maxLength").is_none_or(|max| s.chars().count() as f64 <= max),
        _ => true,
    };
    let one_of = |keyword: &str| {
        let branches = schema.get(keyword).and_then(Value::as_array);
        branches.is_none_or(|branches| branches.iter().any(|branch| takes(branch, value)))
    };
    let listed = schema.get("enum").and_then(Value::as_array).is_none_or(|all| all.contains(value));
    let parts = match value {
        Value::Array(items) => {
            schema.get("items").is_none_or(|schema| items.iter().all(|item| takes(schema, item)))
        }
        Value::Object(object) => {
            let none = Map::new();
            let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
            let rest = schema.get("additionalProperties").unwrap_or(&Value::Bool(true));
            let fits = |(name, value): (&String, &Value)| takes(properties.get(name).unwrap_or(rest), value);
            let required = schema.get("required").and_then(Value::as_array);
            object.iter().all(fits)
                && required.is_none_or(|names| names.iter().all(|n| object.contains_key(n.as_str().unwrap())))
        }
        _ => true,
    };
    ty && bounds && listed && parts && one_of("anyOf")
}

fn schemas() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(true)),
        Just(json!(false)),
        prop::sample::subsequence(vec!["null", "integer", "number", "string"], 1..3)
            .prop_map(|names| json!({ "type": names })),
        (0..4_i32).prop_map(|n| json!({"type": "integer", "maximum": n})),
        (0..4_i32).prop_map(|n| json!({"type": "number", "minimum": n})),
        (0..3_i32).prop_map(|n| json!({"type": "string", "maxLength": n})),
        prop::sample::subsequence(vec![json!("a"), json!("bb"), json!(1), json!(null)], 1..4)
            .prop_map(|values| json!({ "enum": values })),
    ];
    leaf.prop_recursive(2, 12, 3, |inner| {
        let properties = prop::collection::btree_map(prop::sample::select(vec!["x", "y"]), inner.clone(), 0..3);
        let required = prop::sample::subsequence(vec!["x", "y"], 0..3);
        prop_oneof![
            inner.clone().prop_map(|items| json!({"type": "array", "items": items})),
            prop::collection::vec(inner.clone(), 1..3).prop_map(|branches| json!({ "anyOf": branches })),
            (properties, required, inner).prop_map(|(properties, required, rest)| {
                json!({"type": "object", "properties": properties, "required": required, "additionalProperties": rest})
            }),
        ]
    })
}

fn some_values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        (-1..6_i32).prop_map(|n| json!(n)),
        Just(json!(1.5)),
        prop::sample::select(vec!["", "a", "bb", "ccc"]).prop_map(|s| json!(s)),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|items| json!(items)),
            prop::collection::btree_map(prop::sample::select(vec!["x", "y", "z"]), inner, 0..3)
                .prop_map(|object| json!(object)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]
    #[test]
    fn a_reader_that_is_compatible_takes_all_that_the_writer_takes(
        reader in schemas(),
        writer in schemas(),
        values in prop::collection::vec(some_values(), 40),
    ) {
        if compatibility(&reader.to_string(), &writer.to_string()).unwrap().is_empty() {
            for value in values.iter().filter(|value| takes(&writer, value)) {
                prop_assert!(takes(&reader, value), "{reader} reading {value} of {writer}");
            }
        }
    }

    #[test]
    fn every_schema_takes_what_it_takes_itself(schema in schemas()) {
        prop_assert!(compatibility(&schema.to_string(), &schema.to_string()).unwrap().is_empty());
    }
}
