//! From the caller to the job: whatever is not a terminal.
//!
//! The caller's stream loses what the job has read and nothing else, where the kernel makes that
//! possible: a loop such as `while read line; do cloister run …; done` shares it with the job. The
//! job's pipe holds a single page, so that it can be written to when it is empty, which means that all
//! was read. What is in it is only a copy: of a pipe by tee(2), of a file by pread(2). When the job has
//! read a page it is taken out of the caller's pipe; and a file's position is set at the end.
//! Of a socket or a device at most a page is taken that the job has not read (of a datagram, the rest).

use std::os::fd::{AsFd, OwnedFd};

use nix::poll::{PollFd, PollFlags};
use rustix::{
    fs::{Mode, OFlags, SeekFrom, open, seek},
    io::{Errno, ioctl_fionbio, ioctl_fionread, pread, read},
    net::{RecvFlags, recv},
    pipe::{SpliceFlags, fcntl_setpipe_size, splice, tee},
};

use super::relay::{Buffer, CHUNK, Relay, Side, pipe};

/// What the pipe of a job holds: a page, whatever the size of pages is.
const PAGE: usize = 4 << 10;

/// Where the job's input comes from.
pub(super) enum Source {
    /// A pipe or a FIFO. `shown` bytes were copied to the job and are still in the pipe.
    Pipe { shown: usize },
    /// A file, from this position on; and so much of it is in the job's pipe or has been.
    File { start: u64, given: u64 },
    /// A socket.
    Socket { datagrams: bool },
    /// A device.
    Device,
}

/// What the job reads from its standard input.
pub(super) struct Input {
    from: OwnedFd,
    source: Source,
    /// The writing end of the job's pipe; none when there is nothing more to come.
    to: Option<OwnedFd>,
    /// Its reading end, which tells what the job has left in it.
    rest: OwnedFd,
    buffer: Buffer,
    waits_for: Side,
}

impl Input {
    /// Comes back with the job's end, too.
    pub(super) fn new(from: OwnedFd, source: Source) -> rustix::io::Result<(Self, OwnedFd)> {
        let (theirs, to) = pipe()?;
        if !matches!(source, Source::File { .. }) {
            fcntl_setpipe_size(&to, PAGE)?;
        }
        ioctl_fionbio(&to, true)?;
        let rest = rustix::io::fcntl_dupfd_cloexec(&theirs, 0)?;
        let buffer = Buffer::default();
        let input = Self { from, source, to: Some(to), rest, buffer, waits_for: Side::Source };
        Ok((input, theirs))
    }

    /// Takes out of the caller's pipe what the job has read.
    fn settle(&mut self, unread: usize) {
        let Source::Pipe { shown } = &mut self.source else { return };
        let mut taken = std::mem::take(shown).saturating_sub(unread);
        if taken == 0 {
            return;
        }
        let Ok(nowhere) = open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) else {
            return self.close();
        };
        while taken > 0 {
            match splice(&self.from, None, &nowhere, None, taken, SpliceFlags::NONBLOCK) {
                Ok(length @ 1..) => taken -= length,
                Err(Errno::INTR) => {}
                // Another process has read the bytes meanwhile.
                Ok(0) | Err(_) => return,
            }
        }
    }

    /// The job finds the end of its input.
    fn close(&mut self) {
        self.to = None;
    }

    /// Shows the job what is in the caller's pipe.
    fn show(&mut self) {
        let (Some(to), Source::Pipe { shown }) = (&self.to, &mut self.source) else { return };
        match tee(&self.from, to, CHUNK, SpliceFlags::NONBLOCK) {
            Ok(0) => self.close(),
            Ok(length) => {
                *shown = length;
                self.waits_for = Side::Sink;
            }
            // The job wrote to its own pipe, or another process read from the caller's.
            Err(Errno::AGAIN) => {
                let empty = ioctl_fionread(&self.from).is_ok_and(|bytes| bytes == 0);
                self.waits_for = if empty { Side::Source } else { Side::Sink };
            }
            Err(Errno::INTR) => {}
            Err(_) => self.close(),
        }
    }

    /// Reads some of what the caller has, and gives it to the job.
    fn copy(&mut self) {
        let Some(to) = &self.to else { return };
        let from = &self.from;
        if self.buffer.is_empty() {
            let length = match self.source {
                Source::File { start, given } => {
                    self.buffer.fill(CHUNK, |bytes| pread(from, bytes, start + given))
                }
                Source::Socket { datagrams } => {
                    let most = if datagrams { CHUNK } else { PAGE };
                    self.buffer.fill(most, |bytes| Ok(recv(from, bytes, RecvFlags::DONTWAIT)?.0))
                }
                Source::Device | Source::Pipe { .. } => {
                    self.buffer.fill(PAGE, |bytes| read(from, bytes))
                }
            };
            match length {
                Ok(1..) => {}
                Err(Errno::INTR) => return,
                Err(Errno::AGAIN) => {
                    self.waits_for = Side::Source;
                    return;
                }
                // What can't be read has ended, as far as the job can tell.
                Ok(0) | Err(_) => return self.close(),
            }
        }
        let before = self.buffer.bytes().len();
        let flushed = self.buffer.flush(|bytes| rustix::io::write(to, bytes));
        if let Source::File { given, .. } = &mut self.source {
            *given += (before - self.buffer.bytes().len()) as u64;
        }
        match flushed {
            Ok(()) | Err(Errno::AGAIN) => self.waits_for = Side::Sink,
            Err(_) => self.close(),
        }
    }
}

impl Relay for Input {
    fn waits_for(&self) -> Option<PollFd<'_>> {
        let to = self.to.as_ref()?;
        Some(match self.waits_for {
            Side::Source => PollFd::new(self.from.as_fd(), PollFlags::POLLIN),
            Side::Sink => PollFd::new(to.as_fd(), PollFlags::POLLOUT),
        })
    }

    fn advance(&mut self) {
        if self.waits_for == Side::Sink && self.buffer.is_empty() {
            // It has read all that it was given, or made room for more, which is the same to us.
            self.settle(0);
            self.waits_for = Side::Source;
            return;
        }
        match self.source {
            Source::Pipe { .. } => self.show(),
            _ => self.copy(),
        }
    }

    fn job_ended(&mut self) {
        let unread = ioctl_fionread(&self.rest).unwrap_or(0);
        self.settle(usize::try_from(unread).unwrap_or(usize::MAX));
        if let Source::File { start, given } = self.source
            && let read @ 1.. = given.saturating_sub(unread)
        {
            // It fails only for what has no position.
            let _ = seek(&self.from, SeekFrom::Start(start + read));
        }
        self.close();
    }
}
