//! The client: `submit`, `get`, `wait`, `cancel`, `list`, and for operators `ready`, `runners`, `pause`
//! and `resume`, against a coordinator.
//!
//! Three rules hold for all of them:
//!
//! - stdout carries what was asked for and nothing else; everything said about it goes to stderr;
//! - what a job or a coordinator wrote never drives the terminal of the person who looks at it;
//! - where the exit code is a job's (`submit --wait`, and `wait` for one job), trouble of the
//!   client itself is 125, as with `run`; elsewhere it is 1.

mod api;
mod cancel;
mod error;
mod fleet;
mod get;
mod list;
mod output;
mod pause;
mod problem;
mod ready;
mod retry;
mod runners;
mod server;
mod submit;
mod summary;
mod table;
mod terminal;
mod text;
mod until;
mod wait;

use std::{io, process::ExitCode};

use anyhow::Context;

use crate::{exit, log};

pub(crate) use cancel::Cancel;
pub(crate) use get::Get;
pub(crate) use list::List;
pub(crate) use pause::{Pause, Resume};
pub(crate) use ready::Ready;
pub(crate) use runners::Runners;
pub(crate) use submit::Submit;
pub(crate) use wait::Wait;

/// As a shell tells the end of one whom SIGPIPE ended.
const BROKEN_PIPE: u8 = 128 + 13;
/// As a shell tells the end of one whom Ctrl-C ended.
const INTERRUPTED: u8 = 128 + 2;
/// Something went wrong on the way, or a job did not complete.
const FAILED: u8 = 1;

pub(crate) fn submit(args: &Submit) -> ExitCode {
    let trouble = if args.waits() { exit::NO_CELL } else { FAILED };
    run(args.run(), trouble)
}

pub(crate) fn get(args: &Get) -> ExitCode {
    run(args.run(), FAILED)
}

pub(crate) fn wait(args: &Wait) -> ExitCode {
    let trouble = if args.is_for_one() { exit::NO_CELL } else { FAILED };
    run(args.run(), trouble)
}

pub(crate) fn cancel(args: &Cancel) -> ExitCode {
    run(args.run(), FAILED)
}

pub(crate) fn list(args: &List) -> ExitCode {
    run(args.run(), FAILED)
}

pub(crate) fn ready(args: &Ready) -> ExitCode {
    run(args.run(), FAILED)
}

pub(crate) fn runners(args: &Runners) -> ExitCode {
    run(args.run(), FAILED)
}

pub(crate) fn pause(args: &Pause) -> ExitCode {
    run(args.run(), FAILED)
}

pub(crate) fn resume(args: &Resume) -> ExitCode {
    run(args.run(), FAILED)
}

/// Runs one command to its end; `trouble` is the exit code when it fails.
fn run(command: impl Future<Output = anyhow::Result<u8>>, trouble: u8) -> ExitCode {
    log::for_command();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the client cannot watch for events");
    let result = runtime.and_then(|runtime| {
        let result = runtime.block_on(command);
        // A name that is still being looked up, by a thread of its own, holds up nobody.
        runtime.shutdown_background();
        result
    });
    ExitCode::from(result.unwrap_or_else(|error| {
        if is_broken_pipe(&error) {
            return BROKEN_PIPE;
        }
        eprintln!("cloister: {error:#}");
        trouble
    }))
}

/// Whether nobody reads stdout any more, as with `cloister list | head`: not worth a word.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
