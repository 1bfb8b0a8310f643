//! Values one after the other, each as long as its type says: elements of nested columns.
//!
//! ```text
//! element    presence u8 (0 null, 1 value), then the value
//! value      boolean u8 · numbers, dates, times little-endian · string, bytes: length u32, bytes
//!            array: count u32, elements · struct: an element per field · map: count u32, (key, value) elements
//! ```

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use serde_json::{Map, Value};

use super::Error;
use super::bytes::{Bytes, put_sized};
use super::scalar::Scalar;

/// An array, map or struct in its stored bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nested<'a> {
    pub(super) data_type: &'a DataType,
    pub(super) bytes: &'a [u8],
}

impl Nested<'_> {
    /// As JSON: arrays as arrays, structs and maps as objects.
    pub fn json(&self) -> Result<Value, Error> {
        value(self.data_type, &mut Bytes::plain("online", self.bytes))
    }
}

/// Appends an element: presence and value.
pub(super) fn put_element(array: &dyn Array, row: usize, out: &mut Vec<u8>) {
    if array.is_null(row) {
        out.push(0);
    } else {
        out.push(1);
        put_value(array, row, out);
    }
}

/// Appends a value that is not null. Types that no layout admits write nothing.
pub(super) fn put_value(array: &dyn Array, row: usize, out: &mut Vec<u8>) {
    match array.data_type() {
        DataType::Boolean => out.push(u8::from(array.as_boolean().value(row))),
        DataType::Int32 => out.extend(array.as_primitive::<Int32Type>().value(row).to_le_bytes()),
        DataType::Date32 => out.extend(array.as_primitive::<Date32Type>().value(row).to_le_bytes()),
        DataType::Int64 => out.extend(array.as_primitive::<Int64Type>().value(row).to_le_bytes()),
        DataType::Time64(_) => {
            out.extend(array.as_primitive::<Time64MicrosecondType>().value(row).to_le_bytes());
        }
        DataType::Timestamp(_, _) => {
            out.extend(array.as_primitive::<TimestampMicrosecondType>().value(row).to_le_bytes());
        }
        DataType::Decimal128(_, _) => {
            out.extend(array.as_primitive::<Decimal128Type>().value(row).to_le_bytes());
        }
        DataType::Float32 => out.extend(array.as_primitive::<Float32Type>().value(row).to_le_bytes()),
        DataType::Float64 => out.extend(array.as_primitive::<Float64Type>().value(row).to_le_bytes()),
        DataType::Utf8 => put_sized(out, array.as_string::<i32>().value(row).as_bytes()),
        DataType::Binary => put_sized(out, array.as_binary::<i32>().value(row)),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            out.extend((items.len() as u32).to_le_bytes());
            for i in 0..items.len() {
                put_element(items.as_ref(), i, out);
            }
        }
        DataType::Struct(_) => {
            for column in array.as_struct().columns() {
                put_element(column.as_ref(), row, out);
            }
        }
        DataType::Map(_, _) => {
            let entries = array.as_map().value(row);
            out.extend((entries.len() as u32).to_le_bytes());
            for i in 0..entries.len() {
                for column in entries.columns() {
                    put_element(column.as_ref(), i, out);
                }
            }
        }
        _ => {}
    }
}

/// Reads a value that is not nested and not null.
pub(super) fn scalar<'a>(data_type: &DataType, b: &mut Bytes<'a>) -> Result<Scalar<'a>, Error> {
    Ok(match data_type {
        DataType::Boolean => Scalar::Boolean(b.u8()? != 0),
        DataType::Int32 => Scalar::Int(i32::from_le_bytes(b.array()?).into()),
        DataType::Date32 => Scalar::Date(i32::from_le_bytes(b.array()?)),
        DataType::Int64 => Scalar::Int(b.i64()?),
        DataType::Time64(_) => Scalar::Time(b.i64()?),
        DataType::Timestamp(_, zone) => Scalar::Timestamp { micros: b.i64()?, utc: zone.is_some() },
        DataType::Decimal128(precision, scale) => Scalar::Decimal {
            unscaled: i128::from_le_bytes(b.array()?),
            precision: *precision,
            scale: *scale,
        },
        DataType::Float32 => Scalar::Float(f32::from_le_bytes(b.array()?)),
        DataType::Float64 => Scalar::Double(f64::from_le_bytes(b.array()?)),
        DataType::Utf8 => {
            let bytes = b.sized()?;
            Scalar::Text(std::str::from_utf8(bytes).map_err(|_| b.bad("a string is not UTF-8"))?)
        }
        DataType::Binary => Scalar::Bytes(b.sized()?),
        other => return Err(b.bad(&format!("a row holds a value of type {other}"))),
    })
}

fn element(data_type: &DataType, b: &mut Bytes<'_>) -> Result<Value, Error> {
    match b.u8()? {
        0 => Ok(Value::Null),
        1 => value(data_type, b),
        _ => Err(b.bad("an element is neither null nor a value")),
    }
}

fn value(data_type: &DataType, b: &mut Bytes<'_>) -> Result<Value, Error> {
    match data_type {
        DataType::List(item) => {
            let n = b.u32()?;
            (0..n).map(|_| element(item.data_type(), b)).collect::<Result<Vec<_>, _>>().map(Value::Array)
        }
        DataType::Struct(fields) => fields
            .iter()
            .map(|f| Ok((f.name().clone(), element(f.data_type(), b)?)))
            .collect::<Result<Map<_, _>, _>>()
            .map(Value::Object),
        DataType::Map(entries, _) => {
            let DataType::Struct(fields) = entries.data_type() else {
                return Err(b.bad("a map without entries"));
            };
            let [key, item] = &**fields else { return Err(b.bad("a map without keys and values")) };
            let n = b.u32()?;
            (0..n)
                .map(|_| {
                    let name = match element(key.data_type(), b)? {
                        Value::String(s) => s,
                        other => other.to_string(),
                    };
                    Ok((name, element(item.data_type(), b)?))
                })
                .collect::<Result<Map<_, _>, _>>()
                .map(Value::Object)
        }
        other => scalar(other, b)?.json(),
    }
}
