//! Arrow rows to bodies, under the record of [`avro_record`](super::avro_record).
//!
//! The columns of a batch are looked at once; a row then costs a match per value and no allocation.

use arrow::array::{
    Array, AsArray, BinaryArray, BooleanArray, ListArray, MapArray, PrimitiveArray, RecordBatch, StringArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType,
};

use super::Unwritable;
use super::encode::shortest;
use super::wire::{put_bytes, put_long};

/// The rows of a batch as Avro bodies. Where the batch's schema says nullable, so does the record.
#[derive(Debug)]
pub struct Bodies<'a> {
    columns: Vec<Column<'a>>,
}

/// A column, an item or a field: its values, and whether they are a union with null.
#[derive(Debug)]
struct Column<'a> {
    array: &'a dyn Array,
    nullable: bool,
    values: Values<'a>,
}

#[derive(Debug)]
enum Values<'a> {
    Boolean(&'a BooleanArray),
    Int(&'a PrimitiveArray<Int32Type>),
    Date(&'a PrimitiveArray<Date32Type>),
    Long(&'a PrimitiveArray<Int64Type>),
    Instant(&'a PrimitiveArray<TimestampMicrosecondType>),
    Float(&'a PrimitiveArray<Float32Type>),
    Double(&'a PrimitiveArray<Float64Type>),
    Decimal(&'a PrimitiveArray<Decimal128Type>),
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    Array(&'a ListArray, Box<Column<'a>>),
    Map(&'a MapArray, &'a StringArray, Box<Column<'a>>),
    Record(Vec<Column<'a>>),
}

impl<'a> Bodies<'a> {
    /// Looks at the columns.
    ///
    /// # Errors
    /// Names a column of a type that the contract does not have.
    pub fn of(batch: &'a RecordBatch) -> Result<Self, Unwritable> {
        let schema = batch.schema_ref();
        let columns = batch.columns().iter().zip(schema.fields()).map(|(array, field)| {
            let unwritable = || Unwritable::Type {
                column: field.name().clone(),
                data_type: field.data_type().to_string(),
            };
            Column::of(array.as_ref(), field.is_nullable()).ok_or_else(unwritable)
        });
        Ok(Self { columns: columns.collect::<Result<_, _>>()? })
    }

    /// Appends the body of one row.
    pub fn append(&self, row: usize, out: &mut Vec<u8>) {
        for column in &self.columns {
            column.append(row, out);
        }
    }
}

impl<'a> Column<'a> {
    fn of(array: &'a dyn Array, nullable: bool) -> Option<Self> {
        let values = match array.data_type() {
            DataType::Boolean => Values::Boolean(array.as_boolean_opt()?),
            DataType::Int32 => Values::Int(array.as_primitive_opt()?),
            DataType::Date32 => Values::Date(array.as_primitive_opt()?),
            DataType::Int64 => Values::Long(array.as_primitive_opt()?),
            DataType::Timestamp(TimeUnit::Microsecond, _) => Values::Instant(array.as_primitive_opt()?),
            DataType::Float32 => Values::Float(array.as_primitive_opt()?),
            DataType::Float64 => Values::Double(array.as_primitive_opt()?),
            DataType::Decimal128(..) => Values::Decimal(array.as_primitive_opt()?),
            DataType::Utf8 => Values::Text(array.as_string_opt()?),
            DataType::Binary => Values::Bytes(array.as_binary_opt()?),
            DataType::List(_) => {
                let list = array.as_list_opt::<i32>()?;
                Values::Array(list, Box::new(Self::of(list.values().as_ref(), true)?))
            }
            DataType::Map(..) => {
                let map = array.as_map_opt()?;
                let keys = map.keys().as_string_opt()?;
                Values::Map(map, keys, Box::new(Self::of(map.values().as_ref(), true)?))
            }
            DataType::Struct(_) => {
                let record = array.as_struct_opt()?;
                let fields = record.columns().iter().map(|c| Self::of(c.as_ref(), true));
                Values::Record(fields.collect::<Option<_>>()?)
            }
            _ => return None,
        };
        Some(Self { array, nullable, values })
    }

    /// Null is the first branch of a union, so a value is the second.
    fn append(&self, row: usize, out: &mut Vec<u8>) {
        if self.nullable {
            if self.array.is_null(row) {
                put_long(0, out);
                return;
            }
            put_long(1, out);
        }
        match &self.values {
            Values::Boolean(values) => out.push(u8::from(values.value(row))),
            Values::Int(values) => put_long(i64::from(values.value(row)), out),
            Values::Date(values) => put_long(i64::from(values.value(row)), out),
            Values::Long(values) => put_long(values.value(row), out),
            Values::Instant(values) => put_long(values.value(row), out),
            Values::Float(values) => out.extend_from_slice(&values.value(row).to_le_bytes()),
            Values::Double(values) => out.extend_from_slice(&values.value(row).to_le_bytes()),
            Values::Decimal(values) => put_bytes(shortest(&values.value(row).to_be_bytes()), out),
            Values::Text(values) => put_bytes(values.value(row).as_bytes(), out),
            Values::Bytes(values) => put_bytes(values.value(row), out),
            Values::Array(list, item) => {
                block(list.value_offsets(), row, out, |i, out| item.append(i, out));
            }
            Values::Map(map, keys, value) => block(map.value_offsets(), row, out, |i, out| {
                put_bytes(keys.value(i).as_bytes(), out);
                value.append(i, out);
            }),
            Values::Record(fields) => fields.iter().for_each(|field| field.append(row, out)),
        }
    }
}

/// One block of all items, and the empty one that ends it.
fn block(offsets: &[i32], row: usize, out: &mut Vec<u8>, each: impl Fn(usize, &mut Vec<u8>)) {
    let at = |i: usize| offsets.get(i).map_or(0, |offset| *offset as usize);
    let (start, end) = (at(row), at(row + 1));
    if start < end {
        put_long((end - start) as i64, out);
        (start..end).for_each(|i| each(i, out));
    }
    put_long(0, out);
}
