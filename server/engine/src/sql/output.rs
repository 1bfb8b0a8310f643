//! The end of a query: columns in types that both stores hold, and the primary key among them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, TimeUnit};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column, cast};

use super::error::{Code, Error};
use super::lower::{origin, schema_after};
use crate::query::{Aggregate, FeatureQuery, Group, Relation, Rolling, Shape, Source, Stage};

/// Adds the casts to types at rest, finds the key, and puts the query together. `selected` has the names
/// of the select list.
pub(super) fn finish(
    sources: Vec<Source>,
    input: Relation,
    shape: Shape,
    mut after: Vec<Stage>,
    selected: &Schema,
) -> Result<FeatureQuery, Error> {
    let (given, parts) = match &shape {
        Shape::Windowed(windowed) => (&windowed.aggregate.schema, grouped(&windowed.aggregate)),
        Shape::Rolling(rolling) => (&rolling.schema, partitioned(rolling)),
    };
    let computed = schema_after(&after, given);
    let key = key(&parts, &after, &computed)?;
    let exprs = match after.pop() {
        Some(Stage::Project(exprs, _)) => exprs,
        other => {
            after.extend(other);
            computed
                .fields()
                .iter()
                .enumerate()
                .map(|(i, f)| Arc::new(Column::new(f.name(), i)) as _)
                .collect()
        }
    };
    let below = schema_after(&after, given);
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for (i, (expr, field)) in exprs.into_iter().zip(computed.fields()).enumerate() {
        let name = selected.fields().get(i).map_or(field.name(), |selected| selected.name());
        let at_rest = at_rest(field.data_type(), name)?;
        columns.push(if at_rest == *field.data_type() { expr } else { cast(expr, &below, at_rest.clone())? });
        // Whatever is computed can fail after aggregation, and is NULL then; keys and windows cannot.
        let never_null = key.contains(&i) || is_window(&shape, &after, columns.last());
        fields.push(Field::new(name, at_rest, !never_null));
    }
    let output = Arc::new(Schema::new(fields));
    after.push(Stage::Project(columns, Arc::clone(&output)));
    let event_time = event_time(&shape, &after, &output);
    Ok(FeatureQuery { sources, input, shape, after, key, event_time, output })
}

/// What the event time is called: as it is selected, where it is.
fn event_time(shape: &Shape, after: &[Stage], output: &Schema) -> String {
    let Shape::Rolling(rolling) = shape else { return "window_end".to_owned() };
    let time = rolling.time.column;
    let selected = (0..output.fields().len()).find(|column| origin(after, *column) == Some(time));
    let named = selected.map_or_else(|| rolling.schema.fields().get(time), |i| output.fields().get(i));
    named.map(|field| field.name().clone()).unwrap_or_default()
}

fn is_window(shape: &Shape, after: &[Stage], expr: Option<&Arc<dyn PhysicalExpr>>) -> bool {
    let Shape::Windowed(windowed) = shape else { return false };
    let column = expr.and_then(|expr| expr.downcast_ref::<Column>());
    let group = column.and_then(|column| origin(after, column.index()));
    let group = group.and_then(|group| windowed.aggregate.groups.get(group));
    matches!(group, Some(Group::WindowStart | Group::WindowEnd | Group::WindowTime))
}

/// A part of the primary key: its column of the shape, and how SQL names it.
struct Part {
    column: usize,
    name: String,
    clause: &'static str,
}

/// The keys of GROUP BY, in its order.
fn grouped(aggregate: &Aggregate) -> Vec<Part> {
    let groups = aggregate.groups.iter().zip(aggregate.schema.fields()).enumerate();
    groups
        .filter(|(_, (group, _))| matches!(group, Group::Key(..)))
        .map(|(column, (_, field))| Part { column, name: field.name().clone(), clause: "GROUP BY" })
        .collect()
}

/// The columns of PARTITION BY, in its order.
fn partitioned(rolling: &Rolling) -> Vec<Part> {
    let column = |key: &Arc<dyn PhysicalExpr>| {
        let key = key.downcast_ref::<CastExpr>().map_or(key, |cast| cast.expr());
        let column = key.downcast_ref::<Column>()?;
        Some(Part { column: column.index(), name: column.name().to_owned(), clause: "PARTITION BY" })
    };
    rolling.keys.iter().filter_map(|(key, _)| column(key)).collect()
}

/// Where each part of the key is selected.
fn key(parts: &[Part], after: &[Stage], output: &Schema) -> Result<Vec<usize>, Error> {
    let selected = |part: &Part| {
        let found = (0..output.fields().len()).find(|column| origin(after, *column) == Some(part.column));
        found.ok_or_else(|| not_selected(part))
    };
    parts.iter().map(selected).collect()
}

fn not_selected(part: &Part) -> Error {
    let Part { name, clause, .. } = part;
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let hint = if plain { format!("SELECT {name}, …") } else { format!("SELECT {name} AS key, …") };
    Error::new(
        Code::KeyNotSelected,
        name,
        format!("{clause} {name} is part of the primary key, so {name} must be selected as it is"),
    )
    .hint(hint)
}

/// The type a column has in the stores; refuses those that have none.
fn at_rest(data_type: &DataType, column: &str) -> Result<DataType, Error> {
    use DataType::{
        Binary, BinaryView, Boolean, Date32, Date64, Decimal32, Decimal64, Decimal128, Dictionary,
        FixedSizeBinary, FixedSizeList, Float16, Float32, Float64, Int8, Int16, Int32, Int64, LargeBinary,
        LargeList, LargeUtf8, List, Map, Struct, Timestamp, UInt8, UInt16, UInt32, UInt64, Utf8, Utf8View,
    };
    let inner = |field: &FieldRef| -> Result<FieldRef, Error> {
        let data_type = at_rest(field.data_type(), column)?;
        Ok(Arc::new(Field::new(field.name(), data_type, field.is_nullable())))
    };
    Ok(match data_type {
        Boolean | Int32 | Int64 | Float32 | Float64 | Utf8 | Binary | Date32 | Decimal128(..) => {
            data_type.clone()
        }
        Int8 | Int16 | UInt8 | UInt16 => Int32,
        UInt32 | UInt64 => Int64,
        Float16 => Float32,
        Decimal32(p, s) | Decimal64(p, s) => Decimal128(*p, *s),
        LargeUtf8 | Utf8View => Utf8,
        LargeBinary | BinaryView | FixedSizeBinary(_) => Binary,
        Date64 => Date32,
        Timestamp(_, None) => Timestamp(TimeUnit::Microsecond, None),
        Timestamp(_, Some(_)) => Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Dictionary(_, values) => at_rest(values, column)?,
        List(item) | LargeList(item) | FixedSizeList(item, _) => List(inner(item)?),
        Struct(fields) => Struct(fields.iter().map(inner).collect::<Result<_, _>>()?),
        Map(entries, sorted) => Map(inner(entries)?, *sorted),
        other => {
            let hint = match other {
                DataType::Time32(_) | DataType::Time64(_) => format!("write CAST({column} AS VARCHAR)"),
                DataType::Null => "write the type: CAST(NULL AS BIGINT)".to_owned(),
                DataType::Interval(_) | DataType::Duration(_) => {
                    "write the length as a number, e.g. date_part('epoch', b) - date_part('epoch', a)"
                        .to_owned()
                }
                _ => {
                    "cast it to one of BOOLEAN, INT, BIGINT, FLOAT, DOUBLE, DECIMAL, VARCHAR, DATE, TIMESTAMP"
                        .to_owned()
                }
            };
            let message = format!("the column {column} is {other}, which is not a type of features");
            return Err(Error::new(Code::Type, column, message).hint(hint));
        }
    })
}

/// Refuses keys whose equality is not the equality of bytes, or that are not stored as they are grouped.
pub(super) fn key_type(data_type: &DataType, key: &str) -> Result<(), Error> {
    use DataType::{
        Binary, Boolean, Date32, Decimal128, Float16, Float32, Float64, Int32, Int64, Timestamp, Utf8,
    };
    let refuse = |hint: &str| {
        Err(Error::new(Code::Type, key, format!("{key} is {data_type}, which cannot be a key")).hint(hint))
    };
    match data_type {
        Boolean | Int32 | Int64 | Utf8 | Binary | Date32 | Decimal128(..) => Ok(()),
        Timestamp(TimeUnit::Microsecond, None) => Ok(()),
        Timestamp(TimeUnit::Microsecond, Some(zone)) if zone.as_ref() == "UTC" => Ok(()),
        Float16 | Float32 | Float64 => {
            refuse("floats have no exact equality: CAST it to BIGINT, DECIMAL or VARCHAR")
        }
        _ => refuse("CAST it to BIGINT, DECIMAL, VARCHAR, DATE or BOOLEAN"),
    }
}
