//! The table on the screen and `bench/results/latest.json`.

use std::path::Path;

use serde::Serialize;

use crate::Result;

/// One measurement.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What was done.
    pub workload: String,
    /// What was measured.
    pub metric: String,
    /// How much.
    pub value: f64,
    /// In what.
    pub unit: String,
    /// What the machine could do, in the same run and unit.
    pub ceiling: Option<f64>,
    /// `value / ceiling`.
    pub ratio: Option<f64>,
    /// The least ratio (or, without a ceiling, the greatest value) that is good enough.
    pub mark: Option<f64>,
}

/// All measurements of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    events: usize,
    users: u64,
    cores: usize,
    results: Vec<Row>,
}

impl Report {
    pub fn new(events: usize, users: u64) -> Self {
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        println!("{events} events, {users} users, {cores} cores\n");
        println!(
            "{:<44} {:<28} {:>13} {:<10} {:>7} {:>6}",
            "workload", "metric", "value", "unit", "ratio", "mark"
        );
        Self { events, users, cores, results: Vec::new() }
    }

    /// A measurement without a mark.
    pub fn value(&mut self, workload: &str, metric: &str, value: f64, unit: &str) {
        self.push(workload, metric, value, unit, None, None);
    }

    /// A measurement that should stay at or below `mark`.
    pub fn at_most(&mut self, workload: &str, metric: &str, value: f64, unit: &str, mark: f64) {
        self.push(workload, metric, value, unit, None, Some(mark));
    }

    /// A measurement beside its ceiling, with the least ratio that is good enough.
    pub fn ratio(
        &mut self,
        workload: &str,
        metric: &str,
        value: f64,
        unit: &str,
        ceiling: f64,
        mark: Option<f64>,
    ) {
        self.push(workload, metric, value, unit, Some(ceiling), mark);
    }

    fn push(
        &mut self,
        workload: &str,
        metric: &str,
        value: f64,
        unit: &str,
        ceiling: Option<f64>,
        mark: Option<f64>,
    ) {
        let ratio = ceiling.map(|c| value / c);
        let text = |n: Option<f64>| n.map_or(String::new(), |n| format!("{n:.2}"));
        let shown = if value >= 1_000.0 { format!("{value:.0}") } else { format!("{value:.3}") };
        println!("{workload:<44} {metric:<28} {shown:>13} {unit:<10} {:>7} {:>6}", text(ratio), text(mark));
        self.results.push(Row {
            workload: workload.to_owned(),
            metric: metric.to_owned(),
            value,
            unit: unit.to_owned(),
            ceiling,
            ratio,
            mark,
        });
    }

    /// Workloads that missed their mark.
    pub fn missed(&self) -> Vec<String> {
        let missed = |row: &&Row| match (row.mark, row.ratio) {
            (Some(mark), Some(ratio)) => ratio < mark,
            (Some(mark), None) => row.value > mark,
            _ => false,
        };
        self.results.iter().filter(missed).map(|r| format!("{} ({})", r.workload, r.metric)).collect()
    }

    pub fn write(&self, to: &Path) -> Result<()> {
        if let Some(dir) = to.parent() {
            std::fs::create_dir_all(dir)?;
        }
        std::fs::write(to, serde_json::to_string_pretty(self)? + "\n")?;
        println!("\nwritten to {}", to.display());
        Ok(())
    }
}
