//! Plain JSON in, the same values out.

use serde_json::{Value, json};

use super::value::{Plain, rows};
use super::*;
use crate::avro::encode_row;

const FIELDS: &str = r#"
    {"name":"s","type":"string"},
    {"name":"i","type":"int"},
    {"name":"f","type":"double"},
    {"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":6,"scale":2}},
    {"name":"x","type":{"type":"fixed","name":"X","size":2}},
    {"name":"ts","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"day","type":{"type":"int","logicalType":"date"}},
    {"name":"c","type":{"type":"enum","name":"C","symbols":["A","B"]}},
    {"name":"u","type":{"type":{"type":"fixed","name":"U","size":16},"logicalType":"uuid"}},
    {"name":"n","type":["null","long"]},
    {"name":"late","type":"string","default":"no"},
    {"name":"items","type":{"type":"array","items":{"type":"record","name":"I","fields":[
        {"name":"price","type":["null","float"]},{"name":"tags","type":{"type":"map","values":"long"}}]}}}"#;

fn row() -> Value {
    json!({
        "s": "naïve", "i": -5, "f": "NaN", "d": "-12.5", "x": "AQI=", "ts": "2024-01-01T00:00:00.1239Z",
        "day": "1969-12-31", "c": "B", "u": "00112233-4455-6677-8899-aabbccddeeff",
        "items": [{"price": 0.5, "tags": {"k": 9_007_199_254_740_993_i64}}, {"price": null, "tags": {}}]
    })
}

#[test]
fn a_row_comes_back_as_it_was_written() {
    let reader = reader(FIELDS);
    let mut body = b"before".to_vec();
    encode_row(&reader, &row(), &mut body).unwrap();
    let batch = decode(&reader, &record(FIELDS), &[&body[6..]]);
    let list = vec![
        Plain::Record(vec![
            Plain::Float(0.5_f32.to_bits()),
            Plain::Map([("k".into(), Plain::Number(9_007_199_254_740_993))].into()),
        ]),
        Plain::Record(vec![Plain::Null, Plain::Map([].into())]),
    ];
    assert_eq!(
        rows(&batch),
        [Plain::Record(vec![
            Plain::Text("naïve".into()),
            Plain::Number(-5),
            Plain::Double(f64::NAN.to_bits()),
            Plain::Number(-1250),
            Plain::Bytes(vec![1, 2]),
            Plain::Number(1_704_067_200_123_000),
            Plain::Number(-1),
            Plain::Text("B".into()),
            Plain::Text("00112233-4455-6677-8899-aabbccddeeff".into()),
            Plain::Null,
            Plain::Text("no".into()),
            Plain::List(list),
        ])]
    );
}

#[test]
fn what_does_not_fit_is_named_and_leaves_nothing_behind() {
    let reader = reader(FIELDS);
    for (field, value, path, part) in [
        ("i", json!(2_147_483_648_i64), "i", "does not fit int"),
        ("i", json!(1.0), "i", "1.0"),
        ("i", json!("1"), "i", "text"),
        ("n", json!(18_446_744_073_709_551_615_u64), "n", "64-bit"),
        ("f", json!("infinite"), "f", "expected a number"),
        ("d", json!("1.234"), "d", "decimal(6, 2)"),
        ("d", json!(1.5), "d", "as text"),
        ("x", json!("AQ=="), "x", "expected 2 bytes"),
        ("x", json!("%"), "x", "base64"),
        ("ts", json!("yesterday"), "ts", "2026-01-31T12:00:00Z"),
        ("ts", json!(i64::MAX), "ts", "range of time"),
        ("day", json!("2024-02-30"), "day", "2026-01-31"),
        ("c", json!("Z"), "c", "A, B"),
        ("u", json!("42"), "u", "uuid"),
        ("s", json!(null), "s", "does not allow null"),
        ("items", json!([{"tags": {}}, {"price": "x", "tags": {}}]), "items[1].price", "expected a number"),
        ("items", json!([{"price": 1}]), "items[0].tags", "is missing"),
        ("items", json!([{"tags": {"a b": "x"}}]), "items[0].tags[\"a b\"]", "integer"),
        ("items", json!([{"tags": {}, "colour": 1}]), "items[0].colour", "price, tags"),
        ("extra", json!(1), "extra", "is not a field"),
    ] {
        let mut row = row();
        row[field] = value;
        let mut out = b"before".to_vec();
        let error = encode_row(&reader, &row, &mut out).unwrap_err();
        assert_eq!(error.field, path);
        assert!(error.message.contains(part), "{error} should say {part:?}");
        assert_eq!(out, b"before");
    }
    let mut missing = row();
    missing.as_object_mut().unwrap().remove("s");
    assert_eq!(encode_row(&reader, &missing, &mut vec![]).unwrap_err().field, "s");
    assert!(encode_row(&reader, &json!([1]), &mut vec![]).is_err());
}

#[test]
fn integers_are_times_in_the_fields_own_unit() {
    let json = record(
        r#"{"name":"ts","type":"long"},{"name":"t","type":{"type":"int","logicalType":"time-millis"}}"#,
    );
    let reader = ReaderSchema::parse(&json, Some(("ts", Some(Unit::S)))).unwrap();
    for (row, ts, t) in [
        (json!({"ts": 2, "t": 1500}), 2_000_000, 1_500_000),
        (json!({"ts": "1970-01-01T00:00:02.9Z", "t": "00:00:01.5"}), 2_000_000, 1_500_000),
    ] {
        let mut body = Vec::new();
        encode_row(&reader, &row, &mut body).unwrap();
        let batch = decode(&reader, &json, &[&body]);
        assert_eq!(rows(&batch), [Plain::Record(vec![Plain::Number(ts), Plain::Number(t)])]);
    }
}

#[test]
fn decimals_fill_their_fixed_type() {
    let fields = r#"{"name":"d","type":{"type":"fixed","name":"D","size":3,"logicalType":"decimal","precision":6,"scale":0}}"#;
    let reader = reader(fields);
    for (text, body) in [("-2", [255, 255, 254]), ("200", [0, 0, 200]), ("0", [0, 0, 0])] {
        let mut out = Vec::new();
        encode_row(&reader, &json!({"d": text}), &mut out).unwrap();
        assert_eq!(out, body);
    }
}
