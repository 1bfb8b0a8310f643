//! The order-preserving codec of primary keys: comparing encoded keys as bytes compares the keys.
//!
//! A key is its columns, one after the other:
//!
//! ```text
//! null                       00
//! any value                  01, then
//!   boolean                  00 | 01
//!   int, long, date, time-*, timestamp-*
//!                            big-endian, sign bit flipped (int and date 4 bytes, else 8)
//!   decimal                  16 bytes big-endian, sign bit flipped (the unscaled value)
//!   float, double            IEEE bits big-endian: sign flipped if positive, all bits if negative;
//!                            −0.0 is 0.0, every NaN is one NaN, after +∞
//!   string, bytes            the bytes, 00 written as 00 FF, then 00 00
//! ```
//!
//! Nulls come first. Floats are encoded so that the codec is total, and refused as primary keys
//! ([`check`]), because equality of computed floats is an accident. These bytes are in the stores of
//! every release: they never change.

mod decode;
mod json;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Schema, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};

pub use decode::decode;
pub use json::{from_alone, from_json, from_text};

const NULL: u8 = 0;
const VALUE: u8 = 1;
const ESCAPED_ZERO: [u8; 2] = [0, 0xFF];
const END: [u8; 2] = [0, 0];

/// Keys are divided into this many groups; a key's group never depends on the number of workers.
pub const KEY_GROUPS: u64 = 64;

/// Why something is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The type cannot be part of a primary key.
    #[error("column '{column}' of type {data_type} cannot be part of a primary key")]
    Unsupported {
        /// The column.
        column: String,
        /// Its Arrow type.
        data_type: DataType,
    },
    /// A primary key is never null.
    #[error("'{column}' is part of the primary key and cannot be null")]
    Null {
        /// The column.
        column: String,
    },
    /// A value that is not of its column's type.
    #[error("'{column}' wants {wanted}, not {found}")]
    Mismatch {
        /// The column.
        column: String,
        /// What would be right.
        wanted: String,
        /// What was given.
        found: String,
    },
    /// Another number of values than the key has columns.
    #[error("the primary key has {wanted} columns, {found} values were given")]
    Count {
        /// Columns of the key.
        wanted: usize,
        /// Values given.
        found: usize,
    },
    /// Bytes that this codec did not write.
    #[error("not an encoded key: {0}")]
    Corrupt(&'static str),
}

/// The key group of an encoded key: `xxh3_64(key, seed 0) mod 64`.
pub fn key_group(key: &[u8]) -> u8 {
    (xxhash_rust::xxh3::xxh3_64(key) % KEY_GROUPS) as u8
}

/// Checks that every column of `schema` can be part of a primary key (a float cannot).
pub fn check(schema: &Schema) -> Result<(), Error> {
    for field in schema.fields() {
        let refuse =
            || Error::Unsupported { column: field.name().clone(), data_type: field.data_type().clone() };
        if field.data_type().is_floating() {
            return Err(refuse());
        }
        Column::of(&arrow::array::new_empty_array(field.data_type())).map_err(|_| refuse())?;
    }
    Ok(())
}

/// The key of one row. For many rows of the same columns take [`Encoder`] or [`encode_all`].
pub fn encode(columns: &[ArrayRef], row: usize) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(16 * columns.len());
    Encoder::new(columns)?.append(row, &mut out);
    Ok(out)
}

/// The keys of all rows.
pub fn encode_all(columns: &[ArrayRef]) -> Result<Vec<Vec<u8>>, Error> {
    let encoder = Encoder::new(columns)?;
    let rows = columns.first().map_or(0, Array::len);
    Ok((0..rows)
        .map(|row| {
            let mut key = Vec::with_capacity(16);
            encoder.append(row, &mut key);
            key
        })
        .collect())
}

/// The key group of each of `rows` rows. Without columns all rows have the one key that is empty.
pub fn key_groups(columns: &[ArrayRef], rows: usize) -> Result<Vec<u8>, Error> {
    let encoder = Encoder::new(columns)?;
    let mut key = Vec::with_capacity(16 * columns.len());
    let group = |row| {
        key.clear();
        encoder.append(row, &mut key);
        key_group(&key)
    };
    Ok((0..rows).map(group).collect())
}

/// Encodes rows of columns whose types are looked at once.
#[derive(Debug)]
pub struct Encoder<'a> {
    columns: Vec<Column<'a>>,
}

impl<'a> Encoder<'a> {
    /// An encoder over the key's columns, in key order.
    pub fn new(columns: &'a [ArrayRef]) -> Result<Self, Error> {
        Ok(Self { columns: columns.iter().map(Column::of).collect::<Result<_, _>>()? })
    }

    /// Appends the key of `row` to `out`.
    pub fn append(&self, row: usize, out: &mut Vec<u8>) {
        for column in &self.columns {
            column.append(row, out);
        }
    }
}

/// One column of the key with its type resolved.
#[derive(Debug)]
struct Column<'a> {
    array: &'a dyn Array,
    values: Values<'a>,
}

#[derive(Debug)]
enum Values<'a> {
    Null,
    Boolean(&'a arrow::array::BooleanArray),
    Int8(&'a [i8]),
    Int16(&'a [i16]),
    Int32(&'a [i32]),
    Int64(&'a [i64]),
    Decimal(&'a [i128]),
    Float32(&'a [f32]),
    Float64(&'a [f64]),
    Utf8(&'a arrow::array::StringArray),
    LargeUtf8(&'a arrow::array::LargeStringArray),
    Utf8View(&'a arrow::array::StringViewArray),
    Binary(&'a arrow::array::BinaryArray),
    LargeBinary(&'a arrow::array::LargeBinaryArray),
    BinaryView(&'a arrow::array::BinaryViewArray),
    FixedBinary(&'a arrow::array::FixedSizeBinaryArray),
    Enum(&'a [i32], &'a arrow::array::StringArray),
}

impl<'a> Column<'a> {
    fn of(array: &'a ArrayRef) -> Result<Self, Error> {
        let refuse = || Error::Unsupported { column: String::new(), data_type: array.data_type().clone() };
        let values = match array.data_type() {
            DataType::Null => Values::Null,
            DataType::Boolean => Values::Boolean(array.as_boolean()),
            DataType::Int8 => Values::Int8(array.as_primitive::<Int8Type>().values()),
            DataType::Int16 => Values::Int16(array.as_primitive::<Int16Type>().values()),
            DataType::Int32 => Values::Int32(array.as_primitive::<Int32Type>().values()),
            DataType::Date32 => Values::Int32(array.as_primitive::<Date32Type>().values()),
            DataType::Int64 => Values::Int64(array.as_primitive::<Int64Type>().values()),
            DataType::Time64(TimeUnit::Microsecond) => {
                Values::Int64(array.as_primitive::<Time64MicrosecondType>().values())
            }
            DataType::Timestamp(unit, _) => Values::Int64(match unit {
                TimeUnit::Second => array.as_primitive::<TimestampSecondType>().values(),
                TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().values(),
                TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().values(),
                TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().values(),
            }),
            DataType::Decimal128(_, _) => Values::Decimal(array.as_primitive::<Decimal128Type>().values()),
            DataType::Float32 => Values::Float32(array.as_primitive::<Float32Type>().values()),
            DataType::Float64 => Values::Float64(array.as_primitive::<Float64Type>().values()),
            DataType::Utf8 => Values::Utf8(array.as_string()),
            DataType::LargeUtf8 => Values::LargeUtf8(array.as_string()),
            DataType::Utf8View => Values::Utf8View(array.as_string_view()),
            DataType::Binary => Values::Binary(array.as_binary()),
            DataType::LargeBinary => Values::LargeBinary(array.as_binary()),
            DataType::BinaryView => Values::BinaryView(array.as_binary_view()),
            DataType::FixedSizeBinary(_) => Values::FixedBinary(array.as_fixed_size_binary()),
            DataType::Dictionary(key, value) if **key == DataType::Int32 && **value == DataType::Utf8 => {
                let dictionary = array.as_dictionary::<Int32Type>();
                Values::Enum(
                    dictionary.keys().values(),
                    dictionary.values().as_string_opt().ok_or_else(refuse)?,
                )
            }
            _ => return Err(refuse()),
        };
        Ok(Self { array: array.as_ref(), values })
    }

    fn append(&self, row: usize, out: &mut Vec<u8>) {
        if self.array.is_null(row) || matches!(self.values, Values::Null) {
            out.push(NULL);
            return;
        }
        out.push(VALUE);
        // A row out of range would already have panicked in `is_null`: `get` here only spares the index.
        match &self.values {
            Values::Null => {}
            Values::Boolean(a) => out.push(u8::from(a.value(row))),
            Values::Int8(v) => put_i32(at(v, row).into(), out),
            Values::Int16(v) => put_i32(at(v, row).into(), out),
            Values::Int32(v) => put_i32(at(v, row), out),
            Values::Int64(v) => put_i64(at(v, row), out),
            Values::Decimal(v) => put_i128(at(v, row), out),
            Values::Float32(v) => put_f32(at(v, row), out),
            Values::Float64(v) => put_f64(at(v, row), out),
            Values::Utf8(a) => put_bytes(a.value(row).as_bytes(), out),
            Values::LargeUtf8(a) => put_bytes(a.value(row).as_bytes(), out),
            Values::Utf8View(a) => put_bytes(a.value(row).as_bytes(), out),
            Values::Binary(a) => put_bytes(a.value(row), out),
            Values::LargeBinary(a) => put_bytes(a.value(row), out),
            Values::BinaryView(a) => put_bytes(a.value(row), out),
            Values::FixedBinary(a) => put_bytes(a.value(row), out),
            Values::Enum(keys, symbols) => {
                put_bytes(symbols.value(at(keys, row) as usize).as_bytes(), out);
            }
        }
    }
}

fn at<T: Copy + Default>(values: &[T], row: usize) -> T {
    values.get(row).copied().unwrap_or_default()
}

fn put_i32(v: i32, out: &mut Vec<u8>) {
    out.extend_from_slice(&(v ^ i32::MIN).to_be_bytes());
}

fn put_i64(v: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&(v ^ i64::MIN).to_be_bytes());
}

fn put_i128(v: i128, out: &mut Vec<u8>) {
    out.extend_from_slice(&(v ^ i128::MIN).to_be_bytes());
}

fn put_f32(v: f32, out: &mut Vec<u8>) {
    let bits = if v.is_nan() { f32::NAN.to_bits() & !(1 << 31) } else { (v + 0.0).to_bits() };
    let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    out.extend_from_slice(&ordered.to_be_bytes());
}

fn put_f64(v: f64, out: &mut Vec<u8>) {
    let bits = if v.is_nan() { f64::NAN.to_bits() & !(1 << 63) } else { (v + 0.0).to_bits() };
    let ordered = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    out.extend_from_slice(&ordered.to_be_bytes());
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    let mut parts = bytes.split(|b| *b == 0);
    out.extend_from_slice(parts.next().unwrap_or_default());
    for part in parts {
        out.extend_from_slice(&ESCAPED_ZERO);
        out.extend_from_slice(part);
    }
    out.extend_from_slice(&END);
}

#[cfg(test)]
mod tests;
