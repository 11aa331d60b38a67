//! Feeding bytes in and taking bytes out, without ever waiting and without ever keeping more than
//! was allowed.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use cloister_api::Output;
use nix::errno::Errno;
use rustix::pipe::{SpliceFlags, splice};

/// The most that is moved for one cell before the next one has its turn; the size of a pipe.
const TURN: usize = 64 << 10;

/// Bytes on their way to a descriptor that may not take them all at once.
pub(crate) struct Feed {
    bytes: Vec<u8>,
    written: usize,
}

impl Feed {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, written: 0 }
    }

    /// Whether every byte was written.
    pub(crate) fn is_written(&self) -> bool {
        self.written == self.bytes.len()
    }

    /// Begins again from the first byte.
    pub(crate) fn rewind(&mut self) {
        self.written = 0;
    }

    /// Writes what fits. Comes back with whether all is done: written, or no longer wanted.
    pub(crate) fn advance(&mut self, to: impl AsFd) -> bool {
        while self.written < self.bytes.len() {
            match nix::unistd::write(to.as_fd(), &self.bytes[self.written..]) {
                Ok(length) => self.written += length,
                Err(Errno::EAGAIN) => return false,
                Err(Errno::EINTR) => {}
                // The job closed its input, which is its right.
                Err(_) => return true,
            }
        }
        true
    }
}

/// What is kept of one stream.
pub(crate) struct Capture {
    kept: Vec<u8>,
    limit: usize,
    truncated: bool,
}

/// Whether a stream goes on.
#[derive(PartialEq, Eq)]
pub(crate) enum Flow {
    /// More may come.
    Open,
    /// Nothing to read now.
    Dry,
    /// Everybody closed it.
    Ended,
}

impl Capture {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            kept: Vec::new(),
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            truncated: false,
        }
    }

    /// Takes a turn's worth from the pipe; `fresh` gets what is newly kept. What is beyond the limit
    /// is moved to `sink` (`/dev/null`) within the kernel, so that a flood costs little here.
    pub(crate) fn advance(
        &mut self,
        from: &OwnedFd,
        sink: &OwnedFd,
        buffer: &mut Vec<u8>,
        mut fresh: impl FnMut(&[u8]),
    ) -> Flow {
        let room = self.limit - self.kept.len();
        if room == 0 {
            return match splice(from, None, sink, None, TURN, SpliceFlags::NONBLOCK) {
                Ok(0) => Flow::Ended,
                Ok(_) => {
                    self.truncated = true;
                    Flow::Open
                }
                Err(rustix::io::Errno::INTR) => Flow::Open,
                Err(rustix::io::Errno::AGAIN) => Flow::Dry,
                Err(_) => Flow::Ended,
            };
        }
        buffer.resize(TURN, 0);
        match nix::unistd::read(from, &mut buffer[..room.min(TURN)]) {
            Ok(0) => Flow::Ended,
            Ok(length) => {
                self.kept.extend_from_slice(&buffer[..length]);
                fresh(&buffer[..length]);
                Flow::Open
            }
            Err(Errno::EINTR) => Flow::Open,
            Err(Errno::EAGAIN) => Flow::Dry,
            Err(_) => Flow::Ended,
        }
    }

    /// What was kept.
    pub(crate) fn take(&mut self) -> Output {
        Output::new(std::mem::take(&mut self.kept), self.truncated)
    }
}

/// `/dev/null`, for what nobody keeps.
pub(crate) fn sink() -> io::Result<OwnedFd> {
    Ok(std::fs::OpenOptions::new().write(true).open("/dev/null")?.into())
}
