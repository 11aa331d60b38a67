//! `endurance`: many jobs, hostile ones among them, and what they leave and do to each other. See
//! docs/endurance.md.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cloister_tests::endurance::{self, Descriptors, Jobs, Neighbours};

/// Tries Cloister with many jobs, and fails when anything is not as it should be. Run it as root.
#[derive(Parser)]
#[command(max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start many cells at once, and look at the descriptors in each
    Descriptors(Descriptors),
    /// Run many jobs, a tenth of them hostile, and look at what they leave
    Jobs(Jobs),
    /// Run jobs beside a bomb, and see what they notice of it
    Neighbours(Neighbours),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    endurance::clean_up_whatever_happens();
    let report = match &cli.command {
        Command::Descriptors(options) => endurance::descriptors(options),
        Command::Jobs(options) => endurance::jobs(options),
        Command::Neighbours(options) => endurance::neighbours(options),
    };
    report.conclude()
}
