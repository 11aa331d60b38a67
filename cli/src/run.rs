//! `cloister run`: one command in a cell, as one would use `bwrap` or `nsjail`.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        mpsc::{TryRecvError, channel},
    },
};

use anyhow::{Context, bail};
use cloister_api::{Bounds, ExecuteRequest, Outcome, Program, Reason, Seconds, Status, Task};
use cloister_sandbox::{Config, Engine, Host, Launcher, Observer, Stdio};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        eventfd::{EfdFlags, EventFd},
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        stat::{SFlag, fstat},
    },
};

use crate::{exit, limits::LimitArgs, log, trial::Teller};

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
    /// The command and its arguments
    #[arg(required = true, last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs it; the exit code is the command's.
pub(crate) fn main(args: Args) -> ExitCode {
    log::for_command();
    match run(args) {
        Ok((outcome, signal)) => {
            if let Some(message) = told(&outcome) {
                eprintln!("cloister: {message}");
            }
            let cancelled = (outcome.status == Status::Cancelled).then_some(128 + signal);
            ExitCode::from(exit::code(outcome.reason, cancelled.or(outcome.exit_code)))
        }
        Err(error) => {
            eprintln!("cloister: {error:#}");
            ExitCode::from(exit::NO_CELL)
        }
    }
}

/// The outcome, and the signal that was passed on to us, if one was.
fn run(args: Args) -> anyhow::Result<(Outcome, i32)> {
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
    let stdio = Stdio::Passed([
        passed(io::stdin().as_fd(), "standard input")?,
        passed(io::stdout().as_fd(), "standard output")?,
        passed(io::stderr().as_fd(), "standard error")?,
    ]);

    // Blocked before the engine's thread is made, which inherits that.
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    signals.thread_block()?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let engine = Engine::start(launcher, || {})?;
    let (teller, told) = channel();
    let ended = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?);
    let caller = Caller { teller: Teller(teller), ended: Arc::clone(&ended) };
    let ticket = engine.run(task, stdio, Box::new(caller));
    let mut received = 0;
    let outcome = loop {
        match told.try_recv() {
            Err(TryRecvError::Empty) => {}
            outcome => break outcome.context("the engine ended without a result")?,
        }
        let events = [signals.as_fd(), ended.as_fd()];
        let mut events = events.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut events, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("waiting for the command's end failed"),
        }
        while let Some(signal) = signals.read_signal()? {
            received = i32::try_from(signal.ssi_signo)?;
            ticket.cancel();
        }
    };
    engine.stop();
    if let Some(mut file) = report {
        serde_json::to_writer_pretty(&mut file, &outcome)?;
        file.write_all(b"\n").context("the report cannot be written")?;
    }
    Ok((outcome, received))
}

/// Passes on how the command ended, and wakes who polls for it.
struct Caller {
    teller: Teller,
    ended: Arc<EventFd>,
}

impl Observer for Caller {
    fn ended(self: Box<Self>, outcome: Outcome) {
        Box::new(self.teller).ended(outcome);
        // It fails only where billions of such words were never read.
        let _ = self.ended.write(1);
    }
}

/// One of our own streams, for the job. Through a folder it could find its way to others of the host.
fn passed(fd: BorrowedFd<'_>, name: &str) -> anyhow::Result<OwnedFd> {
    let kind = SFlag::from_bits_truncate(fstat(fd)?.st_mode) & SFlag::S_IFMT;
    if kind == SFlag::S_IFDIR {
        bail!("{name} is a folder, which a cell is not given; expose it instead");
    }
    Ok(fd.try_clone_to_owned()?)
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
