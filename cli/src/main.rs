//! `cloister`: one binary for all of it. Here is only what a command line needs; the work is done
//! in the libraries.

mod allocator;
mod apparmor;
mod backup;
mod check;
mod client;
mod exit;
mod limits;
mod log;
mod run;
mod service;
mod trial;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, builder::Resettable};

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
    /// Print a profile for AppArmor, to be given to apparmor_parser
    Apparmor(apparmor::Args),
    /// Copy the jobs of a coordinator to a file, while it runs
    Backup(backup::Args),
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
    /// Tell whether a coordinator or a runner takes work
    Ready(client::Ready),
    /// Show the runners, drain one, or take it back
    Runners(client::Runners),
    /// Give no job to any runner until `resume`; what runs goes on
    Pause(client::Pause),
    /// Give jobs to runners again, after `pause` or after a restore
    Resume(client::Resume),
}

/// An environment variable that is set to nothing is not set: that is what `${X:-}` of a compose file
/// makes of one that nobody gave.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    command
        .mut_args(|arg| {
            let empty = arg
                .get_env()
                .is_some_and(|name| std::env::var_os(name).is_some_and(|v| v.is_empty()));
            if empty { arg.env(Resettable::Reset) } else { arg }
        })
        .mut_subcommands(without_empty_variables)
}

fn main() -> ExitCode {
    // Nothing here may start a thread: the launcher is forked from this process as it is.
    let cli = Cli::from_arg_matches(&without_empty_variables(Cli::command()).get_matches());
    let result = match cli.unwrap_or_else(|error| error.exit()).command {
        Command::Up(args) => service::up(&args),
        Command::Coordinator(args) => service::coordinator(&args),
        Command::Runner(args) => service::runner(&args),
        Command::Run(args) => Ok(run::main(*args)),
        Command::Check(args) => check::main(&args),
        Command::Apparmor(args) => apparmor::main(&args),
        Command::Backup(args) => backup::main(&args),
        Command::Submit(args) => Ok(client::submit(&args)),
        Command::Get(args) => Ok(client::get(&args)),
        Command::Wait(args) => Ok(client::wait(&args)),
        Command::Cancel(args) => Ok(client::cancel(&args)),
        Command::List(args) => Ok(client::list(&args)),
        Command::Ready(args) => Ok(client::ready(&args)),
        Command::Runners(args) => Ok(client::runners(&args)),
        Command::Pause(args) => Ok(client::pause(&args)),
        Command::Resume(args) => Ok(client::resume(&args)),
    };
    result.unwrap_or_else(|error| {
        eprintln!("cloister: {error:#}");
        ExitCode::FAILURE
    })
}
