//! The golden files: SQL, an arrow, and what becomes of it.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::{groups, lowered, plan, streams, tables};
use crate::time::Span;

/// Runs `outcome` over every query of a file and compares it with what stands below the query.
fn check(file: &str, outcome: impl Fn(&str) -> String) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/sql/tests").join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut written = String::new();
    let mut differences = Vec::new();
    for block in text.split("\n\n").map(str::trim).filter(|block| !block.is_empty()) {
        if block.starts_with('#') {
            write!(written, "{block}\n\n").unwrap();
            continue;
        }
        let (sql, expected) = block.split_once("\n=>\n").unwrap_or((block, ""));
        let actual = outcome(sql);
        if actual != expected {
            differences.push(format!("{sql}\n=> expected\n{expected}\n=> got\n{actual}"));
        }
        write!(written, "{sql}\n=>\n{actual}\n\n").unwrap();
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, written.trim_end().to_owned() + "\n").unwrap();
    } else {
        assert!(differences.is_empty(), "{file}:\n\n{}", differences.join("\n\n"));
    }
}

#[test]
fn golden_plans() {
    check("lowered.txt", |sql| match lowered(sql, &streams(), &groups()) {
        Ok(query) => {
            let read: Vec<&str> = query.sources.iter().map(|source| source.stream.as_str()).collect();
            assert_eq!(
                read,
                tables(sql).unwrap(),
                "the sources are the streams as they are mentioned: {sql}"
            );
            let text = query.explain(Span(5_000_000), Span(0)).to_string();
            // The last three lines say the same for every query; a test of their own has them.
            text.lines().take_while(|line| !line.starts_with("rows ")).collect::<Vec<_>>().join("\n")
        }
        Err(error) => format!("REFUSED {error:?}"),
    });
}

#[test]
fn golden_refusals() {
    check("refused.txt", |sql| match lowered(sql, &streams(), &groups()) {
        Ok(query) => format!("ACCEPTED\n{}", query.explain(Span(0), Span(0))),
        Err(error) => {
            let code = serde_json::to_value(error.code).unwrap();
            format!("{} [{}]\n{}\n{}", code.as_str().unwrap(), error.construct, error.message, error.hint)
        }
    });
}

#[test]
fn when_rows_come_out_is_said_in_words() {
    let sql = "SELECT COUNT(*) AS n FROM TUMBLE(events, DESCRIPTOR(timestamp), INTERVAL '90' SECOND) GROUP BY window_end";
    let query = plan(sql, &streams()).unwrap();
    let prompt = query.explain(Span(0), Span(0));
    assert_eq!(prompt.plan.get(2).unwrap(), "    window TUMBLE 90 seconds on timestamp");
    assert!(prompt.watermark_delay.starts_with("none:"), "{}", prompt.watermark_delay);
    let patient = query.explain(Span(60_000_000), Span(3_600_000_000));
    assert!(patient.watermark_delay.contains("less 1 minute"), "{}", patient.watermark_delay);
    assert!(patient.emission.contains("up to 1 hour later"), "{}", patient.emission);
    let sql = "SELECT i.user_id, COUNT(*) AS n FROM impressions i JOIN clicks c ON c.impr_id = i.impr_id AND c.ts \
        BETWEEN i.event_time AND i.event_time + INTERVAL '15' SECOND GROUP BY i.user_id, TUMBLE(i.event_time, INTERVAL '1' MINUTE)";
    let joined = lowered(sql, &streams(), &groups()).unwrap().explain(Span(0), Span(0));
    assert!(joined.watermark_delay.contains("the least over all streams"), "{}", joined.watermark_delay);
    assert!(joined.watermark_delay.contains("the join adds 15 seconds"), "{}", joined.watermark_delay);
    let sql = "SELECT user_id, COUNT(*) AS n FROM TUMBLE((SELECT i.user_id, i.event_time FROM impressions i \
        JOIN clicks c ON c.impr_id = i.impr_id AND c.ts BETWEEN i.event_time AND i.event_time + INTERVAL '15' SECOND \
        LEFT JOIN views v ON v.impr_id = c.impr_id AND v.at BETWEEN c.ts - INTERVAL '1' MINUTE AND c.ts + INTERVAL '1' MINUTE), \
        DESCRIPTOR(event_time), INTERVAL '1' MINUTE) GROUP BY user_id, window_end";
    let joined = lowered(sql, &streams(), &groups()).unwrap().explain(Span(0), Span(0));
    assert!(joined.watermark_delay.contains("the join adds 75 seconds"), "{}", joined.watermark_delay);
    let json = serde_json::to_value(&patient).unwrap();
    assert_eq!(json["state"][0]["types"][0], "Int64");
}
