//! PID 1 of a cell: waits for its one command, forks it, reaps, reports the end of that one child at
//! once, and ends, which ends everything else in the cell.
//!
//! The end of output decides nothing here: a job that closed its descriptors is waited for, and one
//! that left a daemon behind holding them is not.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::AsFd,
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::{Pid, pipe2},
};

use super::{confine::Confinement, job::Job};
use crate::{
    error::{At, Fault, Step},
    sys::{self, Forked},
    wire::{MAX_START, Start, Status, frame, unframe},
};

/// Runs the one command of this cell's life. `Ok` when it has ended or nobody waits for it any more.
pub(crate) fn run(control: &mut File, confinement: &Confinement) -> Result<(), Fault> {
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block().at(Step::Fork)?;
    let ended = SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .at(Step::Fork)?;

    let Some(start) = read_command(control).at(Step::Command)? else {
        return Ok(());
    };
    let job = Job::prepare(start).at(Step::Command)?;
    let (main, at) = match launch(&job, confinement)? {
        Launched::Running(pid, at) => (pid, at),
        Launched::Refused(fault) => return say(control, &Status::NotExecuted(fault)),
    };
    say(control, &Status::Started { at })?;

    loop {
        let mut events = [
            PollFd::new(control.as_fd(), PollFlags::POLLIN),
            PollFd::new(ended.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut events, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).at(Step::Fork),
        }
        // After the command the engine sends nothing: something to read is the end of the line.
        if events[0].any().unwrap_or(false) {
            return Ok(());
        }
        while let Ok(Some(_)) = ended.read_signal() {}
        if let Some((code, signal)) = reap(main) {
            return say(control, &Status::Exited { code, signal, at: sys::monotonic_ns() });
        }
    }
}

fn say(control: &mut File, status: &Status) -> Result<(), Fault> {
    frame(status).and_then(|bytes| control.write_all(&bytes)).at(Step::Command)
}

/// The engine's one frame; `None` when it is gone.
fn read_command(control: &mut File) -> io::Result<Option<Start>> {
    let mut buffer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match control.read(&mut piece)? {
            0 => return Ok(None),
            length => buffer.extend_from_slice(&piece[..length]),
        }
        if let Some(start) = unframe(&mut buffer, MAX_START)? {
            return Ok(Some(start));
        }
    }
}

enum Launched {
    /// Since when, `CLOCK_MONOTONIC` nanoseconds.
    Running(Pid, u64),
    Refused(Fault),
}

/// Forks the job and waits until its exec has happened. A close-on-exec pipe tells: the child writes
/// the time just before the exec, and behind it what failed; its end says that nothing did.
fn launch(job: &Job, confinement: &Confinement) -> Result<Launched, Fault> {
    let (verdict, teller) = pipe2(OFlag::O_CLOEXEC).at(Step::Fork)?;
    // SAFETY: this process has one thread.
    #[allow(unsafe_code)]
    match unsafe { sys::fork() }.at(Step::Fork)? {
        Forked::Child => {
            let fault = job.execute(confinement, || {
                let _ = nix::unistd::write(&teller, &sys::monotonic_ns().to_le_bytes());
            });
            // No allocation here: the bytes go from the stack to the pipe.
            let mut bytes = [0; 16];
            if let Ok(bytes) = postcard::to_slice(&fault, &mut bytes) {
                let _ = nix::unistd::write(&teller, bytes);
            }
            sys::exit_now(127)
        }
        Forked::Parent(pid) => {
            drop(teller);
            let mut bytes = Vec::new();
            File::from(verdict).read_to_end(&mut bytes).at(Step::Fork)?;
            // A fault is encoded in fewer bytes than a time.
            let (at, fault) = match bytes.split_first_chunk::<8>() {
                Some((at, fault)) => (u64::from_le_bytes(*at), fault),
                None => (sys::monotonic_ns(), bytes.as_slice()),
            };
            match postcard::from_bytes(fault) {
                Ok(fault) => Ok(Launched::Refused(fault)),
                // Nothing was said: it was executed, or killed before it could be.
                Err(_) => Ok(Launched::Running(pid, at)),
            }
        }
    }
}

/// Reaps whatever has ended; comes back with the code and the signal of `main` if it is among them.
fn reap(main: Pid) -> Option<(i32, i32)> {
    std::iter::from_fn(sys::reap_any)
        .filter(|ended| ended.pid == main)
        .map(|ended| (ended.code, ended.signal))
        .last()
}
