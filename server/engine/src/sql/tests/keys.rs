//! Keys, names and windows, by running definitions.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};

use super::run::{epoch, features, records};
use super::{events, plan};
use crate::epoch::Reason;
use crate::query::Shape;

fn strings(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

#[test]
fn a_compound_key_with_an_enum_and_an_expression() {
    let sql = "SELECT kind, COUNT(*) AS n, upper(user_id) AS who FROM TUMBLE(events, DESCRIPTOR(timestamp), INTERVAL '1' DAY) \
        GROUP BY who, kind, window_end";
    let query = plan(sql, &[events()]).unwrap();
    assert_eq!(query.key, [2, 0], "in the order of GROUP BY");
    let rows =
        records(&[("user_id", strings(&["a", "A", "b", "a"])), ("kind", strings(&["x", "x", "x", "y"]))]);
    assert_eq!(features(&epoch(sql, &events(), &rows)), ["x | 2 | A", "y | 1 | A", "x | 1 | B"]);
}

#[test]
fn null_keys_are_quarantined_after_where_was_judged() {
    let kinds: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), None, None]));
    let rows = records(&[("kind", kinds), ("clicks", Arc::new(Int64Array::from(vec![1, 1, 0])))]);
    let sql = "SELECT kind, COUNT(*) AS n FROM TUMBLE(events, DESCRIPTOR(timestamp), INTERVAL '1' DAY) \
        WHERE clicks > 0 GROUP BY kind, window_end";
    let output = epoch(sql, &events(), &rows);
    assert_eq!(features(&output), ["x | 1"]);
    assert_eq!(
        (output.counts[0].applied, output.counts[0].filtered, output.counts[0].quarantined),
        (1, 1, 1)
    );
    assert_eq!((output.rejected[0].record.offset, output.rejected[0].reason), (1, Reason::NullKey));
}

#[test]
fn windows_with_an_offset_and_before_1970() {
    let hours = |hours: &[i64]| -> ArrayRef {
        let times = hours.iter().map(|h| h * 3_600_000_000);
        Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
    };
    let rows = records(&[("timestamp", hours(&[-30, -3, -2, 0, 21, 22]))]);
    let sql = "SELECT window_start, window_end, window_time, COUNT(*) AS n FROM TUMBLE(events, DESCRIPTOR(timestamp), \
        INTERVAL '1' DAY, INTERVAL '-2' HOURS) GROUP BY window_start, window_end, window_time";
    assert_eq!(
        features(&epoch(sql, &events(), &rows)),
        [
            "1969-12-29T22:00:00Z | 1969-12-30T22:00:00Z | 1969-12-30T21:59:59.999999Z | 1",
            "1969-12-30T22:00:00Z | 1969-12-31T22:00:00Z | 1969-12-31T21:59:59.999999Z | 1",
            "1969-12-31T22:00:00Z | 1970-01-01T22:00:00Z | 1970-01-01T21:59:59.999999Z | 3",
            "1970-01-01T22:00:00Z | 1970-01-02T22:00:00Z | 1970-01-02T21:59:59.999999Z | 1",
        ]
    );
}

#[test]
fn columns_of_the_window_are_columns_like_others() {
    let rows = records(&[("clicks", Arc::new(Int64Array::from(vec![1, 2, 3, 4])))]);
    let sql = "SELECT user_id, SUM(s) AS s FROM (SELECT user_id, window_end AS until, clicks * 2 AS s FROM \
        TUMBLE(events, DESCRIPTOR(timestamp), INTERVAL '2' SECONDS) \
        WHERE window_start < TIMESTAMP '1970-01-01 00:00:02' OR clicks = 4) AS t GROUP BY user_id, until";
    assert_eq!(features(&epoch(sql, &events(), &rows)), ["u | 6", "u | 8"]);
    let sql = "SELECT user_id, MAX(date_part('epoch', window_end - timestamp)) AS left_over FROM \
        TUMBLE(events, DESCRIPTOR(timestamp), INTERVAL '4' SECONDS) GROUP BY user_id, window_end";
    assert_eq!(features(&epoch(sql, &events(), &rows)), ["u | 4.0"]);
}

#[test]
fn having_and_an_outer_select_leave_rows_out() {
    let rows = records(&[
        ("user_id", strings(&["a", "b", "b"])),
        ("clicks", Arc::new(Int64Array::from(vec![5, 1, 1]))),
    ]);
    let inner = "SELECT user_id, window_end, SUM(clicks) AS s, COUNT(*) AS n FROM TUMBLE(events, DESCRIPTOR(timestamp), \
        INTERVAL '1' DAY) GROUP BY user_id, window_end HAVING n > 1";
    assert_eq!(features(&epoch(inner, &events(), &rows)), ["b | 1970-01-02T00:00:00Z | 2 | 2"]);
    let outer = format!("WITH t AS ({inner}) SELECT user_id AS u, s / n AS mean FROM t WHERE s < 5");
    assert_eq!(features(&epoch(&outer, &events(), &rows)), ["b | 1.0"]);
}

#[test]
fn only_columns_that_are_read_are_asked_for() {
    let sql = "SELECT user_id, SUM(clicks) AS s FROM TUMBLE((SELECT * FROM events WHERE ok), DESCRIPTOR(timestamp), \
        INTERVAL '1' DAY) GROUP BY user_id, window_end";
    let query = plan(sql, &[events()]).unwrap();
    let schema = events().schema;
    let names: Vec<&str> =
        query.sources[0].columns.iter().map(|i| schema.field(*i).name().as_str()).collect();
    assert_eq!(names, ["user_id", "clicks", "ok", "timestamp"]);
    assert_eq!(query.sources[0].event_time, 3);
    let Shape::Windowed(windowed) = &query.shape else { panic!("no window") };
    assert!(windowed.within.is_empty(), "the window's own columns need not be made");
}
