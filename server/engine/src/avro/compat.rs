//! Whether data of one schema can be read with another: the registry's check.
//!
//! The rules are those of Java's `SchemaCompatibility`, which Confluent's registry applies (names of
//! types count here, without their namespace), and one of our own: decimals must agree in precision
//! and scale, for the decoder would refuse them.

use std::collections::HashSet;
use std::fmt;

use super::graph::{Graph, Logical, Node, NodeId, Shape};
use super::reader::SchemaError;

/// One reason why the reader cannot read what the writer wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incompatibility {
    /// Java's name for it: `READER_FIELD_MISSING_DEFAULT_VALUE`, `TYPE_MISMATCH`, …
    pub kind: &'static str,
    /// Path of the reader's field; empty for the schema as a whole.
    pub path: String,
    /// What differs.
    pub message: String,
}

impl fmt::Display for Incompatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "the schema" } else { &self.path };
        write!(f, "{}: {path}: {}", self.kind, self.message)
    }
}

/// Everything that keeps `reader` from reading what `writer` wrote; empty: it can.
///
/// # Errors
/// One of the two is not a schema.
pub fn compatibility(reader: &str, writer: &str) -> Result<Vec<Incompatibility>, SchemaError> {
    let (reader, _) = Graph::parse(reader)?;
    let (writer, _) = Graph::parse(writer)?;
    let mut check = Check { reader: &reader, writer: &writer, seen: HashSet::new() };
    Ok(check.types(reader.root(), writer.root(), ""))
}

struct Check<'a> {
    reader: &'a Graph,
    writer: &'a Graph,
    /// Pairs judged or being judged: what is wrong with them is reported once, and recursion ends.
    seen: HashSet<(NodeId, NodeId)>,
}

impl Check<'_> {
    fn types(&mut self, r: NodeId, w: NodeId, path: &str) -> Vec<Incompatibility> {
        let (reader, writer) = (self.reader.node(r), self.writer.node(w));
        match (&reader.shape, &writer.shape) {
            (_, Shape::Union(branches)) => {
                branches.iter().flat_map(|branch| self.types(r, *branch, path)).collect()
            }
            (Shape::Union(branches), _) => {
                let fits = branches.iter().any(|branch| {
                    // A branch that does not fit must not hide what another place says of the pair.
                    let seen = self.seen.clone();
                    let fits = self.types(*branch, w, path).is_empty();
                    if !fits {
                        self.seen = seen;
                    }
                    fits
                });
                if fits {
                    return Vec::new();
                }
                let message = format!("no branch of the reader's union takes the writer's {writer}");
                one("MISSING_UNION_BRANCH", path, message)
            }
            (Shape::Record(to), Shape::Record(from)) => {
                if !self.seen.insert((r, w)) {
                    return Vec::new();
                }
                let mut found = names(reader, writer, path);
                for field in to {
                    let path =
                        if path.is_empty() { field.name.clone() } else { format!("{path}.{}", field.name) };
                    let same = |name: &String| from.iter().find(|f| f.name == *name);
                    match same(&field.name).or_else(|| field.aliases.iter().find_map(same)) {
                        Some(from) => found.extend(self.types(field.node, from.node, &path)),
                        None if field.default.is_some() => {}
                        None => found.push(Incompatibility {
                            kind: "READER_FIELD_MISSING_DEFAULT_VALUE",
                            path,
                            message: "the writer does not have it, and it has no default".into(),
                        }),
                    }
                }
                found
            }
            (Shape::Array(to), Shape::Array(from)) => self.types(*to, *from, &format!("{path}[]")),
            (Shape::Map(to), Shape::Map(from)) => self.types(*to, *from, &format!("{path}{{}}")),
            (Shape::Enum { symbols: to, default }, Shape::Enum { symbols: from, .. }) => {
                let mut found = names(reader, writer, path);
                let missing: Vec<&str> =
                    from.iter().filter(|symbol| !to.contains(symbol)).map(String::as_str).collect();
                if !missing.is_empty() && default.is_none() {
                    let message = format!("the reader has no {}, and no default symbol", missing.join(", "));
                    found.extend(one("MISSING_ENUM_SYMBOLS", path, message));
                }
                found
            }
            (Shape::Fixed(to), Shape::Fixed(from)) => {
                let mut found = names(reader, writer, path);
                if to != from {
                    found.extend(one(
                        "FIXED_SIZE_MISMATCH",
                        path,
                        format!("the reader has {to} bytes, the writer {from}"),
                    ));
                }
                found.extend(decimals(reader, writer, path));
                found
            }
            (to, from) if promotes(to, from) => decimals(reader, writer, path),
            _ => one("TYPE_MISMATCH", path, format!("the reader has {reader}, the writer {writer}")),
        }
    }
}

fn one(kind: &'static str, path: &str, message: String) -> Vec<Incompatibility> {
    vec![Incompatibility { kind, path: path.to_owned(), message }]
}

/// Without the namespace, as Java compares them; or by an alias of the reader's.
fn names(reader: &Node, writer: &Node, path: &str) -> Vec<Incompatibility> {
    let short = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let (Some(to), Some(from)) = (&reader.name, &writer.name) else { return Vec::new() };
    if short(to) == short(from) || reader.aliases.contains(from) {
        return Vec::new();
    }
    one("NAME_MISMATCH", path, format!("the reader has {reader}, the writer {writer}"))
}

fn decimals(reader: &Node, writer: &Node, path: &str) -> Vec<Incompatibility> {
    match (reader.logical, writer.logical) {
        (Some(to @ Logical::Decimal { .. }), Some(from @ Logical::Decimal { .. })) if to != from => {
            one("TYPE_MISMATCH", path, format!("the reader has {reader}, the writer {writer}"))
        }
        _ => Vec::new(),
    }
}

fn promotes(to: &Shape, from: &Shape) -> bool {
    use Shape::{Boolean, Bytes, Double, Float, Int, Long, Null, String};
    matches!(
        (to, from),
        (Null, Null)
            | (Boolean, Boolean)
            | (Int, Int)
            | (Long, Int | Long)
            | (Float, Int | Long | Float)
            | (Double, Int | Long | Float | Double)
            | (Bytes | String, Bytes | String)
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn record(fields: &str) -> String {
        format!(r#"{{"type":"record","name":"E","fields":[{fields}]}}"#)
    }

    fn kinds(reader: &str, writer: &str) -> Vec<&'static str> {
        compatibility(reader, writer).unwrap().into_iter().map(|i| i.kind).collect()
    }

    #[test]
    fn fields_come_with_defaults_and_go_freely() {
        let old = record(r#"{"name":"a","type":"int"}"#);
        let with = record(r#"{"name":"a","type":"int"},{"name":"b","type":"int","default":0}"#);
        let without = record(r#"{"name":"a","type":"int"},{"name":"b","type":"int"}"#);
        let renamed = record(r#"{"name":"z","type":"int","aliases":["a"]}"#);
        assert!(kinds(&with, &old).is_empty());
        assert!(kinds(&old, &with).is_empty());
        assert!(kinds(&renamed, &old).is_empty());
        let found = compatibility(&without, &old).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].kind, found[0].path.as_str()), ("READER_FIELD_MISSING_DEFAULT_VALUE", "b"));
    }

    #[test]
    fn types_widen_one_way() {
        for (wide, narrow) in [("long", "int"), ("double", "long"), ("double", "float")] {
            let wide = record(&format!(r#"{{"name":"a","type":"{wide}"}}"#));
            let narrow = record(&format!(r#"{{"name":"a","type":"{narrow}"}}"#));
            assert!(kinds(&wide, &narrow).is_empty());
            assert_eq!(kinds(&narrow, &wide), ["TYPE_MISMATCH"]);
        }
        assert!(kinds(r#""string""#, r#""bytes""#).is_empty());
    }

    #[test]
    fn unions_enums_fixed_names_and_decimals() {
        assert!(kinds(r#"["null","int"]"#, r#""int""#).is_empty());
        assert_eq!(kinds(r#""int""#, r#"["null","int"]"#), ["TYPE_MISMATCH"]);
        assert_eq!(kinds(r#"["null","int"]"#, r#""string""#), ["MISSING_UNION_BRANCH"]);
        let symbols = |s: &str, d: &str| format!(r#"{{"type":"enum","name":"C","symbols":[{s}]{d}}}"#);
        assert_eq!(kinds(&symbols(r#""A""#, ""), &symbols(r#""A","B""#, "")), ["MISSING_ENUM_SYMBOLS"]);
        assert!(kinds(&symbols(r#""A""#, r#","default":"A""#), &symbols(r#""A","B""#, "")).is_empty());
        let fixed = |name: &str, size: u8| format!(r#"{{"type":"fixed","name":"{name}","size":{size}}}"#);
        assert_eq!(kinds(&fixed("F", 4), &fixed("F", 5)), ["FIXED_SIZE_MISMATCH"]);
        assert_eq!(kinds(&fixed("F", 4), &fixed("G", 4)), ["NAME_MISMATCH"]);
        assert!(kinds(&fixed("a.F", 4), &fixed("b.F", 4)).is_empty());
        let decimal =
            |p: u8| format!(r#"{{"type":"bytes","logicalType":"decimal","precision":{p},"scale":2}}"#);
        assert_eq!(kinds(&decimal(9), &decimal(8)), ["TYPE_MISMATCH"]);
    }

    #[test]
    fn recursive_types_end() {
        let list = |value: &str| {
            format!(
                r#"{{"type":"record","name":"L","fields":[{{"name":"v","type":"{value}"}},{{"name":"next","type":["null","L"]}}]}}"#
            )
        };
        assert!(kinds(&list("long"), &list("int")).is_empty());
        assert_eq!(kinds(&list("int"), &list("long")), ["TYPE_MISMATCH"]);
    }
}
