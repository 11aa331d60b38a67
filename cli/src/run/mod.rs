//! `cloister run`: one command in a cell, as one would use `bwrap` or `nsjail`.
//!
//! The job has no descriptor of the caller's, but streams of its own; what goes through them is relayed
//! by this process, on the thread that waits for the job's end.
//!
//! - `streams`: what the job gets in place of each stream, and the turns of all relays.
//! - `relay`: what a relay is; `input`, `output`: those from and to what is not a terminal.
//! - `terminal`: the caller's terminal and the job's pty; `keyboard`: what is typed.

mod input;
mod keyboard;
mod output;
mod relay;
mod streams;
mod terminal;

use std::{
    fs::File,
    io::Write,
    os::fd::AsFd,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        mpsc::{Sender, TryRecvError, channel},
    },
};

use anyhow::{Context, bail};
use cloister_api::{Bounds, ExecuteRequest, Outcome, Program, Reason, Seconds, Status, Task};
use cloister_sandbox::{Config, Engine, Host, Launcher, Observer, Stdio};
use nix::{
    poll::PollTimeout,
    sys::{
        eventfd::{EfdFlags, EventFd},
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

use self::streams::Streams;
use crate::{exit, limits::LimitArgs, log};

/// Signals that end the job.
const ENDING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    limits: LimitArgs,
    /// One more host folder that the cell sees, read-only; may be given again
    #[arg(long, value_name = "PATH", env = "CLOISTER_EXPOSE")]
    expose: Vec<PathBuf>,
    /// Write the result to this file, as JSON
    #[arg(long, value_name = "FILE", env = "CLOISTER_REPORT")]
    report: Option<PathBuf>,
    /// Go on where this host can't enforce everything
    #[arg(long, env = "CLOISTER_ALLOW_DEGRADED", value_parser = clap::builder::BoolishValueParser::new())]
    allow_degraded: bool,
    /// The command and its arguments. Its streams are pipes of its own, or a terminal of its own
    /// where yours are one, and are relayed
    #[arg(required = true, last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// How the command ended, and what came of its streams.
struct Run {
    outcome: Outcome,
    /// The signal that ended it by way of us, if one did.
    signal: i32,
    /// What is to be said of output that was lost.
    faults: Vec<String>,
}

/// Runs it; the exit code is the command's.
pub(crate) fn main(args: Args) -> ExitCode {
    log::for_command();
    match run(args) {
        Ok(Run { outcome, signal, faults }) => {
            for message in told(&outcome).into_iter().chain(faults.iter().map(String::as_str)) {
                eprintln!("cloister: {message}");
            }
            let cancelled = (outcome.status == Status::Cancelled).then_some(128 + signal);
            match exit::code(outcome.reason, cancelled.or(outcome.exit_code)) {
                // The command could not know.
                0 if !faults.is_empty() => ExitCode::FAILURE,
                code => ExitCode::from(code),
            }
        }
        Err(error) => {
            eprintln!("cloister: {error:#}");
            ExitCode::from(exit::NO_CELL)
        }
    }
}

fn run(args: Args) -> anyhow::Result<Run> {
    let report = args
        .report
        .map(|path| {
            File::create(&path)
                .with_context(|| format!("the report {} cannot be written", path.display()))
        })
        .transpose()?;
    let config = Config {
        expose: args.expose,
        network_host: args.limits.host_network(),
        max_cells: Some(1),
        cells_ahead: 0,
    };
    let launcher = Launcher::fork(&config)?;
    let host = launcher.host();
    let missing = host.not_enforced();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        if !args.allow_degraded {
            bail!(
                "this host cannot enforce {missing}; `cloister check` says why, and --allow-degraded \
                 runs it all the same"
            );
        }
        eprintln!("cloister: not enforced here: {missing}");
    }
    let body = serde_json::to_vec(&args.limits.request(&Program::Argv(args.command))?)?;
    let task = validated(&body, host)?;

    // Blocked before the engine's thread is made, which inherits that, and before a terminal is touched.
    let signals: SigSet = ENDING.into_iter().chain([Signal::SIGWINCH, Signal::SIGCONT]).collect();
    signals.thread_block()?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let engine = Engine::start(launcher, || {})?;
    let (teller, told) = channel();
    let ended = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?);
    let caller = Caller { teller, ended: Arc::clone(&ended) };
    let (mut streams, theirs) = Streams::new()?;
    let ticket = engine.run(task, Stdio::Passed(theirs), Box::new(caller));
    let mut signal = 0;
    let outcome = loop {
        match told.try_recv() {
            Err(TryRecvError::Empty) => {}
            outcome => break outcome.context("the engine ended without a result")?,
        }
        streams.turn(&[signals.as_fd(), ended.as_fd()], PollTimeout::NONE)?;
        while let Some(received) = next(&signals, &streams)? {
            signal = received;
            ticket.cancel();
        }
    };
    streams.job_ended();
    engine.stop();
    if let Some(mut file) = report {
        serde_json::to_writer_pretty(&mut file, &outcome)?;
        file.write_all(b"\n").context("the report cannot be written")?;
    }
    // The caller gets all of the output, however slowly it reads; unless it wants an end of it.
    while !streams.are_done() {
        let timeout = if signal == 0 { PollTimeout::NONE } else { PollTimeout::ZERO };
        if !streams.turn(&[signals.as_fd()], timeout)? {
            break;
        }
        while let Some(received) = next(&signals, &streams)? {
            signal = received;
        }
    }
    Ok(Run { outcome, signal, faults: streams.faults() })
}

/// The next signal that ends the job, if one has come. What others say of the terminal is passed on.
fn next(signals: &SignalFd, streams: &Streams) -> anyhow::Result<Option<i32>> {
    while let Some(received) = signals.read_signal()? {
        let number = i32::try_from(received.ssi_signo)?;
        match Signal::try_from(number)? {
            Signal::SIGWINCH => streams.resize(),
            Signal::SIGCONT => streams.continued(),
            _ => return Ok(Some(number)),
        }
    }
    Ok(None)
}

/// Passes on how the command ended, and wakes who polls for it.
struct Caller {
    teller: Sender<Outcome>,
    ended: Arc<EventFd>,
}

impl Observer for Caller {
    fn ended(self: Box<Self>, outcome: Outcome) {
        // It fails only where the receiver is gone: then nobody waits.
        let _ = self.teller.send(outcome);
        // It fails only where billions of such words were never read.
        let _ = self.ended.write(1);
    }
}

/// The same ranges and defaults hold as for a request by HTTP, with this machine's own as the upper
/// ones.
fn validated(body: &[u8], host: &Host) -> anyhow::Result<Task> {
    let widest = Bounds { timeout: Seconds::new(u64::from(u32::MAX)), ..Bounds::default() };
    let checked = ExecuteRequest::parse(body, &host.bounds(&widest));
    checked.map(|request| request.task).map_err(|problem| {
        let faults = problem.errors.iter().map(|fault| {
            // An operator's options are no options here.
            let detail = fault.detail.split(" (--max-").next().unwrap_or_default();
            format!("{} {detail}", option(&fault.pointer))
        });
        anyhow::anyhow!(faults.collect::<Vec<_>>().join("; "))
    })
}

/// The option that stands for a field of a request.
fn option(pointer: &str) -> String {
    let field = pointer.trim_start_matches("/limits").trim_start_matches('/');
    match field.split('/').next().unwrap_or_default() {
        "argv" | "command" => "COMMAND".into(),
        field => format!("--{}", field.replace('_', "-")),
    }
}

/// What a person should hear: not how the command itself chose to end, which it told by itself.
fn told(outcome: &Outcome) -> Option<&str> {
    let by_itself = outcome.reason == Some(Reason::ExitCode) && outcome.started_at.is_some();
    let silent = by_itself || outcome.status == Status::Cancelled;
    outcome.message.as_deref().filter(|_| !silent)
}
