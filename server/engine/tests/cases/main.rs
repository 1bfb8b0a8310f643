//! Whole definitions at random: SQL over every operator, streams in every order, cut into epochs, checkpoints, restarts,
//! threads and state that lies in the store alone, against a recomputation from the records.
//!
//! Everything about a case follows from one number. `MILLPOND_CASES` says how many cases run (1,500), `MILLPOND_SEED` which
//! number is the first; without it each run has others. A case that fails says its number, its SQL, the least of its
//! events that still fails, and how it is run again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::mutable_key_type,
    missing_docs
)]

mod aggregate;
mod case;
mod course;
mod coverage;
mod definition;
mod dice;
mod draw;
mod drive;
mod expression;
mod features;
mod grow;
mod online;
mod oracle;
mod relation;
#[path = "../scenarios/state.rs"]
mod state;
mod text;
mod value;

use std::cell::RefCell;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use case::Case;
use coverage::Coverage;

/// So many cases are run where nobody says how many.
const CASES: u64 = 1_500;

/// More failures than this are the same failure.
const FAILURES: usize = 3;

/// What at least so many times in a thousand cases is there.
const WANTED: [(&str, usize); 55] = [
    ("TUMBLE", 80),
    ("HOP", 80),
    ("CUMULATE", 40),
    ("SESSION", 100),
    ("OVER", 120),
    ("OVER several frames", 40),
    ("UNION ALL", 80),
    ("JOIN", 40),
    ("LEFT JOIN", 40),
    ("join of a join", 10),
    ("subquery", 150),
    ("CTE", 80),
    ("outer SELECT", 80),
    ("Short form", 150),
    ("Standard form", 60),
    ("Named form", 40),
    ("Grouped form", 40),
    ("WHERE beside the window", 80),
    ("FILTER", 150),
    ("HAVING", 150),
    ("compound key", 150),
    ("no key", 20),
    ("allowed lateness", 250),
    ("on_update", 200),
    ("finish", 100),
    ("live", 80),
    ("several partitions", 300),
    ("idle partition", 100),
    ("heartbeat", 500),
    ("before 1970", 200),
    ("a close over several epochs", 500),
    ("checkpoint", 2_000),
    ("restart", 1_000),
    ("restart on another number of threads", 500),
    ("on 1 thread", 200),
    ("on 4 threads", 200),
    ("epoch applied again", 500),
    ("state let go of", 100),
    ("TUMBLE: state let go of", 50),
    ("SESSION: state let go of", 50),
    ("OVER: state let go of", 100),
    ("row", 10_000),
    ("revision", 500),
    ("TUMBLE: revision", 60),
    ("HOP: revision", 50),
    ("CUMULATE: revision", 20),
    ("SESSION: revision", 8),
    ("OVER: revision", 150),
    ("delete", 500),
    ("record Late", 500),
    ("SESSION: record Late", 100),
    ("record Filtered", 2_000),
    ("record NullKey", 500),
    ("record Failed", 500),
    ("joined rows lost", 20),
];

thread_local! {
    /// What the last panic of this thread said.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What the last panic of this thread said.
fn panicked() -> String {
    PANIC.take()
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")))
}

#[test]
fn definitions_give_what_they_say() {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let first = number("MILLPOND_SEED").unwrap_or_else(|| now() / 1_000 % 1_000_000_000_000);
    let cases = number("MILLPOND_CASES").unwrap_or(CASES);
    // Past what a test that passes keeps to itself.
    let _ = writeln!(std::io::stderr(), "{cases} cases from MILLPOND_SEED={first} on");
    // What panics is caught, and told with its case.
    std::panic::set_hook(Box::new(|info| PANIC.set(info.to_string())));
    let (next, begun) = (AtomicU64::new(0), Instant::now());
    let (coverage, failures) = (Mutex::new(Coverage::default()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                let mut own = Coverage::default();
                while failures.lock().unwrap().len() < FAILURES {
                    let case = next.fetch_add(1, Ordering::Relaxed);
                    if case >= cases {
                        break;
                    }
                    let seed = first.wrapping_add(case);
                    let case = Case::of(seed);
                    match case.run() {
                        Ok(of_case) => own.merge(of_case),
                        Err(problem) => {
                            // At once: a long run may be ended before it tells.
                            let _ = writeln!(std::io::stderr(), "MILLPOND_SEED={seed} fails");
                            failures.lock().unwrap().push((seed, problem));
                        }
                    }
                }
                coverage.lock().unwrap().merge(own);
            });
        }
    });
    let failures: Vec<String> = failures
        .into_inner()
        .unwrap()
        .into_iter()
        .map(|(seed, problem)| {
            let (case, smallest) = Case::of(seed).shrunk(problem.clone());
            format!(
                "case {seed}: {problem}\n\n{}\n\nof which this is wrong: {smallest}\n\nagain: MILLPOND_SEED={seed} \
                 MILLPOND_CASES=1 cargo test --locked --workspace --test cases\n",
                case.described()
            )
        })
        .collect();
    drop(std::panic::take_hook());
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    let coverage = coverage.into_inner().unwrap();
    let _ = writeln!(std::io::stderr(), "{cases} cases in {:.1?}", begun.elapsed());
    println!("{}", coverage.described());
    if cases >= CASES {
        let missing = coverage.missing(&WANTED, cases as usize);
        assert!(missing.is_empty(), "too few of {missing:?}\n{}", coverage.described());
    }
}
