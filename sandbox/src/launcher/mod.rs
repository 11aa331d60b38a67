//! The launcher: a small single-threaded process that alone keeps privileges, and makes cells.
//!
//! It is forked before the service starts any thread, since fork in a threaded process leaves the
//! child with whatever locks others held; its address space is small, so that it clones fast; and
//! it sees numbers and descriptors only (see [`crate::wire`]). When the service is gone, by whatever
//! cause, its socket closes: the launcher then kills every cell, removes its cgroups and ends. When
//! the launcher is gone, its cells get SIGKILL as their parent's death signal.

mod cells;
mod counters;
mod identity;
mod inodes;
mod judge;
mod networks;
mod process;
mod root;
#[cfg(feature = "steps")]
mod steps;

use std::{
    io,
    os::fd::{AsFd, OwnedFd, RawFd},
    path::PathBuf,
};

use nix::{
    sys::{socket::SockType, wait::waitpid},
    unistd::Pid,
};

use crate::{
    cgroup::{Folders, Scope},
    error::{Context, Error},
    host::Host,
    sys::{self, Forked},
    wire::{Packet, Reply, receive_greeting},
};

pub(crate) use cells::GO;
pub(crate) use counters::Share;
pub(crate) use identity::JOB_ID;
#[cfg(fuzzing)]
pub(crate) use judge::{Asked, Rules};
pub(crate) use root::LAID;
#[cfg(feature = "steps")]
pub(crate) use steps::Bench;

/// What the operator decided.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Further host folders that cells see, read-only, at the same path.
    pub expose: Vec<PathBuf>,
    /// Whether jobs may ask for the host's network.
    pub network_host: bool,
    /// How many cells at once, if the launcher is to know a bound: those that are made ahead, and those
    /// whose job has ended and that are not taken away yet, count.
    pub max_cells: Option<usize>,
    /// How many cells may wait at most, made ahead of the jobs that will run in them. None does before
    /// a first job has run, nor when none has for a while.
    pub cells_ahead: usize,
}

/// The launcher's end of its socket, behind the standard streams.
const SOCKET: RawFd = 3;

/// The handle to the launcher process.
#[derive(Debug)]
pub struct Launcher {
    pub(crate) socket: OwnedFd,
    pub(crate) pid: Pid,
    pub(crate) host: Host,
    /// Its cgroups, to look into.
    pub(crate) folders: Folders,
    /// [`Config::cells_ahead`].
    pub(crate) cells_ahead: usize,
}

impl Launcher {
    /// Forks the launcher and waits until it is set up.
    ///
    /// # Errors
    /// When this process has more than one thread already, or the launcher says that the host lets
    /// it make no cells at all. A limit that the host can't enforce is not an error here; it stands
    /// in [`Host::enforcement`].
    pub fn fork(config: &Config) -> Result<Self, Error> {
        // What is forked afterwards comes to stand in the same cgroup.
        let scope = Scope::ask();
        alone()?;
        let exposed = root::check_exposed(&config.expose)?;
        let (ours, theirs) =
            sys::socket_pair(SockType::SeqPacket).context("making the launcher's socket")?;
        // SAFETY: there is one thread, as was just counted.
        #[allow(unsafe_code)]
        let forked = unsafe { sys::fork() }.context("forking the launcher")?;
        match forked {
            Forked::Child => {
                let _end = sys::EndOnUnwind;
                // Sockets that already listen, above all, are not the launcher's business.
                match keep_only(theirs) {
                    Ok(socket) => process::run(config, &exposed, &scope, &socket),
                    Err(_) => sys::exit_now(1),
                }
                sys::exit_now(0)
            }
            Forked::Parent(pid) => {
                drop(theirs);
                let reason = match receive_greeting(&ours) {
                    Ok(Some(Packet { message: Reply::Hello { host, folders }, fds, .. })) => {
                        match (serde_json::from_str(&host), Folders::new(folders, fds)) {
                            (Ok(host), Some(folders)) => {
                                let cells_ahead = config.cells_ahead;
                                return Ok(Self { socket: ours, pid, host, folders, cells_ahead });
                            }
                            (Err(error), _) => error.to_string(),
                            (_, None) => "not all of its descriptors could be taken".into(),
                        }
                    }
                    Ok(Some(Packet { message: Reply::Unfit(reason), .. })) => reason,
                    Ok(_) => "it ended before it could say why".into(),
                    Err(error) => error.to_string(),
                };
                drop(ours);
                let _ = waitpid(pid, None);
                Err(Error::Launcher(reason))
            }
        }
    }

    /// What the host gives to cells.
    pub fn host(&self) -> &Host {
        &self.host
    }
}

/// That this process has one thread: fork would copy locks that others hold.
pub(crate) fn alone() -> Result<(), Error> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads > 1 { Err(Error::Threads(threads)) } else { Ok(()) }
}

/// Closes everything but the standard streams and this socket, which has a new number.
pub(crate) fn keep_only(socket: OwnedFd) -> io::Result<OwnedFd> {
    sys::place(socket.as_fd(), SOCKET)?;
    // Its old number is among those that are closed now.
    std::mem::forget(socket);
    sys::close_from(SOCKET + 1)?;
    // SAFETY: it was put there, and nobody else uses that number.
    #[allow(unsafe_code)]
    let socket = unsafe { sys::adopt(SOCKET) };
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    Ok(socket)
}
