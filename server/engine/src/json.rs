//! Arrow → JSON by the type table of the contract: what a row looks like to whoever reads it over HTTP.
//!
//! ```text
//! integers exact · floats shortest round trip, "NaN", "Infinity", "-Infinity" · decimals as strings
//! bytes base64 · dates, times ISO · timestamps RFC 3339 with Z (without zone: no Z) · struct object · list array
//! ```
//!
//! `avro::encode_row` reads the same forms, so what is read can be written back.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Date64Type, Decimal128Type, DecimalType, Float32Type,
    Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow::util::display::array_value_to_string;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, SecondsFormat, TimeDelta};
use serde_json::{Map, Number, Value};

use crate::time::Micros;

/// The rows of a batch, one object per row.
pub fn rows(batch: &RecordBatch) -> Vec<Map<String, Value>> {
    (0..batch.num_rows()).map(|row| object(batch, row)).collect()
}

/// One row of a batch as an object.
pub fn object(batch: &RecordBatch, row: usize) -> Map<String, Value> {
    let schema = batch.schema_ref();
    schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(f, c)| (f.name().clone(), value(c.as_ref(), row)))
        .collect()
}

/// One value of an array, nulls and all.
pub fn value(array: &dyn Array, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Boolean => Value::Bool(array.as_boolean().value(row)),
        DataType::Int8 => integer(primitive::<Int8Type>(array, row)),
        DataType::Int16 => integer(primitive::<Int16Type>(array, row)),
        DataType::Int32 => integer(primitive::<Int32Type>(array, row)),
        DataType::Int64 => integer(primitive::<Int64Type>(array, row)),
        DataType::UInt8 => integer(primitive::<UInt8Type>(array, row)),
        DataType::UInt16 => integer(primitive::<UInt16Type>(array, row)),
        DataType::UInt32 => integer(primitive::<UInt32Type>(array, row)),
        DataType::UInt64 => Value::from(primitive::<UInt64Type>(array, row)),
        DataType::Float32 => float32(primitive::<Float32Type>(array, row)),
        DataType::Float64 => float(primitive::<Float64Type>(array, row)),
        DataType::Decimal128(precision, scale) => Value::String(Decimal128Type::format_decimal(
            primitive::<Decimal128Type>(array, row),
            *precision,
            *scale,
        )),
        DataType::Utf8 => Value::from(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Value::from(array.as_string::<i64>().value(row)),
        DataType::Utf8View => Value::from(array.as_string_view().value(row)),
        DataType::Binary => base64(array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => base64(array.as_binary::<i64>().value(row)),
        DataType::BinaryView => base64(array.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => base64(array.as_fixed_size_binary().value(row)),
        DataType::Date32 => date(i64::from(primitive::<Date32Type>(array, row))),
        DataType::Date64 => date(primitive::<Date64Type>(array, row).div_euclid(86_400_000)),
        DataType::Time32(_) | DataType::Time64(_) => time_of(array, row),
        DataType::Timestamp(unit, zone) => {
            let micros = timestamp_micros(array, *unit, row);
            Value::String(if zone.is_some() { timestamp(micros) } else { local_timestamp(micros) })
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let members = fields.iter().zip(columns);
            Value::Object(members.map(|(f, c)| (f.name().clone(), value(c.as_ref(), row))).collect())
        }
        DataType::List(_) => list(&array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => list(&array.as_list::<i64>().value(row)),
        DataType::FixedSizeList(..) => list(&array.as_fixed_size_list().value(row)),
        DataType::Map(..) => map(array, row),
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let key = value(dictionary.keys(), row).as_u64().and_then(|key| usize::try_from(key).ok());
            key.map_or(Value::Null, |key| value(dictionary.values().as_ref(), key))
        }
        // Types that no column of ours has (intervals, unions): as Arrow shows them.
        _ => array_value_to_string(array, row).map_or(Value::Null, Value::String),
    }
}

/// A double in its shortest form that reads back the same; what JSON cannot say is a string.
pub fn float(x: f64) -> Value {
    match Number::from_f64(x) {
        Some(number) => Value::Number(number),
        None if x.is_nan() => Value::from("NaN"),
        None if x > 0.0 => Value::from("Infinity"),
        None => Value::from("-Infinity"),
    }
}

/// A float: the shortest decimal that reads back as the same `f32`, not its 17 digits as an `f64`.
pub fn float32(x: f32) -> Value {
    float(x.to_string().parse::<f64>().unwrap_or_else(|_| f64::from(x)))
}

/// RFC 3339 with `Z`, as many fractional digits (0, 3 or 6) as needed.
pub fn timestamp(micros: i64) -> String {
    Micros(micros).to_string()
}

/// ISO without a zone.
pub fn local_timestamp(micros: i64) -> String {
    match DateTime::from_timestamp_micros(micros) {
        Some(t) => t.to_rfc3339_opts(SecondsFormat::AutoSi, true).trim_end_matches('Z').to_owned(),
        None => micros.to_string(),
    }
}

/// An ISO date from days since the Unix epoch.
pub fn date(days: i64) -> Value {
    let date = TimeDelta::try_days(days).and_then(|d| NaiveDateTime::default().date().checked_add_signed(d));
    date.map_or_else(|| Value::from(days), |d: NaiveDate| Value::String(d.to_string()))
}

/// An ISO time from microseconds since midnight.
pub fn time(micros: i64) -> Value {
    let seconds = u32::try_from(micros.div_euclid(1_000_000)).ok();
    let nanos = u32::try_from(micros.rem_euclid(1_000_000) * 1_000).ok();
    let time = seconds.zip(nanos).and_then(|(s, n)| NaiveTime::from_num_seconds_from_midnight_opt(s, n));
    time.map_or_else(|| Value::from(micros), |t| Value::String(t.to_string()))
}

/// Standard base64 with padding.
pub fn base64(bytes: &[u8]) -> Value {
    Value::String(STANDARD.encode(bytes))
}

fn primitive<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> T::Native {
    array.as_primitive::<T>().value(row)
}

fn integer(x: impl Into<i64>) -> Value {
    Value::from(x.into())
}

/// Nanoseconds are floored, before 1970 too.
fn timestamp_micros(array: &dyn Array, unit: TimeUnit, row: usize) -> i64 {
    match unit {
        TimeUnit::Second => primitive::<TimestampSecondType>(array, row).saturating_mul(1_000_000),
        TimeUnit::Millisecond => primitive::<TimestampMillisecondType>(array, row).saturating_mul(1_000),
        TimeUnit::Microsecond => primitive::<TimestampMicrosecondType>(array, row),
        TimeUnit::Nanosecond => primitive::<TimestampNanosecondType>(array, row).div_euclid(1_000),
    }
}

fn time_of(array: &dyn Array, row: usize) -> Value {
    time(match array.data_type() {
        DataType::Time32(TimeUnit::Second) => {
            i64::from(primitive::<Time32SecondType>(array, row)) * 1_000_000
        }
        DataType::Time32(_) => i64::from(primitive::<Time32MillisecondType>(array, row)) * 1_000,
        DataType::Time64(TimeUnit::Nanosecond) => {
            primitive::<Time64NanosecondType>(array, row).div_euclid(1_000)
        }
        _ => primitive::<Time64MicrosecondType>(array, row),
    })
}

fn list(items: &dyn Array) -> Value {
    Value::Array((0..items.len()).map(|i| value(items, i)).collect())
}

/// Avro's maps have string keys; any other key is written as its JSON text.
fn map(array: &dyn Array, row: usize) -> Value {
    let entries = array.as_map().value(row);
    let (Some(keys), Some(values)) = (entries.columns().first(), entries.columns().get(1)) else {
        return Value::Null;
    };
    let members = (0..entries.len()).map(|i| {
        let key = match value(keys.as_ref(), i) {
            Value::String(key) => key,
            other => other.to_string(),
        };
        (key, value(values.as_ref(), i))
    });
    Value::Object(members.collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array,
        Float64Array, Int32Array, Int64Array, Int64Builder, ListBuilder, MapBuilder, StringArray,
        StringBuilder, StructArray, Time64MicrosecondArray, TimestampMicrosecondArray,
        TimestampNanosecondArray, UInt64Array,
    };
    use arrow::datatypes::{Field, Schema};
    use serde_json::json;

    use super::*;

    fn all(array: &dyn Array) -> Vec<Value> {
        (0..array.len()).map(|i| value(array, i)).collect()
    }

    #[test]
    fn integers_are_exact() {
        let big = Int64Array::from(vec![Some(i64::MAX), Some(i64::MIN), None]);
        assert_eq!(all(&big), [json!(i64::MAX), json!(i64::MIN), Value::Null]);
        assert_eq!(value(&big, 0).to_string(), "9223372036854775807");
        assert_eq!(value(&UInt64Array::from(vec![u64::MAX]), 0).to_string(), "18446744073709551615");
    }

    #[test]
    fn floats_are_the_shortest_that_read_back() {
        let doubles = Float64Array::from(vec![0.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 1e300]);
        let text: Vec<_> = all(&doubles).iter().map(Value::to_string).collect();
        assert_eq!(text, ["0.1", "\"NaN\"", "\"Infinity\"", "\"-Infinity\"", "-0.0", "1e+300"]);
        let floats = Float32Array::from(vec![0.1, f32::NAN, f32::MAX, 1.5e-45]);
        assert_eq!(value(&floats, 0).to_string(), "0.1");
        assert_eq!(value(&floats, 1), json!("NaN"));
        for i in [2, 3] {
            let read: f64 = value(&floats, i).as_f64().unwrap();
            assert_eq!(read as f32, floats.value(i), "narrowing gives the value back");
        }
    }

    #[test]
    fn decimals_are_strings() {
        let decimals = Decimal128Array::from(vec![12_345, -5, 0]).with_precision_and_scale(38, 2).unwrap();
        assert_eq!(all(&decimals), [json!("123.45"), json!("-0.05"), json!("0.00")]);
    }

    #[test]
    fn times_dates_and_timestamps_before_and_after_1970() {
        let zoned = TimestampMicrosecondArray::from(vec![0, 1_500_000, -1, 1_577_836_800_123_456])
            .with_timezone("UTC");
        assert_eq!(
            all(&zoned),
            [
                json!("1970-01-01T00:00:00Z"),
                json!("1970-01-01T00:00:01.500Z"),
                json!("1969-12-31T23:59:59.999999Z"),
                json!("2020-01-01T00:00:00.123456Z")
            ]
        );
        assert_eq!(all(&TimestampMicrosecondArray::from(vec![1])), [json!("1970-01-01T00:00:00.000001")]);
        let nanos = TimestampNanosecondArray::from(vec![-1]).with_timezone("UTC");
        assert_eq!(all(&nanos), [json!("1969-12-31T23:59:59.999999Z")]);
        assert_eq!(
            all(&Date32Array::from(vec![0, -1, 18_262])),
            [json!("1970-01-01"), json!("1969-12-31"), json!("2020-01-01")]
        );
        let times = Time64MicrosecondArray::from(vec![0, 86_399_999_999]);
        assert_eq!(all(&times), [json!("00:00:00"), json!("23:59:59.999999")]);
    }

    #[test]
    fn strings_enums_bytes_and_booleans() {
        let symbols: DictionaryArray<Int32Type> =
            vec![Some("SPADES"), None, Some("HEARTS")].into_iter().collect();
        assert_eq!(all(&symbols), [json!("SPADES"), Value::Null, json!("HEARTS")]);
        assert_eq!(all(&BinaryArray::from(vec![&b"\x00\xff"[..], b""])), [json!("AP8="), json!("")]);
        assert_eq!(all(&BooleanArray::from(vec![Some(true), None])), [json!(true), Value::Null]);
    }

    #[test]
    fn nested_values() {
        let mut lists = ListBuilder::new(Int64Builder::new());
        lists.append_value([Some(1), None]);
        lists.append_value([]);
        assert_eq!(all(&lists.finish()), [json!([1, null]), json!([])]);

        let mut maps = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
        maps.keys().append_value("a");
        maps.values().append_value(7);
        maps.append(true).unwrap();
        maps.append(false).unwrap();
        assert_eq!(all(&maps.finish()), [json!({"a": 7}), Value::Null]);

        let field = Arc::new(Field::new("x", DataType::Int32, true));
        let structs =
            StructArray::from(vec![(field, Arc::new(Int32Array::from(vec![Some(1), None])) as ArrayRef)]);
        assert_eq!(all(&structs), [json!({"x": 1}), json!({"x": null})]);
    }

    #[test]
    fn rows_are_objects() {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Utf8, false),
            Field::new("n", DataType::Int32, true),
        ]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec!["a", "b"])),
            Arc::new(Int32Array::from(vec![Some(1), None])),
        ];
        let batch = RecordBatch::try_new(Arc::new(schema), columns).unwrap();
        let read: Vec<Value> = rows(&batch).into_iter().map(Value::Object).collect();
        assert_eq!(read, [json!({"id": "a", "n": 1}), json!({"id": "b", "n": null})]);
    }
}
