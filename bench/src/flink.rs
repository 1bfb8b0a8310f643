//! The same feature on Apache Flink, from the same topic.

use std::path::Path;
use std::process::Command;

use crate::Result;

/// Packages that Flink looks into.
const OPENED: [&str; 6] = ["java.lang", "java.util", "java.time", "java.math", "java.net", "java.text"];

/// What Flink does in a second.
pub struct Rates {
    /// From the start of the process to the end of its first job.
    pub cold: f64,
    /// The events that the larger of two later jobs has more, over the time that it takes longer: what a job
    /// costs whatever its size is left out.
    pub slope: f64,
}

/// A topic that Flink is to read.
pub struct Topic<'t> {
    pub brokers: &'t str,
    pub name: &'t str,
    /// Where its schemas are, and the one of its records.
    pub registry: &'t str,
    pub schema: &'t str,
    pub partitions: u32,
    pub events: usize,
}

/// Three jobs in one process: a quarter of the events twice, then all of them.
pub fn run(home: &Path, topic: &Topic<'_>) -> Result<Rates> {
    let quarter = topic.events / 4;
    let output = Command::new("java")
        .arg("-Xmx2g")
        .args(OPENED.map(|package| format!("--add-opens=java.base/{package}=ALL-UNNAMED")))
        .args(["-Dlog4j2.level=ERROR", "-cp"])
        .arg(format!("{}:{}/*", home.join("classes").display(), home.join("jars").display()))
        .args(["FlinkTumbling", topic.brokers, topic.name, topic.registry, topic.schema])
        .args([topic.partitions as usize, quarter, quarter, topic.events].map(|n| n.to_string()))
        .output()?;
    if !output.status.success() {
        return Err(format!("Flink: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let text = String::from_utf8(output.stdout)?;
    let jobs: Vec<[f64; 3]> = text.lines().filter_map(job).collect();
    let [[first, _, uptime], [less, before, _], [all, after, _]] = jobs.as_slice() else {
        return Err(format!("Flink did not say how long three jobs took: {text}").into());
    };
    Ok(Rates { cold: first / uptime, slope: (all - less) / (after - before) })
}

/// `job <events> <seconds> <seconds since the process started>`
fn job(line: &str) -> Option<[f64; 3]> {
    let numbers: Option<Vec<f64>> = line.strip_prefix("job ")?.split(' ').map(|n| n.parse().ok()).collect();
    numbers?.try_into().ok()
}
