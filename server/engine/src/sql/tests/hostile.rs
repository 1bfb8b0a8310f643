//! Text that no one would write: every definition ends in a plan or in a refusal.

use proptest::prelude::*;

use super::{Code, events, groups, lowered, plan, streams};

const WINDOW: &str = "FROM TUMBLE(events, DESCRIPTOR(timestamp), INTERVAL '1' DAY)";

#[test]
fn long_chains_and_exploding_aliases_are_refused() {
    let refused = |sql: &str| {
        let error = plan(sql, &[events()]).unwrap_err();
        assert_eq!(error.code, Code::Unsupported, "{error:?}");
        error.construct
    };
    let chain =
        |n| format!("SELECT SUM({}) AS s {WINDOW} GROUP BY window_end", vec!["clicks"; n].join(" + "));
    assert!(plan(&chain(150), &[events()]).is_ok());
    assert!(refused(&chain(1_000)).contains("levels"));
    assert!(refused(&chain(1_000_000)).contains("tokens"));

    let mut columns = vec!["SUM(clicks) AS a0".to_owned()];
    columns.extend((1..40).map(|i| format!("a{} + a{} AS a{i}", i - 1, i - 1)));
    assert!(
        refused(&format!("SELECT {} {WINDOW} GROUP BY window_end", columns.join(", "))).contains("parts")
    );

    let nested = format!("SELECT {}1{} AS s {WINDOW} GROUP BY window_end", "(".repeat(500), ")".repeat(500));
    assert_eq!(plan(&nested, &[events()]).unwrap_err().code, Code::Syntax);
}

/// Words, names and signs that definitions are made of.
fn token() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "SELECT",
        "FROM",
        "WHERE",
        "GROUP BY",
        "HAVING",
        "WITH",
        "AS",
        "CASE WHEN",
        "THEN",
        "ELSE",
        "END",
        "NULL",
        "AND",
        "OR",
        "NOT",
        "IN",
        "BETWEEN",
        "LIKE",
        "CAST(",
        "BIGINT",
        "DISTINCT",
        "FILTER (WHERE",
        "OVER",
        "UNION ALL",
        "JOIN",
        "ORDER BY",
        "TUMBLE(",
        "HOP(",
        "SESSION(",
        "TUMBLE_START(",
        "PARTITION BY",
        "RANGE BETWEEN",
        "PRECEDING",
        "AND CURRENT ROW",
        "WINDOW w AS (",
        "LEFT JOIN",
        "ON",
        "USING",
        "INTERVAL '1' DAY",
        "clicks c",
        "impressions i",
        "views",
        "c.ts",
        "i.event_time",
        "user",
        "SIZE =>",
        "TABLE",
        "DESCRIPTOR(",
        "INTERVAL",
        "'1'",
        "DAY",
        "events",
        "twins",
        "timestamp",
        "user_id",
        "clicks",
        "kind",
        "price",
        "place",
        "tags",
        "window_end",
        "window_start",
        "n",
        "SUM(",
        "COUNT(",
        "MAX(",
        "AVG(",
        "lower(",
        "now(",
        "date_trunc(",
        "(",
        ")",
        ",",
        ".",
        "*",
        "+",
        "-",
        "/",
        "%",
        "=",
        "<",
        ">",
        "0",
        "1",
        "1.5",
        "'x'",
        "[",
        "]",
        "{",
        "}",
        "::",
        "=>",
        ";",
        "\"",
        "?",
        "$1",
        "--",
        "|>",
    ])
}

fn soup(tokens: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = String> {
    prop::collection::vec(token(), tokens).prop_map(|tokens| tokens.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_text_is_planned_or_refused(text in soup(0..30)) {
        let _ = plan(&text, &streams());
        let _ = super::tables(&text);
    }

    /// Around a valid frame, so that more than the parser is reached.
    #[test]
    fn any_expression_is_planned_or_refused(select in soup(1..8), predicate in soup(1..6), key in soup(1..3)) {
        let over = "OVER (PARTITION BY user_id ORDER BY timestamp RANGE INTERVAL '1' DAY PRECEDING)";
        let bound = "c.ts BETWEEN i.event_time AND i.event_time + INTERVAL '1' DAY";
        for sql in [
            format!("SELECT user_id, {select} AS x {WINDOW} GROUP BY user_id, window_end"),
            format!("SELECT user_id, MAX({select}) AS x {WINDOW} WHERE {predicate} GROUP BY user_id, window_end"),
            format!("SELECT {key} AS k, COUNT(*) AS n {WINDOW} GROUP BY {key}, window_end HAVING {predicate}"),
            format!("SELECT user_id, MAX({select}) AS x FROM SESSION(events PARTITION BY {key}, DESCRIPTOR(timestamp), INTERVAL '1' DAY) GROUP BY user_id, window_end"),
            format!("SELECT user_id, {select} AS x FROM events WHERE {predicate} GROUP BY user_id, HOP(timestamp, INTERVAL '1' DAY, INTERVAL '2' DAYS)"),
            format!("SELECT user_id, MAX({select}) {over} AS x, COUNT(*) OVER (PARTITION BY {key} ORDER BY timestamp RANGE INTERVAL '1' DAY PRECEDING) AS n FROM events WHERE {predicate}"),
            format!("SELECT i.user_id, {select} AS x FROM impressions i LEFT JOIN clicks c ON i.impr_id = c.impr_id AND {bound} AND {predicate} GROUP BY i.user_id, TUMBLE(i.event_time, INTERVAL '1' DAY)"),
            format!("SELECT k, COUNT(*) AS n FROM TUMBLE((SELECT {key} AS k, {select} AS x, ts FROM clicks UNION ALL SELECT {key}, {select}, event_time FROM impressions WHERE {predicate}), DESCRIPTOR(ts), INTERVAL '1' DAY) GROUP BY k, window_end"),
        ] {
            if let Err(error) = lowered(&sql, &streams(), &groups()) {
                prop_assert!(!error.message.is_empty() && !error.construct.is_empty(), "{sql}: {error:?}");
                prop_assert!(!error.message.contains("internal"), "{sql}: {error:?}");
            }
        }
    }
}
