//! A schema as a graph: named types are nodes that may be referred to more than once, also by
//! themselves. Everything else in this module works on graphs; only here is apache-avro's tree seen.

use std::collections::HashMap;
use std::fmt;

use apache_avro::Schema;
use apache_avro::schema::{Alias, InnerDecimalSchema, Name, UuidSchema};

use super::reader::SchemaError;

/// Unit of a time that is a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Unit {
    /// Seconds.
    #[serde(rename = "s")]
    S,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Ms,
    /// Microseconds.
    #[serde(rename = "us")]
    Us,
    /// Nanoseconds.
    #[serde(rename = "ns")]
    Ns,
}

/// Position of a node in its [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct NodeId(u32);

/// What is on the wire.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum { symbols: Vec<String>, default: Option<String> },
    Record(Vec<GraphField>),
    Array(NodeId),
    Map(NodeId),
    Union(Vec<NodeId>),
}

/// What it means. A logical type on a type that it does not fit is ignored, as the specification says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Logical {
    Decimal { precision: usize, scale: usize },
    BigDecimal,
    Uuid,
    Date,
    Time(Unit),
    Timestamp(Unit),
    LocalTimestamp(Unit),
    Duration,
}

/// A field of a record.
#[derive(Debug, Clone)]
pub(super) struct GraphField {
    pub name: String,
    pub aliases: Vec<String>,
    pub default: Option<serde_json::Value>,
    pub node: NodeId,
}

/// One type.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub shape: Shape,
    pub logical: Option<Logical>,
    /// Full name and full aliases of a named type.
    pub name: Option<String>,
    pub aliases: Vec<String>,
    /// True where a value may take no bytes at all: a count of such items is not bounded by the body.
    pub zero_width: bool,
}

/// A parsed schema.
#[derive(Debug, Clone)]
pub(super) struct Graph {
    nodes: Vec<Node>,
    root: NodeId,
}

const NULL: &Node =
    &Node { shape: Shape::Null, logical: None, name: None, aliases: Vec::new(), zero_width: true };

impl Graph {
    /// Parses Avro JSON.
    pub fn parse(json: &str) -> Result<(Self, Schema), SchemaError> {
        let schema = Schema::parse_str(json).map_err(|e| SchemaError::Parse(e.to_string()))?;
        let mut builder = Builder { nodes: Vec::new(), names: HashMap::new() };
        let root = builder.add(&schema)?;
        let mut graph = Self { nodes: builder.nodes, root };
        graph.mark_zero_width();
        Ok((graph, schema))
    }

    pub fn root(&self) -> NodeId {
        self.root
    }

    pub fn node(&self, id: NodeId) -> &Node {
        // Ids are only made by the builder, for nodes that it keeps.
        self.nodes.get(id.0 as usize).unwrap_or(NULL)
    }

    /// Least fixed point: nothing is zero-width until its parts are; a record within itself never is.
    fn mark_zero_width(&mut self) {
        loop {
            let marks: Vec<bool> = self.nodes.iter().map(|node| self.takes_nothing(node)).collect();
            let changed = self.nodes.iter().zip(&marks).any(|(node, mark)| node.zero_width != *mark);
            for (node, mark) in self.nodes.iter_mut().zip(marks) {
                node.zero_width = mark;
            }
            if !changed {
                return;
            }
        }
    }

    fn takes_nothing(&self, node: &Node) -> bool {
        match &node.shape {
            Shape::Null | Shape::Fixed(0) => true,
            Shape::Record(fields) => fields.iter().all(|field| self.node(field.node).zero_width),
            _ => false,
        }
    }
}

impl fmt::Display for Node {
    /// As a schema's author would call it: `timestamp-millis`, `decimal(9, 2)`, `record ads.Click`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = |unit: Unit| match unit {
            Unit::S => "seconds",
            Unit::Ms => "millis",
            Unit::Us => "micros",
            Unit::Ns => "nanos",
        };
        match self.logical {
            Some(Logical::Decimal { precision, scale }) => return write!(f, "decimal({precision}, {scale})"),
            Some(Logical::BigDecimal) => return f.write_str("big-decimal"),
            Some(Logical::Uuid) => return f.write_str("uuid"),
            Some(Logical::Date) => return f.write_str("date"),
            Some(Logical::Time(u)) => return write!(f, "time-{}", unit(u)),
            Some(Logical::Timestamp(u)) => return write!(f, "timestamp-{}", unit(u)),
            Some(Logical::LocalTimestamp(u)) => return write!(f, "local-timestamp-{}", unit(u)),
            Some(Logical::Duration) => return f.write_str("duration"),
            None => {}
        }
        let kind = match &self.shape {
            Shape::Null => "null",
            Shape::Boolean => "boolean",
            Shape::Int => "int",
            Shape::Long => "long",
            Shape::Float => "float",
            Shape::Double => "double",
            Shape::Bytes => "bytes",
            Shape::String => "string",
            Shape::Fixed(size) => return write!(f, "fixed({size})"),
            Shape::Enum { .. } => "enum",
            Shape::Record(_) => "record",
            Shape::Array(_) => "array",
            Shape::Map(_) => "map",
            Shape::Union(_) => "union",
        };
        match &self.name {
            Some(name) => write!(f, "{kind} {name}"),
            None => f.write_str(kind),
        }
    }
}

struct Builder {
    nodes: Vec<Node>,
    names: HashMap<String, NodeId>,
}

impl Builder {
    fn push(&mut self, shape: Shape, logical: Option<Logical>) -> NodeId {
        let id = NodeId(self.nodes.len() as u32);
        self.nodes.push(Node { shape, logical, name: None, aliases: Vec::new(), zero_width: false });
        id
    }

    fn push_named(
        &mut self,
        shape: Shape,
        logical: Option<Logical>,
        name: &Name,
        aliases: Option<&Vec<Alias>>,
    ) -> Result<NodeId, SchemaError> {
        let full = name.fullname(None);
        let aliases: Vec<String> = aliases
            .map(|aliases| aliases.iter().map(|alias| alias.fullname(name.namespace())).collect())
            .unwrap_or_default();
        let id = self.push(shape, logical);
        if self.names.insert(full.clone(), id).is_some() {
            return Err(SchemaError::Parse(format!("type {full} is defined twice")));
        }
        for alias in &aliases {
            self.names.entry(alias.clone()).or_insert(id);
        }
        if let Some(node) = self.nodes.get_mut(id.0 as usize) {
            node.name = Some(full);
            node.aliases = aliases;
        }
        Ok(id)
    }

    fn set(&mut self, id: NodeId, shape: Shape) {
        if let Some(node) = self.nodes.get_mut(id.0 as usize) {
            node.shape = shape;
        }
    }

    fn add(&mut self, schema: &Schema) -> Result<NodeId, SchemaError> {
        let plain = |shape, logical| (shape, Some(logical));
        let (shape, logical) = match schema {
            Schema::Ref { name } => {
                let full = name.fullname(None);
                return self
                    .names
                    .get(&full)
                    .copied()
                    .ok_or(SchemaError::Parse(format!("unknown type {full}")));
            }
            Schema::Record(record) => {
                let id = self.push_named(Shape::Null, None, &record.name, record.aliases.as_ref())?;
                let mut fields = Vec::with_capacity(record.fields.len());
                for field in &record.fields {
                    fields.push(GraphField {
                        name: field.name.clone(),
                        aliases: field.aliases.clone(),
                        default: field.default.clone(),
                        node: self.add(&field.schema)?,
                    });
                }
                self.set(id, Shape::Record(fields));
                return Ok(id);
            }
            Schema::Enum(e) => {
                let shape = Shape::Enum { symbols: e.symbols.clone(), default: e.default.clone() };
                return self.push_named(shape, None, &e.name, e.aliases.as_ref());
            }
            Schema::Fixed(fixed) => {
                return self.push_named(Shape::Fixed(fixed.size), None, &fixed.name, fixed.aliases.as_ref());
            }
            Schema::Duration(fixed) | Schema::Uuid(UuidSchema::Fixed(fixed)) => {
                let logical =
                    if matches!(schema, Schema::Duration(_)) { Logical::Duration } else { Logical::Uuid };
                let shape = Shape::Fixed(fixed.size);
                return self.push_named(shape, Some(logical), &fixed.name, fixed.aliases.as_ref());
            }
            Schema::Decimal(decimal) => {
                let logical = Logical::Decimal { precision: decimal.precision, scale: decimal.scale };
                match &decimal.inner {
                    InnerDecimalSchema::Bytes => (Shape::Bytes, Some(logical)),
                    InnerDecimalSchema::Fixed(fixed) => {
                        let shape = Shape::Fixed(fixed.size);
                        return self.push_named(shape, Some(logical), &fixed.name, fixed.aliases.as_ref());
                    }
                }
            }
            Schema::Array(array) => (Shape::Array(self.add(&array.items)?), None),
            Schema::Map(map) => (Shape::Map(self.add(&map.types)?), None),
            Schema::Union(union) => {
                let variants: Result<Vec<_>, _> = union.variants().iter().map(|v| self.add(v)).collect();
                (Shape::Union(variants?), None)
            }
            Schema::Null => (Shape::Null, None),
            Schema::Boolean => (Shape::Boolean, None),
            Schema::Int => (Shape::Int, None),
            Schema::Long => (Shape::Long, None),
            Schema::Float => (Shape::Float, None),
            Schema::Double => (Shape::Double, None),
            // uuid is specified on strings and on fixed(16) only.
            Schema::Bytes | Schema::Uuid(UuidSchema::Bytes) => (Shape::Bytes, None),
            Schema::String => (Shape::String, None),
            Schema::BigDecimal => plain(Shape::Bytes, Logical::BigDecimal),
            Schema::Uuid(UuidSchema::String) => plain(Shape::String, Logical::Uuid),
            Schema::Date => plain(Shape::Int, Logical::Date),
            Schema::TimeMillis => plain(Shape::Int, Logical::Time(Unit::Ms)),
            Schema::TimeMicros => plain(Shape::Long, Logical::Time(Unit::Us)),
            Schema::TimestampMillis => plain(Shape::Long, Logical::Timestamp(Unit::Ms)),
            Schema::TimestampMicros => plain(Shape::Long, Logical::Timestamp(Unit::Us)),
            Schema::TimestampNanos => plain(Shape::Long, Logical::Timestamp(Unit::Ns)),
            Schema::LocalTimestampMillis => plain(Shape::Long, Logical::LocalTimestamp(Unit::Ms)),
            Schema::LocalTimestampMicros => plain(Shape::Long, Logical::LocalTimestamp(Unit::Us)),
            Schema::LocalTimestampNanos => plain(Shape::Long, Logical::LocalTimestamp(Unit::Ns)),
        };
        Ok(self.push(shape, logical))
    }
}
