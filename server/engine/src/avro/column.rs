//! Column builders in one flat list: a parent stands before its children ([`Kind::builders`]).
//!
//! They know how to go back to an earlier length, however deep they are nested: the length of a
//! child follows from its parent, so nothing is noted down while a record is read.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, Date32Array, Decimal128Array, DictionaryArray,
    Float32Array, Float64Array, Int32Array, Int64Array, ListArray, MapArray, NullBufferBuilder, StringArray,
    StructArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Fields, Int32Type};
use arrow::error::ArrowError;

use super::fault::Fault;
use super::types::{Kind, Type};

/// Bytes that one column of a batch may hold: well within Arrow's 32-bit offsets, and a batch that
/// reaches it has been cut far too late.
pub(super) const MAX_COLUMN: usize = 256 << 20;

/// A column being built.
pub(super) struct Column {
    /// Only where the type has null.
    validity: Option<NullBufferBuilder>,
    pub data: Data,
    ty: DataType,
}

/// Values, in Arrow's own layout.
pub(super) enum Data {
    Boolean(BooleanBufferBuilder),
    I32(Vec<i32>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    I128(Vec<i128>),
    Bytes { offsets: Vec<i32>, bytes: Vec<u8> },
    Enum { keys: Vec<i32>, symbols: ArrayRef },
    Struct { len: usize, children: Vec<usize> },
    List { offsets: Vec<i32>, child: usize },
    Map { offsets: Vec<i32>, key: usize, value: usize },
}

/// Appends the builders of one type to a list.
pub(super) fn add(ty: &Type, columns: &mut Vec<Column>) {
    let first_child = columns.len() + 1;
    let data = match &ty.kind {
        Kind::Boolean => Data::Boolean(BooleanBufferBuilder::new(0)),
        Kind::Int | Kind::Date => Data::I32(Vec::new()),
        Kind::Long | Kind::Time(_) | Kind::Timestamp { .. } => Data::I64(Vec::new()),
        Kind::Float => Data::F32(Vec::new()),
        Kind::Double => Data::F64(Vec::new()),
        Kind::Decimal { .. } => Data::I128(Vec::new()),
        Kind::String | Kind::Uuid { .. } | Kind::Bytes | Kind::Fixed(_) => {
            Data::Bytes { offsets: vec![0], bytes: Vec::new() }
        }
        Kind::Enum(symbols) => Data::Enum { keys: Vec::new(), symbols: symbols.array.clone() },
        Kind::Record(fields) => {
            let mut next = first_child;
            let children = fields.iter().map(|field| {
                let child = next;
                next += field.ty.kind.builders();
                child
            });
            Data::Struct { len: 0, children: children.collect() }
        }
        Kind::Array(_) => Data::List { offsets: vec![0], child: first_child },
        Kind::Map(_) => Data::Map { offsets: vec![0], key: first_child, value: first_child + 1 },
    };
    columns.push(Column { validity: ty.null.map(|_| NullBufferBuilder::new(0)), data, ty: ty.kind.arrow() });
    match &ty.kind {
        Kind::Record(fields) => fields.iter().for_each(|field| add(&field.ty, columns)),
        Kind::Array(item) => add(item, columns),
        Kind::Map(value) => {
            add(&Type { null: None, kind: Kind::String }, columns);
            add(value, columns);
        }
        _ => {}
    }
}

impl Column {
    /// The next value is one.
    #[inline]
    pub fn append_valid(&mut self) {
        if let Some(validity) = &mut self.validity {
            validity.append_non_null();
        }
    }

    /// Appends bytes, up to [`MAX_COLUMN`].
    #[inline]
    pub fn append_bytes(&mut self, value: &[u8]) -> Result<(), Fault> {
        let Data::Bytes { offsets, bytes } = &mut self.data else { return Err(Fault::Mismatch) };
        if bytes.len() + value.len() > MAX_COLUMN {
            return Err(Fault::Full);
        }
        bytes.extend_from_slice(value);
        offsets.push(bytes.len() as i32);
        Ok(())
    }

    fn len(&self) -> usize {
        match &self.data {
            Data::Boolean(values) => values.len(),
            Data::I32(values) => values.len(),
            Data::I64(values) => values.len(),
            Data::F32(values) => values.len(),
            Data::F64(values) => values.len(),
            Data::I128(values) => values.len(),
            Data::Enum { keys, .. } => keys.len(),
            Data::Struct { len, .. } => *len,
            Data::Bytes { offsets, .. } | Data::List { offsets, .. } | Data::Map { offsets, .. } => {
                offsets.len().saturating_sub(1)
            }
        }
    }
}

/// Length of a column, children following it.
pub(super) fn len(columns: &[Column], id: usize) -> usize {
    columns.get(id).map_or(0, Column::len)
}

/// Appends a null where the type has one, else an empty value under a null parent.
pub(super) fn append_null(columns: &mut [Column], id: usize) {
    let Some(column) = columns.get_mut(id) else { return };
    if let Some(validity) = &mut column.validity {
        validity.append_null();
    }
    match &mut column.data {
        Data::Boolean(values) => values.append(false),
        Data::I32(values) | Data::Enum { keys: values, .. } => values.push(0),
        Data::I64(values) => values.push(0),
        Data::F32(values) => values.push(0.0),
        Data::F64(values) => values.push(0.0),
        Data::I128(values) => values.push(0),
        Data::Bytes { offsets, .. } | Data::List { offsets, .. } | Data::Map { offsets, .. } => {
            offsets.push(offsets.last().copied().unwrap_or_default());
        }
        Data::Struct { len, children } => {
            *len += 1;
            for child in children.clone() {
                append_null(columns, child);
            }
        }
    }
}

/// Ends one list or map whose items stand in `child` and what follows it.
pub(super) fn end_list(columns: &mut [Column], column: usize, child: usize) -> Result<(), Fault> {
    let end = i32::try_from(len(columns, child)).map_err(|_| Fault::Full)?;
    match columns.get_mut(column).map(|c| &mut c.data) {
        Some(Data::List { offsets, .. } | Data::Map { offsets, .. }) => offsets.push(end),
        _ => return Err(Fault::Mismatch),
    }
    Ok(())
}

/// Begins one value of a struct; returns how many there were.
pub(super) fn begin_struct(columns: &mut [Column], id: usize) -> usize {
    match columns.get_mut(id).map(|c| &mut c.data) {
        Some(Data::Struct { len, .. }) => {
            *len += 1;
            *len - 1
        }
        _ => 0,
    }
}

/// Goes back to `rows` values.
pub(super) fn truncate(columns: &mut [Column], id: usize, rows: usize) {
    let Some(column) = columns.get_mut(id) else { return };
    if let Some(validity) = &mut column.validity {
        validity.truncate(rows);
    }
    let end = |offsets: &mut Vec<i32>| {
        offsets.truncate(rows + 1);
        offsets.last().copied().unwrap_or_default() as usize
    };
    match &mut column.data {
        Data::Boolean(values) => values.truncate(rows.min(values.len())),
        Data::I32(values) | Data::Enum { keys: values, .. } => values.truncate(rows),
        Data::I64(values) => values.truncate(rows),
        Data::F32(values) => values.truncate(rows),
        Data::F64(values) => values.truncate(rows),
        Data::I128(values) => values.truncate(rows),
        Data::Bytes { offsets, bytes } => bytes.truncate(end(offsets)),
        Data::Struct { len, children } => {
            *len = rows.min(*len);
            for child in children.clone() {
                truncate(columns, child, rows);
            }
        }
        Data::List { offsets, child } => {
            let (child, items) = (*child, end(offsets));
            truncate(columns, child, items);
        }
        Data::Map { offsets, key, value } => {
            let (key, value, items) = (*key, *value, end(offsets));
            truncate(columns, key, items);
            truncate(columns, value, items);
        }
    }
}

/// Takes the values as an array and leaves an empty builder of the same capacity.
pub(super) fn finish(columns: &mut [Column], id: usize) -> Result<ArrayRef, ArrowError> {
    let Some(column) = columns.get_mut(id) else {
        return Err(ArrowError::InvalidArgumentError(format!("no column builder {id}")));
    };
    let nulls: Option<NullBuffer> = column.validity.as_mut().and_then(NullBufferBuilder::finish);
    let ty = column.ty.clone();
    Ok(match &mut column.data {
        Data::Boolean(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
        Data::I32(values) => {
            let values = ScalarBuffer::from(renew(values));
            match ty {
                DataType::Date32 => Arc::new(Date32Array::try_new(values, nulls)?),
                _ => Arc::new(Int32Array::try_new(values, nulls)?),
            }
        }
        Data::I64(values) => {
            let values = ScalarBuffer::from(renew(values));
            match ty {
                DataType::Timestamp(_, zone) => {
                    Arc::new(TimestampMicrosecondArray::try_new(values, nulls)?.with_timezone_opt(zone))
                }
                DataType::Time64(_) => Arc::new(Time64MicrosecondArray::try_new(values, nulls)?),
                _ => Arc::new(Int64Array::try_new(values, nulls)?),
            }
        }
        Data::F32(values) => Arc::new(Float32Array::try_new(renew(values).into(), nulls)?),
        Data::F64(values) => Arc::new(Float64Array::try_new(renew(values).into(), nulls)?),
        Data::I128(values) => {
            Arc::new(Decimal128Array::try_new(renew(values).into(), nulls)?.with_data_type(ty))
        }
        Data::Bytes { offsets, bytes } => {
            let offsets = OffsetBuffer::new(renew_offsets(offsets).into());
            let bytes = Buffer::from_vec(renew(bytes));
            match ty {
                DataType::Binary => Arc::new(BinaryArray::try_new(offsets, bytes, nulls)?),
                _ => Arc::new(StringArray::try_new(offsets, bytes, nulls)?),
            }
        }
        Data::Enum { keys, symbols } => {
            let keys = Int32Array::try_new(renew(keys).into(), nulls)?;
            Arc::new(DictionaryArray::<Int32Type>::try_new(keys, symbols.clone())?)
        }
        Data::Struct { len, children } => {
            let (len, children) = (std::mem::take(len), children.clone());
            let arrays: Result<Vec<_>, _> = children.iter().map(|child| finish(columns, *child)).collect();
            Arc::new(StructArray::try_new_with_length(struct_fields(&ty), arrays?, nulls, len)?)
        }
        Data::List { offsets, child } => {
            let (offsets, child) = (renew_offsets(offsets), *child);
            let items = finish(columns, child)?;
            Arc::new(ListArray::try_new(inner_field(&ty), OffsetBuffer::new(offsets.into()), items, nulls)?)
        }
        Data::Map { offsets, key, value } => {
            let (offsets, key, value) = (renew_offsets(offsets), *key, *value);
            let items = vec![finish(columns, key)?, finish(columns, value)?];
            let entries = inner_field(&ty);
            let items = StructArray::try_new(struct_fields(entries.data_type()), items, None)?;
            Arc::new(MapArray::try_new(entries, OffsetBuffer::new(offsets.into()), items, nulls, false)?)
        }
    })
}

fn renew<T>(values: &mut Vec<T>) -> Vec<T> {
    let capacity = values.len();
    std::mem::replace(values, Vec::with_capacity(capacity))
}

fn renew_offsets(offsets: &mut Vec<i32>) -> Vec<i32> {
    let taken = renew(offsets);
    offsets.push(0);
    taken
}

fn struct_fields(ty: &DataType) -> Fields {
    match ty {
        DataType::Struct(fields) => fields.clone(),
        _ => Fields::empty(),
    }
}

fn inner_field(ty: &DataType) -> Arc<Field> {
    match ty {
        DataType::List(field) | DataType::Map(field, _) => field.clone(),
        other => Arc::new(Field::new("item", other.clone(), true)),
    }
}
