//! What a relay is: something that moves bytes between a stream of the caller and one of the job,
//! and never waits by itself.

use std::os::fd::OwnedFd;

use nix::poll::PollFd;
use rustix::pipe::{PipeFlags, pipe_with};

/// One direction of one stream.
pub(super) trait Relay {
    /// What has to be ready before it can go on; nothing where it is done.
    fn waits_for(&self) -> Option<PollFd<'_>>;

    /// Moves as many bytes as it can without waiting. Called when one of its descriptors is ready.
    fn advance(&mut self);

    /// The job has ended: nothing more is given to it, and what it left behind is the last.
    fn job_ended(&mut self);

    /// Why bytes were lost, if they were.
    fn fault(&self) -> Option<String> {
        None
    }
}

/// Which side a relay waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Where bytes come from.
    Source,
    /// Where they go.
    Sink,
}

/// The most bytes that are moved at once.
pub(super) const CHUNK: usize = 64 << 10;

/// A pipe: its reading end, and its writing end.
pub(super) fn pipe() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    pipe_with(PipeFlags::CLOEXEC)
}

/// Bytes that were read and not yet written as a whole.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    gone: usize,
}

impl Buffer {
    pub(super) fn is_empty(&self) -> bool {
        self.gone == self.bytes.len()
    }

    /// Takes in at most `most` bytes from `read`; comes back with how many there were.
    pub(super) fn fill(
        &mut self,
        most: usize,
        read: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>,
    ) -> rustix::io::Result<usize> {
        self.bytes.resize(most, 0);
        let length = read(&mut self.bytes);
        self.bytes.truncate(*length.as_ref().unwrap_or(&0));
        self.gone = 0;
        length
    }

    /// What is on its way.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.gone..]
    }

    /// Adds a byte.
    pub(super) fn push(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// Gives bytes to `write` until they are all gone, or it fails.
    pub(super) fn flush(
        &mut self,
        mut write: impl FnMut(&[u8]) -> rustix::io::Result<usize>,
    ) -> rustix::io::Result<()> {
        while !self.is_empty() {
            match write(&self.bytes[self.gone..]) {
                Ok(length) => self.gone += length,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
