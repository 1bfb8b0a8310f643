//! Which schemas are taken, which pairs resolve, and what the refusals say.

use super::value::{Plain, rows};
use super::*;
use crate::avro::SchemaError;

fn refusal(fields: &str) -> String {
    ReaderSchema::parse(&record(fields), None).unwrap_err().to_string()
}

#[test]
fn what_cannot_be_a_column_is_refused_by_name() {
    for (fields, parts) in [
        (r#"{"name":"u","type":["int","string"]}"#, ["field u", "union [int, string]"]),
        (r#"{"name":"u","type":["null","int","string"]}"#, ["field u", "null and one type"]),
        (r#"{"name":"u","type":"null"}"#, ["field u", "null is not supported"]),
        (
            r#"{"name":"u","type":{"type":"array","items":["int","long"]}}"#,
            ["field u[]", "union [int, long]"],
        ),
        (
            r#"{"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":39}}"#,
            ["field d", "up to 38 digits"],
        ),
        (
            r#"{"name":"d","type":{"type":"fixed","name":"D","size":12,"logicalType":"duration"}}"#,
            ["field d", "duration is not supported"],
        ),
        (
            r#"{"name":"t","type":{"type":"record","name":"T","fields":[{"name":"next","type":["null","T"]}]}}"#,
            ["field t.next", "contains itself"],
        ),
        (r#"{"name":"self","type":["null","E"]}"#, ["field self", "contains itself"]),
        (r#"{"name":"_x","type":"int"}"#, ["_x", "reserved"]),
        (r#"{"name":"ab","type":"int"},{"name":"aB","type":"int"}"#, ["ab and aB", "case"]),
    ] {
        let message = refusal(fields);
        for part in parts {
            assert!(message.contains(part), "{message:?} should say {part:?}");
        }
    }
    assert!(matches!(ReaderSchema::parse("\"int\"", None), Err(SchemaError::NotRecord(_))));
    assert!(matches!(ReaderSchema::parse("{", None), Err(SchemaError::Parse(_))));
}

#[test]
fn event_time_is_an_instant_or_a_long_with_a_unit() {
    let ty = |ty: &str| record(&format!(r#"{{"name":"ts","type":{ty}}}"#));
    let millis = ty(r#"{"type":"long","logicalType":"timestamp-millis"}"#);
    let local = ty(r#"{"type":"long","logicalType":"local-timestamp-millis"}"#);
    assert!(ReaderSchema::parse(&millis, Some(("ts", None))).is_ok());
    assert!(ReaderSchema::parse(&ty("\"long\""), Some(("ts", Some(Unit::Ms)))).is_ok());
    for (json, column, unit, part) in [
        (millis, "ts", Some(Unit::Ms), "says its unit already"),
        (local, "ts", None, "no zone"),
        (ty("\"long\""), "ts", None, "event_time_unit"),
        (ty("\"string\""), "ts", None, "must be a timestamp"),
        (ty("\"long\""), "time", None, "the schema has ts"),
    ] {
        let message = ReaderSchema::parse(&json, Some((column, unit))).unwrap_err().to_string();
        assert!(message.contains(part), "{message:?} should say {part:?}");
    }
}

#[test]
fn named_types_may_be_used_twice() {
    let fields = r#"{"name":"a","type":{"type":"fixed","name":"D","size":2,"logicalType":"decimal","precision":4,"scale":2}},
        {"name":"b","type":["null","D"]}"#;
    let batch = decode(&reader(fields), &record(fields), &[&[0, 7, 2, 0, 9]]);
    assert_eq!(rows(&batch), [Plain::Record(vec![Plain::Number(7), Plain::Number(9)])]);
}

/// The writer's field type and body, read as the reader's field type.
fn resolved(writer: &str, reader_ty: &str, body: &[u8]) -> Result<Plain, String> {
    let reader = reader(&format!(r#"{{"name":"f","type":{reader_ty}}}"#));
    let writer = record(&format!(r#"{{"name":"f","type":{writer}}}"#));
    let resolution = Resolution::compile(&writer, &reader, &[0]).map_err(|e| e.to_string())?;
    let mut decoder = Decoder::new(&reader, &[0]);
    decoder.push(&resolution, body).map_err(|e| e.reason().to_owned())?;
    let Plain::Record(mut row) = rows(&decoder.finish()).remove(0) else { unreachable!() };
    Ok(row.remove(0))
}

#[test]
fn numbers_widen_and_text_is_bytes() {
    let (int, long_, float, double, string, raw) =
        (r#""int""#, r#""long""#, r#""float""#, r#""double""#, r#""string""#, r#""bytes""#);
    assert_eq!(resolved(int, long_, &long(-7)), Ok(Plain::Number(-7)));
    assert_eq!(resolved(int, float, &long(-7)), Ok(Plain::Float((-7_f32).to_bits())));
    assert_eq!(resolved(int, double, &long(-7)), Ok(Plain::Double((-7_f64).to_bits())));
    assert_eq!(resolved(long_, float, &long(1 << 24)), Ok(Plain::Float(16_777_216_f32.to_bits())));
    assert_eq!(resolved(long_, double, &long(1 << 40)), Ok(Plain::Double(((1_i64 << 40) as f64).to_bits())));
    assert_eq!(
        resolved(float, double, &0.1_f32.to_le_bytes()),
        Ok(Plain::Double(f64::from(0.1_f32).to_bits()))
    );
    assert_eq!(resolved(string, raw, &bytes(b"a")), Ok(Plain::Bytes(b"a".to_vec())));
    assert_eq!(resolved(raw, string, &bytes(b"a")), Ok(Plain::Text("a".into())));
    assert_eq!(resolved(raw, string, &bytes(&[0xff])), Err("bad_utf8".into()));
    for (writer, reader) in [(long_, int), (double, float), (string, int), (int, string), (float, long_)] {
        assert!(resolved(writer, reader, &[]).unwrap_err().starts_with("field f: the writer's"));
    }
}

#[test]
fn times_keep_their_instant_across_units() {
    let ts = |unit: &str| format!(r#"{{"type":"long","logicalType":"timestamp-{unit}"}}"#);
    let millis = ts("millis");
    assert_eq!(resolved(&ts("nanos"), &millis, &long(-1)), Ok(Plain::Number(-1)));
    assert_eq!(resolved(&ts("micros"), &millis, &long(5)), Ok(Plain::Number(5)));
    assert_eq!(resolved(r#""long""#, &millis, &long(5)), Ok(Plain::Number(5_000)), "the stream's unit");
    assert_eq!(resolved(r#""int""#, &millis, &long(5)), Ok(Plain::Number(5_000)));
    let local = r#"{"type":"long","logicalType":"local-timestamp-millis"}"#;
    assert!(resolved(local, &millis, &long(5)).unwrap_err().contains("cannot be read as timestamp"));
    assert!(resolved(&millis, local, &long(5)).is_err());
}

#[test]
fn enums_go_by_name_and_fall_back_to_the_readers_default() {
    let symbols = |s: &str, d: &str| format!(r#"{{"type":"enum","name":"C","symbols":[{s}]{d}}}"#);
    let writer = symbols(r#""X","B","A""#, "");
    assert_eq!(resolved(&writer, &symbols(r#""A","B""#, ""), &long(2)), Ok(Plain::Text("A".into())));
    assert_eq!(resolved(&writer, &symbols(r#""A","B""#, ""), &long(0)), Err("unknown_symbol".into()));
    let lenient = symbols(r#""A","B""#, r#","default":"B""#);
    assert_eq!(resolved(&writer, &lenient, &long(0)), Ok(Plain::Text("B".into())));
    assert_eq!(
        resolved(&writer, &lenient, &long(3)),
        Err("unknown_symbol".into()),
        "not even the writer knows it"
    );
}

#[test]
fn unions_of_the_writers_go_branch_by_branch() {
    assert_eq!(resolved(r#"["null","int"]"#, r#""long""#, &[2, 14]), Ok(Plain::Number(7)));
    assert_eq!(resolved(r#"["null","int"]"#, r#""long""#, &[0]), Err("unexpected_null".into()));
    assert_eq!(resolved(r#""int""#, r#"["long","null"]"#, &[14]), Ok(Plain::Number(7)));
    assert_eq!(resolved(r#"["int","null"]"#, r#"["null","long"]"#, &[2]), Ok(Plain::Null));
    let many = r#"["string","int","null","long"]"#;
    assert_eq!(resolved(many, r#"["null","long"]"#, &[2, 14]), Ok(Plain::Number(7)));
    assert_eq!(resolved(many, r#"["null","long"]"#, &[6, 14]), Ok(Plain::Number(7)));
    assert_eq!(resolved(many, r#"["null","long"]"#, &[4]), Ok(Plain::Null));
    assert_eq!(resolved(many, r#"["null","long"]"#, &[0, 2, 65]), Err("bad_union_branch".into()));
    assert_eq!(resolved(r#"["string","bytes"]"#, r#""bytes""#, &[0, 2, 65]), Ok(Plain::Bytes(b"A".to_vec())));
    assert!(resolved(r#"["null","string"]"#, r#"["null","long"]"#, &[0]).unwrap_err().contains("string"));
    assert_eq!(resolved(r#""null""#, r#"["null","long"]"#, &[]), Ok(Plain::Null));
}

#[test]
fn decimals_agree_in_precision_and_scale_or_are_refused() {
    let decimal =
        |p: u8, s: u8| format!(r#"{{"type":"bytes","logicalType":"decimal","precision":{p},"scale":{s}}}"#);
    let fixed =
        r#"{"type":{"type":"fixed","name":"D","size":4},"logicalType":"decimal","precision":4,"scale":2}"#;
    assert_eq!(resolved(fixed, &decimal(4, 2), &[0, 0, 0, 9]), Ok(Plain::Number(9)));
    for other in [decimal(5, 2), decimal(4, 1), r#""bytes""#.to_owned()] {
        assert!(resolved(&other, &decimal(4, 2), &[]).is_err(), "{other}");
    }
}

#[test]
fn names_of_types_do_not_matter_names_of_fields_and_aliases_do() {
    let fields =
        r#"{"name":"user","aliases":["uid","u"],"type":"string"},{"name":"n","type":"int","default":4}"#;
    let reader = reader(fields);
    for (name, expected) in [("user", true), ("uid", true), ("u", true), ("User", false)] {
        let writer = format!(
            r#"{{"type":"record","name":"Other","namespace":"x.y","fields":[{{"name":"{name}","type":"string"}}]}}"#
        );
        match Resolution::compile(&writer, &reader, &[0, 1]) {
            Ok(_) if expected => {
                let batch = decode(&reader, &writer, &[&bytes(b"a")]);
                assert_eq!(rows(&batch), [Plain::Record(vec![Plain::Text("a".into()), Plain::Number(4)])]);
            }
            Err(SchemaError::Unresolvable { field, .. }) if !expected => assert_eq!(field, "user"),
            other => panic!("{name}: {other:?}"),
        }
    }
    // Whether a record can be read does not depend on who reads it.
    let writer = record(r#"{"name":"n","type":"int"}"#);
    assert!(Resolution::compile(&writer, &reader, &[1]).is_err());
}

#[test]
fn every_kind_of_default_is_read_as_it_would_be_written() {
    let fields = r#"
        {"name":"b","type":"bytes","default":"\u00ff\u0001"},
        {"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":4,"scale":2},"default":"\u0007"},
        {"name":"e","type":{"type":"enum","name":"C","symbols":["A","B"]},"default":"B"},
        {"name":"x","type":["null","double"],"default":null},
        {"name":"y","type":["double","null"],"default":1.5},
        {"name":"t","type":{"type":"long","logicalType":"timestamp-millis"},"default":3},
        {"name":"l","type":{"type":"array","items":"int"},"default":[1,2]},
        {"name":"m","type":{"type":"map","values":"string"},"default":{"k":"v"}},
        {"name":"r","type":{"type":"record","name":"R","fields":[
            {"name":"p","type":"int"},{"name":"q","type":"boolean","default":true}]},"default":{"p":8}}"#;
    let batch = decode(&reader(fields), &record(""), &[&[], &[]]);
    let expected = Plain::Record(vec![
        Plain::Bytes(vec![255, 1]),
        Plain::Number(7),
        Plain::Text("B".into()),
        Plain::Null,
        Plain::Double(1.5_f64.to_bits()),
        Plain::Number(3_000),
        Plain::List(vec![Plain::Number(1), Plain::Number(2)]),
        Plain::Map([("k".into(), Plain::Text("v".into()))].into()),
        Plain::Record(vec![Plain::Number(8), Plain::Bool(true)]),
    ]);
    assert_eq!(rows(&batch), [expected.clone(), expected]);
}
