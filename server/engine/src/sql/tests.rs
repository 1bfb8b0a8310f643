//! SQL in, lowered plans or refusals out: `lowered.txt`, `refused.txt`; and rows, by running them.
//!
//! `UPDATE_GOLDEN=1 cargo test golden` writes the files anew; read the difference before it is committed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod aggregates;
mod arithmetic;
mod docs;
mod golden;
mod hostile;
mod keys;
mod run;
mod sessions;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};

use super::{Code, Table, lowered, normalised_tokens, plan, tables};

/// The event time of the test streams.
fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// A stream with a column of every kind.
fn events() -> Table<'static> {
    let symbols = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let place = DataType::Struct(vec![Field::new("City", DataType::Utf8, true)].into());
    let tags = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
    let fields = vec![
        Field::new("user_id", DataType::Utf8, false),
        Field::new("clicks", DataType::Int64, true),
        Field::new("impressions", DataType::Int32, true),
        Field::new("kind", symbols, true),
        Field::new("price", DataType::Float64, true),
        Field::new("amount", DataType::Decimal128(10, 2), true),
        Field::new("wide", DataType::Decimal128(38, 0), true),
        Field::new("ok", DataType::Boolean, true),
        Field::new("born", DataType::Date32, true),
        Field::new("at", DataType::Time64(TimeUnit::Microsecond), true),
        Field::new("raw", DataType::Binary, true),
        Field::new("place", place, true),
        Field::new("tags", tags, true),
        Field::new("Mixed", DataType::Int64, true),
        Field::new("seen", time(), true),
        Field::new("timestamp", time(), false),
    ];
    Table { name: "events", schema: Arc::new(Schema::new(fields)), event_time: "timestamp" }
}

/// A stream whose columns differ only in case.
fn twins() -> Table<'static> {
    let fields = ["id", "Id"].map(|name| Field::new(name, DataType::Utf8, true));
    let schema = Schema::new([fields.as_slice(), &[Field::new("ts", time(), false)]].concat());
    Table { name: "twins", schema: Arc::new(schema), event_time: "ts" }
}

/// Two streams whose rows belong together, and a third.
fn impressions() -> Table<'static> {
    let fields = vec![
        Field::new("impr_id", DataType::Utf8, false),
        Field::new("user_id", DataType::Utf8, false),
        Field::new("campaign_id", DataType::Utf8, true),
        Field::new("price", DataType::Float64, true),
        Field::new("event_time", time(), false),
    ];
    Table { name: "impressions", schema: Arc::new(Schema::new(fields)), event_time: "event_time" }
}

fn clicks() -> Table<'static> {
    let fields = vec![
        Field::new("click_id", DataType::Utf8, false),
        Field::new("impr_id", DataType::Utf8, false),
        Field::new("user_id", DataType::Utf8, false),
        Field::new("x", DataType::Int32, true),
        Field::new("ts", time(), false),
    ];
    Table { name: "clicks", schema: Arc::new(Schema::new(fields)), event_time: "ts" }
}

fn views() -> Table<'static> {
    let fields = vec![
        Field::new("impr_id", DataType::Utf8, false),
        Field::new("user", DataType::Utf8, false),
        Field::new("seconds", DataType::Float64, true),
        Field::new("at", time(), false),
    ];
    Table { name: "views", schema: Arc::new(Schema::new(fields)), event_time: "at" }
}

/// All of them.
pub(super) fn streams() -> [Table<'static>; 5] {
    [events(), twins(), impressions(), clicks(), views()]
}

#[test]
fn the_streams_of_a_query() {
    let of = |sql: &str| tables(sql).unwrap();
    assert_eq!(of("SELECT 1 FROM TUMBLE(Events, DESCRIPTOR(t), INTERVAL '1' DAY)"), ["events"]);
    assert_eq!(of("SELECT 1 FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(t), INTERVAL '1' DAY))"), ["events"]);
    assert_eq!(
        of("SELECT 1 FROM TUMBLE(DATA => TABLE a, TIMECOL => DESCRIPTOR(t), SIZE => INTERVAL '1' DAY)"),
        ["a"]
    );
    assert_eq!(
        of("WITH e AS (SELECT * FROM a) SELECT 1 FROM TUMBLE(e, DESCRIPTOR(t), INTERVAL '1' DAY)"),
        ["a"]
    );
    assert_eq!(of("SELECT 1 FROM TUMBLE((SELECT * FROM \"a\"), DESCRIPTOR(t), INTERVAL '1' DAY)"), ["a"]);
    assert_eq!(of("SELECT 1 FROM a JOIN b ON a.x = b.x JOIN a AS c ON true"), ["a", "b", "a"]);
    assert_eq!(of("SELECT x FROM a UNION ALL (SELECT x FROM b UNION ALL SELECT x FROM c)"), ["a", "b", "c"]);
    assert_eq!(
        of("WITH x AS (SELECT * FROM a), y AS (SELECT * FROM b), z AS (SELECT * FROM c) \
            SELECT 1 FROM y JOIN x ON true JOIN y AS y2 ON true"),
        ["b", "a", "b"],
        "a CTE is read where it is mentioned, and as often"
    );
    assert_eq!(of("SELECT 1 FROM SESSION(a PARTITION BY k, j, DESCRIPTOR(t), INTERVAL '1' DAY)"), ["a"]);
    assert_eq!(
        of("WITH a AS (SELECT * FROM a) SELECT 1 FROM a"),
        ["a"],
        "a CTE may hide the stream it reads"
    );
}

#[test]
fn comments_white_space_and_a_last_semicolon_are_no_part_of_a_definition() {
    let plain = normalised_tokens("SELECT a , 'x  y' FROM t").unwrap();
    assert_eq!(normalised_tokens("SELECT a,'x  y' -- why\n  FROM /* which */ t;").unwrap(), plain);
    assert_ne!(normalised_tokens("SELECT a,'x y' FROM t").unwrap(), plain, "the inside of a string is");
    assert_ne!(normalised_tokens("SELECT a,'x  y' FROM \"t\"").unwrap(), plain, "quotes are");
    assert_eq!(normalised_tokens("SELECT 'open").unwrap_err().code, Code::Syntax);
}

#[test]
fn planning_is_deterministic() {
    let sql = "SELECT user_id, SUM(clicks) / SUM(impressions) AS ctr, COUNT(DISTINCT kind) AS kinds FROM \
        TUMBLE(events, DESCRIPTOR(timestamp), INTERVAL '5' MINUTES) WHERE price > 1 GROUP BY user_id, window_end";
    let first = format!("{:?}", plan(sql, &[events()]).unwrap());
    for _ in 0..5 {
        assert_eq!(format!("{:?}", plan(sql, &[twins(), events()]).unwrap()), first);
    }
}
