//! `cloister`: one binary for all of it. Here is only what a command line needs; the work is done
//! in the libraries.

mod check;
mod limits;
mod log;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Run commands in cells of their own: fresh namespaces, a cgroup, a seccomp filter, Landlock.
#[derive(Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one command in a cell, without any server
    Run(run::Args),
    /// Tell what this host can enforce and what not
    Check(check::Args),
}

fn main() -> ExitCode {
    // Nothing here may start a thread: the launcher is forked from this process as it is.
    let result = match Cli::parse().command {
        Command::Run(args) => run::main(args),
        Command::Check(args) => check::main(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("cloister: {error:#}");
        ExitCode::FAILURE
    })
}
