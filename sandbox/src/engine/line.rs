//! The line to the launcher, on which the engine's thread and those that bring jobs ask for cells.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicUsize, Ordering},
};

use rustix::net::{Shutdown, shutdown};

use crate::wire::{CellId, Packet, Reply, Request, receive, send};

/// How many cells are asked for at once. More wait on this side: were both to fill the socket, each
/// would wait for the other to read.
const MAX_PREPARING: usize = 64;

pub(super) struct Line {
    socket: OwnedFd,
    /// How many were asked for and have not come.
    preparing: AtomicUsize,
}

/// The right to ask for one cell. Given back if it is not used.
pub(super) struct Turn<'a> {
    line: &'a Line,
    used: bool,
}

impl Line {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket, preparing: AtomicUsize::new(0) }
    }

    /// The right to ask for one more cell, unless too many are being made.
    pub(super) fn turn(&self) -> Option<Turn<'_>> {
        let one_more = |count| (count < MAX_PREPARING).then_some(count + 1);
        let counted = self.preparing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        // Only then there is one: it would be given back.
        counted.is_ok().then(|| Turn { line: self, used: false })
    }

    /// How many cells were asked for and have not come.
    pub(super) fn preparing(&self) -> usize {
        self.preparing.load(Ordering::Relaxed)
    }

    /// The launcher has answered to one of these.
    pub(super) fn answered(&self) {
        let one_less = |count: usize| count.checked_sub(1);
        let _ = self.preparing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
    }

    /// Has the launcher kill a cell. Where it is gone, so is the cell; and so with the next.
    pub(super) fn kill(&self, cell: CellId) {
        let _ = send(&self.socket, &Request::Kill { cell }, &[]);
    }

    /// Lets the launcher take a cell away.
    pub(super) fn release(&self, cell: CellId) {
        let _ = send(&self.socket, &Request::Release { cell }, &[]);
    }

    /// What the launcher says, if it has said anything.
    pub(super) fn receive(&self) -> io::Result<Option<Packet<Reply>>> {
        receive(&self.socket, false)
    }

    /// Tells the launcher that this side is gone.
    pub(super) fn close(&self) {
        // Not by closing it: who might bring jobs yet holds it too.
        let _ = shutdown(&self.socket, Shutdown::Both);
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Turn<'_> {
    /// Asks for a cell.
    pub(super) fn ask(mut self, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        send(&self.line.socket, request, fds)?;
        self.used = true;
        Ok(())
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.used {
            self.line.answered();
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::SockType;

    use super::*;

    #[test]
    fn a_turn_that_is_not_used_is_given_back() {
        let (ours, theirs) = crate::sys::socket_pair(SockType::SeqPacket).unwrap();
        let line = Line::new(ours);
        let mut turns: Vec<_> = std::iter::from_fn(|| line.turn()).collect();
        assert_eq!(turns.len(), MAX_PREPARING);
        turns.pop().unwrap().ask(&Request::Release { cell: 1 }, &[]).unwrap();
        drop(turns);
        assert_eq!(line.preparing(), 1);
        // One that can't be sent is none.
        drop(theirs);
        assert!(line.turn().unwrap().ask(&Request::Release { cell: 2 }, &[]).is_err());
        assert_eq!(line.preparing(), 1);
        line.answered();
        assert_eq!(line.preparing(), 0);
    }
}
