//! Laying out what goes into a cell: its one command, and its input. Done by whoever asks for the
//! job, not on the engine's thread: either may be of megabytes.

use std::{io, os::fd::OwnedFd};

use cloister_api::Task;

use super::Stdio;
use crate::{
    host::Host,
    wire::{Rlimits, Start, frame},
};

/// The cell's own variables; a task's are added and win.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/job"),
    ("USER", "job"),
    ("LANG", "C.UTF-8"),
];

/// What goes into a cell.
pub(crate) struct Load {
    /// The frame for PID 1.
    pub(crate) command: Vec<u8>,
    /// For standard input.
    pub(crate) input: Vec<u8>,
    /// Descriptors of the caller, in place of pipes.
    pub(crate) passed: Option<[OwnedFd; 3]>,
}

impl Load {
    pub(crate) fn new(task: &Task, stdio: Stdio, host: &Host) -> io::Result<Self> {
        let command = frame(&start(task, host))?;
        let (input, passed) = match stdio {
            Stdio::Captured => (task.stdin.bytes(), None),
            Stdio::Passed(fds) => (Vec::new(), Some(fds)),
        };
        Ok(Self { command, input, passed })
    }
}

fn start(task: &Task, host: &Host) -> Start {
    let limits = &task.limits;
    let own = ENVIRONMENT.iter().filter(|(name, _)| !task.env.contains_key(*name));
    let env = own
        .map(|(name, value)| format!("{name}={value}"))
        .chain(task.env.iter().map(|(name, value)| format!("{name}={value}")))
        .collect();
    // Behind the engine's own timer, and for one process alone; where nothing counts the CPU time
    // of all, it is the only limit there is.
    let slack = if host.enforces("cpu_time") { 2 } else { 1 };
    let rlimits = Rlimits {
        open_files: limits.open_files,
        // Against huge sparse files. A page more than the file system holds, so that whoever fills
        // that up is told so (ENOSPC) and not killed (SIGXFSZ).
        file_size: limits.disk.0 + 4096,
        cpu: limits.cpu_time.map(|time| time.0.as_secs() + slack),
        // For want of a cgroup that counts them. PID 1 of the cell has the same user.
        processes: (!host.enforces("pids")).then_some(limits.pids + 1),
    };
    // A relative folder counts from the cell's own.
    let cwd =
        if task.cwd.starts_with('/') { task.cwd.clone() } else { format!("/job/{}", task.cwd) };
    Start { argv: task.program.argv(), env, cwd, rlimits }
}
