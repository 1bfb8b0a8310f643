#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int32Array, Int64Array, Int64Builder, ListBuilder, MapBuilder, StringArray, StringBuilder, StructArray,
    Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Fields, Schema};
use millpond_engine::json;
use proptest::prelude::*;

use super::*;

/// Values of one row, a column of each kind; every one may be null.
#[derive(Debug, Clone)]
struct Row {
    boolean: Option<bool>,
    int: Option<i32>,
    long: Option<i64>,
    float: Option<f32>,
    double: Option<f64>,
    decimal: Option<i128>,
    text: Option<String>,
    bytes: Option<Vec<u8>>,
    date: Option<i32>,
    time: Option<i64>,
    instant: Option<i64>,
    list: Option<Vec<Option<i64>>>,
    map: Option<Vec<(String, Option<i64>)>>,
}

fn list(rows: &[Row]) -> ArrayRef {
    let mut b = ListBuilder::new(Int64Builder::new());
    for row in rows {
        b.append_option(row.list.as_ref().map(|items| items.iter().copied()));
    }
    Arc::new(b.finish())
}

fn map(rows: &[Row]) -> ArrayRef {
    let mut b = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    for row in rows {
        for (k, v) in row.map.iter().flatten() {
            b.keys().append_value(k);
            b.values().append_option(*v);
        }
        b.append(row.map.is_some()).unwrap();
    }
    Arc::new(b.finish())
}

fn batch(rows: &[Row]) -> RecordBatch {
    let texts: ArrayRef = Arc::new(rows.iter().map(|r| r.text.clone()).collect::<StringArray>());
    let lists = list(rows);
    let fields: Fields =
        vec![Field::new("t", DataType::Utf8, true), Field::new("l", lists.data_type().clone(), true)].into();
    let nulls = rows.iter().map(|r| r.boolean.is_some()).collect::<Vec<_>>().into();
    let record = StructArray::new(fields, vec![Arc::clone(&texts), Arc::clone(&lists)], Some(nulls));
    let instants: TimestampMicrosecondArray = rows.iter().map(|r| r.instant).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|r| r.boolean).collect::<BooleanArray>()),
        Arc::new(rows.iter().map(|r| r.int).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|r| r.long).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| r.float).collect::<Float32Array>()),
        Arc::new(rows.iter().map(|r| r.double).collect::<Float64Array>()),
        Arc::new(
            rows.iter()
                .map(|r| r.decimal)
                .collect::<Decimal128Array>()
                .with_precision_and_scale(38, 4)
                .unwrap(),
        ),
        texts,
        Arc::new(rows.iter().map(|r| r.bytes.clone()).collect::<BinaryArray>()),
        Arc::new(rows.iter().map(|r| r.date).collect::<Date32Array>()),
        Arc::new(rows.iter().map(|r| r.time).collect::<Time64MicrosecondArray>()),
        Arc::new(instants.clone()),
        Arc::new(instants.with_timezone("UTC")),
        lists,
        map(rows),
        Arc::new(record),
    ];
    let fields =
        columns.iter().enumerate().map(|(i, c)| Field::new(format!("c{i}"), c.data_type().clone(), true));
    RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns).unwrap()
}

fn row() -> impl Strategy<Value = Row> {
    let numbers = (
        any::<Option<bool>>(),
        any::<Option<i32>>(),
        any::<Option<i64>>(),
        any::<Option<f32>>(),
        any::<Option<f64>>(),
        prop::option::of(-(10_i128.pow(38) - 1)..10_i128.pow(38)),
    );
    let texts = (any::<Option<String>>(), any::<Option<Vec<u8>>>());
    let times = (
        prop::option::of(-1_000_000..1_000_000_i32),
        prop::option::of(0..86_400_000_000_i64),
        prop::option::of(-(1_i64 << 52)..1_i64 << 52),
    );
    let nested = (
        prop::option::of(prop::collection::vec(any::<Option<i64>>(), 0..4)),
        prop::option::of(prop::collection::btree_map("[a-z]{0,3}", any::<Option<i64>>(), 0..3)),
    );
    (numbers, texts, times, nested).prop_map(|(n, s, t, c)| Row {
        boolean: n.0,
        int: n.1,
        long: n.2,
        float: n.3,
        double: n.4,
        decimal: n.5,
        text: s.0,
        bytes: s.1,
        date: t.0,
        time: t.1,
        instant: t.2,
        list: c.0,
        map: c.1.map(|m| m.into_iter().collect()),
    })
}

fn encode(layout: &Layout, batch: &RecordBatch, row: usize) -> Vec<u8> {
    let mut out = Vec::new();
    Encoder::new(layout, batch).unwrap().append(row, &mut out);
    out
}

#[test]
fn golden_bytes() {
    let schema = Arc::new(Schema::new(vec![
        Field::new("user", DataType::Utf8, false),
        Field::new("n", DataType::Int64, true),
        Field::new("none", DataType::Float64, true),
        Field::new("yes", DataType::Boolean, true),
        Field::new("price", DataType::Decimal128(10, 2), true),
        Field::new("tags", DataType::new_list(DataType::Utf8, true), true),
    ]));
    let mut tags = ListBuilder::new(StringBuilder::new());
    tags.append_value([Some("x"), None]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["ab"])),
        Arc::new(Int64Array::from(vec![-2])),
        Arc::new(Float64Array::from(vec![None])),
        Arc::new(BooleanArray::from(vec![true])),
        Arc::new(Decimal128Array::from(vec![-1]).with_precision_and_scale(10, 2).unwrap()),
        Arc::new(tags.finish()),
    ];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    let layout = Layout::new(schema).unwrap();
    let bytes = encode(&layout, &batch, 0);
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().concat();
    assert_eq!(
        hex,
        "3b\
         3200000002000000\
         feffffffffffffff\
         0000000000000000\
         01\
         ffffffffffffffffffffffffffffffff\
         340000000b000000\
         6162\
         020000000101000000\
         7800"
    );
    assert_eq!(layout.value(&bytes, 0).unwrap(), Scalar::Text("ab"));
    assert_eq!(layout.value(&bytes, 1).unwrap(), Scalar::Int(-2));
    assert_eq!(layout.value(&bytes, 2).unwrap(), Scalar::Null);
    assert_eq!(layout.value(&bytes, 5).unwrap().json().unwrap(), serde_json::json!(["x", null]));
    assert!(layout.value(&bytes, 6).is_err(), "there is no such column");
}

#[test]
fn types_that_no_row_holds_are_refused() {
    for bad in [
        DataType::UInt64,
        DataType::LargeUtf8,
        DataType::Timestamp(TimeUnit::Nanosecond, None),
        DataType::new_list(DataType::Float16, true),
    ] {
        let schema = Arc::new(Schema::new(vec![Field::new("x", bad.clone(), true)]));
        let error = Layout::new(schema).unwrap_err();
        assert_eq!(error, Error::Type { column: "x".to_owned(), data_type: bad });
    }
}

#[test]
fn a_batch_of_another_schema_is_refused() {
    let layout = Layout::new(Arc::new(Schema::new(vec![Field::new("x", DataType::Int64, true)]))).unwrap();
    let other = RecordBatch::try_from_iter([("x", Arc::new(Int32Array::from(vec![1])) as ArrayRef)]).unwrap();
    assert!(matches!(Encoder::new(&layout, &other), Err(Error::Rows(_))));
}

proptest! {
    #[test]
    fn each_value_is_read_alone_and_reads_as_arrow_does(rows in prop::collection::vec(row(), 1..4)) {
        let batch = batch(&rows);
        let layout = Layout::new(batch.schema()).unwrap();
        for r in 0..rows.len() {
            let bytes = encode(&layout, &batch, r);
            for (c, column) in batch.columns().iter().enumerate() {
                let stored = layout.value(&bytes, c).unwrap();
                prop_assert_eq!(stored.is_null(), column.is_null(r));
                prop_assert_eq!(stored.json().unwrap(), json::value(column.as_ref(), r), "column {}", c);
            }
            // JSON has one NaN and rounds no float, but the bits must come back too.
            if let (Some(float), Scalar::Float(stored)) = (rows[r].float, layout.value(&bytes, 3).unwrap()) {
                prop_assert_eq!(float.to_bits(), stored.to_bits());
            }
            if let (Some(double), Scalar::Double(stored)) = (rows[r].double, layout.value(&bytes, 4).unwrap()) {
                prop_assert_eq!(double.to_bits(), stored.to_bits());
            }
        }
    }

    #[test]
    fn hostile_bytes_never_panic(row in row(), cut in any::<prop::sample::Index>(), flip in any::<(prop::sample::Index, u8)>()) {
        let batch = batch(&[row]);
        let layout = Layout::new(batch.schema()).unwrap();
        let mut bytes = encode(&layout, &batch, 0);
        let at = flip.0.index(bytes.len());
        bytes[at] ^= flip.1;
        bytes.truncate(cut.index(bytes.len() + 1));
        for c in 0..batch.num_columns() {
            let _ = layout.value(&bytes, c).and_then(|v| v.json());
        }
    }
}
