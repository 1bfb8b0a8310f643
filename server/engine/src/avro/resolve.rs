//! Compiling a writer's schema and the reader's into a list of ops.

use std::sync::Arc;

use super::MAX_DEPTH;
use super::encode;
use super::fault::Fault;
use super::graph::{Graph, GraphField, Logical, Node, NodeId, Shape, Unit};
use super::op::{Op, Step};
use super::reader::{ReaderSchema, SchemaError};
use super::types::{Field, Kind, Symbols, Type};

/// A writer's union within a union within … can unfold without end.
const MAX_OPS: usize = 100_000;

/// How records of one writer's schema become rows of some columns of the reader's. Compiled once
/// per pair of schemas, shared by threads.
#[derive(Debug)]
pub struct Resolution {
    pub(super) steps: Box<[Step]>,
    pub(super) writer: Graph,
    pub(super) layout: u64,
}

impl Resolution {
    /// Compiles the way from `writer_json` to the given columns of the reader.
    ///
    /// The whole pair is judged, whatever the columns: whether a record can be read does not depend
    /// on who reads it.
    ///
    /// # Errors
    /// [`SchemaError::Unresolvable`] names the reader's field that cannot be had from this writer.
    pub fn compile(writer_json: &str, reader: &ReaderSchema, columns: &[usize]) -> Result<Self, SchemaError> {
        let (writer, _) = Graph::parse(writer_json)?;
        let Shape::Record(fields) = &writer.node(writer.root()).shape else {
            return Err(SchemaError::NotRecord(writer.node(writer.root()).to_string()));
        };
        let mut compiler = Compiler { graph: &writer, ops: 0, depth: 0 };
        let all: Vec<usize> = (0..reader.fields.len()).collect();
        let mut steps = compiler.record(fields, &reader.fields, &builders(reader, &all)?, "")?;
        if columns != all {
            compiler.ops = 0;
            steps = compiler.record(fields, &reader.fields, &builders(reader, columns)?, "")?;
        }
        Ok(Self { steps, writer, layout: layout(reader, columns) })
    }
}

/// Tells decoders and resolutions that fit each other from those that do not.
pub(super) fn layout(reader: &ReaderSchema, columns: &[usize]) -> u64 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    hash.update(&reader.normalised_sha256());
    hash.update(&[reader.event_time().map_or(0xff, |i| i as u8)]);
    for column in columns {
        hash.update(&(*column as u64).to_le_bytes());
    }
    hash.digest()
}

/// The builder of each of the reader's columns, `None` where it is not wanted.
fn builders(reader: &ReaderSchema, columns: &[usize]) -> Result<Vec<Option<usize>>, SchemaError> {
    let mut out = vec![None; reader.fields.len()];
    let mut next = 0;
    for column in columns {
        let field = reader.fields.get(*column).ok_or(SchemaError::NoColumn(*column))?;
        match out.get_mut(*column) {
            Some(slot @ None) => *slot = Some(next),
            // A column asked for twice would be filled once.
            _ => return Err(SchemaError::NoColumn(*column)),
        }
        next += field.ty.kind.builders();
    }
    Ok(out)
}

struct Compiler<'a> {
    graph: &'a Graph,
    ops: usize,
    depth: usize,
}

impl Compiler<'_> {
    fn record(
        &mut self,
        writer: &[GraphField],
        reader: &[Field],
        builders: &[Option<usize>],
        path: &str,
    ) -> Result<Box<[Step]>, SchemaError> {
        // By name first, so that an alias never takes what has a name of its own.
        let position = |name: &str| writer.iter().position(|field| field.name == name);
        let mut source: Vec<Option<usize>> = reader.iter().map(|field| position(&field.name)).collect();
        for (i, field) in reader.iter().enumerate() {
            let free = |at: &usize| !source.contains(&Some(*at));
            let found = field.aliases.iter().filter_map(|alias| position(alias)).find(free);
            if let Some(slot @ None) = source.get_mut(i) {
                *slot = found;
            }
        }
        let mut steps = Vec::with_capacity(writer.len());
        for (i, field) in writer.iter().enumerate() {
            let target = source.iter().position(|s| *s == Some(i));
            let wanted = target.and_then(|t| Some((reader.get(t)?, builders.get(t).copied().flatten()?)));
            let op = match wanted {
                Some((to, column)) => self.value(field.node, &to.ty, column, &join(path, &to.name))?,
                None => self.skip(field.node),
            };
            steps.push(Step { op, field: field.name.as_str().into() });
        }
        for ((field, from), column) in reader.iter().zip(&source).zip(builders) {
            if let (None, Some(column)) = (from, column) {
                let path = join(path, &field.name);
                let Some(default) = &field.default else {
                    return Err(unresolvable(&path, "the writer does not have it, and it has no default"));
                };
                steps.push(Step {
                    op: default_op(&field.ty, default, *column, &path)?,
                    field: field.name.clone(),
                });
            }
        }
        Ok(steps.into())
    }

    fn skip(&self, id: NodeId) -> Op {
        match &self.graph.node(id).shape {
            Shape::Int => Op::SkipInt,
            Shape::Long => Op::SkipLong,
            Shape::String => Op::SkipText,
            Shape::Bytes => Op::SkipBytes,
            Shape::Float => Op::SkipFixed(4),
            Shape::Double => Op::SkipFixed(8),
            Shape::Fixed(size) => Op::SkipFixed(*size),
            _ => Op::Skip(id),
        }
    }

    /// A value of the writer's type, with its unions, as the reader's.
    fn value(&mut self, id: NodeId, to: &Type, column: usize, path: &str) -> Result<Op, SchemaError> {
        self.ops += 1;
        if self.ops > MAX_OPS || self.depth > 2 * MAX_DEPTH {
            return Err(SchemaError::TooLarge(format!("the writer's field {path} unfolds too far")));
        }
        let valid = |op| if to.null.is_some() { Op::Valid { column, op: Box::new(op) } } else { op };
        let graph = self.graph;
        match &graph.node(id).shape {
            Shape::Union(branches) => self.union(branches, to, column, path),
            Shape::Null if to.null.is_some() => Ok(Op::Null(column)),
            Shape::Null => {
                Err(unresolvable(path, "the writer has only null, the stream's schema has no null"))
            }
            _ => Ok(valid(self.branch(id, &to.kind, column, path)?)),
        }
    }

    fn union(
        &mut self,
        branches: &[NodeId],
        to: &Type,
        column: usize,
        path: &str,
    ) -> Result<Op, SchemaError> {
        let mut ops = Vec::with_capacity(branches.len());
        let (mut readable, mut error, mut null) = (false, None, None);
        for (i, branch) in branches.iter().enumerate() {
            if matches!(self.graph.node(*branch).shape, Shape::Null) {
                null = Some(i as i64);
                ops.push(if to.null.is_some() { Op::Null(column) } else { Op::Refuse(Fault::Null) });
                continue;
            }
            match self.branch(*branch, &to.kind, column, path) {
                Ok(op) => {
                    readable = true;
                    ops.push(op);
                }
                // The other branches can still be read: only records that use this one fail.
                Err(e @ SchemaError::Unresolvable { .. }) => {
                    error.get_or_insert(e);
                    ops.push(Op::Refuse(Fault::BranchType));
                }
                Err(e) => return Err(e),
            }
        }
        match error {
            Some(error) if !readable => return Err(error),
            _ => {}
        }
        if let (Some(null), 2, true) = (null, ops.len(), to.null.is_some()) {
            if let Some(op) = ops.into_iter().find(|op| !matches!(op, Op::Null(_))) {
                return Ok(Op::Optional { column, null, op: Box::new(op) });
            }
            return Ok(Op::Refuse(Fault::Branch));
        }
        if to.null.is_some() {
            ops = ops
                .into_iter()
                .map(|op| match op {
                    Op::Null(_) | Op::Refuse(_) => op,
                    op => Op::Valid { column, op: Box::new(op) },
                })
                .collect();
        }
        Ok(Op::Union(ops.into()))
    }

    /// One type of the writer's that is neither null nor a union, as the reader's type without null.
    fn branch(&mut self, id: NodeId, to: &Kind, column: usize, path: &str) -> Result<Op, SchemaError> {
        let node = self.graph.node(id);
        self.depth += 1;
        let op = match (to, &node.shape) {
            (Kind::Record(fields), Shape::Record(from)) => {
                let mut next = column + 1;
                let builders: Vec<_> = fields
                    .iter()
                    .map(|field| {
                        let builder = next;
                        next += field.ty.kind.builders();
                        Some(builder)
                    })
                    .collect();
                Op::Record { column, steps: self.record(from, fields, &builders, path)? }
            }
            (Kind::Array(to), Shape::Array(item)) => Op::Array {
                column,
                child: column + 1,
                item: Box::new(self.value(*item, to, column + 1, &format!("{path}[]"))?),
                zero_width: self.graph.node(*item).zero_width,
            },
            (Kind::Map(to), Shape::Map(value)) => Op::Map {
                column,
                key: column + 1,
                child: column + 2,
                value: Box::new(self.value(*value, to, column + 2, &format!("{path}{{}}"))?),
            },
            (Kind::Enum(to), Shape::Enum { symbols, .. }) => {
                Op::Enum { column, keys: enum_keys(symbols, to) }
            }
            _ => scalar(node, to, column, path)?,
        };
        self.depth -= 1;
        Ok(op)
    }
}

/// The reader's key of each of the writer's symbols, its default for those that it does not know.
fn enum_keys(symbols: &[String], to: &Symbols) -> Box<[i32]> {
    symbols
        .iter()
        .map(|symbol| to.names.iter().position(|name| name == symbol).or(to.default).map_or(-1, |i| i as i32))
        .collect()
}

fn scalar(node: &Node, to: &Kind, column: usize, path: &str) -> Result<Op, SchemaError> {
    let op = match (to, &node.shape, node.logical) {
        (Kind::Boolean, Shape::Boolean, _) => Op::Boolean(column),
        (Kind::Int, Shape::Int, _) | (Kind::Date, Shape::Int, None | Some(Logical::Date)) => Op::Int(column),
        (Kind::Long, Shape::Long, _) => Op::Long(column),
        (Kind::Long, Shape::Int, _) => Op::IntToLong(column),
        (Kind::Float, Shape::Float, _) => Op::Float(column),
        (Kind::Float, Shape::Int, _) => Op::IntToFloat(column),
        (Kind::Float, Shape::Long, _) => Op::LongToFloat(column),
        (Kind::Double, Shape::Double, _) => Op::Double(column),
        (Kind::Double, Shape::Float, _) => Op::FloatToDouble(column),
        (Kind::Double, Shape::Int, _) => Op::IntToDouble(column),
        (Kind::Double, Shape::Long, _) => Op::LongToDouble(column),
        (Kind::String | Kind::Uuid { .. }, Shape::String, _) | (Kind::String, Shape::Bytes, None) => {
            Op::Text(column)
        }
        (Kind::Uuid { .. }, Shape::Fixed(16), None | Some(Logical::Uuid)) => Op::Uuid(column),
        (Kind::Bytes, Shape::Bytes | Shape::String, _) => Op::Binary(column),
        (Kind::Fixed(to), Shape::Fixed(size), _) if to == size => Op::Fixed { column, size: *size },
        (
            Kind::Decimal { precision, scale, .. },
            shape,
            Some(Logical::Decimal { precision: from_precision, scale: from_scale }),
        ) => {
            if (usize::from(*precision), i64::from(*scale)) != (from_precision, from_scale as i64) {
                let problem = format!("the writer has {node}, the stream decimal({precision}, {scale})");
                return Err(unresolvable(path, &problem));
            }
            decimal_op(column, *precision, if let Shape::Fixed(size) = shape { Some(*size) } else { None })
        }
        (Kind::Time(_), Shape::Int | Shape::Long, Some(Logical::Time(unit))) => time_op(column, unit),
        (Kind::Time(Unit::Ms), Shape::Int, None) => time_op(column, Unit::Ms),
        (Kind::Time(_), Shape::Long, None) => Op::Long(column),
        (Kind::Timestamp { local: false, .. }, Shape::Long, Some(Logical::Timestamp(unit)))
        | (Kind::Timestamp { local: true, .. }, Shape::Long, Some(Logical::LocalTimestamp(unit)))
        // Without a unit of its own the writer's number is taken in the stream's.
        | (&Kind::Timestamp { unit, .. }, Shape::Long, None) => timestamp_op(column, unit, false),
        (&Kind::Timestamp { unit, .. }, Shape::Int, None) => timestamp_op(column, unit, true),
        _ => return Err(unresolvable(path, &format!("the writer's {node} cannot be read as {}", describe(to)))),
    };
    Ok(op)
}

fn time_op(column: usize, unit: Unit) -> Op {
    match unit {
        Unit::Ms => Op::Scaled { column, by: 1_000, int: true },
        _ => Op::Long(column),
    }
}

fn timestamp_op(column: usize, unit: Unit, int: bool) -> Op {
    match unit {
        Unit::S => Op::Scaled { column, by: 1_000_000, int },
        Unit::Ms => Op::Scaled { column, by: 1_000, int },
        Unit::Us if int => Op::IntToLong(column),
        Unit::Us => Op::Long(column),
        Unit::Ns => Op::Floored(column),
    }
}

fn decimal_op(column: usize, precision: u8, size: Option<usize>) -> Op {
    let limit = 10_i128.pow(u32::from(precision)) - 1;
    match size {
        Some(size) => Op::FixedDecimal { column, size, limit },
        None => Op::Decimal { column, limit },
    }
}

/// A default is encoded once, as the reader would write it, and read like any value.
fn default_op(ty: &Type, default: &serde_json::Value, column: usize, path: &str) -> Result<Op, SchemaError> {
    let mut body = Vec::new();
    encode::default(ty, default, &mut body)
        .map_err(|e| unresolvable(path, &format!("its default does not fit its type: {}", e.message)))?;
    Ok(Op::Default { body: body.into(), op: Box::new(own(ty, column)) })
}

/// Reads what the reader itself would write.
fn own(ty: &Type, column: usize) -> Op {
    let op = match &ty.kind {
        Kind::Boolean => Op::Boolean(column),
        Kind::Int | Kind::Date => Op::Int(column),
        Kind::Long => Op::Long(column),
        Kind::Float => Op::Float(column),
        Kind::Double => Op::Double(column),
        Kind::Decimal { precision, fixed, .. } => decimal_op(column, *precision, *fixed),
        Kind::String | Kind::Uuid { fixed: false } => Op::Text(column),
        Kind::Uuid { fixed: true } => Op::Uuid(column),
        Kind::Enum(symbols) => Op::Enum { column, keys: enum_keys(&symbols.names, symbols) },
        Kind::Bytes => Op::Binary(column),
        Kind::Fixed(size) => Op::Fixed { column, size: *size },
        Kind::Time(unit) => time_op(column, *unit),
        Kind::Timestamp { unit, .. } => timestamp_op(column, *unit, false),
        Kind::Record(fields) => {
            let mut next = column + 1;
            let steps = fields.iter().map(|field| {
                let op = own(&field.ty, next);
                next += field.ty.kind.builders();
                Step { op, field: field.name.clone() }
            });
            Op::Record { column, steps: steps.collect() }
        }
        Kind::Array(item) => {
            let item = Box::new(own(item, column + 1));
            Op::Array { column, child: column + 1, item, zero_width: true }
        }
        Kind::Map(value) => {
            let value = Box::new(own(value, column + 2));
            Op::Map { column, key: column + 1, child: column + 2, value }
        }
    };
    match ty.null {
        Some(null) => Op::Optional { column, null: i64::from(null), op: Box::new(op) },
        None => op,
    }
}

fn describe(kind: &Kind) -> String {
    match kind {
        Kind::Boolean => "boolean".into(),
        Kind::Int => "int".into(),
        Kind::Long => "long".into(),
        Kind::Float => "float".into(),
        Kind::Double => "double".into(),
        Kind::Decimal { precision, scale, .. } => format!("decimal({precision}, {scale})"),
        Kind::String => "string".into(),
        Kind::Uuid { .. } => "uuid".into(),
        Kind::Enum(_) => "enum".into(),
        Kind::Bytes => "bytes".into(),
        Kind::Fixed(size) => format!("fixed({size})"),
        Kind::Date => "date".into(),
        Kind::Time(_) => "time".into(),
        Kind::Timestamp { local: false, .. } => "timestamp".into(),
        Kind::Timestamp { local: true, .. } => "local-timestamp".into(),
        Kind::Record(_) => "record".into(),
        Kind::Array(_) => "array".into(),
        Kind::Map(_) => "map".into(),
    }
}

fn join(path: &str, name: &Arc<str>) -> String {
    if path.is_empty() { name.to_string() } else { format!("{path}.{name}") }
}

fn unresolvable(path: &str, problem: &str) -> SchemaError {
    SchemaError::Unresolvable { field: path.to_owned(), problem: problem.to_owned() }
}
