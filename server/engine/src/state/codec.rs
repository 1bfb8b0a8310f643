//! The value codec of the `state` column family: partial aggregates as bytes.
//!
//! ```text
//! version                      01
//! then every state column of every aggregate, in order:
//!   null                       00
//!   any value                  01, then
//!     boolean                  00 | 01
//!     fixed width              little-endian bytes (ints, floats, dates, times, decimals, intervals)
//!     string, bytes            u32 LE length, bytes
//!     list, map                u32 LE count, then its elements, each as a value of its own
//!     fixed-size list          its elements
//!     struct                   its fields
//!     dictionary, view, large  as the plain type of the same values
//! ```
//!
//! These bytes are in the stores of every release: a change of the format is a new version byte.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};

pub use decode::decode;
pub use encode::{Encoded, encode};

/// The version that is written.
pub const VERSION: u8 = 1;

const NULL: u8 = 0;
const VALUE: u8 = 1;

/// Why bytes are not the state of a query.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Written by a release that is newer than this one.
    #[error("state codec version {0} is not known (this release writes {VERSION})")]
    Version(u8),
    /// The value ends early.
    #[error("the value is cut off")]
    Truncated,
    /// The value goes on after its last column.
    #[error("{0} bytes follow the last column")]
    Trailing(usize),
    /// A byte that stands for neither a null nor a value.
    #[error("{0:#04x} marks neither a null nor a value")]
    Marker(u8),
    /// A type that state cannot have.
    #[error("an aggregate's state of type {0} cannot be saved")]
    Unsupported(DataType),
    /// Arrow refuses the values.
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
}

/// One state column: its type, and whether it is a list that stands for a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Arrow type of the accumulator's state.
    pub data_type: DataType,
    /// A list whose elements have no order of their own: they are written sorted by their bytes, so
    /// that no hash table's order gets into the store.
    pub set: bool,
}

impl Column {
    /// A column that is not a set.
    pub fn plain(data_type: DataType) -> Self {
        Self { data_type, set: false }
    }
}

/// The plain type that values of a type are written as; `None`: not supported.
fn stored(data_type: &DataType) -> Option<DataType> {
    let element =
        |f: &Arc<Field>| stored(f.data_type()).map(|t| Arc::new(Field::new(f.name(), t, f.is_nullable())));
    Some(match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Dictionary(_, value) => stored(value)?,
        DataType::List(f) | DataType::LargeList(f) | DataType::ListView(f) | DataType::LargeListView(f) => {
            DataType::List(element(f)?)
        }
        DataType::FixedSizeList(f, n) => DataType::FixedSizeList(element(f)?, *n),
        DataType::Map(f, sorted) => DataType::Map(element(f)?, *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(element).collect::<Option<_>>()?),
        DataType::Null | DataType::Boolean | DataType::Utf8 | DataType::Binary => data_type.clone(),
        other => {
            width(other)?;
            other.clone()
        }
    })
}

/// Bytes of one value of a fixed-width type.
fn width(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::FixedSizeBinary(n) => usize::try_from(*n).ok(),
        DataType::Boolean => None,
        other => other.primitive_width(),
    }
}
