//! One form for the values of all three implementations.

use std::collections::BTreeMap;

use apache_avro::types::Value as Avro;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    Time32MillisecondType, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType,
};

/// A value without its representation: times in microseconds, floats by their bits.
#[derive(Debug, Clone, PartialEq)]
pub enum Plain {
    Null,
    Bool(bool),
    Number(i128),
    Float(u32),
    Double(u64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Plain>),
    Map(BTreeMap<String, Plain>),
    Record(Vec<Plain>),
}

/// The rows of a batch.
pub fn rows(batch: &RecordBatch) -> Vec<Plain> {
    (0..batch.num_rows())
        .map(|row| Plain::Record(batch.columns().iter().map(|column| plain(column, row)).collect()))
        .collect()
}

fn plain(array: &ArrayRef, row: usize) -> Plain {
    if array.is_null(row) {
        return Plain::Null;
    }
    let number = |value: i64| Plain::Number(i128::from(value));
    match array.data_type() {
        DataType::Boolean => Plain::Bool(array.as_boolean().value(row)),
        DataType::Int32 => number(array.as_primitive::<Int32Type>().value(row).into()),
        DataType::Date32 => number(array.as_primitive::<Date32Type>().value(row).into()),
        DataType::Int64 => number(array.as_primitive::<Int64Type>().value(row)),
        DataType::Float32 => Plain::Float(array.as_primitive::<Float32Type>().value(row).to_bits()),
        DataType::Float64 => Plain::Double(array.as_primitive::<Float64Type>().value(row).to_bits()),
        DataType::Decimal128(..) => Plain::Number(array.as_primitive::<Decimal128Type>().value(row)),
        DataType::Utf8 => Plain::Text(array.as_string::<i32>().value(row).to_owned()),
        DataType::Binary => Plain::Bytes(array.as_binary::<i32>().value(row).to_vec()),
        DataType::FixedSizeBinary(_) => Plain::Bytes(array.as_fixed_size_binary().value(row).to_vec()),
        DataType::Time32(_) => {
            number(i64::from(array.as_primitive::<Time32MillisecondType>().value(row)) * 1000)
        }
        DataType::Time64(_) => number(array.as_primitive::<Time64MicrosecondType>().value(row)),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            number(array.as_primitive::<TimestampMillisecondType>().value(row) * 1000)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            number(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            number(array.as_primitive::<TimestampNanosecondType>().value(row).div_euclid(1000))
        }
        DataType::Dictionary(..) => {
            let dictionary = array.as_dictionary::<Int32Type>();
            plain(dictionary.values(), dictionary.keys().value(row) as usize)
        }
        DataType::Struct(_) => {
            Plain::Record(array.as_struct().columns().iter().map(|column| plain(column, row)).collect())
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            Plain::List((0..items.len()).map(|i| plain(&items, i)).collect())
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let keys = entries.column(0).as_string::<i32>();
            let pairs = (0..entries.len()).map(|i| (keys.value(i).to_owned(), plain(entries.column(1), i)));
            Plain::Map(pairs.collect())
        }
        other => panic!("no plain form of {other}"),
    }
}

impl From<&Avro> for Plain {
    fn from(value: &Avro) -> Self {
        let number = |value: i64| Self::Number(i128::from(value));
        match value {
            Avro::Null => Self::Null,
            Avro::Boolean(value) => Self::Bool(*value),
            Avro::Int(value) | Avro::Date(value) => number(i64::from(*value)),
            Avro::TimeMillis(value) => number(i64::from(*value) * 1000),
            Avro::Long(value)
            | Avro::TimeMicros(value)
            | Avro::TimestampMicros(value)
            | Avro::LocalTimestampMicros(value) => number(*value),
            Avro::TimestampMillis(value) | Avro::LocalTimestampMillis(value) => number(value * 1000),
            Avro::TimestampNanos(value) | Avro::LocalTimestampNanos(value) => number(value.div_euclid(1000)),
            Avro::Float(value) => Self::Float(value.to_bits()),
            Avro::Double(value) => Self::Double(value.to_bits()),
            Avro::Bytes(value) | Avro::Fixed(_, value) => Self::Bytes(value.clone()),
            Avro::String(value) | Avro::Enum(_, value) => Self::Text(value.clone()),
            Avro::Uuid(value) => Self::Text(value.to_string()),
            Avro::Decimal(value) => {
                let bytes = Vec::<u8>::try_from(value).unwrap();
                let negative = bytes.first().is_some_and(|byte| *byte >= 0x80);
                let start = if negative { -1 } else { 0 };
                Self::Number(bytes.iter().fold(start, |value, byte| value << 8 | i128::from(*byte)))
            }
            Avro::Union(_, value) => Self::from(&**value),
            Avro::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            Avro::Map(items) => Self::Map(items.iter().map(|(k, v)| (k.clone(), v.into())).collect()),
            Avro::Record(fields) => Self::Record(fields.iter().map(|(_, value)| value.into()).collect()),
            other => panic!("no plain form of {other:?}"),
        }
    }
}
