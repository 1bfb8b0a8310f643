//! The examples of `docs/sql.md`.

use std::path::PathBuf;

use super::{groups, plan_with, streams};

/// The SQL of a page, block by block.
fn examples(page: &str) -> Vec<&str> {
    let blocks = page.split("```sql\n").skip(1);
    blocks.map(|rest| rest.split_once("```").unwrap().0).collect()
}

#[test]
fn every_example_is_planned_and_runs() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/sql.md");
    let page = std::fs::read_to_string(path).unwrap();
    let examples = examples(&page);
    assert!(examples.len() >= 15, "{} examples", examples.len());
    for sql in examples {
        if let Err(error) = plan_with(sql, &streams(), &groups()) {
            panic!("docs/sql.md has an example that is refused:\n{sql}\n{error:?}");
        }
    }
}
