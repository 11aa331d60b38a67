//! `endurance`: many jobs, hostile ones among them, and what they leave and do to each other. See
//! docs/endurance.md.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cloister_tests::{
    cleanup::clean_up_whatever_happens,
    endurance::{self, Descriptors, Jobs, Neighbours, Scrapes},
};
use nix::sys::signal::{Signal, kill};

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
    /// Scrape a runner while many jobs run, and see how long it takes
    Scrapes(Scrapes),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    clean_up_whatever_happens("endurance", |services| {
        for service in services {
            // As an operator would: the second one says not to wait for jobs.
            for signal in [Signal::SIGTERM, Signal::SIGTERM] {
                let _ = kill(*service, signal);
            }
        }
    });
    let report = match &cli.command {
        Command::Descriptors(options) => endurance::descriptors(options),
        Command::Jobs(options) => endurance::jobs(options),
        Command::Neighbours(options) => endurance::neighbours(options),
        Command::Scrapes(options) => endurance::scrapes(options),
    };
    report.conclude()
}
