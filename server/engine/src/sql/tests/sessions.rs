//! Sessions by running them: what a definition over a clickstream says.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, TimestampMicrosecondArray};

use super::events;
use super::run::{at_once_and_one_by_one, epoch, features, records};

const MINUTE: i64 = 60_000_000;

/// Minutes and kinds, as records of one user.
fn clicks(clicks: &[(i64, &str)]) -> arrow::array::RecordBatch {
    let times = TimestampMicrosecondArray::from_iter_values(clicks.iter().map(|(at, _)| at * MINUTE));
    let kinds: StringArray = clicks.iter().map(|(_, kind)| Some(*kind)).collect();
    let times: ArrayRef = Arc::new(times.with_timezone("UTC"));
    records(&[("timestamp", times), ("kind", Arc::new(kinds))])
}

const CLICKSTREAM: &str = "
    SELECT user_id,
      $DURATION AS session_duration_min,
      COUNT(*) FILTER (WHERE kind = 'cart_add') AS cart_adds_session,
      SUM(CASE WHEN kind = 'purchase' THEN 1 ELSE 0 END) / NULLIF(SUM(CASE WHEN kind = 'page_view' THEN 1 ELSE 0 END), 0)
        AS conversion_rate_session,
      LEAST(1.0, 0.02 * COUNT(*) + 0.05 * session_duration_min) AS engagement_score,
      cart_adds_session >= 2 AND engagement_score > 0.5 AS is_likely_purchaser
    FROM SESSION(events PARTITION BY user_id, DESCRIPTOR(timestamp), INTERVAL '30' MINUTES)
    GROUP BY user_id, window_end";

#[test]
fn the_sessions_of_a_clickstream() {
    let rows = clicks(&[
        (0, "page_view"),
        (3, "cart_add"),
        (9, "cart_add"),
        (12, "purchase"),
        (41, "page_view"),
        (71, "page_view"),
        (100, "page_view"),
    ]);
    // 12 and 41 are less than 30 minutes apart, 41 and 71 are not.
    let expected = ["u | 41.0 | 2 | 0.5 | 1.0 | true", "u | 29.0 | 0 | 0.0 | 1.0 | false"];
    for duration in [
        "date_part('epoch', MAX(timestamp) - MIN(timestamp)) / 60",
        "EXTRACT(EPOCH FROM MAX(timestamp) - MIN(timestamp)) / 60",
        "(EXTRACT(EPOCH FROM MAX(timestamp)) - EXTRACT(EPOCH FROM MIN(timestamp))) / 60",
        "(date_part('epoch', MAX(timestamp)) - date_part('epoch', MIN(timestamp))) / 60.0",
        "CAST(MAX(timestamp) - MIN(timestamp) AS BIGINT) / 60000000",
        "(CAST(MAX(timestamp) AS BIGINT) - CAST(MIN(timestamp) AS BIGINT)) / 60000000",
    ] {
        let sql = CLICKSTREAM.replace("$DURATION", duration);
        assert_eq!(features(&epoch(&sql, &events(), &rows)), expected, "{duration}");
    }
    let short = clicks(&[(0, "cart_add"), (2, "cart_add")]);
    let sql = CLICKSTREAM.replace("$DURATION", "date_part('epoch', MAX(timestamp) - MIN(timestamp)) / 60");
    assert_eq!(features(&epoch(&sql, &events(), &short)), ["u | 2.0 | 2 | NULL | 0.14 | false"]);
}

#[test]
fn a_session_has_its_own_bounds_in_the_select_list_and_in_having() {
    let rows = clicks(&[(0, "a"), (10, "a"), (60, "a"), (65, "a"), (200, "a")]);
    let legacy = "SELECT user_id, date_part('epoch', SESSION_END(timestamp, INTERVAL '30' MINUTES) - SESSION_START(timestamp, INTERVAL '30' MINUTES)) / 60 AS minutes
        FROM events GROUP BY user_id, SESSION(timestamp, INTERVAL '30' MINUTES) HAVING COUNT(*) > 1";
    assert_eq!(features(&epoch(legacy, &events(), &rows)), ["u | 40.0", "u | 35.0"]);
    let table = "SELECT user_id, date_part('epoch', window_end - window_start) / 60 AS minutes
        FROM SESSION(events, DESCRIPTOR(timestamp), INTERVAL '30' MINUTES)
        GROUP BY user_id, window_start, window_end HAVING minutes > 30";
    let (at_once, one_by_one) = at_once_and_one_by_one(table, &rows);
    assert_eq!(at_once, ["u | 40.0", "u | 35.0"]);
    assert_eq!(at_once, one_by_one);
}
