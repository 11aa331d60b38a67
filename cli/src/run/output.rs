//! From the job to the caller.

use std::os::fd::{AsFd, OwnedFd};

use nix::poll::{PollFd, PollFlags};
use rustix::{
    io::{Errno, ioctl_fionbio, ioctl_fionread, read, write},
    net::{SendFlags, send},
    pipe::{SpliceFlags, splice},
};

use super::{
    relay::{Buffer, CHUNK, Relay, Side},
    terminal::Terminal,
};

/// Where the job's output goes.
pub(super) enum Sink {
    /// A pipe or a FIFO. What is moved stays within the kernel.
    Pipe(OwnedFd),
    /// A socket.
    Socket(OwnedFd),
    /// A terminal.
    Terminal(Terminal),
    /// A file, or a device that is not a terminal: it takes what it is given.
    File(OwnedFd),
}

impl AsFd for Sink {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Self::Pipe(fd) | Self::Socket(fd) | Self::File(fd) => fd.as_fd(),
            Self::Terminal(terminal) => terminal.as_fd(),
        }
    }
}

impl Sink {
    /// Writes what fits. The flags of the caller's description are its own: nothing here sets
    /// `O_NONBLOCK` on it.
    fn write(&self, bytes: &[u8]) -> rustix::io::Result<usize> {
        match self {
            Self::Socket(socket) => send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            Self::Terminal(terminal) => terminal.write(bytes),
            Self::Pipe(fd) | Self::File(fd) => write(fd, bytes),
        }
    }
}

/// What one stream of the job's writes.
pub(super) struct Output {
    /// The stream's name in messages.
    name: &'static str,
    /// Our end of the job's stream; none when there is nothing more to come.
    from: Option<OwnedFd>,
    to: Sink,
    buffer: Buffer,
    waits_for: Side,
    /// How many bytes are yet to come, since the job has ended.
    left: Option<usize>,
    fault: Option<Errno>,
}

impl Output {
    pub(super) fn new(name: &'static str, from: OwnedFd, to: Sink) -> rustix::io::Result<Self> {
        // This end is ours alone, and so are its flags.
        ioctl_fionbio(&from, true)?;
        Ok(Self {
            name,
            from: Some(from),
            to,
            buffer: Buffer::default(),
            waits_for: Side::Source,
            left: None,
            fault: None,
        })
    }

    fn most(&self) -> usize {
        self.left.unwrap_or(CHUNK).min(CHUNK)
    }

    /// That many bytes were taken from the job's stream.
    fn took(&mut self, length: usize) {
        if let Some(left) = &mut self.left {
            *left -= length;
        }
    }

    /// Closes our end of the job's stream, which its next write then finds out.
    fn close(&mut self) {
        self.from = None;
    }

    /// The other side can't be written to.
    fn fail(&mut self, error: Errno) {
        // A reader that is gone wants nothing more, which is its right.
        if !matches!(error, Errno::PIPE | Errno::CONNRESET) {
            self.fault = Some(error);
        }
        self.close();
    }

    /// From pipe to pipe.
    fn splice(&mut self) {
        let Some(from) = &self.from else { return };
        match splice(from, None, &self.to, None, self.most(), SpliceFlags::NONBLOCK) {
            Ok(0) => self.close(),
            Ok(length) => {
                self.took(length);
                self.waits_for = Side::Source;
            }
            Err(Errno::INTR) => {}
            // One of the two is not ready.
            Err(Errno::AGAIN) => {
                let dry = ioctl_fionread(from).is_ok_and(|bytes| bytes == 0);
                if dry && self.left.is_some() {
                    return self.close();
                }
                self.waits_for = if dry { Side::Source } else { Side::Sink };
            }
            Err(error) => self.fail(error),
        }
    }

    /// By way of a buffer.
    fn copy(&mut self) {
        let most = self.most();
        let Some(from) = &self.from else { return };
        if self.buffer.is_empty() {
            match self.buffer.fill(most, |bytes| read(from, bytes)) {
                // A pty answers EIO when its last opener has closed it.
                Ok(0) | Err(Errno::IO) => return self.close(),
                Ok(length) => self.took(length),
                Err(Errno::AGAIN) if self.left.is_some() => return self.close(),
                Err(Errno::AGAIN | Errno::INTR) => {
                    self.waits_for = Side::Source;
                    return;
                }
                Err(error) => return self.fail(error),
            }
        }
        match self.buffer.flush(|bytes| self.to.write(bytes)) {
            Ok(()) => self.waits_for = Side::Source,
            Err(Errno::AGAIN) => self.waits_for = Side::Sink,
            Err(error) => self.fail(error),
        }
    }
}

impl Relay for Output {
    fn waits_for(&self) -> Option<PollFd<'_>> {
        let from = self.from.as_ref()?;
        Some(match self.waits_for {
            Side::Source => PollFd::new(from.as_fd(), PollFlags::POLLIN),
            Side::Sink => PollFd::new(self.to.as_fd(), PollFlags::POLLOUT),
        })
    }

    fn advance(&mut self) {
        match self.to {
            Sink::Pipe(_) => self.splice(),
            _ => self.copy(),
        }
        if self.left == Some(0) && self.buffer.is_empty() {
            self.close();
        }
    }

    /// The job has ended. What is there now is the last output, unless the job handed its stream to
    /// another process.
    fn job_ended(&mut self) {
        let Some(from) = &self.from else { return };
        self.left = Some(match self.to {
            // A terminal tells only of a part of what is on its way.
            Sink::Terminal(_) => usize::MAX,
            _ => {
                ioctl_fionread(from).map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
            }
        });
        if self.left == Some(0) && self.buffer.is_empty() {
            self.close();
        } else if self.waits_for == Side::Source {
            self.advance();
        }
    }

    fn fault(&self) -> Option<String> {
        let error = self.fault?;
        Some(format!("{} cannot be written to: {}", self.name, std::io::Error::from(error)))
    }
}
