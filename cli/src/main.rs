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

use clap::{ArgMatches, Args, FromArgMatches, builder::Resettable};

/// One of the commands. Its options are laid out only when it is the one that was given: those of all
/// together take longer than to make a cell's namespaces.
struct Command {
    name: &'static str,
    about: &'static str,
    options: fn(clap::Command) -> clap::Command,
    main: fn(&mut ArgMatches) -> anyhow::Result<ExitCode>,
}

macro_rules! commands {
    ($($(#[doc = $about:literal])* $name:literal => |$args:ident: $type:ty| $main:expr,)*) => {
        const COMMANDS: &[Command] = &[$(Command {
            name: $name,
            about: concat!($($about)*).trim_ascii_start(),
            options: options::<$type>,
            main: |matches| {
                let $args = <$type>::from_arg_matches_mut(matches).unwrap_or_else(|e| e.exit());
                $main
            },
        },)*];
    };
}

commands! {
    /// Start a coordinator and one runner on this machine
    "up" => |args: service::Up| service::up(&args),
    /// Start a coordinator: it queues jobs and hands them to runners
    "coordinator" => |args: service::Coordinator| service::coordinator(&args),
    /// Start a runner: it runs jobs in cells
    "runner" => |args: service::Runner| service::runner(&args),
    /// Run one command in a cell, without any server
    "run" => |args: run::Args| Ok(run::main(args)),
    /// Tell what this host can enforce and what not
    "check" => |args: check::Args| check::main(&args),
    /// Print a profile for AppArmor, to be given to apparmor_parser
    "apparmor" => |args: apparmor::Args| apparmor::main(&args),
    /// Copy the jobs of a coordinator to a file, while it runs
    "backup" => |args: backup::Args| backup::main(&args),
    /// Hand a job to a coordinator
    "submit" => |args: client::Submit| Ok(client::submit(&args)),
    /// Show a job
    "get" => |args: client::Get| Ok(client::get(&args)),
    /// Wait until jobs have ended
    "wait" => |args: client::Wait| Ok(client::wait(&args)),
    /// Cancel jobs
    "cancel" => |args: client::Cancel| Ok(client::cancel(&args)),
    /// List jobs, the newest first
    "list" => |args: client::List| Ok(client::list(&args)),
    /// Tell whether a coordinator or a runner takes work
    "ready" => |args: client::Ready| Ok(client::ready(&args)),
    /// Show the runners, drain one, or take it back
    "runners" => |args: client::Runners| Ok(client::runners(&args)),
    /// Give no job to any runner until `resume`; what runs goes on
    "pause" => |args: client::Pause| Ok(client::pause(&args)),
    /// Give jobs to runners again, after `pause` or after a restore
    "resume" => |args: client::Resume| Ok(client::resume(&args)),
}

/// The command line.
fn cli() -> clap::Command {
    let subcommands = COMMANDS.iter().map(|command| {
        clap::Command::new(command.name).about(command.about).defer(command.options)
    });
    clap::Command::new("cloister")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Run commands in cells of their own: fresh namespaces, a cgroup, a seccomp filter, Landlock")
        .propagate_version(true)
        .max_term_width(100)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(subcommands)
}

/// Lays out what a command takes, and keeps what was said of it.
fn options<A: Args>(command: clap::Command) -> clap::Command {
    let about = command.get_about().cloned();
    without_empty_variables(A::augment_args(command).about(Resettable::from(about)))
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
    let mut matches = cli().get_matches();
    let given = matches.remove_subcommand();
    let command = given.and_then(|(name, matches)| {
        Some((COMMANDS.iter().find(|command| command.name == name)?, matches))
    });
    let Some((command, mut matches)) = command else {
        unreachable!("one of the commands is required");
    };
    (command.main)(&mut matches).unwrap_or_else(|error| {
        eprintln!("cloister: {error:#}");
        ExitCode::FAILURE
    })
}
