//! The columns of a feature group's history: what the outbox holds and Delta keeps (`contract.md`).
//!
//! The features with the primary key as defined, then `_event_time`, `_event_date`,
//! `_available_at`, `_modelled`, `_commit`, `_op`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// Event time of the row.
pub const EVENT_TIME: &str = "_event_time";
/// UTC date of the event time: the partition column.
pub const EVENT_DATE: &str = "_event_date";
/// From when on the row was there to be served.
pub const AVAILABLE_AT: &str = "_available_at";
/// Whether `_available_at` was computed from event time instead of read from the clock.
pub const MODELLED: &str = "_modelled";
/// The epoch that wrote the row.
pub const COMMIT: &str = "_commit";
/// `upsert` or `delete`.
pub const OP: &str = "_op";

/// Text of a row that sets a value, in [`OP`].
pub const UPSERT: &str = "upsert";
/// Text of a row that removes a value, in [`OP`].
pub const DELETE: &str = "delete";

/// An instant as columns hold it: microseconds, UTC.
pub fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The columns that the history adds to the features.
pub fn own_columns() -> [Field; 6] {
    [
        Field::new(EVENT_TIME, instant(), false),
        Field::new(EVENT_DATE, DataType::Date32, false),
        Field::new(AVAILABLE_AT, instant(), false),
        Field::new(MODELLED, DataType::Boolean, false),
        Field::new(COMMIT, DataType::Int64, false),
        Field::new(OP, DataType::Utf8, false),
    ]
}

/// The history's schema for a group with these features (primary key included).
///
/// Every feature is nullable in the history, whatever the group says: a `delete` of an ingested
/// group has a key and nothing else.
pub fn schema(features: &Schema) -> SchemaRef {
    let features = features.fields().iter().map(|f| Field::new(f.name(), f.data_type().clone(), true));
    Arc::new(Schema::new(features.chain(own_columns()).collect::<Vec<_>>()))
}
