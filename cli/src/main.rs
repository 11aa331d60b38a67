//! `cloister`: one binary for all of it. Here is only what a command line needs; the work is done
//! in the libraries.

mod check;
mod client;
mod exit;
mod limits;
mod log;
mod run;
mod service;
mod trial;

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
    /// Start a coordinator and one runner on this machine
    Up(Box<service::Up>),
    /// Start a coordinator: it queues jobs and hands them to runners
    Coordinator(Box<service::Coordinator>),
    /// Start a runner: it runs jobs in cells
    Runner(Box<service::Runner>),
    /// Run one command in a cell, without any server
    Run(Box<run::Args>),
    /// Tell what this host can enforce and what not
    Check(check::Args),
    /// Hand a job to a coordinator
    Submit(Box<client::Submit>),
    /// Show a job
    Get(client::Get),
    /// Wait until jobs have ended
    Wait(client::Wait),
    /// Cancel jobs
    Cancel(client::Cancel),
    /// List jobs, the newest first
    List(client::List),
}

fn main() -> ExitCode {
    // Nothing here may start a thread: the launcher is forked from this process as it is.
    let result = match Cli::parse().command {
        Command::Up(args) => service::up(&args),
        Command::Coordinator(args) => service::coordinator(&args),
        Command::Runner(args) => service::runner(&args),
        Command::Run(args) => Ok(run::main(*args)),
        Command::Check(args) => check::main(&args),
        Command::Submit(args) => Ok(client::submit(&args)),
        Command::Get(args) => Ok(client::get(&args)),
        Command::Wait(args) => Ok(client::wait(&args)),
        Command::Cancel(args) => Ok(client::cancel(&args)),
        Command::List(args) => Ok(client::list(&args)),
    };
    result.unwrap_or_else(|error| {
        eprintln!("cloister: {error:#}");
        ExitCode::FAILURE
    })
}
