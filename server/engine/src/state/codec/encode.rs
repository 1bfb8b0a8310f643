//! Arrow columns → one value per row.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow::datatypes::DataType;

use super::{Column, Error, NULL, VALUE, VERSION, stored, width};

/// Values one after the other.
#[derive(Debug, Default)]
pub struct Encoded {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Encoded {
    /// The value of one row; empty where there is no such row.
    pub fn value(&self, row: usize) -> &[u8] {
        let start = row.checked_sub(1).and_then(|r| self.ends.get(r)).copied().unwrap_or(0);
        let end = self.ends.get(row).copied().unwrap_or(start);
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True where no row was encoded.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

/// Encodes `rows` rows of the state columns, which agree with `columns` one by one.
pub fn encode<'a>(
    columns: impl IntoIterator<Item = (&'a Column, &'a ArrayRef)>,
    rows: usize,
) -> Result<Encoded, Error> {
    let mut writers =
        columns.into_iter().map(|(c, a)| Writer::new(a, c.set)).collect::<Result<Vec<_>, _>>()?;
    let mut out = Encoded { bytes: Vec::with_capacity(rows * 24), ends: Vec::with_capacity(rows) };
    for row in 0..rows {
        out.bytes.push(VERSION);
        for writer in &mut writers {
            writer.write(row, &mut out.bytes);
        }
        out.ends.push(out.bytes.len());
    }
    Ok(out)
}

/// One column with its type resolved: nothing is looked at per row but the row.
struct Writer {
    nulls: Option<NullBuffer>,
    values: Values,
}

enum Values {
    Null,
    Boolean(BooleanBuffer),
    Fixed { width: usize, values: Buffer },
    Bytes { offsets: arrow::buffer::OffsetBuffer<i32>, values: Buffer },
    List { offsets: arrow::buffer::OffsetBuffer<i32>, child: Box<Writer>, set: Option<Sorter> },
    FixedList { size: usize, child: Box<Writer> },
    Struct(Vec<Writer>),
}

/// Scratch space for sorting the elements of a set.
#[derive(Default)]
struct Sorter {
    bytes: Vec<u8>,
    elements: Vec<(usize, usize)>,
}

impl Writer {
    fn new(array: &ArrayRef, set: bool) -> Result<Self, Error> {
        let plain = stored(array.data_type()).ok_or_else(|| Error::Unsupported(array.data_type().clone()))?;
        let array =
            if plain == *array.data_type() { array.clone() } else { arrow::compute::cast(array, &plain)? };
        let values = match &plain {
            DataType::Null => Values::Null,
            DataType::Boolean => Values::Boolean(array.as_boolean().values().clone()),
            DataType::Utf8 => {
                let a = array.as_string::<i32>();
                Values::Bytes { offsets: a.offsets().clone(), values: a.values().clone() }
            }
            DataType::Binary => {
                let a = array.as_binary::<i32>();
                Values::Bytes { offsets: a.offsets().clone(), values: a.values().clone() }
            }
            DataType::List(_) => {
                let a = array.as_list::<i32>();
                let child = Box::new(Self::new(a.values(), false)?);
                Values::List { offsets: a.offsets().clone(), child, set: set.then(Sorter::default) }
            }
            DataType::Map(_, _) => {
                let a = array.as_map();
                let entries: ArrayRef = std::sync::Arc::new(a.entries().clone());
                let child = Box::new(Self::new(&entries, false)?);
                Values::List { offsets: a.offsets().clone(), child, set: set.then(Sorter::default) }
            }
            DataType::FixedSizeList(_, n) => {
                let child = Box::new(Self::new(array.as_fixed_size_list().values(), false)?);
                Values::FixedList { size: usize::try_from(*n).unwrap_or(0), child }
            }
            DataType::Struct(_) => Values::Struct(
                array.as_struct().columns().iter().map(|c| Self::new(c, false)).collect::<Result<_, _>>()?,
            ),
            other => {
                let width = width(other).ok_or_else(|| Error::Unsupported(other.clone()))?;
                let data = array.to_data();
                let buffer = data.buffers().first().cloned().unwrap_or_default();
                Values::Fixed { width, values: buffer.slice(data.offset() * width) }
            }
        };
        Ok(Self { nulls: array.logical_nulls(), values })
    }

    fn write(&mut self, row: usize, out: &mut Vec<u8>) {
        if self.nulls.as_ref().is_some_and(|n| n.is_null(row)) {
            out.push(NULL);
            return;
        }
        out.push(if matches!(self.values, Values::Null) { NULL } else { VALUE });
        match &mut self.values {
            Values::Null => {}
            Values::Boolean(bits) => out.push(u8::from(bits.value(row))),
            Values::Fixed { width, values } => {
                let value = values.get(row * *width..(row + 1) * *width).unwrap_or_default();
                // The usual widths as constants: a store instead of a call per value.
                match (value.first_chunk::<8>(), value.first_chunk::<16>()) {
                    (Some(value), _) if *width == 8 => out.extend_from_slice(value),
                    (_, Some(value)) if *width == 16 => out.extend_from_slice(value),
                    _ => out.extend_from_slice(value),
                }
            }
            Values::Bytes { offsets, values } => {
                let (start, end) = range(offsets, row);
                out.extend_from_slice(&((end - start) as u32).to_le_bytes());
                out.extend_from_slice(values.get(start..end).unwrap_or_default());
            }
            Values::List { offsets, child, set } => {
                let (start, end) = range(offsets, row);
                out.extend_from_slice(&((end - start) as u32).to_le_bytes());
                match set {
                    Some(sorter) => sorter.write(child, start..end, out),
                    None => (start..end).for_each(|i| child.write(i, out)),
                }
            }
            Values::FixedList { size, child } => {
                (row * *size..(row + 1) * *size).for_each(|i| child.write(i, out));
            }
            Values::Struct(fields) => fields.iter_mut().for_each(|f| f.write(row, out)),
        }
    }
}

impl Sorter {
    fn write(&mut self, child: &mut Writer, elements: std::ops::Range<usize>, out: &mut Vec<u8>) {
        self.bytes.clear();
        self.elements.clear();
        for i in elements {
            let start = self.bytes.len();
            child.write(i, &mut self.bytes);
            self.elements.push((start, self.bytes.len()));
        }
        let bytes = &self.bytes;
        let element = |&(start, end): &(usize, usize)| bytes.get(start..end).unwrap_or_default();
        self.elements.sort_unstable_by(|a, b| element(a).cmp(element(b)));
        for e in &self.elements {
            out.extend_from_slice(element(e));
        }
    }
}

/// Where the row's values start and end. A row beyond the array has none.
fn range(offsets: &[i32], row: usize) -> (usize, usize) {
    let at = |i: usize| offsets.get(i).map_or(0, |o| usize::try_from(*o).unwrap_or(0));
    (at(row), at(row + 1).max(at(row)))
}
