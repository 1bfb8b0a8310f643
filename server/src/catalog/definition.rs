//! What the `catalog` column family holds: one JSON document per object.

use millpond_engine::time::{Micros, Span};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Name, Sink};

/// Identity of a catalog object: never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamId(pub u32);

/// Identity of one version of a feature group, and of its pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupId(pub u32);

/// Identity of one version of a feature view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ViewId(pub u32);

/// Whether a stream's events happen now or are a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeMode {
    /// Rows are available at the instant of their commit.
    #[default]
    Live,
    /// Availability is modelled from event time.
    Historical,
}

/// What the values of a stream's records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Avro in a Confluent frame, under a schema of the registry.
    #[default]
    Avro,
    /// JSON objects, under the columns that were declared with the stream.
    Json,
    /// Rows of a feature group with their stamps, many in a record: written by the server alone.
    Changes,
}

/// The group whose changes a stream holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangesOf {
    /// The group.
    pub group: GroupId,
    /// Its name.
    pub name: Name,
    /// Its version.
    pub version: u32,
    /// Its primary key, in order.
    pub primary_key: Vec<String>,
    /// Rows older than this are none.
    pub ttl: Option<Span>,
    /// There were records to read when it was created.
    pub backfills: bool,
}

/// What a bad record does to the pipelines that read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnBadRecord {
    /// It is set aside, the pipeline goes on.
    #[default]
    Quarantine,
    /// The pipeline stops, visibly, before it.
    Halt,
}

/// Unit of an event time that is a plain long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimeUnit {
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Millis,
    /// Microseconds.
    #[serde(rename = "us")]
    Micros,
}

impl TimeUnit {
    /// The same unit as the decoder names it.
    pub fn engine(self) -> millpond_engine::avro::Unit {
        match self {
            Self::Seconds => millpond_engine::avro::Unit::S,
            Self::Millis => millpond_engine::avro::Unit::Ms,
            Self::Micros => millpond_engine::avro::Unit::Us,
        }
    }
}

/// A named, append-only log of events with a schema, an event time and a watermark delay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stream {
    /// Identity.
    pub id: StreamId,
    /// Identity across stores.
    pub uuid: Uuid,
    /// Name, unique among streams.
    pub name: Name,
    /// Kafka topic; `None`: the embedded log.
    pub topic: Option<String>,
    /// Partitions (Kafka: as found when the stream was created).
    pub partitions: u32,
    /// Subject in the schema registry.
    pub subject: String,
    /// The reader schema: Avro JSON, all of it (logical types, defaults).
    pub schema: String,
    /// Its id in the registry: JSON rows are framed with it. 0 where records are JSON.
    pub schema_id: u32,
    /// What its records are.
    #[serde(default)]
    pub format: Format,
    /// The event-time column.
    pub event_time: String,
    /// Its unit, where it is a plain long.
    pub event_time_unit: Option<TimeUnit>,
    /// How far the watermark stays behind the greatest event time.
    pub watermark_delay: Span,
    /// A partition at its end and quiet for this long stops holding the others back.
    pub idle_timeout: Option<Span>,
    /// A wholly quiet live stream's watermark goes on at the rate of the clock.
    pub idle_advance: bool,
    /// Event times further ahead of the clock than this are quarantined.
    pub max_future_skew: Span,
    /// Live or historical.
    pub time: TimeMode,
    /// Quarantine or halt.
    pub on_bad_record: OnBadRecord,
    /// When it was created.
    pub created_at: Micros,
    /// Offsets per partition at which a bounded replay ended (`finish`).
    pub finish: Option<Vec<i64>>,
    /// Of a stream of changes, the group. None in what the first releases wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes_of: Option<ChangesOf>,
}

/// When rows come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Emit {
    /// A row per key and window when the watermark passes the window's end.
    #[default]
    OnClose,
    /// Also the current value of a touched window, once per epoch.
    OnUpdate,
}

/// Where a new group begins to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// What the log still has.
    #[default]
    Earliest,
    /// What comes after the group's creation.
    Latest,
    /// The first record at or after an instant.
    At(Micros),
}

/// One column of a feature group, in the types of `contract.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Name.
    pub name: String,
    /// Type: `boolean`, `int`, `bigint`, `float`, `double`, `decimal(p,s)`, `string`, `binary`,
    /// `date`, `timestamp`, `timestamp_ntz`, `array<…>`, `map<string,…>`, `struct<name:…>`.
    #[serde(rename = "type")]
    pub data_type: String,
    /// False for the primary key's columns.
    pub nullable: bool,
}

/// One stream that a group reads, as it was when the group was created.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupSource {
    /// The stream.
    pub stream: StreamId,
    /// Its name.
    pub name: Name,
    /// The reader schema that this group keeps.
    pub schema: String,
    /// First offset per partition (resolved from [`Start`] at creation).
    pub start: Vec<i64>,
    /// End offset per partition at creation: a live group's backfill ends there.
    pub backfill_end: Vec<i64>,
}

/// A versioned table of features with a primary key and an event time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureGroup {
    /// Identity, and that of its pipeline.
    pub id: GroupId,
    /// Identity across stores; part of the Delta table's path.
    pub uuid: Uuid,
    /// Name.
    pub name: Name,
    /// Version, from 1.
    pub version: u32,
    /// For people.
    pub description: String,
    /// The SQL of a derived group; `None`: rows are inserted.
    pub sql: Option<String>,
    /// What it reads: the streams of the SQL, or the group's own log.
    pub sources: Vec<GroupSource>,
    /// Primary key, in order.
    pub primary_key: Vec<String>,
    /// Name of the event-time column: `window_end` where the SQL has a window.
    pub event_time: String,
    /// Its columns: the features with the primary key, as defined.
    pub columns: Vec<Column>,
    /// Whether it has online rows.
    pub online_enabled: bool,
    /// When rows come out.
    pub emit: Emit,
    /// How long after its close a window still takes records.
    pub allowed_lateness: Span,
    /// Values older than this are not served and not joined.
    pub ttl: Option<Span>,
    /// Where it began.
    pub start: Start,
    /// Live or historical, as its sources are.
    pub time: TimeMode,
    /// Paused by a user.
    pub paused: bool,
    /// Where else its rows go. None in what the first releases wrote.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sinks: Vec<Sink>,
    /// SHA-256 over the definition, hex.
    pub definition_hash: String,
    /// The engine's semantics when it was created.
    pub semantics: u32,
    /// When it was created.
    pub created_at: Micros,
}

/// One feature of a view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewFeature {
    /// The group (position in [`FeatureView::groups`]).
    pub group: usize,
    /// The group's column.
    pub column: String,
    /// Name in the view (a join's prefix applied).
    pub name: String,
}

/// One feature group of a view, and how its key is found in an entry or a label row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewGroup {
    /// The group's identity.
    pub id: GroupId,
    /// The group's name.
    pub name: Name,
    /// The group's version.
    pub version: u32,
    /// Names under which the entries carry the group's primary key, in key order.
    pub key: Vec<String>,
}

/// A versioned selection and join of features from feature groups: what a model reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureView {
    /// Identity.
    pub id: ViewId,
    /// Identity across stores.
    pub uuid: Uuid,
    /// Name.
    pub name: Name,
    /// Version, from 1.
    pub version: u32,
    /// For people.
    pub description: String,
    /// The groups joined, the left-most first.
    pub groups: Vec<ViewGroup>,
    /// The features, in the order they are served.
    pub features: Vec<ViewFeature>,
    /// Names of the label columns.
    pub labels: Vec<String>,
    /// SHA-256 over the definition, hex.
    pub definition_hash: String,
    /// When it was created.
    pub created_at: Micros,
}
