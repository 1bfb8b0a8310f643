//! One value of a row, as it lies in the store.

use arrow::array::Time64MicrosecondArray;
use arrow::datatypes::{Decimal128Type, DecimalType};
use millpond_engine::json;
use serde_json::Value;

use super::Error;
use super::nested::Nested;

/// A value of one of the contract's types.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub enum Scalar<'a> {
    Null,
    Boolean(bool),
    /// int and long.
    Int(i64),
    Float(f32),
    Double(f64),
    Decimal {
        unscaled: i128,
        precision: u8,
        scale: i8,
    },
    Text(&'a str),
    Bytes(&'a [u8]),
    /// Days since the Unix epoch.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds since the Unix epoch, UTC or without a zone.
    Timestamp {
        micros: i64,
        utc: bool,
    },
    Nested(Nested<'a>),
}

impl Scalar<'_> {
    /// True for the null of every type.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// As JSON, by the type table of the contract: the same text as [`json::value`] of the Arrow value.
    pub fn json(&self) -> Result<Value, Error> {
        Ok(match *self {
            Self::Null => Value::Null,
            Self::Boolean(v) => Value::Bool(v),
            Self::Int(v) => Value::from(v),
            Self::Float(v) => json::float32(v),
            Self::Double(v) => json::float(v),
            Self::Decimal { unscaled, precision, scale } => {
                Value::String(Decimal128Type::format_decimal(unscaled, precision, scale))
            }
            Self::Text(s) => Value::from(s),
            Self::Bytes(b) => json::base64(b),
            Self::Date(days) => json::date(days.into()),
            Self::Time(micros) => json::value(&Time64MicrosecondArray::from(vec![micros]), 0),
            Self::Timestamp { micros, utc: true } => Value::String(json::timestamp(micros)),
            Self::Timestamp { micros, utc: false } => Value::String(json::local_timestamp(micros)),
            Self::Nested(nested) => nested.json()?,
        })
    }
}
