//! SQL in, lowered plans or refusals out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};

use super::{Table, plan};

fn events() -> Table<'static> {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let symbols = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let schema = Schema::new(vec![
        Field::new("user_id", DataType::Utf8, false),
        Field::new("clicks", DataType::Int64, true),
        Field::new("impressions", DataType::Int32, true),
        Field::new("kind", symbols, true),
        Field::new("price", DataType::Float64, true),
        Field::new("amount", DataType::Decimal128(10, 2), true),
        Field::new("timestamp", time, false),
    ]);
    Table { name: "events", schema: Arc::new(schema), event_time: "timestamp" }
}

#[test]
fn feldera_text_as_it_stands() {
    let sql = "SELECT user_id, SUM(clicks) / NULLIF(SUM(impressions), 0) as ctr FROM TUMBLE(events, DESCRIPTOR(timestamp), INTERVAL '5' MINUTES) GROUP BY user_id, window_end";
    let query = plan(sql, &[events()]).unwrap();
    println!("{}", query.explain(crate::time::Span(0), crate::time::Span(0)));
}
