//! Plain JSON records, straight into columns.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use proptest::test_runner::TestCaseError;

use super::value::{Plain, rows};
use super::*;
use crate::avro::JsonDecoder;
use crate::json;

const FIELDS: &str = r#"
    {"name":"s","type":"string"},
    {"name":"i","type":["null","int"]},
    {"name":"f","type":["null","double"]},
    {"name":"d","type":["null",{"type":"bytes","logicalType":"decimal","precision":6,"scale":2}]},
    {"name":"b","type":["null","bytes"]},
    {"name":"day","type":["null",{"type":"int","logicalType":"date"}]},
    {"name":"r","type":["null",{"type":"record","name":"R","fields":[
        {"name":"x","type":"long"},{"name":"tags","type":["null",{"type":"map","values":"long"}]}]}]},
    {"name":"a","type":["null",{"type":"array","items":["null","long"]}]},
    {"name":"ts","type":["null","long"]}"#;

fn stream(unit: Unit) -> ReaderSchema {
    ReaderSchema::parse(&record(FIELDS), Some(("ts", Some(unit)))).unwrap()
}

fn read(reader: &ReaderSchema, texts: &[&str]) -> Result<RecordBatch, String> {
    let mut decoder = JsonDecoder::new(reader, &all(reader));
    for text in texts {
        decoder.push(text.as_bytes()).map_err(|e| e.to_string())?;
    }
    assert_eq!(decoder.len(), texts.len());
    Ok(decoder.finish())
}

/// What the Avro decoder read, written as JSON and read again, is the same. False: a time that has no
/// text form is in it.
pub fn reads_back(reader: &ReaderSchema, batch: &RecordBatch) -> Result<bool, TestCaseError> {
    let mut decoder = JsonDecoder::new(reader, &all(reader));
    for row in json::rows(batch) {
        let text = serde_json::Value::Object(row).to_string();
        match decoder.push(text.as_bytes()) {
            Ok(()) => {}
            Err(e)
                if ["a timestamp like", "a date like", "since 19"]
                    .iter()
                    .any(|t| e.message().contains(t)) =>
            {
                return Ok(false);
            }
            Err(e) => return Err(TestCaseError::fail(format!("{e} in {text}"))),
        }
    }
    let (wanted, found) = (rows(batch), rows(&decoder.finish()));
    if wanted == found {
        Ok(true)
    } else {
        Err(TestCaseError::fail(format!("{wanted:?} was read as {found:?}")))
    }
}

#[test]
fn members_in_any_order_missing_unknown_and_twice() {
    let reader = stream(Unit::Ms);
    let batch = read(
        &reader,
        &[
            r#"{"s":"na\u00efve","i":-5,"f":0.1,"d":"-12.5","b":"AQI=","day":"1969-12-31","r":{"x":1,"tags":{"k":9007199254740993}},"a":[1,null],"ts":1704067200123}"#,
            r#" { "ts" : "2024-01-01T01:00:00.123456789+01:00", "zzz": {"deep": [1, {"x": "}"}]}, "s" : "b", "d": 3.25 } "#,
            r#"{"s":"first","r":{"x":1},"a":[7,8],"s":"c","r":{"x":2,"x":3,"y":null},"a":[9],"i":null,"f":"NaN"}"#,
        ],
    )
    .unwrap();
    let text = |s: &str| Plain::Text(s.into());
    let found = rows(&batch);
    let Plain::Record(first) = &found[0] else { panic!() };
    assert_eq!(
        first[..6],
        [
            text("naïve"),
            Plain::Number(-5),
            Plain::Double(0.1_f64.to_bits()),
            Plain::Number(-1250),
            Plain::Bytes(vec![1, 2]),
            Plain::Number(-1),
        ]
    );
    let tags = Plain::Map([("k".into(), Plain::Number(9_007_199_254_740_993))].into());
    assert_eq!(
        first[6..],
        [
            Plain::Record(vec![Plain::Number(1), tags]),
            Plain::List(vec![Plain::Number(1), Plain::Null]),
            Plain::Number(1_704_067_200_123_000),
        ]
    );
    let Plain::Record(second) = &found[1] else { panic!() };
    assert_eq!(
        (&second[0], &second[3], &second[8]),
        (&text("b"), &Plain::Number(325), &Plain::Number(1_704_067_200_123_456))
    );
    assert_eq!((&second[1], &second[6], &second[7]), (&Plain::Null, &Plain::Null, &Plain::Null));
    let Plain::Record(third) = &found[2] else { panic!() };
    assert_eq!(third[0], text("c"));
    assert_eq!(third[6], Plain::Record(vec![Plain::Number(3), Plain::Null]));
    assert_eq!((&third[7], &third[8]), (&Plain::List(vec![Plain::Number(9)]), &Plain::Null));
}

#[test]
fn event_times_are_numbers_of_their_unit_or_text() {
    for (unit, text, micros) in [
        (Unit::S, "1704067200", 1_704_067_200_000_000_i64),
        (Unit::S, "1704067200.1234567", 1_704_067_200_123_456),
        (Unit::S, "-1.5", -1_500_000),
        (Unit::S, "-0.0000001", -1),
        (Unit::S, "-0.0", 0),
        (Unit::Ms, "1704067200123", 1_704_067_200_123_000),
        (Unit::Ms, "1704067200123.5", 1_704_067_200_123_500),
        (Unit::Us, "1704067200123456", 1_704_067_200_123_456),
        (Unit::Us, "1704067200123456.9", 1_704_067_200_123_456),
        (Unit::S, r#""2024-01-01T00:00:00Z""#, 1_704_067_200_000_000),
        (Unit::Us, r#""2024-01-01T02:00:00.5+02:00""#, 1_704_067_200_500_000),
    ] {
        let reader = stream(unit);
        let batch = read(&reader, &[&format!(r#"{{"s":"","ts":{text}}}"#)]).unwrap();
        assert_eq!(batch.column(8).as_primitive::<TimestampMicrosecondType>().value(0), micros, "{text}");
    }
    for (unit, text) in [
        (Unit::S, "1e9"),
        (Unit::S, "9223372036854775807"),
        (Unit::S, "99999999999999999999"),
        (Unit::S, r#""yesterday""#),
        (Unit::Ms, r#""2024-01-01T00:00:00""#),
        (Unit::Ms, "true"),
    ] {
        let error = read(&stream(unit), &[&format!(r#"{{"s":"","ts":{text}}}"#)]).unwrap_err();
        assert!(error.starts_with("field ts: "), "{text}: {error}");
    }
}

#[test]
fn a_bad_record_is_named_and_leaves_its_neighbours_alone() {
    let reader = stream(Unit::Ms);
    let good = r#"{"s":"good","i":1,"r":{"x":1,"tags":{"k":1}},"a":[1,2],"ts":1}"#;
    let before = rows(&read(&reader, &[good, good]).unwrap());
    for (bad, field, message) in [
        ("", "", "not JSON"),
        ("{", "", "not JSON"),
        (r#"{"s":"a"} {"#, "", "not JSON"),
        ("{'s':'a'}", "", "not JSON"),
        ("[1]", "", "a JSON object, not an array"),
        ("\"text\"", "", "a JSON object, not"),
        ("null", "", "a JSON object, not null"),
        (r#"{"i":1}"#, "s", "is missing"),
        (r#"{"s":null}"#, "s", "is null"),
        (r#"{"s":5}"#, "s", "expected text, found 5"),
        (r#"{"s":"a\ud800"}"#, "s", "is not text"),
        (r#"{"s":"a","i":1.0}"#, "i", "expected an integer"),
        (r#"{"s":"a","i":"1"}"#, "i", "expected an integer"),
        (r#"{"s":"a","i":2147483648}"#, "i", "does not fit int"),
        (r#"{"s":"a","f":"much"}"#, "f", "expected a number"),
        (r#"{"s":"a","f":1e999}"#, "f", "does not fit double"),
        (r#"{"s":"a","d":"12345.67"}"#, "d", "does not fit decimal"),
        (r#"{"s":"a","d":1.005}"#, "d", "does not fit decimal"),
        (r#"{"s":"a","b":"not base64!"}"#, "b", "base64"),
        (r#"{"s":"a","day":"2024-02-30"}"#, "day", "a date like"),
        (r#"{"s":"a","r":[]}"#, "r", "expected an object"),
        (r#"{"s":"a","r":{"tags":{}}}"#, "r.x", "is missing"),
        (r#"{"s":"a","r":{"x":1,"tags":{"k":1,"l":"x"}}}"#, "r.tags[\"l\"]", "expected an integer"),
        (r#"{"s":"a","a":[1,2,"x"]}"#, "a[2]", "expected an integer"),
        (r#"{"s":"a","a":{"0":1}}"#, "a", "expected an array"),
    ] {
        let mut decoder = JsonDecoder::new(&reader, &all(&reader));
        decoder.push(good.as_bytes()).unwrap();
        let error = decoder.push(bad.as_bytes()).unwrap_err();
        assert_eq!(error.field, field, "{bad}: {error}");
        assert!(error.to_string().contains(message), "{bad}: {error}");
        assert!(!error.is_full());
        decoder.push(good.as_bytes()).unwrap();
        assert_eq!(rows(&decoder.finish()), before, "{bad}");
    }
    let mut decoder = JsonDecoder::new(&reader, &all(&reader));
    assert!(decoder.push(b"{\"s\":\"\xff\"}").unwrap_err().to_string().contains("UTF-8"));
    let deep = format!(r#"{{"s":"a","zzz":{}{}}}"#, "[".repeat(200_000), "]".repeat(200_000));
    assert!(decoder.push(deep.as_bytes()).is_ok(), "what is passed over may be deep: nothing recurses");
}

#[test]
fn every_strict_prefix_fails_alone() {
    let reader = stream(Unit::Ms);
    let good = r#"{"s":"good","r":{"x":1,"tags":{"k":1}},"a":[1,2],"ts":1}"#;
    let mut decoder = JsonDecoder::new(&reader, &all(&reader));
    for n in 0..good.len() {
        assert!(decoder.push(&good.as_bytes()[..n]).is_err(), "{n} bytes");
    }
    decoder.push(good.as_bytes()).unwrap();
    assert_eq!(rows(&decoder.finish()), rows(&read(&reader, &[good]).unwrap()));
}

#[test]
fn a_record_is_bad_whatever_columns_are_read() {
    let reader = stream(Unit::Ms);
    let mut decoder = JsonDecoder::new(&reader, &[8, 0]);
    assert!(decoder.push(br#"{"s":"a","i":"no column of the query"}"#).is_err());
    decoder.push(br#"{"s":"a","ts":5}"#).unwrap();
    let batch = decoder.finish();
    assert_eq!(rows(&batch), [Plain::Record(vec![Plain::Number(5000), Plain::Text("a".into())])]);
}

#[test]
fn a_full_batch_says_so_and_loses_nothing() {
    let reader = reader(r#"{"name":"s","type":"string"}"#);
    let mut decoder = JsonDecoder::new(&reader, &[0]);
    let text = format!(r#"{{"s":"{}"}}"#, "7".repeat(15 << 20));
    let mut pushed = 0;
    let error = loop {
        match decoder.push(text.as_bytes()) {
            Ok(()) => pushed += 1,
            Err(error) => break error,
        }
    };
    assert!(error.is_full());
    assert_eq!(pushed, 256 / 15);
    assert_eq!(decoder.finish().num_rows(), pushed);
    decoder.push(text.as_bytes()).unwrap();
    assert_eq!(decoder.finish().num_rows(), 1);
}
