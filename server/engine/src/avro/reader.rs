//! The schema under which a stream's records become rows: parsed, and checked against what can be held.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::StringArray;
use arrow::datatypes::{Field as ArrowField, Schema as ArrowSchema, SchemaRef};
use sha2::{Digest, Sha256};

use super::graph::{Graph, Logical, Node, NodeId, Shape, Unit};
use super::types::{Field, Kind, Symbols, Type};
use super::{MAX_DEPTH, Normal, normalised};

/// Columns and nested fields that one schema may have: more is an accident or an attack.
const MAX_TYPES: usize = 10_000;

/// A stream's schema: parsed, checked against what Millpond can hold, and resolved to Arrow.
#[derive(Debug, Clone)]
pub struct ReaderSchema {
    json: String,
    sha256: [u8; 32],
    avro: apache_avro::Schema,
    pub(super) fields: Vec<Field>,
    arrow: SchemaRef,
    event_time: Option<usize>,
}

/// What is wrong with a schema, or with a pair of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// Not Avro.
    #[error("not an Avro schema: {0}")]
    Parse(String),
    /// Rows need a record.
    #[error("the schema is {0}, not a record: a stream's rows are records")]
    NotRecord(String),
    /// Outside the table of types.
    #[error("field {field}: {found} is not supported; {nearest}")]
    Unsupported {
        /// Path of the field.
        field: String,
        /// Its type.
        found: String,
        /// What to use instead.
        nearest: String,
    },
    /// A record within itself.
    #[error("field {field}: {name} contains itself; recursive types are not supported")]
    Recursive {
        /// Path of the field.
        field: String,
        /// The type.
        name: String,
    },
    /// A name of ours.
    #[error(
        "column {0}: names that begin with _ are reserved; rename it (an alias keeps old records readable)"
    )]
    ReservedName(String),
    /// SQL and Delta could not tell them apart.
    #[error("{first} and {second} differ only in case; rename one of them")]
    CaseClash {
        /// The earlier one.
        first: String,
        /// The later one.
        second: String,
    },
    /// Event time cannot be taken from this column.
    #[error("event time {column}: {problem}")]
    EventTime {
        /// The column asked for.
        column: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Too deep, too wide, or too many branches.
    #[error("the schema is too large: {0}")]
    TooLarge(String),
    /// A writer's record cannot become a row of the reader.
    #[error("field {field}: {problem}")]
    Unresolvable {
        /// Path of the reader's field.
        field: String,
        /// What is wrong.
        problem: String,
    },
    /// The caller asked for a column that the reader does not have.
    #[error("the schema has no column number {0}")]
    NoColumn(usize),
}

impl ReaderSchema {
    /// Parses and checks a stream's schema.
    ///
    /// `event_time` names the event-time column and, where that is a plain long, its unit.
    ///
    /// # Errors
    /// Names the field that Millpond cannot hold and what to use instead.
    pub fn parse(json: &str, event_time: Option<(&str, Option<Unit>)>) -> Result<Self, SchemaError> {
        let schema = Self::of_server(json, event_time)?;
        match schema.fields.iter().find(|field| field.name.starts_with('_')) {
            Some(field) => Err(SchemaError::ReservedName(field.name.to_string())),
            None => Ok(schema),
        }
    }

    /// The same for a schema of the server's own, which may use the names that it keeps for itself.
    pub fn of_server(json: &str, event_time: Option<(&str, Option<Unit>)>) -> Result<Self, SchemaError> {
        let (graph, avro) = Graph::parse(json)?;
        let root = graph.node(graph.root());
        if !matches!(root.shape, Shape::Record(_)) {
            return Err(SchemaError::NotRecord(root.to_string()));
        }
        let mut walk = Walk { graph: &graph, open: vec![graph.root()], types: 0 };
        let mut fields = walk.fields(graph.root(), "")?;
        let event_time =
            event_time.map(|(column, unit)| find_event_time(&mut fields, column, unit)).transpose()?;
        let columns: Vec<ArrowField> = fields
            .iter()
            .enumerate()
            .map(|(i, field)| {
                let column = field.arrow();
                // Records without one never become rows.
                if Some(i) == event_time { column.with_nullable(false) } else { column }
            })
            .collect();
        let sha256 = Sha256::digest(normalised(json, Normal::Meaning)?).into();
        Ok(Self {
            json: json.to_owned(),
            sha256,
            avro,
            fields,
            arrow: Arc::new(ArrowSchema::new(columns)),
            event_time,
        })
    }

    /// The table that SQL sees. Event time is `Timestamp(µs, "UTC")` and never null here.
    pub fn arrow(&self) -> &SchemaRef {
        &self.arrow
    }

    /// Position of the event-time column.
    pub fn event_time(&self) -> Option<usize> {
        self.event_time
    }

    /// The schema as it was given.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// SHA-256 of the normalised schema: logical types, defaults and aliases count; documentation,
    /// spelling and the order of attributes do not.
    pub fn normalised_sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// The schema as apache-avro has it.
    pub fn avro(&self) -> &apache_avro::Schema {
        &self.avro
    }
}

fn find_event_time(fields: &mut [Field], column: &str, unit: Option<Unit>) -> Result<usize, SchemaError> {
    let names: Vec<String> = fields.iter().map(|field| field.name.to_string()).collect();
    let refuse = |problem: String| SchemaError::EventTime { column: column.to_owned(), problem };
    let Some((index, field)) = fields.iter_mut().enumerate().find(|(_, field)| &*field.name == column) else {
        return Err(refuse(format!("there is no such column; the schema has {}", names.join(", "))));
    };
    match (&field.ty.kind, unit) {
        (Kind::Timestamp { local: false, .. }, None) => {}
        (Kind::Timestamp { local: false, .. }, Some(_)) => {
            return Err(refuse("the type says its unit already; leave event_time_unit out".into()));
        }
        (Kind::Timestamp { local: true, .. }, _) => {
            return Err(refuse(
                "a local timestamp has no zone and is no instant; use timestamp-micros".into(),
            ));
        }
        (Kind::Long, Some(unit)) => field.ty.kind = Kind::Timestamp { unit, local: false },
        (Kind::Long, None) => {
            return Err(refuse("a plain long needs event_time_unit (s, ms or us)".into()));
        }
        _ => return Err(refuse("must be a timestamp, or a long with event_time_unit (s, ms or us)".into())),
    }
    Ok(index)
}

/// Unfolds a graph into a tree, refusing what cannot become columns.
struct Walk<'a> {
    graph: &'a Graph,
    /// Records that are being unfolded: to meet one again is recursion.
    open: Vec<NodeId>,
    types: usize,
}

impl Walk<'_> {
    fn fields(&mut self, record: NodeId, path: &str) -> Result<Vec<Field>, SchemaError> {
        let graph = self.graph;
        let Shape::Record(fields) = &graph.node(record).shape else { return Ok(Vec::new()) };
        let mut seen: HashMap<String, &str> = HashMap::new();
        let mut out = Vec::with_capacity(fields.len());
        for field in fields {
            if let Some(first) = seen.insert(field.name.to_lowercase(), &field.name) {
                return Err(SchemaError::CaseClash { first: first.to_owned(), second: field.name.clone() });
            }
            let path = if path.is_empty() { field.name.clone() } else { format!("{path}.{}", field.name) };
            out.push(Field {
                name: field.name.as_str().into(),
                aliases: field.aliases.clone(),
                default: field.default.clone(),
                ty: self.ty(field.node, &path)?,
            });
        }
        Ok(out)
    }

    fn ty(&mut self, id: NodeId, path: &str) -> Result<Type, SchemaError> {
        let node = self.graph.node(id);
        let Shape::Union(branches) = &node.shape else {
            return Ok(Type { null: None, kind: self.kind(id, path)? });
        };
        let is_null = |id: &NodeId| matches!(self.graph.node(*id).shape, Shape::Null);
        match branches.as_slice() {
            [null, other] if is_null(null) && !is_null(other) => {
                Ok(Type { null: Some(0), kind: self.kind(*other, path)? })
            }
            [other, null] if is_null(null) && !is_null(other) => {
                Ok(Type { null: Some(1), kind: self.kind(*other, path)? })
            }
            _ => {
                let names: Vec<_> = branches.iter().map(|id| self.graph.node(*id).to_string()).collect();
                Err(SchemaError::Unsupported {
                    field: path.to_owned(),
                    found: format!("the union [{}]", names.join(", ")),
                    nearest: "a union may only be of null and one type; split the field into one per type"
                        .into(),
                })
            }
        }
    }

    fn kind(&mut self, id: NodeId, path: &str) -> Result<Kind, SchemaError> {
        self.types += 1;
        if self.types > MAX_TYPES {
            return Err(SchemaError::TooLarge(format!("more than {MAX_TYPES} fields")));
        }
        let node = self.graph.node(id);
        if self.open.contains(&id) {
            return Err(SchemaError::Recursive { field: path.to_owned(), name: node.to_string() });
        }
        if self.open.len() > MAX_DEPTH {
            return Err(SchemaError::TooLarge(format!(
                "field {path} is nested deeper than {MAX_DEPTH} levels"
            )));
        }
        if let Some(logical) = node.logical {
            return logical_kind(node, logical, path);
        }
        Ok(match &node.shape {
            Shape::Boolean => Kind::Boolean,
            Shape::Int => Kind::Int,
            Shape::Long => Kind::Long,
            Shape::Float => Kind::Float,
            Shape::Double => Kind::Double,
            Shape::Bytes => Kind::Bytes,
            Shape::String => Kind::String,
            Shape::Fixed(size) => Kind::Fixed(*size),
            Shape::Enum { symbols, default } => Kind::Enum(Arc::new(Symbols {
                names: symbols.clone(),
                default: default.as_ref().and_then(|d| symbols.iter().position(|s| s == d)),
                array: Arc::new(StringArray::from(symbols.clone())),
            })),
            Shape::Record(_) => {
                self.open.push(id);
                let fields = self.fields(id, path)?;
                self.open.pop();
                Kind::Record(fields)
            }
            Shape::Array(item) => {
                self.open.push(id);
                let item = self.ty(*item, &format!("{path}[]"))?;
                self.open.pop();
                Kind::Array(Box::new(item))
            }
            Shape::Map(value) => {
                self.open.push(id);
                let value = self.ty(*value, &format!("{path}{{}}"))?;
                self.open.pop();
                Kind::Map(Box::new(value))
            }
            Shape::Null | Shape::Union(_) => {
                return Err(unsupported(node, path, "give it a type, or leave it out"));
            }
        })
    }
}

fn unsupported(node: &Node, path: &str, nearest: &str) -> SchemaError {
    SchemaError::Unsupported { field: path.to_owned(), found: node.to_string(), nearest: nearest.to_owned() }
}

fn logical_kind(node: &Node, logical: Logical, path: &str) -> Result<Kind, SchemaError> {
    let fixed = match node.shape {
        Shape::Fixed(size) => Some(size),
        _ => None,
    };
    Ok(match logical {
        Logical::Decimal { precision, scale } => match (u8::try_from(precision), i8::try_from(scale)) {
            (Ok(precision @ 1..=38), Ok(scale)) => Kind::Decimal { precision, scale, fixed },
            _ => return Err(unsupported(node, path, "decimals may have up to 38 digits")),
        },
        Logical::BigDecimal => return Err(unsupported(node, path, "use decimal with precision and scale")),
        Logical::Duration => return Err(unsupported(node, path, "use a long of microseconds")),
        Logical::Uuid => Kind::Uuid { fixed: fixed.is_some() },
        Logical::Date => Kind::Date,
        Logical::Time(unit) => Kind::Time(unit),
        Logical::Timestamp(unit) => Kind::Timestamp { unit, local: false },
        Logical::LocalTimestamp(unit) => Kind::Timestamp { unit, local: true },
    })
}
