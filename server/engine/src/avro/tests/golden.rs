//! Each type of the contract's table, from bytes written by hand.

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int32Type, TimeUnit};

use super::value::{Plain, rows};
use super::*;

/// One field of this type, one body: the Arrow type and the value.
fn one(ty: &str, body: &[u8]) -> (DataType, Plain) {
    let fields = format!(r#"{{"name":"f","type":{ty}}}"#);
    let reader = reader(&fields);
    let batch = decode(&reader, &record(&fields), &[body]);
    let Plain::Record(mut row) = rows(&batch).remove(0) else { unreachable!() };
    (batch.schema().field(0).data_type().clone(), row.remove(0))
}

fn logical(base: &str, logical: &str) -> String {
    format!(r#"{{"type":"{base}","logicalType":"{logical}"}}"#)
}

const MICROS: TimeUnit = TimeUnit::Microsecond;

#[test]
fn primitives() {
    assert_eq!(one(r#""boolean""#, &[1]), (DataType::Boolean, Plain::Bool(true)));
    assert_eq!(
        one(r#""int""#, &long(i64::from(i32::MIN))),
        (DataType::Int32, Plain::Number(i32::MIN.into()))
    );
    for value in [0, -1, 63, 64, -65, i64::MAX, i64::MIN] {
        assert_eq!(one(r#""long""#, &long(value)), (DataType::Int64, Plain::Number(value.into())));
    }
    let float = f32::from_bits(0x7fc0_0001);
    assert_eq!(one(r#""float""#, &float.to_le_bytes()), (DataType::Float32, Plain::Float(0x7fc0_0001)));
    for double in [-0.0, f64::NAN, f64::NEG_INFINITY, 5e-324] {
        assert_eq!(
            one(r#""double""#, &double.to_le_bytes()),
            (DataType::Float64, Plain::Double(double.to_bits()))
        );
    }
    assert_eq!(one(r#""string""#, &bytes("žluť".as_bytes())), (DataType::Utf8, Plain::Text("žluť".into())));
    assert_eq!(one(r#""bytes""#, &bytes(&[0, 255])), (DataType::Binary, Plain::Bytes(vec![0, 255])));
    let fixed = r#"{"type":"fixed","name":"F","size":3}"#;
    assert_eq!(one(fixed, &[1, 2, 3]), (DataType::Binary, Plain::Bytes(vec![1, 2, 3])));
}

#[test]
fn decimals_of_bytes_and_of_fixed() {
    let ty = r#"{"type":"bytes","logicalType":"decimal","precision":5,"scale":2}"#;
    let arrow = DataType::Decimal128(5, 2);
    assert_eq!(one(ty, &bytes(&[0xff, 0x85])), (arrow.clone(), Plain::Number(-123)));
    assert_eq!(one(ty, &bytes(&[0])), (arrow.clone(), Plain::Number(0)));
    // Sign extension beyond sixteen bytes is width, not value.
    let mut wide = vec![0; 19];
    wide.push(7);
    assert_eq!(one(ty, &bytes(&wide)), (arrow.clone(), Plain::Number(7)));
    let ty =
        r#"{"type":{"type":"fixed","name":"D","size":4},"logicalType":"decimal","precision":5,"scale":2}"#;
    assert_eq!(one(ty, &[0xff, 0xff, 0xff, 0x85]), (arrow, Plain::Number(-123)));
    let ty = r#"{"type":"bytes","logicalType":"decimal","precision":38,"scale":0}"#;
    let widest = 10_i128.pow(38) - 1;
    assert_eq!(
        one(ty, &bytes(&(-widest).to_be_bytes())),
        (DataType::Decimal128(38, 0), Plain::Number(-widest))
    );
}

#[test]
fn times_in_microseconds() {
    let utc = DataType::Timestamp(MICROS, Some("UTC".into()));
    let local = DataType::Timestamp(MICROS, None);
    for (ty, raw, arrow, micros) in [
        (logical("int", "date"), -1, DataType::Date32, -1),
        (logical("int", "time-millis"), 1_234, DataType::Time64(MICROS), 1_234_000),
        (logical("long", "time-micros"), 1_234, DataType::Time64(MICROS), 1_234),
        (logical("long", "timestamp-millis"), -1, utc.clone(), -1_000),
        (logical("long", "timestamp-micros"), -1, utc.clone(), -1),
        (logical("long", "timestamp-nanos"), -1, utc.clone(), -1),
        (logical("long", "timestamp-nanos"), -1_001, utc.clone(), -2),
        (logical("long", "timestamp-nanos"), 1_999, utc, 1),
        (logical("long", "local-timestamp-millis"), 5, local.clone(), 5_000),
        (logical("long", "local-timestamp-micros"), 5, local.clone(), 5),
        (logical("long", "local-timestamp-nanos"), 5_999, local, 5),
    ] {
        assert_eq!(one(&ty, &long(raw)), (arrow, Plain::Number(micros)), "{ty}");
    }
}

#[test]
fn uuids_of_text_and_of_sixteen_bytes() {
    let text = "00112233-4455-6677-8899-aabbccddeeff";
    let expected = (DataType::Utf8, Plain::Text(text.into()));
    assert_eq!(one(&logical("string", "uuid"), &bytes(text.as_bytes())), expected);
    let raw: Vec<u8> = (0..16).map(|i| i * 0x11).collect();
    let ty = r#"{"type":{"type":"fixed","name":"U","size":16},"logicalType":"uuid"}"#;
    assert_eq!(one(ty, &raw), expected);
}

#[test]
fn enums_are_dictionaries_of_the_readers_symbols() {
    let fields = r#"{"name":"f","type":{"type":"enum","name":"C","symbols":["A","B","C"]}}"#;
    let batch = decode(&reader(fields), &record(fields), &[&long(2), &long(0), &long(2)]);
    let dictionary = batch.column(0).as_dictionary::<Int32Type>();
    assert_eq!(dictionary.keys().values(), &[2, 0, 2]);
    assert_eq!(dictionary.values().len(), 3);
}

#[test]
fn nested_types_and_nulls_on_every_level() {
    let ty = r#"["null",{"type":"array","items":["null",{"type":"record","name":"I","fields":[
        {"name":"sku","type":"string"},{"name":"tags","type":{"type":"map","values":["long","null"]}}]}]}]"#;
    let item = [&long(1)[..], &bytes(b"x"), &long(1), &bytes(b"k"), &long(0), &long(7), &long(0)].concat();
    // A block with its size in bytes (negative count), one without, the end.
    let null = long(0);
    let body = [&long(1)[..], &long(-1), &long(item.len() as i64), &item, &long(1), &null, &long(0)].concat();
    let expected = Plain::List(vec![
        Plain::Record(vec![Plain::Text("x".into()), Plain::Map([("k".into(), Plain::Number(7))].into())]),
        Plain::Null,
    ]);
    assert_eq!(one(ty, &body).1, expected);
    assert_eq!(one(ty, &long(0)).1, Plain::Null);
    assert_eq!(one(ty, &[long(1), long(0)].concat()).1, Plain::List(vec![]));
}

#[test]
fn event_time_is_converted_and_left_nullable_for_the_caller() {
    let json = record(r#"{"name":"ts","type":["null","long"]},{"name":"n","type":"int"}"#);
    for (unit, micros) in [(Unit::S, 3_000_000), (Unit::Ms, 3_000), (Unit::Us, 3)] {
        let reader = ReaderSchema::parse(&json, Some(("ts", Some(unit)))).unwrap();
        assert_eq!(reader.event_time(), Some(0));
        assert!(!reader.arrow().field(0).is_nullable(), "SQL never sees a row without event time");
        let bodies = [[long(1), long(3), long(1)].concat(), [long(0), long(2)].concat()];
        let batch = decode(&reader, &json, &[&bodies[0], &bodies[1]]);
        assert!(batch.schema().field(0).is_nullable());
        assert_eq!(batch.schema().field(0).data_type(), reader.arrow().field(0).data_type());
        assert_eq!(
            rows(&batch),
            [
                Plain::Record(vec![Plain::Number(micros), Plain::Number(1)]),
                Plain::Record(vec![Plain::Null, Plain::Number(2)])
            ]
        );
    }
}

#[test]
fn projections_read_what_they_need_in_their_own_order() {
    let fields = r#"{"name":"a","type":"string"},{"name":"b","type":{"type":"array","items":"int"}},
        {"name":"c","type":"double"},{"name":"d","type":"long"}"#;
    let reader = reader(fields);
    let body =
        [&bytes(b"x")[..], &long(2), &long(1), &long(2), &long(0), &1.5_f64.to_le_bytes(), &long(9)].concat();
    for (columns, expected) in [
        (vec![3, 0], vec![Plain::Number(9), Plain::Text("x".into())]),
        (vec![1], vec![Plain::List(vec![Plain::Number(1), Plain::Number(2)])]),
        (vec![], vec![]),
    ] {
        let resolution = Resolution::compile(&record(fields), &reader, &columns).unwrap();
        let mut decoder = Decoder::new(&reader, &columns);
        decoder.push(&resolution, &body).unwrap();
        let batch = decoder.finish();
        assert_eq!(batch.num_rows(), 1);
        assert_eq!(rows(&batch), [Plain::Record(expected)]);
    }
    assert!(Resolution::compile(&record(fields), &reader, &[4]).is_err());
    assert!(Resolution::compile(&record(fields), &reader, &[0, 0]).is_err());
}

#[test]
fn a_decoder_takes_several_writers_and_starts_anew_after_each_batch() {
    let new = r#"{"name":"a","type":"long"},{"name":"b","type":"string","default":"none"}"#;
    let old = record(r#"{"name":"a","type":"int"},{"name":"gone","type":"bytes"}"#);
    let reader = reader(new);
    let columns = all(&reader);
    let now = Resolution::compile(&record(new), &reader, &columns).unwrap();
    let then = Resolution::compile(&old, &reader, &columns).unwrap();
    let mut decoder = Decoder::new(&reader, &columns);
    for _ in 0..2 {
        decoder.push(&now, &[long(1), bytes(b"x")].concat()).unwrap();
        decoder.push(&then, &[long(2), bytes(b"zzz")].concat()).unwrap();
        let batch = decoder.finish();
        assert!(decoder.is_empty());
        assert_eq!(
            rows(&batch),
            [
                Plain::Record(vec![Plain::Number(1), Plain::Text("x".into())]),
                Plain::Record(vec![Plain::Number(2), Plain::Text("none".into())])
            ]
        );
    }
}
