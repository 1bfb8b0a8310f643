//! Text scenarios: events in, rows out. The files in `scenarios/` are the feature's description; the
//! format is explained at the top of `scenarios/windows.txt`. Every scenario runs twice: as it stands,
//! and with the engine restored from the store before every epoch.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

#[path = "scenarios/parse.rs"]
mod parse;
#[path = "scenarios/run.rs"]
mod run;

use std::fmt::Write;

#[test]
fn scenarios() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "txt"));
    files.sort();
    let (mut count, mut failures) = (0, String::new());
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let scenarios = parse::file(&std::fs::read_to_string(&file).unwrap())
            .unwrap_or_else(|problem| panic!("{name}: {problem}"));
        for scenario in scenarios {
            for restarts in [false, true] {
                count += 1;
                if let Err(problem) = run::run(&scenario, restarts) {
                    let how = if restarts { ", restarted before every epoch" } else { "" };
                    writeln!(failures, "{name}:{} {}{how}\n{problem}", scenario.line, scenario.title)
                        .unwrap();
                }
            }
        }
    }
    assert!(count > 40, "only {count} scenarios were found in {folder}");
    assert!(failures.is_empty(), "\n{failures}");
}
