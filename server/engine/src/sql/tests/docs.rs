//! The examples of `docs/sql.md`.

use std::path::PathBuf;

use super::{lowered, plan, streams};

/// The first line of an example that waits for its operator.
const WAITING: &str = "-- planned, does not run yet\n";

/// The SQL of a page, block by block.
fn examples(page: &str) -> Vec<&str> {
    let blocks = page.split("```sql\n").skip(1);
    blocks.map(|rest| rest.split_once("```").unwrap().0).collect()
}

#[test]
fn every_example_is_planned_and_runs_unless_it_says_otherwise() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/sql.md");
    let page = std::fs::read_to_string(path).unwrap();
    let examples = examples(&page);
    assert!(examples.len() >= 15, "{} examples", examples.len());
    for sql in examples {
        if let Err(error) = lowered(sql, &streams()) {
            panic!("docs/sql.md has an example that is refused:\n{sql}\n{error:?}");
        }
        match (plan(sql, &streams()), sql.starts_with(WAITING)) {
            (Ok(_), false) | (Err(_), true) => {}
            (Ok(_), true) => panic!("docs/sql.md: this runs by now, take {WAITING:?} away:\n{sql}"),
            (Err(error), false) => panic!("docs/sql.md: this does not run yet:\n{sql}\n{error:?}"),
        }
    }
}
