//! PID 1 of a cell: waits for its one command, forks it, reaps, reports the end of that one child at
//! once, and ends, which ends everything else in the cell.
//!
//! The end of output decides nothing here: a job that closed its descriptors is waited for, and one
//! that left a daemon behind holding them is not.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};

use super::{broker::Broker, confine::Confinement, job::Job, view};
use crate::{
    error::{At, Fault, Step},
    sys,
    wire::{MAX_START, Start, Status, frame, unframe},
};

/// Bytes: more than most commands take.
const PIECE: usize = 4096;

/// Runs the one command of this cell's life. `Ok` when it has ended or nobody waits for it any more.
pub(crate) fn run(control: &mut File, confinement: &Confinement) -> Result<(), Fault> {
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block().at(Step::Fork)?;
    let ended = SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .at(Step::Fork)?;

    // All that can be done before the command is there. The job inherits the actions; for this process,
    // as the first of its namespace, the default one is to ignore what comes from itself and from within
    // (pid_namespaces(7)).
    sys::reset_signals();
    let mut stack = sys::Stack::new().at(Step::Fork)?;
    if !is_there(control) {
        view::look_up_programs();
    }
    // Brings in the pages of the clock, which would otherwise come in when it is read for the job.
    sys::monotonic_ns();

    let Some(start) = read_command(control).at(Step::Command)? else {
        return Ok(());
    };
    let job = Job::prepare(start).at(Step::Command)?;
    let Running { main, at, listener } = match launch(&job, confinement, &mut stack)? {
        Launched::Running(running) => running,
        Launched::Refused(fault) => return say(control, &Status::NotExecuted(fault)),
    };
    say(control, &Status::Started { at })?;

    let mut broker = listener.map(Broker::new);
    loop {
        let mut events = vec![
            PollFd::new(control.as_fd(), PollFlags::POLLIN),
            PollFd::new(ended.as_fd(), PollFlags::POLLIN),
        ];
        events.extend(broker.iter().map(|broker| PollFd::new(broker.as_fd(), PollFlags::POLLIN)));
        match poll(&mut events, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).at(Step::Fork),
        }
        // After the command the engine sends nothing: something to read is the end of the line.
        if events[0].any().unwrap_or(false) {
            return Ok(());
        }
        let asked = events.get(2).and_then(PollFd::revents).unwrap_or(PollFlags::empty());
        while let Ok(Some(_)) = ended.read_signal() {}
        if let Some((code, signal)) = reap(main) {
            let exited = Status::Exited { code, signal, at: sys::monotonic_ns() };
            return end(control, &exited, signal == 0 && is_alone());
        }
        match &mut broker {
            Some(broker) if asked.contains(PollFlags::POLLIN) => {
                broker.answer().at(Step::Notification)?;
            }
            // No process is left that could ask.
            _ if !asked.is_empty() => broker = None,
            _ => {}
        }
    }
}

/// Tells how the command ended. If the job is over with it, its result need not wait until this process has
/// ended, which takes the namespaces down where the engine may have to run: not before that has heard.
fn end(control: &mut File, exited: &Status, over: bool) -> Result<(), Fault> {
    if over {
        // To be told apart from one that waits for its command.
        prctl::set_name(c"cell-done").at(Step::Command)?;
    }
    say(control, exited)?;
    if over {
        // The engine hangs up. It sends nothing more.
        let _ = control.read(&mut [0]);
    }
    Ok(())
}

/// Whether nothing else is left in this cell: whoever loses its parent here becomes a child of this process
/// (pid_namespaces(7)).
fn is_alone() -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::All, flags) == Err(Errno::ECHILD)
}

fn say(control: &mut File, status: &Status) -> Result<(), Fault> {
    frame(status).and_then(|bytes| control.write_all(&bytes)).at(Step::Command)
}

/// Whether the command, or its beginning, is there.
fn is_there(control: &File) -> bool {
    let mut events = [PollFd::new(control.as_fd(), PollFlags::POLLIN)];
    poll(&mut events, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

/// The engine's one frame; `None` when it is gone.
fn read_command(control: &mut File) -> io::Result<Option<Start>> {
    let mut buffer = Vec::with_capacity(PIECE);
    let mut piece = [0; PIECE];
    loop {
        if let Some(start) = unframe(&mut buffer, MAX_START)? {
            return Ok(Some(start));
        }
        match control.read(&mut piece)? {
            0 => return Ok(None),
            length => buffer.extend_from_slice(&piece[..length]),
        }
    }
}

pub(super) enum Launched {
    Running(Running),
    Refused(Fault),
}

/// A command that was executed.
pub(super) struct Running {
    pub(super) main: Pid,
    /// Since when, `CLOCK_MONOTONIC` nanoseconds.
    pub(super) at: u64,
    /// Of the job's own filter.
    pub(super) listener: Option<OwnedFd>,
}

/// Forks the job and waits until its exec has happened. Until then it runs on this process's memory,
/// which nothing copies: what it leaves there says when, and what failed.
pub(super) fn launch(
    job: &Job,
    confinement: &Confinement,
    stack: &mut sys::Stack,
) -> Result<Launched, Fault> {
    let (mut at, mut fault, mut listener) = (None, None, None);
    // SAFETY: this process has one thread, and `execute` allocates nothing, changes nothing of this
    // process but what is declared here, and takes no lock.
    #[allow(unsafe_code)]
    let forked = unsafe {
        sys::fork_sharing_memory(stack, || {
            fault = Some(job.execute(confinement, |number| {
                listener = number;
                at = Some(sys::monotonic_ns());
            }));
        })
    };
    let main = forked.at(Step::Fork)?;
    // SAFETY: the child has shared its descriptors with this process, and has its own by now.
    #[allow(unsafe_code)]
    let listener = listener.map(|number| unsafe { sys::adopt(number) });
    Ok(match fault {
        Some(fault) => Launched::Refused(fault),
        // It was executed, or killed before it could be.
        None => {
            Launched::Running(Running { main, at: at.unwrap_or_else(sys::monotonic_ns), listener })
        }
    })
}

/// Reaps whatever has ended; comes back with the code and the signal of `main` if it is among them.
fn reap(main: Pid) -> Option<(i32, i32)> {
    std::iter::from_fn(sys::reap_any)
        .filter(|ended| ended.pid == main)
        .map(|ended| (ended.code, ended.signal))
        .last()
}
