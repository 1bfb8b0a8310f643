//! Values → Arrow columns.

use arrow::array::{ArrayData, ArrayRef, BooleanBufferBuilder, make_array};
use arrow::buffer::Buffer;
use arrow::datatypes::DataType;

use super::{Column, Error, NULL, VALUE, VERSION, stored, width};

/// Decodes values into the state columns, one row for each value. Hostile bytes give an error,
/// never a panic and never an allocation beyond their own size.
pub fn decode<'v>(
    columns: &[Column],
    values: impl IntoIterator<Item = &'v [u8]>,
) -> Result<Vec<ArrayRef>, Error> {
    let mut builders = columns.iter().map(|c| Builder::new(&c.data_type)).collect::<Result<Vec<_>, _>>()?;
    for value in values {
        let mut rest = value;
        match take::<1>(&mut rest)? {
            [VERSION] => {}
            [other] => return Err(Error::Version(other)),
        }
        for builder in &mut builders {
            builder.read(&mut rest)?;
        }
        if !rest.is_empty() {
            return Err(Error::Trailing(rest.len()));
        }
    }
    builders
        .into_iter()
        .zip(columns)
        .map(|(builder, column)| {
            let array = make_array(builder.finish()?);
            Ok(if *array.data_type() == column.data_type {
                array
            } else {
                arrow::compute::cast(&array, &column.data_type)?
            })
        })
        .collect()
}

struct Builder {
    data_type: DataType,
    valid: BooleanBufferBuilder,
    values: Values,
}

enum Values {
    Null,
    Boolean(BooleanBufferBuilder),
    Fixed { width: usize, bytes: Vec<u8> },
    Bytes { offsets: Vec<i32>, bytes: Vec<u8> },
    List { offsets: Vec<i32>, child: Box<Builder> },
    FixedList { size: usize, child: Box<Builder> },
    Struct(Vec<Builder>),
}

impl Builder {
    fn new(data_type: &DataType) -> Result<Self, Error> {
        let data_type = stored(data_type).ok_or_else(|| Error::Unsupported(data_type.clone()))?;
        let values = match &data_type {
            DataType::Null => Values::Null,
            DataType::Boolean => Values::Boolean(BooleanBufferBuilder::new(0)),
            DataType::Utf8 | DataType::Binary => Values::Bytes { offsets: vec![0], bytes: Vec::new() },
            DataType::List(f) | DataType::Map(f, _) => {
                Values::List { offsets: vec![0], child: Box::new(Self::new(f.data_type())?) }
            }
            DataType::FixedSizeList(f, n) => Values::FixedList {
                size: usize::try_from(*n).unwrap_or(0),
                child: Box::new(Self::new(f.data_type())?),
            },
            DataType::Struct(fields) => {
                Values::Struct(fields.iter().map(|f| Self::new(f.data_type())).collect::<Result<_, _>>()?)
            }
            other => Values::Fixed {
                width: width(other).ok_or_else(|| Error::Unsupported(other.clone()))?,
                bytes: Vec::new(),
            },
        };
        Ok(Self { data_type, valid: BooleanBufferBuilder::new(0), values })
    }

    fn read(&mut self, rest: &mut &[u8]) -> Result<(), Error> {
        match take::<1>(rest)? {
            [NULL] => {
                self.null();
                return Ok(());
            }
            [VALUE] if !matches!(self.values, Values::Null) => {}
            [other] => return Err(Error::Marker(other)),
        }
        match &mut self.values {
            Values::Null => {}
            Values::Boolean(bits) => match take::<1>(rest)? {
                [bit @ (0 | 1)] => bits.append(bit == 1),
                [other] => return Err(Error::Marker(other)),
            },
            // The usual widths as constants: a store instead of a call per value.
            Values::Fixed { width: 8, bytes } => bytes.extend_from_slice(&take::<8>(rest)?),
            Values::Fixed { width: 16, bytes } => bytes.extend_from_slice(&take::<16>(rest)?),
            Values::Fixed { width, bytes } => bytes.extend_from_slice(split(rest, *width)?),
            Values::Bytes { offsets, bytes } => {
                let len = count(rest)?;
                bytes.extend_from_slice(split(rest, len)?);
                offsets.push(offset(bytes.len())?);
            }
            Values::List { offsets, child } => {
                for _ in 0..count(rest)? {
                    child.read(rest)?;
                }
                offsets.push(offset(child.valid.len())?);
            }
            Values::FixedList { size, child } => {
                for _ in 0..*size {
                    child.read(rest)?;
                }
            }
            Values::Struct(fields) => {
                for field in fields {
                    field.read(rest)?;
                }
            }
        }
        self.valid.append(true);
        Ok(())
    }

    fn null(&mut self) {
        self.valid.append(false);
        match &mut self.values {
            Values::Null => {}
            Values::Boolean(bits) => bits.append(false),
            Values::Fixed { width, bytes } => bytes.resize(bytes.len() + *width, 0),
            Values::Bytes { offsets, .. } | Values::List { offsets, .. } => {
                offsets.push(offsets.last().copied().unwrap_or(0));
            }
            Values::FixedList { size, child } => (0..*size).for_each(|_| child.null()),
            Values::Struct(fields) => fields.iter_mut().for_each(Self::null),
        }
    }

    fn finish(mut self) -> Result<ArrayData, Error> {
        let len = self.valid.len();
        let data = ArrayData::builder(self.data_type).len(len);
        let data = match self.values {
            Values::Null => return Ok(data.build()?),
            Values::Boolean(mut bits) => data.add_buffer(bits.finish().into_inner()),
            Values::Fixed { bytes, .. } => data.add_buffer(Buffer::from_vec(bytes)),
            Values::Bytes { offsets, bytes } => {
                data.add_buffer(Buffer::from_vec(offsets)).add_buffer(Buffer::from_vec(bytes))
            }
            Values::List { offsets, child } => {
                data.add_buffer(Buffer::from_vec(offsets)).add_child_data(child.finish()?)
            }
            Values::FixedList { child, .. } => data.add_child_data(child.finish()?),
            Values::Struct(fields) => {
                data.child_data(fields.into_iter().map(Self::finish).collect::<Result<_, _>>()?)
            }
        };
        // Buffers of bytes may be aligned less than their type wants: the builder mends that.
        let data = data.align_buffers(true);
        let valid = self.valid.finish();
        let data = data.null_bit_buffer((valid.count_set_bits() < len).then(|| valid.into_inner()));
        Ok(data.build()?)
    }
}

fn split<'v>(rest: &mut &'v [u8], len: usize) -> Result<&'v [u8], Error> {
    let (head, tail) = rest.split_at_checked(len).ok_or(Error::Truncated)?;
    *rest = tail;
    Ok(head)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Error> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(Error::Truncated)?;
    *rest = tail;
    Ok(*head)
}

fn count(rest: &mut &[u8]) -> Result<usize, Error> {
    Ok(u32::from_le_bytes(take(rest)?) as usize)
}

fn offset(len: usize) -> Result<i32, Error> {
    i32::try_from(len).map_err(|_| Error::Arrow(arrow::error::ArrowError::OffsetOverflowError(len)))
}
