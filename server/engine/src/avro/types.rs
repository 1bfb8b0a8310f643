//! The types of the contract's table, and what they are in Arrow.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field as ArrowField, Fields, TimeUnit};

use super::graph::Unit;

/// A field of a record, or a column.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub name: Arc<str>,
    pub aliases: Vec<String>,
    pub default: Option<serde_json::Value>,
    pub ty: Type,
}

/// A type with its union with null, if it has one.
#[derive(Debug, Clone)]
pub(super) struct Type {
    /// Where null stands in the union `["null", T]` (0) or `[T, "null"]` (1).
    pub null: Option<u8>,
    pub kind: Kind,
}

/// The types of the contract's table.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    Boolean,
    Int,
    Long,
    Float,
    Double,
    /// `fixed`: the size, where the value is a fixed and not bytes.
    Decimal {
        precision: u8,
        scale: i8,
        fixed: Option<usize>,
    },
    String,
    /// `fixed`: 16 bytes, and not text.
    Uuid {
        fixed: bool,
    },
    Enum(Arc<Symbols>),
    Bytes,
    Fixed(usize),
    Date,
    Time(Unit),
    Timestamp {
        unit: Unit,
        local: bool,
    },
    Record(Vec<Field>),
    Array(Box<Type>),
    Map(Box<Type>),
}

/// Symbols of an enum, in the reader's order, which is that of the dictionary.
#[derive(Debug)]
pub(super) struct Symbols {
    pub names: Vec<String>,
    pub default: Option<usize>,
    pub array: ArrayRef,
}

impl Field {
    pub(super) fn arrow(&self) -> ArrowField {
        ArrowField::new(&*self.name, self.ty.kind.arrow(), self.ty.null.is_some())
    }
}

impl Kind {
    pub(super) fn arrow(&self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Int => DataType::Int32,
            Self::Long => DataType::Int64,
            Self::Float => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::Decimal { precision, scale, .. } => DataType::Decimal128(*precision, *scale),
            Self::String | Self::Uuid { .. } => DataType::Utf8,
            Self::Enum(_) => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            Self::Bytes | Self::Fixed(_) => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Time(_) => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp { local: false, .. } => {
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
            }
            Self::Timestamp { local: true, .. } => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Record(fields) => DataType::Struct(fields.iter().map(Field::arrow).collect()),
            Self::Array(item) => {
                DataType::List(Arc::new(ArrowField::new("item", item.kind.arrow(), item.null.is_some())))
            }
            Self::Map(value) => {
                let entries = Fields::from(vec![
                    ArrowField::new("key", DataType::Utf8, false),
                    ArrowField::new("value", value.kind.arrow(), value.null.is_some()),
                ]);
                DataType::Map(Arc::new(ArrowField::new("entries", DataType::Struct(entries), false)), false)
            }
        }
    }

    /// How many column builders a value of this type takes, itself included, children after it in
    /// order: both the decoder and the resolution number builders by this rule.
    pub(super) fn builders(&self) -> usize {
        1 + match self {
            Self::Record(fields) => fields.iter().map(|field| field.ty.kind.builders()).sum(),
            Self::Array(item) => item.kind.builders(),
            Self::Map(value) => 1 + value.kind.builders(),
            _ => 0,
        }
    }
}
