//! Feeding bytes in and taking bytes out, without ever waiting and without ever taking more than
//! was allowed.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use nix::errno::Errno;
use rustix::pipe::{SpliceFlags, splice};

use super::Room;

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

/// How much was taken of one stream.
pub(crate) struct Capture {
    taken: u64,
    limit: u64,
    truncated: bool,
    /// Whether it waits until the observer has room.
    waits: bool,
}

/// Whether a stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// So many bytes came, and more may.
    Open(usize),
    /// Nothing to read now.
    Dry,
    /// Nobody has room for what is there.
    Waits,
    /// Everybody closed it.
    Ended,
}

impl Capture {
    pub(crate) fn new(limit: u64) -> Self {
        Self { taken: 0, limit, truncated: false, waits: false }
    }

    /// Takes a turn's worth from the pipe, as far as `room` goes; `fresh` gets it. What is beyond the
    /// limit, or not wanted, is moved to `sink` (`/dev/null`) within the kernel, so that a flood costs
    /// little here.
    pub(crate) fn advance(
        &mut self,
        from: &OwnedFd,
        sink: &OwnedFd,
        buffer: &mut Vec<u8>,
        room: Room,
        fresh: impl FnOnce(&[u8]),
    ) -> Flow {
        self.waits = room == Room::Later;
        let room = match room {
            Room::Now(room) => room.min(TURN),
            Room::Later => return Flow::Waits,
            Room::Never => 0,
        };
        let left = usize::try_from(self.limit - self.taken).unwrap_or(usize::MAX);
        let room = left.min(room);
        if room == 0 {
            return self.drop_rest(from, sink);
        }
        buffer.resize(TURN, 0);
        match nix::unistd::read(from, &mut buffer[..room]) {
            Ok(0) => Flow::Ended,
            Ok(length) => {
                self.taken += length as u64;
                fresh(&buffer[..length]);
                Flow::Open(length)
            }
            Err(Errno::EINTR) => Flow::Open(0),
            Err(Errno::EAGAIN) => Flow::Dry,
            Err(_) => Flow::Ended,
        }
    }

    fn drop_rest(&mut self, from: &OwnedFd, sink: &OwnedFd) -> Flow {
        match splice(from, None, sink, None, TURN, SpliceFlags::NONBLOCK) {
            Ok(0) => Flow::Ended,
            Ok(length) => {
                // Should there be room again, what follows a gap is not wanted.
                self.limit = self.taken;
                self.truncated = true;
                Flow::Open(length)
            }
            Err(rustix::io::Errno::INTR) => Flow::Open(0),
            Err(rustix::io::Errno::AGAIN) => Flow::Dry,
            Err(_) => Flow::Ended,
        }
    }

    /// Whether nothing more is taken.
    pub(crate) fn is_full(&self) -> bool {
        self.taken == self.limit
    }

    /// Whether the observer was asked for room and had none.
    pub(crate) fn waits(&self) -> bool {
        self.waits
    }

    /// Whether more was written than taken.
    pub(crate) fn is_truncated(&self) -> bool {
        self.truncated
    }
}

/// `/dev/null`, for what nobody keeps.
pub(crate) fn sink() -> io::Result<OwnedFd> {
    Ok(std::fs::OpenOptions::new().write(true).open("/dev/null")?.into())
}
