//! Against apache-avro: what it reads of a body under the derived record is what the row holds.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int32Array, Int64Array, Int64Builder, ListArray, MapBuilder, RecordBatch, StringArray, StringBuilder,
    StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Fields, Int64Type, Schema};
use proptest::prelude::*;

use super::super::{Bodies, avro_record};
use super::value::{self, Plain};

/// A nested record as the test made it.
type Inner = Option<String>;

/// A row as the test made it.
#[derive(Debug, Clone)]
struct Row {
    key: String,
    flag: Option<bool>,
    int: Option<i32>,
    long: Option<i64>,
    float: Option<f32>,
    double: Option<f64>,
    decimal: Option<i64>,
    bytes: Option<Vec<u8>>,
    date: Option<i32>,
    at: Option<i64>,
    list: Option<Vec<Option<i64>>>,
    map: Option<Vec<(String, Option<i64>)>>,
    /// A record with one text, both of which may be null.
    inner: Option<Inner>,
}

fn row() -> impl Strategy<Value = Row> {
    let opt = |s: BoxedStrategy<i64>| prop::option::of(s);
    (
        (any::<String>(), any::<Option<bool>>(), any::<Option<i32>>(), any::<Option<i64>>()),
        (any::<Option<f32>>(), any::<Option<f64>>(), any::<Option<i64>>(), any::<Option<Vec<u8>>>()),
        (any::<Option<i32>>(), opt(any::<i64>().boxed())),
        prop::option::of(prop::collection::vec(any::<Option<i64>>(), 0..4)),
        prop::option::of(prop::collection::btree_map("[a-c]", any::<Option<i64>>(), 0..3)),
        prop::option::of(any::<Inner>()),
    )
        .prop_map(
            |((key, flag, int, long), (float, double, decimal, bytes), (date, at), list, map, inner)| Row {
                key,
                flag,
                int,
                long,
                float,
                double,
                decimal,
                bytes,
                date,
                at,
                list,
                map: map.map(|m| m.into_iter().collect()),
                inner,
            },
        )
}

fn batch(rows: &[Row]) -> RecordBatch {
    fn all<'r, T>(rows: &'r [Row], get: impl Fn(&'r Row) -> T + 'r) -> impl Iterator<Item = T> + 'r {
        rows.iter().map(get)
    }
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    for row in rows {
        for (key, value) in row.map.iter().flatten() {
            map.keys().append_value(key);
            map.values().append_option(*value);
        }
        map.append(row.map.is_some()).unwrap();
    }
    let inner: ArrayRef = Arc::new(all(rows, |r| r.inner.clone().flatten()).collect::<StringArray>());
    let fields = Fields::from(vec![Field::new("text", DataType::Utf8, true)]);
    let present = all(rows, |r| r.inner.is_some()).collect::<Vec<_>>();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("key", Arc::new(all(rows, |r| Some(r.key.as_str())).collect::<StringArray>())),
        ("flag", Arc::new(all(rows, |r| r.flag).collect::<BooleanArray>())),
        ("int", Arc::new(all(rows, |r| r.int).collect::<Int32Array>())),
        ("long", Arc::new(all(rows, |r| r.long).collect::<Int64Array>())),
        ("float", Arc::new(all(rows, |r| r.float).collect::<Float32Array>())),
        ("double", Arc::new(all(rows, |r| r.double).collect::<Float64Array>())),
        (
            "decimal",
            Arc::new(
                all(rows, |r| r.decimal.map(i128::from))
                    .collect::<Decimal128Array>()
                    .with_precision_and_scale(38, 2)
                    .unwrap(),
            ),
        ),
        ("bytes", Arc::new(all(rows, |r| r.bytes.as_deref()).collect::<BinaryArray>())),
        ("date", Arc::new(all(rows, |r| r.date).collect::<Date32Array>())),
        ("at", Arc::new(all(rows, |r| r.at).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))),
        ("list", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(all(rows, |r| r.list.clone())))),
        ("map", Arc::new(map.finish())),
        ("inner", Arc::new(StructArray::new(fields, vec![inner], Some(present.into())))),
    ];
    let schema = columns
        .iter()
        .map(|(name, array)| Field::new(*name, array.data_type().clone(), *name != "key"))
        .collect::<Vec<_>>();
    RecordBatch::try_new(Arc::new(Schema::new(schema)), columns.into_iter().map(|(_, a)| a).collect())
        .unwrap()
}

proptest! {
    #[test]
    fn apache_avro_reads_what_was_written(rows in prop::collection::vec(row(), 1..6)) {
        let batch = batch(&rows);
        let schema = avro_record("r", &batch.schema()).unwrap().to_string();
        let schema = apache_avro::Schema::parse_str(&schema).unwrap();
        let bodies = Bodies::of(&batch).unwrap();
        for (i, plain) in value::rows(&batch).iter().enumerate() {
            let mut body = Vec::new();
            bodies.append(i, &mut body);
            let mut rest = body.as_slice();
            let read = apache_avro::reader::datum::GenericDatumReader::builder(&schema).build().unwrap();
            let read = read.read_value(&mut rest).unwrap();
            prop_assert!(rest.is_empty());
            prop_assert_eq!(&Plain::from(&read), plain);
        }
    }
}

#[test]
fn golden_bytes() {
    let rows = [Row {
        key: "a".into(),
        flag: None,
        int: Some(-1),
        long: Some(64),
        float: None,
        double: Some(0.05),
        decimal: Some(-129),
        bytes: Some(vec![7]),
        date: None,
        at: Some(1),
        list: Some(vec![Some(1), None]),
        map: None,
        inner: Some(None),
    }];
    let batch = batch(&rows);
    let mut body = Vec::new();
    Bodies::of(&batch).unwrap().append(0, &mut body);
    let hex: String = body.iter().map(|b| format!("{b:02x}")).collect();
    // Each part by hand, from the specification: "Binary encoding".
    assert_eq!(hex, "026100020102800100029a9999999999a93f0204ff7f020207000202020402020000000200");
}
