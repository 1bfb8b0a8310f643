//! Sinks: where else a group's rows go, besides the online store and Delta.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Error, Name};

/// Identity of a sink within its group; never reused there. 0 is Delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SinkId(pub u32);

/// How files hold rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FileFormat {
    /// With a header line; every column, that of the partition too.
    Csv,
    /// zstd; the partition's column is in the path, as Hive has it.
    Parquet,
}

/// A sink to be created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum SinkSpec {
    /// The changelog as a Kafka topic: Avro, keyed by the primary key, a delete as a null value, in transactions
    Kafka {
        /// Name, unique within the group; `kafka` by default
        #[schema(value_type = Option<String>)]
        #[serde(default)]
        name: Option<Name>,
        /// The topic; made if there is none
        #[schema(example = "ctr_changelog")]
        topic: String,
        /// Partitions of a topic that is made; 1 by default
        #[serde(default)]
        partitions: Option<u32>,
    },
    /// The history as files that appear whole
    Files {
        /// Name, unique within the group; `files` by default
        #[schema(value_type = Option<String>)]
        #[serde(default)]
        name: Option<Name>,
        /// `csv` or `parquet`
        format: FileFormat,
        /// Folder under `sinks.root`; by default one named after the group, with its uuid
        #[schema(example = "ctr")]
        #[serde(default)]
        path: Option<String>,
        /// Column of the folders `column=value`; none by default
        #[schema(example = "_event_date")]
        #[serde(default)]
        partition_by: Option<String>,
    },
}

/// A sink as the catalog keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sink {
    /// Identity.
    pub id: SinkId,
    /// Name, unique within the group.
    pub name: Name,
    /// Where the rows go.
    #[serde(flatten)]
    pub target: SinkTarget,
}

/// Where the rows of a sink go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum SinkTarget {
    /// A topic.
    Kafka {
        /// Its name.
        topic: String,
    },
    /// Files.
    Files {
        /// How they hold rows.
        format: FileFormat,
        /// Their folder, relative to `sinks.root`.
        path: PathBuf,
        /// Column of the folders `column=value`.
        partition_by: Option<String>,
    },
}

impl SinkTarget {
    /// `kafka` or `files`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Kafka { .. } => "kafka",
            Self::Files { .. } => "files",
        }
    }

    /// True where one would write into what the other writes.
    pub fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Kafka { topic }, Self::Kafka { topic: other }) => topic == other,
            (Self::Files { path, .. }, Self::Files { path: other, .. }) => {
                path.starts_with(other) || other.starts_with(path)
            }
            _ => false,
        }
    }
}

impl fmt::Display for SinkTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kafka { topic } => write!(f, "topic {topic}"),
            Self::Files { format, path, partition_by } => {
                let format = match format {
                    FileFormat::Csv => "CSV",
                    FileFormat::Parquet => "Parquet",
                };
                write!(f, "{format} files in {}", path.display())?;
                partition_by.as_ref().map_or(Ok(()), |column| write!(f, " by {column}"))
            }
        }
    }
}

impl SinkSpec {
    /// The sink that this asks for. `root` is `sinks.root`; `folder` where the files go if no path is
    /// given; `history` the columns of the group's history.
    pub fn resolve(&self, id: SinkId, root: &Path, folder: &str, history: &SchemaRef) -> Result<Sink, Error> {
        let (name, target) = match self {
            Self::Kafka { name, topic, .. } => {
                check_topic(topic)?;
                (name, SinkTarget::Kafka { topic: topic.clone() })
            }
            Self::Files { name, format, path, partition_by } => {
                if let Some(column) = partition_by {
                    check_partition(column, history)?;
                }
                check_columns(*format, history)?;
                let path = relative(path.as_deref().unwrap_or(folder), root)?;
                (name, SinkTarget::Files { format: *format, path, partition_by: partition_by.clone() })
            }
        };
        let name = match name {
            Some(name) => name.clone(),
            None => Name::try_from(target.kind().to_owned())
                .map_err(|e| Error::invalid("sinks", e.to_string(), "give the sink a name"))?,
        };
        Ok(Sink { id, name, target })
    }

    /// True where `sink` is what this asks for; a path that was left out is whichever was chosen.
    pub fn is(&self, sink: &Sink, root: &Path) -> bool {
        let named = |name: &Option<Name>| match name {
            Some(name) => *name == sink.name,
            None => sink.name.as_str() == sink.target.kind(),
        };
        match (self, &sink.target) {
            (Self::Kafka { name, topic, .. }, SinkTarget::Kafka { topic: known }) => {
                named(name) && topic == known
            }
            (
                Self::Files { name, format, path, partition_by },
                SinkTarget::Files { format: known, path: folder, partition_by: column },
            ) => {
                let same = |path: &String| relative(path, root).is_ok_and(|path| path == *folder);
                named(name) && format == known && path.as_ref().is_none_or(same) && partition_by == column
            }
            _ => false,
        }
    }
}

/// The rule of Kafka itself.
fn check_topic(topic: &str) -> Result<(), Error> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=249).contains(&topic.len()) && topic.chars().all(legal) && topic != "." && topic != ".." {
        return Ok(());
    }
    Err(Error::invalid(
        "sinks",
        format!("'{topic}' is not the name of a topic"),
        "up to 249 letters, digits, dots, underscores and hyphens",
    ))
}

/// Values must have one text that every reader takes for the same value.
fn check_partition(column: &str, history: &SchemaRef) -> Result<(), Error> {
    let names = || history.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ");
    let Some((_, field)) = history.fields().find(column) else {
        let message = format!("partition_by: there is no column {column}");
        return Err(Error::invalid("sinks", message, format!("the columns are {}", names())));
    };
    match field.data_type() {
        DataType::Utf8 | DataType::Int32 | DataType::Int64 | DataType::Boolean | DataType::Date32 => Ok(()),
        other => Err(Error::invalid(
            "sinks",
            format!("partition_by: {column} is of type {other}, and folders cannot be named after that"),
            "choose a column of text, integers, booleans or dates, such as _event_date",
        )),
    }
}

fn check_columns(format: FileFormat, history: &SchemaRef) -> Result<(), Error> {
    if format == FileFormat::Parquet {
        return Ok(());
    }
    let nested = history.fields().iter().find(|f| {
        !matches!(
            f.data_type(),
            DataType::Boolean
                | DataType::Int32
                | DataType::Int64
                | DataType::Float32
                | DataType::Float64
                | DataType::Decimal128(..)
                | DataType::Utf8
                | DataType::Date32
                | DataType::Timestamp(TimeUnit::Microsecond, _)
        )
    });
    nested.map_or(Ok(()), |field| {
        Err(Error::invalid(
            "sinks",
            format!("column {} is of type {}, which CSV has no text for", field.name(), field.data_type()),
            "use parquet",
        ))
    })
}

/// A folder below the root: the path itself, or what is left of one that names the root too.
fn relative(path: &str, root: &Path) -> Result<PathBuf, Error> {
    let refused = |message: String| {
        let hint = format!("give a folder below {} (sinks.root)", root.display());
        Error::invalid("sinks", message, hint)
    };
    let path = Path::new(path);
    let below = match path.strip_prefix(root) {
        Ok(below) => below,
        Err(_) if path.is_absolute() => {
            return Err(refused(format!("path: {} is not below the folder of all sinks", path.display())));
        }
        Err(_) => path,
    };
    let mut folder = PathBuf::new();
    for part in below.components() {
        match part {
            // Readers pass over names like these, and what is being written lies under one.
            Component::Normal(name) if !name.to_string_lossy().starts_with(['.', '_']) => folder.push(name),
            Component::CurDir => {}
            other => {
                let shown = other.as_os_str().to_string_lossy();
                return Err(refused(format!("path: '{shown}' cannot be a part of it")));
            }
        }
    }
    if folder.as_os_str().is_empty() {
        return Err(refused("path: it is empty".to_owned()));
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{Field, Schema};
    use serde_json::json;

    use super::*;
    use crate::catalog::history;

    fn columns() -> SchemaRef {
        history::schema(&Schema::new(vec![
            Field::new("campaign", DataType::Int64, false),
            Field::new("ctr", DataType::Float64, true),
        ]))
    }

    fn resolve(spec: serde_json::Value) -> Result<Sink, Error> {
        let spec: SinkSpec = serde_json::from_value(spec).unwrap();
        spec.resolve(SinkId(1), Path::new("/data/sinks"), "ctr_1_uuid", &columns())
    }

    fn refusal(spec: serde_json::Value) -> String {
        resolve(spec).unwrap_err().to_string()
    }

    #[test]
    fn what_is_asked_for_is_what_is_kept() {
        let kafka = resolve(json!({"kind": "kafka", "topic": "out"})).unwrap();
        assert_eq!((kafka.name.as_str(), kafka.target.to_string().as_str()), ("kafka", "topic out"));
        let files = json!({"kind": "files", "format": "csv", "path": "a/b", "partition_by": "campaign"});
        let files = resolve(files).unwrap();
        assert_eq!(files.target.to_string(), "CSV files in a/b by campaign");
        for sink in [kafka, files] {
            let kept = serde_json::to_value(&sink).unwrap();
            assert_eq!(serde_json::from_value::<Sink>(kept).unwrap(), sink);
        }
    }

    #[test]
    fn a_spec_knows_its_sink() {
        let root = Path::new("/data/sinks");
        let spec = |path: Option<&str>| SinkSpec::Files {
            name: None,
            format: FileFormat::Parquet,
            path: path.map(str::to_owned),
            partition_by: None,
        };
        let sink = spec(Some("a")).resolve(SinkId(1), root, "default", &columns()).unwrap();
        assert!(spec(Some("a")).is(&sink, root) && spec(None).is(&sink, root));
        assert!(spec(Some("/data/sinks/a")).is(&sink, root));
        assert!(!spec(Some("b")).is(&sink, root));
        let kafka = SinkSpec::Kafka { name: None, topic: "a".into(), partitions: None };
        assert!(!kafka.is(&sink, root));
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_name() {
        let files = |path: &str| json!({"kind": "files", "format": "parquet", "path": path});
        for path in ["/etc", "../x", "a/../../x", ".staging", "_a", "a/.b", "", "."] {
            assert!(refusal(files(path)).contains("path"), "{path}");
        }
        assert!(refusal(json!({"kind": "kafka", "topic": "a b"})).contains("'a b'"));
        let by = |column: &str| json!({"kind": "files", "format": "csv", "partition_by": column});
        assert!(refusal(by("nope")).contains("no column nope"));
        assert!(refusal(by("ctr")).contains("Float64"));
        resolve(by("_event_date")).unwrap();
        let unknown = json!({"kind": "files", "format": "csv", "partition": "x"});
        assert!(serde_json::from_value::<SinkSpec>(unknown).is_err());
    }

    #[test]
    fn csv_has_no_text_for_lists() {
        let list = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
        let history = history::schema(&Schema::new(vec![Field::new("l", list, true)]));
        let spec = |format| SinkSpec::Files { name: None, format, path: None, partition_by: None };
        let resolve =
            |format| spec(format).resolve(SinkId(1), Path::new("/r"), "f", &history).map(|sink| sink.id);
        assert!(resolve(FileFormat::Csv).is_err_and(|e| e.to_string().contains("column l")));
        assert_eq!(resolve(FileFormat::Parquet).unwrap(), SinkId(1));
    }

    #[test]
    fn sinks_that_would_mix_their_rows_meet() {
        let files =
            |path: &str| SinkTarget::Files { format: FileFormat::Csv, path: path.into(), partition_by: None };
        let topic = |name: &str| SinkTarget::Kafka { topic: name.into() };
        assert!(files("a").meets(&files("a/b")) && files("a/b").meets(&files("a")));
        assert!(!files("a").meets(&files("ab")) && !files("a").meets(&topic("a")));
        assert!(topic("a").meets(&topic("a")) && !topic("a").meets(&topic("b")));
    }
}
