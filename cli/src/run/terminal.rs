//! The caller's terminal, and the pty that the job gets in its place.

use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::{
    fs::{Mode, OFlags, fstat, open},
    io::{Errno, fcntl_dupfd_cloexec},
    process::getpgrp,
    pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{
        InputModes, LocalModes, OptionalActions, OutputModes, Termios, tcgetattr, tcgetpgrp,
        tcgetwinsize, tcsetattr, tcsetwinsize,
    },
};

/// A terminal of the caller's.
pub(super) struct Terminal {
    fd: OwnedFd,
    /// Whether that is a description of our own, which never makes us wait. The caller's own may, and
    /// its flags are shared with every process that has it open.
    own: bool,
}

impl Terminal {
    /// The terminal that a stream of the caller's leads to.
    pub(super) fn of(stream: BorrowedFd<'_>) -> rustix::io::Result<Self> {
        let path = format!("/proc/self/fd/{}", stream.as_raw_fd());
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // The other end of a pty can't be opened twice: that makes another pty.
        let device = fstat(stream)?.st_rdev;
        let reopened = (device != PTMX).then(|| open(path, flags, Mode::empty()).ok()).flatten();
        match reopened {
            Some(fd) => Ok(Self { fd, own: true }),
            // The terminal belongs to another user, as after su(1).
            None => Ok(Self { fd: fcntl_dupfd_cloexec(stream, 0)?, own: false }),
        }
    }

    pub(super) fn try_clone(&self) -> rustix::io::Result<Self> {
        Ok(Self { fd: fcntl_dupfd_cloexec(&self.fd, 0)?, own: self.own })
    }

    /// Whether both are one terminal: the same device, or `/dev/tty` and the device that it stands for.
    pub(super) fn is(&self, stream: BorrowedFd<'_>) -> rustix::io::Result<bool> {
        let same = fstat(&self.fd)?.st_rdev == fstat(stream)?.st_rdev;
        Ok(same || (tcgetpgrp(&self.fd).is_ok() && tcgetpgrp(stream).is_ok()))
    }

    /// Whether our process group may read from it and set its modes. Where it is not our controlling
    /// terminal, there is no job control that says otherwise.
    pub(super) fn is_ours(&self) -> bool {
        tcgetpgrp(&self.fd).map_or_else(|error| error != Errno::IO, |group| group == getpgrp())
    }

    /// Whether the terminal gives whole lines (canonical mode), not single keys.
    pub(super) fn gives_lines(&self) -> bool {
        tcgetattr(&self.fd).is_ok_and(|modes| modes.local_modes.contains(LocalModes::ICANON))
    }

    /// Writes what fits.
    pub(super) fn write(&self, bytes: &[u8]) -> rustix::io::Result<usize> {
        if self.own {
            return rustix::io::write(&self.fd, bytes);
        }
        // It takes at least a byte without waiting if it says that it takes any.
        if !self.is_ready(PollFlags::POLLOUT) {
            return Err(Errno::AGAIN);
        }
        rustix::io::write(&self.fd, &bytes[..1])
    }

    /// Reads what there is.
    pub(super) fn read(&self, bytes: &mut [u8]) -> rustix::io::Result<usize> {
        if !self.own && !self.has_input() {
            return Err(Errno::AGAIN);
        }
        rustix::io::read(&self.fd, bytes)
    }

    /// Whether input waits, also where it is not for our process group.
    pub(super) fn has_input(&self) -> bool {
        self.is_ready(PollFlags::POLLIN)
    }

    /// Whether the other end has hung up.
    pub(super) fn is_gone(&self) -> bool {
        self.is_ready(PollFlags::empty())
    }

    fn is_ready(&self, flags: PollFlags) -> bool {
        poll(&mut [PollFd::new(self.fd.as_fd(), flags)], PollTimeout::ZERO).is_ok_and(|n| n > 0)
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `/dev/ptmx`, by its number.
const PTMX: u64 = 5 << 8 | 2;

/// The pty that the job gets in place of the caller's terminal.
pub(super) struct Pty {
    pub(super) terminal: Terminal,
    /// Our end.
    pub(super) master: OwnedFd,
    /// Whether the job's input and output are both on it, so that the caller's terminal hands on keys
    /// as they are pressed and the pty does the rest. Otherwise the caller's stays as it is: its other
    /// streams lead to programs that use it as well, such as a pager.
    pub(super) interactive: bool,
    /// The character that ends the input.
    pub(super) end: u8,
}

impl Pty {
    /// Makes one that is like the terminal; comes back with the job's end, too.
    pub(super) fn new(
        terminal: Terminal,
        interactive: bool,
    ) -> rustix::io::Result<(Self, OwnedFd)> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        unlockpt(&master)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let theirs = ioctl_tiocgptpeer(&master, flags)?;
        let mut modes = tcgetattr(&terminal)?;
        if !interactive {
            // The caller's terminal does all this.
            modes.input_modes -= InputModes::ICRNL | InputModes::IXON;
            modes.output_modes -= OutputModes::OPOST;
            modes.local_modes -= LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN;
            modes.local_modes |= LocalModes::ICANON;
        }
        tcsetattr(&theirs, OptionalActions::Now, &modes)?;
        let end = modes.special_codes[rustix::termios::SpecialCodeIndex::VEOF];
        let pty = Self { terminal, master, interactive, end };
        pty.resize();
        Ok((pty, theirs))
    }

    /// Sets the pty to the size of the caller's terminal. The kernel sends SIGWINCH to the job.
    pub(super) fn resize(&self) {
        if let Ok(size) = tcgetwinsize(&self.terminal) {
            // It fails only where the size does not fit, and then the job's stays as it is.
            let _ = tcsetwinsize(&self.master, size);
        }
    }

    /// Has the terminal hand on keys as they are pressed, if it is ours to set; whether it does.
    pub(super) fn hold(&self) -> bool {
        self.interactive && self.terminal.is_ours() && self.set_raw().is_ok()
    }

    fn set_raw(&self) -> rustix::io::Result<()> {
        let mut modes = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match modes.as_ref() {
            Some((_, before)) => before.clone(),
            None => tcgetattr(&self.terminal)?,
        };
        let mut raw = before.clone();
        raw.make_raw();
        let terminal = self.terminal.try_clone()?;
        tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        *modes = Some((terminal, before));
        Ok(())
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        restore();
    }
}

/// A terminal whose modes were changed, and those that it had.
static HELD: Mutex<Option<(Terminal, Termios)>> = Mutex::new(None);

/// Gives the terminal its modes back. If another process group has it by now, they are not ours to set.
fn restore() {
    if let Ok(mut held) = HELD.try_lock()
        && let Some((terminal, before)) = held.take()
        && terminal.is_ours()
    {
        // It fails only where the terminal is gone.
        let _ = tcsetattr(&terminal, OptionalActions::Now, &before);
    }
}

/// Restores the terminal's modes before a panic message is printed: a panic drops no values here.
pub(super) fn restore_on_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        restore();
        tell(panic);
    }));
}

/// One that several relays use.
pub(super) type Shared = Arc<Pty>;
