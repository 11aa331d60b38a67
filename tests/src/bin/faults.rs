//! `faults`: makes faults while jobs run, and looks whether everything that was promised holds. See
//! docs/faults.md.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use cloister_tests::{
    cleanup::clean_up_whatever_happens,
    faults::{self, Drain, Failover, Report, Restart, Run},
};

/// Makes faults while jobs run, and fails when anything does not hold that was promised. Run it as root.
#[derive(Parser)]
#[command(max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Also write what was found to this file, as JSON
    #[arg(long, value_name = "FILE", global = true)]
    json: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Faults of all kinds under load, and every check
    Run(Run),
    /// End or stop the leader again and again, and see what users notice
    Failover(Failover),
    /// SIGKILL `cloister up` in the middle of many jobs, and start it again
    Restart(Restart),
    /// Ask everything to end under load
    Drain(Drain),
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    clean_up_whatever_happens("faults", faults::ask);
    faults::sweep();
    let report: Report = match &cli.command {
        Command::Run(options) => faults::run(options)?,
        Command::Failover(options) => faults::failover(options)?,
        Command::Restart(options) => faults::restart(options)?,
        Command::Drain(options) => faults::drain(options)?,
    };
    if let Some(path) = &cli.json {
        let text = serde_json::to_string_pretty(&report.json()).context("writing JSON")?;
        fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(report.conclude())
}
