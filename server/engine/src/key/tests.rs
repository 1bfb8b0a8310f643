#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::*;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().concat()
}

fn one(array: impl Array + 'static) -> String {
    hex(&encode(&[Arc::new(array) as ArrayRef], 0).unwrap())
}

#[test]
fn golden_bytes() {
    assert_eq!(one(Int64Array::from(vec![None])), "00");
    assert_eq!(one(BooleanArray::from(vec![true])), "0101");
    assert_eq!(one(Int32Array::from(vec![-1])), "017fffffff");
    assert_eq!(one(Int64Array::from(vec![42])), "01800000000000002a");
    assert_eq!(one(Int64Array::from(vec![i64::MIN])), "010000000000000000");
    assert_eq!(one(Date32Array::from(vec![19_737])), "0180004d19");
    assert_eq!(one(TimestampMicrosecondArray::from(vec![1])), "018000000000000001");
    assert_eq!(one(Time64MicrosecondArray::from(vec![1])), "018000000000000001");
    let decimal = Decimal128Array::from(vec![-12_345]).with_precision_and_scale(10, 2).unwrap();
    assert_eq!(one(decimal), "017fffffffffffffffffffffffffffcfc7");
    assert_eq!(one(StringArray::from(vec!["a\0b"])), "016100ff620000");
    assert_eq!(one(StringArray::from(vec![""])), "010000");
    assert_eq!(one(BinaryArray::from(vec![&b"\xff\x00"[..]])), "01ff00ff0000");
    assert_eq!(one(Float64Array::from(vec![1.0])), "01bff0000000000000");
    assert_eq!(one(Float64Array::from(vec![-1.0])), "01400fffffffffffff");
    assert_eq!(one(Float64Array::from(vec![-0.0])), one(Float64Array::from(vec![0.0])));
    assert_eq!(one(Float32Array::from(vec![-0.0])), "0180000000");
    assert_eq!(one(Float64Array::from(vec![f64::NAN])), "01fff8000000000000");
    assert_eq!(one(Float64Array::from(vec![-f64::NAN])), "01fff8000000000000");
}

#[test]
fn golden_key_groups() {
    assert_eq!(key_group(b""), (0x2d06_8005_38d3_94c2_u64 % 64) as u8);
    let user: ArrayRef = Arc::new(Int64Array::from(vec![42]));
    assert_eq!(key_group(&encode(&[user], 0).unwrap()), 10);
}

#[test]
fn an_enum_and_its_text_are_one_key() {
    let symbols: DictionaryArray<Int32Type> = vec!["x", "y", "x"].into_iter().collect();
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x", "y", "x"]));
    let view: ArrayRef = Arc::new(StringViewArray::from(vec!["x", "y", "x"]));
    let keys = encode_all(&[text]).unwrap();
    assert_eq!(encode_all(&[Arc::new(symbols)]).unwrap(), keys);
    assert_eq!(encode_all(&[view]).unwrap(), keys);
}

#[test]
fn floats_and_nested_types_are_no_primary_keys() {
    for bad in [DataType::Float64, DataType::Float32, DataType::new_list(DataType::Int32, true)] {
        let e = check(&Schema::new(vec![Field::new("x", bad, false)])).unwrap_err();
        assert!(matches!(e, Error::Unsupported { ref column, .. } if column == "x"), "{e}");
    }
    check(&Schema::new(vec![Field::new("x", DataType::Utf8, false)])).unwrap();
}

fn compound() -> Schema {
    Schema::new(vec![
        Field::new("user", DataType::Utf8, false),
        Field::new("n", DataType::Int32, false),
        Field::new("price", DataType::Decimal128(10, 2), false),
        Field::new("day", DataType::Date32, false),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        Field::new("raw", DataType::Binary, false),
        Field::new("yes", DataType::Boolean, false),
    ])
}

#[test]
fn an_entry_in_json_is_the_key_of_its_row() {
    let schema = compound();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["ü\0"])),
        Arc::new(Int32Array::from(vec![-7])),
        Arc::new(Decimal128Array::from(vec![-1_250]).with_precision_and_scale(10, 2).unwrap()),
        Arc::new(Date32Array::from(vec![-1])),
        Arc::new(TimestampMicrosecondArray::from(vec![-1]).with_timezone("UTC")),
        Arc::new(BinaryArray::from(vec![&b"\x00\x01"[..]])),
        Arc::new(BooleanArray::from(vec![true])),
    ];
    let key = encode(&columns, 0).unwrap();
    let entry = [
        json!("ü\0"),
        json!(-7),
        json!("-12.5"),
        json!("1969-12-31"),
        json!("1969-12-31T23:59:59.999999Z"),
        json!("AAE="),
        json!(true),
    ];
    assert_eq!(from_json(&schema, &entry).unwrap(), key);
    let text = ["ü\0", "-7", "-12.50", "-1", "-1", "AAE=", "true"];
    assert_eq!(from_text(&schema, &text).unwrap(), key);
    assert_eq!(decode([&key[..]], &schema).unwrap(), columns);
}

#[test]
fn a_wrong_entry_is_told_apart() {
    let schema = Schema::new(vec![Field::new("n", DataType::Int32, false)]);
    let fails = |v| from_json(&schema, &[v]).unwrap_err().to_string();
    assert_eq!(fails(json!(null)), "'n' is part of the primary key and cannot be null");
    assert_eq!(fails(json!("7")), "'n' wants an integer, not \"7\"");
    assert_eq!(fails(json!(1.5)), "'n' wants an integer, not 1.5");
    assert_eq!(fails(json!(3_000_000_000_i64)), "'n' wants an integer of 32 bits, not 3000000000");
    assert!(from_json(&schema, &[json!(i32::MIN)]).is_ok());
    assert_eq!(from_json(&schema, &[]).unwrap_err(), Error::Count { wanted: 1, found: 0 });
    let schema = Schema::new(vec![Field::new("d", DataType::Decimal128(4, 2), false)]);
    for bad in [json!("1.234"), json!("123.45"), json!(""), json!("."), json!("1e3"), json!(1.5)] {
        assert!(from_json(&schema, std::slice::from_ref(&bad)).is_err(), "{bad}");
    }
    assert_eq!(from_json(&schema, &[json!("1.5000")]), from_json(&schema, &[json!("+01.5")]));
}

#[test]
fn what_the_codec_did_not_write_is_refused() {
    let schema = Schema::new(vec![Field::new("s", DataType::Utf8, false)]);
    for bad in
        [&b""[..], b"\x02", b"\x01a", b"\x01a\x00", b"\x01a\x00\x01", b"\x01\xff\x00\x00", b"\x01a\x00\x00x"]
    {
        assert!(matches!(decode([bad], &schema), Err(Error::Corrupt(_))), "{bad:?}");
    }
}

/// A row of one column of each kind.
type Row = (Option<i64>, Option<String>, Option<i32>, Option<Vec<u8>>, Option<bool>, Option<i128>);

fn row() -> impl Strategy<Value = Row> {
    let small_text = prop_oneof!["[\\x00\\x01a]{0,4}", any::<String>()];
    let small_bytes = prop_oneof![
        prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(0xFF)], 0..5),
        any::<Vec<u8>>()
    ];
    (
        prop::option::of(prop_oneof![-2..3_i64, any::<i64>()]),
        prop::option::of(small_text),
        prop::option::of(any::<i32>()),
        prop::option::of(small_bytes),
        any::<Option<bool>>(),
        prop::option::of(-(10_i128.pow(38) - 1)..10_i128.pow(38)),
    )
}

fn columns(rows: &[Row]) -> Vec<ArrayRef> {
    vec![
        Arc::new(rows.iter().map(|r| r.0).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| r.1.clone()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|r| r.2).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|r| r.3.clone()).collect::<BinaryArray>()),
        Arc::new(rows.iter().map(|r| r.4).collect::<BooleanArray>()),
        Arc::new(
            rows.iter().map(|r| r.5).collect::<Decimal128Array>().with_precision_and_scale(38, 4).unwrap(),
        ),
    ]
}

fn schema_of(columns: &[ArrayRef]) -> Schema {
    Schema::new(
        columns
            .iter()
            .enumerate()
            .map(|(i, c)| Field::new(format!("c{i}"), c.data_type().clone(), true))
            .collect::<Vec<_>>(),
    )
}

/// −0.0 equals 0.0, NaN equals NaN and comes last.
fn float_order(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

proptest! {
    #[test]
    fn bytes_compare_as_keys_do(a in row(), b in row()) {
        let keys = encode_all(&columns(&[a.clone(), b.clone()])).unwrap();
        prop_assert_eq!(keys[0].cmp(&keys[1]), a.cmp(&b));
    }

    #[test]
    fn keys_come_back(rows in prop::collection::vec(row(), 1..5)) {
        let columns = columns(&rows);
        let keys = encode_all(&columns).unwrap();
        let back = decode(keys.iter().map(Vec::as_slice), &schema_of(&columns)).unwrap();
        prop_assert_eq!(back, columns);
    }

    #[test]
    fn no_key_is_the_beginning_of_another(a in row(), b in row()) {
        let keys = encode_all(&columns(&[a, b])).unwrap();
        prop_assert!(keys[0] == keys[1] || !keys[0].starts_with(&keys[1]));
    }

    #[test]
    fn floats_are_ordered(a in any::<f64>(), b in any::<f64>()) {
        let array: ArrayRef = Arc::new(Float64Array::from(vec![a, b]));
        let keys = encode_all(std::slice::from_ref(&array)).unwrap();
        prop_assert_eq!(keys[0].cmp(&keys[1]), float_order(a, b));
        let small: ArrayRef = Arc::new(Float32Array::from(vec![a as f32, b as f32]));
        let keys = encode_all(&[small]).unwrap();
        prop_assert_eq!(keys[0].cmp(&keys[1]), float_order(f64::from(a as f32), f64::from(b as f32)));
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in any::<Vec<u8>>()) {
        let _ = decode([&bytes[..]], &compound());
    }
}
