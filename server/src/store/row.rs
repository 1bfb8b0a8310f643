//! The row codec: fixed offsets, so that one feature is read without decoding the row.
//!
//! ```text
//! presence   one bit per column, lowest first, set where the column has a value
//! slots      one per column, in order, little-endian:
//!              boolean 1 · int, float, date 4 · long, double, time, timestamp 8 · decimal 16
//!              string, bytes, array, map, struct: offset u32 (from the row's first byte), length u32
//! variable   what the offsets point at; nested values as in [`nested`](super::nested)
//! ```
//!
//! A null leaves its slot zero. The schema stands beside the row as a row-schema id: [`Layout`] is
//! what the id means, and has the offsets worked out.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, RecordBatch, StringArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type, SchemaRef,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};

use super::Error;
use super::bytes::Bytes;
use super::nested;
use super::scalar::Scalar;

const FAMILY: &str = "online";

/// Where each column of a row schema stands.
#[derive(Debug)]
pub struct Layout {
    schema: SchemaRef,
    slots: Vec<usize>,
    fixed: usize,
}

impl Layout {
    /// Works out the offsets; refuses types that a row cannot hold.
    pub fn new(schema: SchemaRef) -> Result<Self, Error> {
        let mut at = schema.fields().len().div_ceil(8);
        let mut slots = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let width = width(field.data_type()).ok_or_else(|| Error::Type {
                column: field.name().clone(),
                data_type: field.data_type().clone(),
            })?;
            slots.push(at);
            at += width;
        }
        Ok(Self { schema, slots, fixed: at })
    }

    /// The columns: the features with the primary key, as defined.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The value of one column of a row.
    pub fn value<'a>(&'a self, row: &'a [u8], column: usize) -> Result<Scalar<'a>, Error> {
        let (Some(field), Some(slot)) = (self.schema.fields().get(column), self.slots.get(column)) else {
            return Err(Error::corrupt(FAMILY, format!("a row has no column {column}")));
        };
        let bits = row.get(column / 8).ok_or_else(|| Error::corrupt(FAMILY, "a row ends early"))?;
        if bits & (1 << (column % 8)) == 0 {
            return Ok(Scalar::Null);
        }
        let mut b = Bytes::plain(FAMILY, row.get(*slot..).unwrap_or_default());
        if !is_variable(field.data_type()) {
            return nested::scalar(field.data_type(), &mut b);
        }
        let (at, length) = (b.u32()? as usize, b.u32()? as usize);
        let bytes =
            row.get(at..).and_then(|tail| tail.get(..length)).ok_or_else(|| b.bad("a row ends early"))?;
        Ok(match field.data_type() {
            DataType::Utf8 => Scalar::Text(
                std::str::from_utf8(bytes).map_err(|_| Error::corrupt(FAMILY, "a string is not UTF-8"))?,
            ),
            DataType::Binary => Scalar::Bytes(bytes),
            data_type => Scalar::Nested(nested::Nested { data_type, bytes }),
        })
    }
}

/// The types of the contract, as they are at rest.
fn width(data_type: &DataType) -> Option<usize> {
    Some(match data_type {
        DataType::Boolean => 1,
        DataType::Int32 | DataType::Float32 | DataType::Date32 => 4,
        DataType::Int64
        | DataType::Float64
        | DataType::Time64(TimeUnit::Microsecond)
        | DataType::Timestamp(TimeUnit::Microsecond, _)
        | DataType::Utf8
        | DataType::Binary => 8,
        DataType::Decimal128(_, _) => 16,
        DataType::List(item) => width(item.data_type()).map(|_| 8)?,
        DataType::Map(entries, _) => width(entries.data_type()).map(|_| 8)?,
        DataType::Struct(fields) => fields.iter().try_fold(8, |w, f| width(f.data_type()).map(|_| w))?,
        _ => return None,
    })
}

fn is_variable(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8 | DataType::Binary | DataType::List(_) | DataType::Map(_, _) | DataType::Struct(_)
    )
}

/// Writes rows of one batch.
pub(super) struct Encoder<'a> {
    layout: &'a Layout,
    columns: Vec<Column<'a>>,
}

struct Column<'a> {
    array: &'a ArrayRef,
    slot: usize,
    values: Values<'a>,
}

enum Values<'a> {
    Boolean(&'a BooleanArray),
    I32(&'a [i32]),
    I64(&'a [i64]),
    I128(&'a [i128]),
    F32(&'a [f32]),
    F64(&'a [f64]),
    Utf8(&'a StringArray),
    Binary(&'a BinaryArray),
    Nested,
}

impl<'a> Encoder<'a> {
    /// An encoder for a batch whose columns have the layout's types.
    pub fn new(layout: &'a Layout, batch: &'a RecordBatch) -> Result<Self, Error> {
        let fields = layout.schema.fields();
        let given = batch.columns().iter().map(arrow::array::Array::data_type);
        if batch.num_columns() != fields.len() || !given.eq(fields.iter().map(|f| f.data_type())) {
            return Err(Error::Rows(format!("{} is not {}", batch.schema_ref(), layout.schema)));
        }
        let columns = batch
            .columns()
            .iter()
            .zip(&layout.slots)
            .map(|(array, slot)| Column { array, slot: *slot, values: values(array) })
            .collect();
        Ok(Self { layout, columns })
    }

    /// Appends one row to `out`.
    pub fn append(&self, row: usize, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + self.layout.fixed, 0);
        for (i, column) in self.columns.iter().enumerate() {
            if column.array.is_null(row) {
                continue;
            }
            if let Some(bits) = out.get_mut(start + i / 8) {
                *bits |= 1 << (i % 8);
            }
            let at = start + column.slot;
            match &column.values {
                Values::Boolean(a) => put(out, at, &[u8::from(a.value(row))]),
                Values::I32(v) => put(out, at, &v.get(row).copied().unwrap_or_default().to_le_bytes()),
                Values::I64(v) => put(out, at, &v.get(row).copied().unwrap_or_default().to_le_bytes()),
                Values::I128(v) => put(out, at, &v.get(row).copied().unwrap_or_default().to_le_bytes()),
                Values::F32(v) => put(out, at, &v.get(row).copied().unwrap_or_default().to_le_bytes()),
                Values::F64(v) => put(out, at, &v.get(row).copied().unwrap_or_default().to_le_bytes()),
                Values::Utf8(a) => variable(out, start, at, |o| o.extend_from_slice(a.value(row).as_bytes())),
                Values::Binary(a) => variable(out, start, at, |o| o.extend_from_slice(a.value(row))),
                Values::Nested => {
                    variable(out, start, at, |o| nested::put_value(column.array.as_ref(), row, o));
                }
            }
        }
    }
}

fn values(array: &ArrayRef) -> Values<'_> {
    match array.data_type() {
        DataType::Boolean => Values::Boolean(array.as_boolean()),
        DataType::Int32 => Values::I32(array.as_primitive::<Int32Type>().values()),
        DataType::Date32 => Values::I32(array.as_primitive::<Date32Type>().values()),
        DataType::Int64 => Values::I64(array.as_primitive::<Int64Type>().values()),
        DataType::Time64(_) => Values::I64(array.as_primitive::<Time64MicrosecondType>().values()),
        DataType::Timestamp(_, _) => Values::I64(array.as_primitive::<TimestampMicrosecondType>().values()),
        DataType::Decimal128(_, _) => Values::I128(array.as_primitive::<Decimal128Type>().values()),
        DataType::Float32 => Values::F32(array.as_primitive::<Float32Type>().values()),
        DataType::Float64 => Values::F64(array.as_primitive::<Float64Type>().values()),
        DataType::Utf8 => Values::Utf8(array.as_string()),
        DataType::Binary => Values::Binary(array.as_binary()),
        _ => Values::Nested,
    }
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(slot) = out.get_mut(at..at + bytes.len()) {
        slot.copy_from_slice(bytes);
    }
}

fn variable(out: &mut Vec<u8>, start: usize, slot: usize, write: impl FnOnce(&mut Vec<u8>)) {
    let from = out.len();
    write(out);
    let length = (out.len() - from) as u32;
    put(out, slot, &((from - start) as u32).to_le_bytes());
    put(out, slot + 4, &length.to_le_bytes());
}

#[cfg(test)]
mod tests;
