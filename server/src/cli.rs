//! The command line: `millpond serve`, `config`, `produce`, `openapi`.

mod generate;
mod produce;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config;

/// A feature store server: streams in, features by SQL, online and offline stores that agree
#[derive(Debug, Parser)]
#[command(name = "millpond", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Start with `millpond serve`, then open http://127.0.0.1:7878/docs.")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server until SIGINT or SIGTERM
    #[command(
        after_help = "Every setting: `millpond config`. Environment: MILLPOND_<KEY>, with __ for a dot, \
                            as in MILLPOND_KAFKA__SECURITY_PROTOCOL."
    )]
    Serve(config::Flags),
    /// Show each setting, its value and where it came from; secrets are hidden
    Config(config::Flags),
    /// Write made-up events to a stream of a running server, at a steady rate
    Produce(produce::Options),
    /// Print the OpenAPI document of the HTTP API
    Openapi,
}

/// Runs the command and says what went wrong, with what to do about it.
pub fn run(cli: Cli) -> ExitCode {
    let result = match cli.command {
        Command::Serve(flags) => serve::run(&flags),
        Command::Config(flags) => show_config(&flags),
        Command::Produce(options) => produce::run(&options),
        Command::Openapi => {
            println!("{}", crate::http::openapi_json());
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("millpond: {message}");
            ExitCode::FAILURE
        }
    }
}

fn show_config(flags: &config::Flags) -> Result<(), String> {
    let (config, figment) = config::load(flags).map_err(|e| e.to_string())?;
    print!("{}", config::report(&config, &figment));
    Ok(())
}
