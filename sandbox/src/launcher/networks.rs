//! Networks made ahead: the kernel makes a network namespace in about the time of all others together,
//! and one after the other for the whole host. So a process beside the launcher makes the next one while
//! there is time, and the launcher stands in it when it clones a cell. Each is one cell's, and never
//! another's.
//!
//! They belong to a user namespace of that process, which maps no user and is neither the launcher's nor
//! a cell's: whatever a job may become in its own, it has no capability over its network. The launcher
//! owns that namespace, which is what lets it enter the networks (setns(2) asks for CAP_SYS_PTRACE there,
//! which it has as the owner alone). Of what the kernel counts per user a job adds nothing to it: one
//! network per cell is all that is made there.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::{
        prctl,
        signal::{Signal, kill},
        socket::SockType,
        wait::waitpid,
    },
    unistd::{Pid, read, write},
};

use super::keep_only;
use crate::{
    layers::Layer,
    network,
    sys::{self, Cloned},
};

/// One byte each way: the next one is there; it was taken.
const TURN: [u8; 1] = [0];

/// Where cells' networks come from.
pub(super) enum Networks {
    /// From the process beside.
    Ahead(Maker),
    /// clone3 makes each with its cell: the launcher, which jobs may ask for the host's network, cannot
    /// leave that one, as without privileges it would not come back.
    WithTheCell,
}

impl Networks {
    /// Starts what makes them.
    pub(super) fn start(network_host: bool) -> io::Result<Self> {
        let layers = Layer::NetworkNamespace.stands() && Layer::NetworkOwner.stands();
        if layers && !network_host {
            Maker::start().map(Self::Ahead)
        } else {
            Ok(Self::WithTheCell)
        }
    }

    /// Sees to the network of the next cell; whether clone3 is to make it.
    pub(super) fn for_clone(&mut self, host_network: bool) -> io::Result<bool> {
        let Self::Ahead(maker) = self else {
            return Ok(!host_network && Layer::NetworkNamespace.stands());
        };
        let entered = maker.enter_next().or_else(|_| {
            // Somebody killed it, such as the kernel when the host's memory ran out.
            std::mem::replace(maker, Maker::start()?).end().reap();
            maker.enter_next()
        });
        entered.map(|()| false)
    }

    /// Has the next one made, when the cell of the last is on its way.
    pub(super) fn make_next(&mut self) {
        if let Self::Ahead(maker) = self
            && std::mem::take(&mut maker.taken)
        {
            // That it is gone shows when the next one is wanted.
            let _ = write(&maker.line, &TURN);
        }
    }

    /// Ends what makes them; comes back with what is to be waited for.
    pub(super) fn end(&mut self) -> Option<Ending> {
        match std::mem::replace(self, Self::WithTheCell) {
            Self::Ahead(maker) => Some(maker.end()),
            Self::WithTheCell => None,
        }
    }
}

/// The process that makes them. It ends by itself when its line is closed, as when the launcher is gone.
pub(super) struct Maker {
    pid: Pid,
    pidfd: OwnedFd,
    line: OwnedFd,
    /// Whether this process stands in the newest.
    taken: bool,
}

impl Maker {
    /// Starts it. The process must be single-threaded.
    fn start() -> io::Result<Self> {
        let (line, theirs) = sys::socket_pair(SockType::Stream)?;
        // SAFETY: the launcher is single-threaded.
        #[allow(unsafe_code)]
        match unsafe { sys::clone3(libc::CLONE_NEWUSER as u64, None) }? {
            Cloned::Child => {
                let _end = sys::EndOnUnwind;
                let ended = keep_only(theirs).and_then(|line| make_again_and_again(&line));
                sys::exit_now(i32::from(ended.is_err()))
            }
            Cloned::Parent { pid, pidfd } => Ok(Self { pid, pidfd, line, taken: false }),
        }
    }

    /// Moves this process into the next network, which is made if it is not there yet.
    fn enter_next(&mut self) -> io::Result<()> {
        if read(&self.line, &mut [0])? == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        setns(self.pidfd.as_fd(), CloneFlags::CLONE_NEWNET)?;
        self.taken = true;
        Ok(())
    }

    fn end(self) -> Ending {
        // It has nothing to finish, and might have been stopped.
        let _ = kill(self.pid, Signal::SIGKILL);
        Ending(self.pid)
    }
}

/// What is yet to be reaped of it.
pub(super) struct Ending(Pid);

impl Ending {
    /// Waits until it has ended.
    pub(super) fn reap(&self) {
        let _ = waitpid(self.0, None);
    }
}

fn make_again_and_again(line: &OwnedFd) -> io::Result<()> {
    prctl::set_name(c"networks")?;
    // The launcher could not enter the networks of a process that is not dumpable (pidfd_open(2) with
    // setns(2) is checked like ptrace(2)); it itself is not, once it has made a cell.
    prctl::set_dumpable(true)?;
    loop {
        unshare(CloneFlags::CLONE_NEWNET)?;
        network::set_up()?;
        write(line, &TURN)?;
        if read(line, &mut [0])? == 0 {
            return Ok(());
        }
    }
}
