//! Text scenarios: events in, rows out. The files in `scenarios/` are the feature's description; the
//! format is explained at the top of `scenarios/windows.txt`. Every scenario runs several times: as it
//! stands, and with the engine restored from the store before every epoch, checkpoints taken in every
//! epoch or only in some, with all state in memory or none that need not be, computed on one thread or on several.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

#[path = "scenarios/lines.rs"]
mod lines;
#[path = "scenarios/parse.rs"]
mod parse;
#[path = "scenarios/run.rs"]
mod run;
#[path = "scenarios/state.rs"]
mod state;

use std::fmt::Write;

const PLAIN: run::Manner =
    run::Manner { what: "as it stands", restarts: false, checkpoints: 1, spills: false, threads: |_| 1 };
const MANNERS: [run::Manner; 8] = [
    PLAIN,
    run::Manner { what: "restarted before every epoch", restarts: true, ..PLAIN },
    run::Manner { what: "with a checkpoint in every third epoch", checkpoints: 3, ..PLAIN },
    run::Manner {
        what: "restarted, with a checkpoint in every other epoch",
        restarts: true,
        checkpoints: 2,
        ..PLAIN
    },
    run::Manner { what: "with nothing in memory after an epoch", spills: true, ..PLAIN },
    run::Manner {
        what: "on two threads, with nothing in memory after every other epoch",
        spills: true,
        checkpoints: 2,
        threads: |_| 2,
        ..PLAIN
    },
    run::Manner { what: "on three threads", threads: |_| 3, ..PLAIN },
    run::Manner {
        what: "restarted, each time on another number of threads, with a checkpoint in every other epoch",
        restarts: true,
        checkpoints: 2,
        threads: |epoch| [2, 1, 5, 3][epoch % 4],
        ..PLAIN
    },
];

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
            for manner in MANNERS {
                count += 1;
                if let Err(problem) = run::run(&scenario, manner) {
                    let (line, title, what) = (scenario.line, &scenario.title, manner.what);
                    writeln!(failures, "{name}:{line} {title}, {what}\n{problem}").unwrap();
                }
            }
        }
    }
    assert!(count > 80, "only {count} scenarios were found in {folder}");
    assert!(failures.is_empty(), "\n{failures}");
}
