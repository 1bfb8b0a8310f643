//! Catalog objects ready for use: the definition with what follows from it.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millpond_engine::avro::ReaderSchema;
use millpond_engine::query::FeatureQuery;
use millpond_engine::sql;

use super::{Column, Error, FeatureGroup, FeatureView, Stream, types};

/// A stream with its reader schema.
#[derive(Debug)]
pub struct StreamEntry {
    /// The definition.
    pub def: Stream,
    /// Its reader schema.
    pub reader: Arc<ReaderSchema>,
}

/// A feature group with its plan.
#[derive(Debug)]
pub struct GroupEntry {
    /// The definition.
    pub def: FeatureGroup,
    /// The plan of a derived group.
    pub query: Option<Arc<FeatureQuery>>,
    /// Reader schema of each source, as the group keeps it.
    pub readers: Vec<Arc<ReaderSchema>>,
    /// The features with the primary key, in order.
    pub schema: SchemaRef,
    /// Positions of the primary key's columns in `schema`, in key order.
    pub key: Vec<usize>,
}

/// A feature view with its groups.
#[derive(Debug)]
pub struct ViewEntry {
    /// The definition.
    pub def: FeatureView,
    /// The groups, as in the definition.
    pub groups: Vec<Arc<GroupEntry>>,
    /// Per feature: position of its group in `groups`, and of its column in that group's schema.
    pub columns: Vec<(usize, usize)>,
    /// Per feature: its name in the view, with its type.
    pub schema: SchemaRef,
}

impl StreamEntry {
    /// Parses the reader schema of a definition.
    pub fn new(def: Stream) -> Result<Self, Error> {
        let reader = reader(&def, &def.schema)?;
        Ok(Self { def, reader })
    }
}

/// The reader schema `json` of a stream: of today, or as a group keeps it.
pub fn reader(stream: &Stream, json: &str) -> Result<Arc<ReaderSchema>, Error> {
    let time = Some((stream.event_time.as_str(), stream.event_time_unit.map(super::TimeUnit::engine)));
    Ok(Arc::new(match stream.changes_of {
        Some(_) => ReaderSchema::of_server(json, time)?,
        None => ReaderSchema::parse(json, time)?,
    }))
}

/// What SQL reads: streams, and groups by the streams of their changes.
fn tables<'s>(
    streams: &'s [Arc<StreamEntry>],
    readers: &[Arc<ReaderSchema>],
) -> (Vec<sql::Table<'s>>, Vec<sql::Group<'s>>) {
    let (mut tables, mut groups): (Vec<_>, Vec<sql::Group<'_>>) = (Vec::new(), Vec::new());
    for (stream, reader) in streams.iter().zip(readers) {
        let name = stream.def.name.as_str();
        let table =
            sql::Table { name, schema: Arc::clone(reader.arrow()), event_time: &stream.def.event_time };
        let Some(of) = &stream.def.changes_of else {
            tables.push(table);
            continue;
        };
        if groups.iter().any(|group| group.changes.name == name) {
            continue; // it is looked up twice
        }
        let mut names = vec![format!("{}_{}", of.name, of.version)];
        names.extend((of.version == 1).then(|| of.name.to_string()));
        groups.push(sql::Group { names, changes: table, key: &of.primary_key, ttl: of.ttl });
    }
    (tables, groups)
}

impl GroupEntry {
    /// Plans the group's SQL again; `streams` are its sources in order.
    pub fn new(def: FeatureGroup, streams: &[Arc<StreamEntry>]) -> Result<Self, Error> {
        let readers: Vec<Arc<ReaderSchema>> = def
            .sources
            .iter()
            .zip(streams)
            .map(|(source, stream)| reader(&stream.def, &source.schema))
            .collect::<Result<_, _>>()?;
        let (query, schema) = match &def.sql {
            Some(sql) => {
                let (tables, groups) = tables(streams, &readers);
                let query = sql::plan_with(sql, &tables, &groups)?;
                let schema = Arc::clone(&query.output);
                (Some(Arc::new(query)), schema)
            }
            None => (
                None,
                types::schema(&def.columns).map_err(|e| Error::invalid("features", e.to_string(), TYPES))?,
            ),
        };
        let key = def
            .primary_key
            .iter()
            .map(|name| {
                schema.index_of(name).map_err(|_| {
                    Error::invalid(
                        "primary_key",
                        format!("there is no column {name}"),
                        format!("the columns are {}", names(&schema)),
                    )
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { def, query, readers, schema, key })
    }

    /// `name_version`: the label of metrics and the folder of the Delta table.
    pub fn label(&self) -> String {
        format!("{}_{}", self.def.name, self.def.version)
    }

    /// The schema of the primary key's columns, in key order.
    pub fn key_schema(&self) -> Schema {
        Schema::new(self.key.iter().filter_map(|i| self.schema.fields().get(*i).cloned()).collect::<Vec<_>>())
    }
}

impl ViewEntry {
    /// Resolves a definition's features against its groups.
    pub fn new(def: FeatureView, groups: Vec<Arc<GroupEntry>>) -> Result<Self, Error> {
        let mut columns = Vec::with_capacity(def.features.len());
        let mut fields = Vec::with_capacity(def.features.len());
        for feature in &def.features {
            let stored = || Error::Stored {
                what: format!("feature view {} version {}", def.name, def.version),
                detail: format!("its feature {} is gone", feature.column),
            };
            let group = groups.get(feature.group).ok_or_else(stored)?;
            let column = group.schema.index_of(&feature.column).map_err(|_| stored())?;
            columns.push((feature.group, column));
            fields.push(Field::new(&feature.name, group.schema.field(column).data_type().clone(), true));
        }
        Ok(Self { def, groups, columns, schema: Arc::new(Schema::new(fields)) })
    }

    /// `name_version`: the label of metrics.
    pub fn label(&self) -> String {
        format!("{}_{}", self.def.name, self.def.version)
    }

    /// Names that entries carry keys under, each once, in the order of first use, with their types.
    pub fn serving_keys(&self) -> Vec<(String, DataType)> {
        let mut keys: Vec<(String, DataType)> = Vec::new();
        for (group, entry) in self.def.groups.iter().zip(&self.groups) {
            for (name, at) in group.key.iter().zip(&entry.key) {
                if !keys.iter().any(|(known, _)| known == name) {
                    keys.push((name.clone(), entry.schema.field(*at).data_type().clone()));
                }
            }
        }
        keys
    }
}

/// What there is instead of a type that there is not.
pub const TYPES: &str = "types are boolean, int, bigint, float, double, decimal(p,s), string, binary, date, timestamp, timestamp_ntz, array<…>, map<string,…>, struct<name:…>";

/// Columns as users see them; those of the primary key are never null.
pub fn columns(schema: &Schema, key: &[String]) -> Result<Vec<Column>, Error> {
    schema
        .fields()
        .iter()
        .map(|field| {
            let column = Column::of(field).map_err(|e| {
                let message = format!("column {}: {e}", field.name());
                Error::invalid("sql", message, "cast it, for instance to BIGINT or VARCHAR")
            })?;
            let nullable = !key.contains(&column.name);
            Ok(Column { nullable, ..column })
        })
        .collect()
}

pub(super) fn names(schema: &Schema) -> String {
    schema.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ")
}
