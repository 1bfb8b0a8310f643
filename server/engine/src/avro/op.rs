//! One step of a resolution: reads one value of the writer's and appends it as the reader has it.

use std::sync::Arc;

use super::column::{self, Column, Data};
use super::fault::Fault;
use super::graph::{Graph, NodeId};
use super::skip::skip;
use super::text;
use super::wire::Cursor;

/// Compiled from a pair of types; numbers are positions of column builders.
#[derive(Debug)]
pub(super) enum Op {
    /// What the reader does not want. It is checked all the same: whether a record is bad must not
    /// depend on the columns that a query reads. The common types stand for themselves.
    SkipInt,
    SkipLong,
    SkipText,
    SkipBytes,
    SkipFixed(usize),
    Skip(NodeId),

    Boolean(usize),
    Int(usize),
    Long(usize),
    IntToLong(usize),
    Float(usize),
    IntToFloat(usize),
    LongToFloat(usize),
    Double(usize),
    IntToDouble(usize),
    LongToDouble(usize),
    FloatToDouble(usize),
    /// Times that are multiplied to microseconds.
    Scaled {
        column: usize,
        by: i64,
        int: bool,
    },
    /// Nanoseconds, floored to microseconds.
    Floored(usize),
    Text(usize),
    Binary(usize),
    Fixed {
        column: usize,
        size: usize,
    },
    /// Sixteen bytes to text.
    Uuid(usize),
    Decimal {
        column: usize,
        limit: i128,
    },
    FixedDecimal {
        column: usize,
        size: usize,
        limit: i128,
    },
    /// The reader's key of each of the writer's symbols; -1: the reader has none.
    Enum {
        column: usize,
        keys: Box<[i32]>,
    },
    Record {
        column: usize,
        steps: Box<[Step]>,
    },
    Array {
        column: usize,
        child: usize,
        item: Box<Op>,
        zero_width: bool,
    },
    Map {
        column: usize,
        key: usize,
        child: usize,
        value: Box<Op>,
    },

    /// The reader has null, this value is none.
    Valid {
        column: usize,
        op: Box<Op>,
    },
    /// Writer and reader both have `[null, T]`.
    Optional {
        column: usize,
        null: i64,
        op: Box<Op>,
    },
    /// Any other union of the writer's.
    Union(Box<[Op]>),
    Null(usize),
    /// A branch that the reader cannot take.
    Refuse(Fault),
    /// The reader's default, encoded under the reader's own type.
    Default {
        body: Box<[u8]>,
        op: Box<Op>,
    },
}

/// An op and the field that it reads, for messages.
#[derive(Debug)]
pub(super) struct Step {
    pub op: Op,
    pub field: Arc<str>,
}

/// What a body is read from, and the way to the value that failed, innermost first.
pub(super) struct Run<'a> {
    pub cursor: Cursor<'a>,
    pub writer: &'a Graph,
    pub path: Vec<Arc<str>>,
}

macro_rules! push {
    ($columns:ident, $column:expr, $variant:ident, $value:expr) => {{
        let value = $value;
        match $columns.get_mut($column).map(|c| &mut c.data) {
            Some(Data::$variant(values)) => values.push(value),
            _ => return Err(Fault::Mismatch),
        }
    }};
}

impl Op {
    #[inline]
    pub fn run(&self, columns: &mut [Column], run: &mut Run<'_>) -> Result<(), Fault> {
        let cursor = &mut run.cursor;
        match self {
            Self::Text(column) => {
                let value = cursor.text()?;
                columns.get_mut(*column).ok_or(Fault::Mismatch)?.append_bytes(value)?;
            }
            Self::Long(column) => push!(columns, *column, I64, cursor.long()?),
            Self::Double(column) => push!(columns, *column, F64, f64::from_le_bytes(cursor.array()?)),
            Self::Scaled { column, by, int } => {
                let value = if *int { i64::from(cursor.int()?) } else { cursor.long()? };
                push!(columns, *column, I64, value.checked_mul(*by).ok_or(Fault::Time)?);
            }
            Self::Enum { column, keys } => {
                let index = usize::try_from(cursor.long()?).map_err(|_| Fault::Symbol)?;
                let key = *keys.get(index).ok_or(Fault::Symbol)?;
                if key < 0 {
                    return Err(Fault::UnknownSymbol);
                }
                match columns.get_mut(*column).map(|c| &mut c.data) {
                    Some(Data::Enum { keys, .. }) => keys.push(key),
                    _ => return Err(Fault::Mismatch),
                }
            }
            Self::Int(column) => push!(columns, *column, I32, cursor.int()?),
            Self::SkipBytes => {
                cursor.bytes()?;
            }
            Self::SkipText => {
                cursor.text()?;
            }
            Self::SkipInt => {
                cursor.int()?;
            }
            Self::SkipLong => {
                cursor.long()?;
            }
            Self::SkipFixed(size) => {
                cursor.take(*size)?;
            }
            Self::Optional { column, null, op } => {
                let branch = cursor.long()?;
                if branch == *null {
                    column::append_null(columns, *column);
                } else if branch == 1 - null {
                    columns.get_mut(*column).ok_or(Fault::Mismatch)?.append_valid();
                    return op.run(columns, run);
                } else {
                    return Err(Fault::Branch);
                }
            }
            Self::Valid { column, op } => {
                columns.get_mut(*column).ok_or(Fault::Mismatch)?.append_valid();
                return op.run(columns, run);
            }
            _ => return self.run_rare(columns, run),
        }
        Ok(())
    }

    fn run_rare(&self, columns: &mut [Column], run: &mut Run<'_>) -> Result<(), Fault> {
        let cursor = &mut run.cursor;
        match self {
            Self::Boolean(column) => {
                let value = cursor.boolean()?;
                match columns.get_mut(*column).map(|c| &mut c.data) {
                    Some(Data::Boolean(values)) => values.append(value),
                    _ => return Err(Fault::Mismatch),
                }
            }
            Self::IntToLong(column) => push!(columns, *column, I64, i64::from(cursor.int()?)),
            Self::Float(column) => push!(columns, *column, F32, f32::from_le_bytes(cursor.array()?)),
            Self::IntToFloat(column) => push!(columns, *column, F32, cursor.int()? as f32),
            Self::LongToFloat(column) => push!(columns, *column, F32, cursor.long()? as f32),
            Self::IntToDouble(column) => push!(columns, *column, F64, f64::from(cursor.int()?)),
            Self::LongToDouble(column) => push!(columns, *column, F64, cursor.long()? as f64),
            Self::FloatToDouble(column) => {
                push!(columns, *column, F64, f64::from(f32::from_le_bytes(cursor.array()?)));
            }
            Self::Floored(column) => push!(columns, *column, I64, cursor.long()?.div_euclid(1000)),
            Self::Binary(column) => {
                let value = cursor.bytes()?;
                columns.get_mut(*column).ok_or(Fault::Mismatch)?.append_bytes(value)?;
            }
            Self::Fixed { column, size } => {
                let value = cursor.take(*size)?;
                columns.get_mut(*column).ok_or(Fault::Mismatch)?.append_bytes(value)?;
            }
            Self::Uuid(column) => {
                let value = text::uuid(cursor.array()?);
                columns.get_mut(*column).ok_or(Fault::Mismatch)?.append_bytes(&value)?;
            }
            Self::Decimal { column, limit } => {
                push!(columns, *column, I128, decimal(cursor.bytes()?, *limit)?)
            }
            Self::FixedDecimal { column, size, limit } => {
                push!(columns, *column, I128, decimal(cursor.take(*size)?, *limit)?);
            }
            Self::Skip(node) => skip(run.writer, *node, cursor)?,
            Self::Union(branches) => {
                let index = usize::try_from(cursor.long()?).map_err(|_| Fault::Branch)?;
                return branches.get(index).ok_or(Fault::Branch)?.run(columns, run);
            }
            Self::Null(column) => column::append_null(columns, *column),
            Self::Refuse(fault) => return Err(*fault),
            Self::Default { body, op } => {
                let mut own = Run { cursor: Cursor::new(body), writer: run.writer, path: Vec::new() };
                return op.run(columns, &mut own);
            }
            Self::Record { column, steps } => {
                match columns.get_mut(*column).map(|c| &mut c.data) {
                    Some(Data::Struct { len, .. }) => *len += 1,
                    _ => return Err(Fault::Mismatch),
                }
                for step in steps {
                    if let Err(fault) = step.op.run(columns, run) {
                        run.path.push(step.field.clone());
                        return Err(fault);
                    }
                }
            }
            Self::Array { column, child, item, zero_width } => {
                loop {
                    let count = run.cursor.block(*zero_width)?;
                    if count == 0 {
                        break;
                    }
                    for _ in 0..count {
                        item.run(columns, run)?;
                    }
                }
                column::end_list(columns, *column, *child)?;
            }
            Self::Map { column, key, child, value } => {
                loop {
                    let count = run.cursor.block(false)?;
                    if count == 0 {
                        break;
                    }
                    for _ in 0..count {
                        Self::Text(*key).run(columns, run)?;
                        value.run(columns, run)?;
                    }
                }
                column::end_list(columns, *column, *child)?;
            }
            _ => return self.run(columns, run),
        }
        Ok(())
    }
}

/// Big-endian two's complement of any width, as long as the value has no more digits than `limit`.
fn decimal(bytes: &[u8], limit: i128) -> Result<i128, Fault> {
    let negative = bytes.first().is_some_and(|byte| *byte >= 0x80);
    let sign = if negative { 0xff } else { 0 };
    let (padding, low) = bytes.split_at(bytes.len().saturating_sub(16));
    if padding.iter().any(|byte| *byte != sign) {
        return Err(Fault::Decimal);
    }
    let mut whole = [sign; 16];
    if let Some(tail) = whole.get_mut(16 - low.len()..) {
        tail.copy_from_slice(low);
    }
    let value = i128::from_be_bytes(whole);
    // Of seventeen bytes or more the sixteen that are left must still have the same sign.
    if (value < 0) != negative || value.unsigned_abs() > limit.unsigned_abs() {
        return Err(Fault::Decimal);
    }
    Ok(value)
}
