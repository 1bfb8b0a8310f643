//! `make bench`: what Millpond does beside what the machine could do, in one run.
//!
//! Every workload is a ratio against a ceiling that was measured in the same run; numbers of
//! different runs, let alone machines, are not compared.

mod clicks;
mod corpus;
mod embedded;
mod engine;
mod flink;
mod freshness;
mod kafka;
mod report;
mod server;
mod serving;
mod windows;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use report::Report;

// As in the server, so that ceilings and workloads allocate alike.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a workload may fail with: the run stops and says why.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Debug, Parser)]
#[command(subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    /// The release binary of the server
    #[arg(long, required = true)]
    millpond: Option<PathBuf>,
    /// A real Kafka; without it the Kafka workloads are left out, and the report says so
    #[arg(long)]
    kafka: Option<String>,
    /// Apache Flink's jars and our class for it, as scripts/flink_home.sh leaves them; without it Flink is
    /// left out
    #[arg(long)]
    flink: Option<PathBuf>,
    /// Events of the throughput workloads
    #[arg(long, default_value_t = 6_000_000)]
    events: usize,
    /// Users of the throughput workloads
    #[arg(long, default_value_t = 100_000)]
    users: u64,
    /// Seconds of each serving workload
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Only the features from Kafka with this in their name, and those that they are compared with: for profiles
    #[arg(long)]
    only: Option<String>,
    /// Where the results go
    #[arg(long, default_value = "bench/results/latest.json")]
    out: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Drive the engine alone over decoded batches, for profiles
    Engine(engine::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Options::parse()).await {
        Ok(missed) if missed.is_empty() => ExitCode::SUCCESS,
        Ok(missed) => {
            println!("\nmarks missed: {}", missed.join(", "));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<Vec<String>> {
    if let Some(Command::Engine(options)) = &options.command {
        return engine::run(options);
    }
    let mut report = Report::new(options.events, options.users);
    if options.only.is_none() {
        serving::run(options, &mut report).await?;
        freshness::run(options, &mut report).await?;
        embedded::run(options, &corpus::make(options.events, options.users), &mut report).await?;
    }
    match &options.kafka {
        Some(brokers) => kafka::run(options, brokers, &mut report).await?,
        None => println!("no --kafka: the Kafka workloads are left out"),
    }
    if options.only.is_none() {
        report.write(&options.out)?;
    }
    Ok(report.missed())
}
