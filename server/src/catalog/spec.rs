//! What a user asks for: the bodies of the create calls. Durations are seconds, instants RFC 3339.

use millpond_engine::time::{Micros, Span};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{Emit, Format, Name, OnBadRecord, SinkSpec, TimeMode, TimeUnit};

/// A length of time: seconds, fractions allowed.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct Seconds(pub f64);

impl From<Seconds> for Span {
    fn from(seconds: Seconds) -> Self {
        Self((seconds.0 * 1e6).round() as i64)
    }
}

impl From<Span> for Seconds {
    fn from(span: Span) -> Self {
        Self(span.0 as f64 / 1e6)
    }
}

/// A stream to be created.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamSpec {
    /// Name, unique among streams
    #[schema(value_type = String, example = "events")]
    pub name: Name,
    /// Avro schema, as JSON or as text; without it the latest one of the subject. With `format` `json`:
    /// the columns, as `[{"name", "type", "nullable"}]`, or a JSON Schema of objects
    #[schema(value_type = Option<Value>)]
    #[serde(default)]
    pub schema: Option<Value>,
    /// What records are: `avro`, framed as Confluent's serializers do, or `json`: plain objects, or framed
    #[schema(value_type = String, example = "avro")]
    #[serde(default)]
    pub format: Format,
    /// Subject in the schema registry; `<topic or name>-value` by default
    #[serde(default)]
    pub subject: Option<String>,
    /// Kafka topic; without it the stream is an embedded log
    #[serde(default)]
    pub topic: Option<String>,
    /// Partitions of an embedded log
    #[serde(default)]
    pub partitions: Option<u32>,
    /// The event-time column
    #[schema(example = "timestamp")]
    pub event_time: String,
    /// Unit of the event time where it is a plain long
    #[schema(value_type = Option<String>, example = "ms")]
    #[serde(default)]
    pub event_time_unit: Option<TimeUnit>,
    /// How far the watermark stays behind the greatest event time, seconds
    #[serde(default)]
    pub watermark_delay: Seconds,
    /// A partition that is quiet for this long stops holding the others back, seconds
    #[serde(default)]
    pub idle_timeout: Option<Seconds>,
    /// The watermark of a wholly quiet live stream goes on with the clock
    #[serde(default)]
    pub idle_advance: bool,
    /// Event times further ahead of the clock are quarantined, seconds
    #[serde(default = "ten_minutes")]
    pub max_future_skew: Seconds,
    /// `live` or `historical`
    #[schema(value_type = String, example = "live")]
    #[serde(default)]
    pub time: TimeMode,
    /// `quarantine` or `halt`
    #[schema(value_type = String, example = "quarantine")]
    #[serde(default)]
    pub on_bad_record: OnBadRecord,
}

fn ten_minutes() -> Seconds {
    Seconds(600.0)
}

/// A feature group to be created: derived with `sql`, else ingested with `features` or `schema`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupSpec {
    /// Name
    #[schema(value_type = String, example = "ctr_5min")]
    pub name: Name,
    /// Version, from 1
    #[serde(default = "one")]
    pub version: u32,
    /// For people
    #[serde(default)]
    pub description: Option<String>,
    /// One SELECT over streams, with a window
    #[serde(default)]
    pub sql: Option<String>,
    /// Primary key; of a derived group it follows from the SQL and is only compared
    #[serde(default)]
    pub primary_key: Option<Vec<String>>,
    /// Event-time column; of a derived group it follows from the SQL
    #[serde(default)]
    pub event_time: Option<String>,
    /// Whether it has online rows; yes by default
    #[serde(default)]
    pub online_enabled: Option<bool>,
    /// `on_close`
    #[schema(value_type = String, example = "on_close")]
    #[serde(default)]
    pub emit: Emit,
    /// How long after its close a window still takes records, seconds
    #[serde(default)]
    pub allowed_lateness: Option<Seconds>,
    /// Values older than this are not served and not joined, seconds
    #[serde(default)]
    pub ttl: Option<Seconds>,
    /// `earliest`, `latest` or an instant: what was appended from then on (of a topic: by its records'
    /// timestamps)
    #[serde(default)]
    pub start: Option<String>,
    /// Accepted for Hopsworks' users; derived groups are always fed by a stream
    #[serde(default)]
    pub stream: Option<bool>,
    /// Ingested groups: Avro schema of a row
    #[schema(value_type = Option<Object>)]
    #[serde(default)]
    pub schema: Option<Value>,
    /// Ingested groups: columns, where there is no Avro schema
    #[schema(value_type = Option<Vec<Object>>)]
    #[serde(default)]
    pub features: Option<Vec<FeatureSpec>>,
    /// Ingested groups: Kafka topic of the rows
    #[serde(default)]
    pub topic: Option<String>,
    /// Ingested groups: how far the watermark stays behind, seconds
    #[serde(default)]
    pub watermark_delay: Option<Seconds>,
    /// Ingested groups: `live` or `historical`
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    pub time: Option<TimeMode>,
    /// Where else its rows go: Kafka topics, files. They are given when the group is created
    #[serde(default)]
    pub sinks: Option<Vec<SinkSpec>>,
}

/// A column of a stream of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ColumnSpec {
    /// Name
    pub name: String,
    /// Type, as `GET` of a stream shows it: `bigint`, `string`, `array<double>`, …
    #[serde(rename = "type")]
    pub data_type: String,
    /// Whether it may be null or missing; yes by default
    #[serde(default = "yes")]
    pub nullable: bool,
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

/// A column of an ingested group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FeatureSpec {
    /// Name
    pub name: String,
    /// Type, as `GET` of a group shows it: `bigint`, `string`, `decimal(10,2)`, …
    #[serde(rename = "type")]
    pub data_type: String,
}

/// A feature view to be created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ViewSpec {
    /// Name
    #[schema(value_type = String, example = "ctr_fv")]
    pub name: Name,
    /// Version, from 1
    #[serde(default = "one")]
    pub version: u32,
    /// For people
    #[serde(default)]
    pub description: Option<String>,
    /// What it selects and joins
    pub query: QuerySpec,
    /// Label columns of its training data
    #[serde(default)]
    pub labels: Vec<String>,
}

/// A selection of one group's features, and what is joined to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(no_recursion)]
pub struct QuerySpec {
    /// The group
    pub feature_group: GroupRef,
    /// Features in order; without them all but the primary key
    #[serde(default)]
    pub features: Option<Vec<String>>,
    /// Joined groups, in order
    #[serde(default)]
    pub joins: Vec<JoinSpec>,
}

/// A group by name and version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupRef {
    /// Name
    #[schema(value_type = String, example = "ctr_5min")]
    pub name: Name,
    /// Version
    #[serde(default = "one")]
    pub version: u32,
}

/// A joined selection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(no_recursion)]
pub struct JoinSpec {
    /// What is joined
    pub query: QuerySpec,
    /// Key columns of the same name on both sides; the joined group's primary key by default
    #[serde(default)]
    pub on: Option<Vec<String>>,
    /// Columns of the entries …
    #[serde(default)]
    pub left_on: Option<Vec<String>>,
    /// … that hold these columns of the joined group's primary key
    #[serde(default)]
    pub right_on: Option<Vec<String>>,
    /// `left` is the only kind: an entity without a row has nulls
    #[serde(default)]
    pub join_type: Option<String>,
    /// Put before the names of the joined features
    #[serde(default)]
    pub prefix: Option<String>,
}

/// Reads an RFC 3339 instant (any offset; a date alone is its midnight, UTC).
pub fn parse_instant(text: &str) -> Option<Micros> {
    if let Ok(t) = chrono::DateTime::parse_from_rfc3339(text) {
        return Some(Micros(t.timestamp_micros()));
    }
    let naive = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f%:z"];
    for format in naive {
        if let Ok(t) = chrono::NaiveDateTime::parse_from_str(text, format) {
            return Some(Micros(t.and_utc().timestamp_micros()));
        }
        if let Ok(t) = chrono::DateTime::parse_from_str(text, format) {
            return Some(Micros(t.timestamp_micros()));
        }
    }
    let date = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(Micros(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_as_people_write_them() {
        let day = 86_400_000_000;
        assert_eq!(parse_instant("1970-01-02T00:00:00Z"), Some(Micros(day)));
        assert_eq!(parse_instant("1970-01-02"), Some(Micros(day)));
        assert_eq!(parse_instant("1970-01-02T01:00:00+01:00"), Some(Micros(day)));
        assert_eq!(parse_instant("1970-01-02 00:00:00.5"), Some(Micros(day + 500_000)));
        assert_eq!(parse_instant("tomorrow"), None);
    }
}
