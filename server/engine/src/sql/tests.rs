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

use super::{CHANGES, Code, Group, Mention, Table, lowered, normalised_tokens, plan, plan_with};

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

/// Two groups that may be looked up.
pub(super) fn groups() -> [Group<'static>; 2] {
    static USER: std::sync::LazyLock<Vec<String>> = std::sync::LazyLock::new(|| vec!["user_id".into()]);
    static PRICE: std::sync::LazyLock<Vec<String>> =
        std::sync::LazyLock::new(|| vec!["campaign_id".into(), "day".into()]);
    let of = |names: [&str; 2], changes, key, fields: Vec<Field>| {
        let stamp = [time(), time(), DataType::Int64, DataType::Utf8];
        let stamp = CHANGES.iter().zip(stamp).map(|(name, data_type)| Field::new(*name, data_type, false));
        let schema = Arc::new(Schema::new(fields.into_iter().chain(stamp).collect::<Vec<_>>()));
        let changes = Table { name: changes, schema, event_time: CHANGES[1] };
        Group { names: names.map(str::to_owned).to_vec(), changes, key, ttl: None }
    };
    let users = vec![
        Field::new("user_id", DataType::Utf8, false),
        Field::new("country", DataType::Utf8, true),
        Field::new("score", DataType::Float64, true),
    ];
    let prices = vec![
        Field::new("campaign_id", DataType::Utf8, false),
        Field::new("day", DataType::Int32, false),
        Field::new("price", DataType::Decimal128(10, 2), true),
    ];
    [
        of(["users", "users_1"], "users_1_changes", &USER, users),
        Group {
            ttl: Some(crate::time::Span(86_400_000_000)),
            ..of(["prices_2", "prices_2"], "prices_2_changes", &PRICE, prices)
        },
    ]
}

/// What a query reads: streams, and the changes of groups.
fn tables(sql: &str) -> Result<Vec<String>, super::Error> {
    let name = |mention: Mention| match mention {
        Mention::Stream(name) => name,
        Mention::Group(name) => {
            let groups = groups();
            let group = groups.iter().find(|group| group.names.contains(&name));
            group.map_or(format!("group {name}"), |group| group.changes.name.to_owned())
        }
    };
    Ok(super::tables(sql)?.into_iter().map(name).collect())
}

#[test]
fn the_streams_of_a_query() {
    let of = |sql: &str| tables(sql).unwrap();
    assert_eq!(
        of(
            "SELECT 1 FROM a AS c LEFT JOIN Others FOR SYSTEM_TIME AS OF c.ts AS u ON c.id = u.id JOIN users FOR SYSTEM_TIME AS OF ts"
        ),
        ["a", "group others", "users_1_changes"]
    );
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
