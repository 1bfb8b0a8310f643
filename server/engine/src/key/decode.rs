//! Encoded keys back into columns.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, PrimitiveBuilder, StringBuilder, new_null_array,
};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    Schema, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};

use super::{Error, NULL, VALUE};

/// The columns of `schema` (those of the key, in key order) with one row for each encoded key.
pub fn decode<'k>(keys: impl IntoIterator<Item = &'k [u8]>, schema: &Schema) -> Result<Vec<ArrayRef>, Error> {
    let mut columns = schema
        .fields()
        .iter()
        .map(|f| {
            Column::new(f.data_type()).ok_or_else(|| Error::Unsupported {
                column: f.name().clone(),
                data_type: f.data_type().clone(),
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    for key in keys {
        let mut rest = key;
        for column in &mut columns {
            column.read(&mut rest)?;
        }
        if !rest.is_empty() {
            return Err(Error::Corrupt("bytes after the last column"));
        }
    }
    columns.into_iter().zip(schema.fields()).map(|(c, f)| c.finish(f.data_type())).collect()
}

enum Column {
    Null(usize),
    Boolean(BooleanBuilder),
    Int32(PrimitiveBuilder<Int32Type>),
    Int64(PrimitiveBuilder<Int64Type>),
    Decimal(PrimitiveBuilder<Decimal128Type>),
    Float32(PrimitiveBuilder<Float32Type>),
    Float64(PrimitiveBuilder<Float64Type>),
    Utf8(StringBuilder),
    Binary(BinaryBuilder),
}

impl Column {
    fn new(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Null => Self::Null(0),
            DataType::Boolean => Self::Boolean(BooleanBuilder::new()),
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Date32 => {
                Self::Int32(PrimitiveBuilder::new())
            }
            DataType::Int64 | DataType::Time64(TimeUnit::Microsecond) | DataType::Timestamp(_, _) => {
                Self::Int64(PrimitiveBuilder::new())
            }
            DataType::Decimal128(_, _) => Self::Decimal(PrimitiveBuilder::new()),
            DataType::Float32 => Self::Float32(PrimitiveBuilder::new()),
            DataType::Float64 => Self::Float64(PrimitiveBuilder::new()),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Utf8(StringBuilder::new()),
            DataType::Dictionary(k, v) if **k == DataType::Int32 && **v == DataType::Utf8 => {
                Self::Utf8(StringBuilder::new())
            }
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => Self::Binary(BinaryBuilder::new()),
            _ => return None,
        })
    }

    fn read(&mut self, rest: &mut &[u8]) -> Result<(), Error> {
        let present = match take::<1>(rest)? {
            [NULL] => false,
            [VALUE] => true,
            _ => return Err(Error::Corrupt("neither a null nor a value")),
        };
        match self {
            Self::Null(n) if !present => *n += 1,
            Self::Null(_) => return Err(Error::Corrupt("a value in a column of nulls")),
            Self::Boolean(b) => b.append_option(match present.then(|| take::<1>(rest)).transpose()? {
                None => None,
                Some([0]) => Some(false),
                Some([1]) => Some(true),
                Some(_) => return Err(Error::Corrupt("neither true nor false")),
            }),
            Self::Int32(b) => fixed(b, present, rest, |v| i32::from_be_bytes(v) ^ i32::MIN)?,
            Self::Int64(b) => fixed(b, present, rest, |v| i64::from_be_bytes(v) ^ i64::MIN)?,
            Self::Decimal(b) => fixed(b, present, rest, |v| i128::from_be_bytes(v) ^ i128::MIN)?,
            Self::Float32(b) => fixed(b, present, rest, |v| {
                let bits = u32::from_be_bytes(v);
                f32::from_bits(if bits >> 31 == 1 { bits & !(1 << 31) } else { !bits })
            })?,
            Self::Float64(b) => fixed(b, present, rest, |v| {
                let bits = u64::from_be_bytes(v);
                f64::from_bits(if bits >> 63 == 1 { bits & !(1 << 63) } else { !bits })
            })?,
            Self::Utf8(b) if present => {
                let bytes = take_bytes(rest)?;
                b.append_value(
                    std::str::from_utf8(&bytes).map_err(|_| Error::Corrupt("a string is not UTF-8"))?,
                );
            }
            Self::Utf8(b) => b.append_null(),
            Self::Binary(b) if present => b.append_value(take_bytes(rest)?),
            Self::Binary(b) => b.append_null(),
        }
        Ok(())
    }

    fn finish(self, data_type: &DataType) -> Result<ArrayRef, Error> {
        let array: ArrayRef = match self {
            Self::Null(n) => new_null_array(&DataType::Null, n),
            Self::Boolean(mut b) => Arc::new(b.finish()),
            Self::Int32(mut b) if *data_type == DataType::Date32 => {
                Arc::new(b.finish().reinterpret_cast::<Date32Type>())
            }
            Self::Int32(mut b) => Arc::new(b.finish()),
            Self::Int64(mut b) => instants(&b.finish(), data_type),
            Self::Decimal(mut b) => Arc::new(b.finish().with_data_type(data_type.clone())),
            Self::Float32(mut b) => Arc::new(b.finish()),
            Self::Float64(mut b) => Arc::new(b.finish()),
            Self::Utf8(mut b) => Arc::new(b.finish()),
            Self::Binary(mut b) => Arc::new(b.finish()),
        };
        if array.data_type() == data_type {
            return Ok(array);
        }
        arrow::compute::cast(&array, data_type).map_err(|_| Error::Corrupt("a value does not fit its column"))
    }
}

fn instants(a: &arrow::array::Int64Array, data_type: &DataType) -> ArrayRef {
    match data_type {
        DataType::Time64(_) => Arc::new(a.reinterpret_cast::<Time64MicrosecondType>()),
        DataType::Timestamp(unit, zone) => {
            let zone = zone.clone();
            match unit {
                TimeUnit::Second => {
                    Arc::new(a.reinterpret_cast::<TimestampSecondType>().with_timezone_opt(zone))
                }
                TimeUnit::Millisecond => {
                    Arc::new(a.reinterpret_cast::<TimestampMillisecondType>().with_timezone_opt(zone))
                }
                TimeUnit::Microsecond => {
                    Arc::new(a.reinterpret_cast::<TimestampMicrosecondType>().with_timezone_opt(zone))
                }
                TimeUnit::Nanosecond => {
                    Arc::new(a.reinterpret_cast::<TimestampNanosecondType>().with_timezone_opt(zone))
                }
            }
        }
        _ => Arc::new(a.clone()),
    }
}

fn fixed<T: ArrowPrimitiveType, const N: usize>(
    builder: &mut PrimitiveBuilder<T>,
    present: bool,
    rest: &mut &[u8],
    value: impl Fn([u8; N]) -> T::Native,
) -> Result<(), Error> {
    builder.append_option(present.then(|| take::<N>(rest)).transpose()?.map(value));
    Ok(())
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Error> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(Error::Corrupt("it ends within a value"))?;
    *rest = tail;
    Ok(*head)
}

fn take_bytes(rest: &mut &[u8]) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    loop {
        let zero = rest.iter().position(|b| *b == 0).ok_or(Error::Corrupt("a string without an end"))?;
        let (part, tail) = rest.split_at(zero);
        out.extend_from_slice(part);
        *rest = tail;
        match take::<2>(rest)? {
            super::END => return Ok(out),
            super::ESCAPED_ZERO => out.push(0),
            _ => return Err(Error::Corrupt("a bad escape in a string")),
        }
    }
}
