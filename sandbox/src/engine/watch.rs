//! What the engine's one epoll watches: three descriptors of its own, and up to six of each cell.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::{Stream, handles::Handles};
use crate::wire::CellId;

/// Which descriptor of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Control,
    Pidfd,
    Stdin,
    Stdout,
    Stderr,
    Shortage,
}

/// Something can be read, or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Launcher,
    Wake,
    Timer,
    Cell(CellId, Source),
}

/// Events are told apart by a number of 64 bits: a cell's, times eight, and one of these. Cells count
/// from 1, so that what would be cell 0's are the engine's own.
const SOURCES: [Source; 6] = [
    Source::Control,
    Source::Pidfd,
    Source::Stdin,
    Source::Stdout,
    Source::Stderr,
    Source::Shortage,
];
const OWN: [Event; 3] = [Event::Launcher, Event::Wake, Event::Timer];

fn number(cell: CellId, source: Source) -> u64 {
    cell * 8 + source as u64
}

fn event(number: u64) -> Option<Event> {
    let index = (number % 8) as usize;
    match number / 8 {
        0 => OWN.get(index).copied(),
        cell => SOURCES.get(index).map(|source| Event::Cell(cell, *source)),
    }
}

/// The epoll.
pub(crate) struct Watch(Epoll);

impl Watch {
    /// Watches the engine's own descriptors, in the order of [`Event`].
    pub(crate) fn new(own: [BorrowedFd<'_>; 3]) -> nix::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        for (number, fd) in (0..).zip(own) {
            epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, number))?;
        }
        Ok(Self(epoll))
    }

    /// Watches for the end of a new cell, until its descriptors are closed.
    pub(crate) fn add(&self, cell: CellId, handles: &Handles) -> nix::Result<()> {
        self.watch(cell, [(Some(&handles.pidfd), Source::Pidfd, EpollFlags::EPOLLIN)])
    }

    /// Watches what else there is of it before its command is executed.
    pub(crate) fn add_job(&self, cell: CellId, handles: &Handles) -> nix::Result<()> {
        let both = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT;
        self.watch(
            cell,
            [
                (Some(&handles.control), Source::Control, both),
                (handles.oom.as_ref(), Source::Shortage, EpollFlags::EPOLLIN),
            ],
        )
    }

    /// Watches its streams too: only once it has started, so that nobody hears of output before that.
    pub(crate) fn add_streams(&self, cell: CellId, handles: &Handles) -> nix::Result<()> {
        self.watch(
            cell,
            [
                (handles.stdin.as_ref(), Source::Stdin, EpollFlags::EPOLLOUT),
                (handles.stdout.as_ref(), Source::Stdout, EpollFlags::EPOLLIN),
                (handles.stderr.as_ref(), Source::Stderr, EpollFlags::EPOLLIN),
            ],
        )
    }

    /// Watches a stream again that was ignored.
    pub(crate) fn add_output(
        &self,
        cell: CellId,
        handles: &Handles,
        stream: Stream,
    ) -> nix::Result<()> {
        let (fd, source) = match stream {
            Stream::Stdout => (handles.stdout.as_ref(), Source::Stdout),
            Stream::Stderr => (handles.stderr.as_ref(), Source::Stderr),
        };
        self.watch(cell, [(fd, source, EpollFlags::EPOLLIN)])
    }

    fn watch<const N: usize>(
        &self,
        cell: CellId,
        wanted: [(Option<&OwnedFd>, Source, EpollFlags); N],
    ) -> nix::Result<()> {
        for (fd, source, flags) in wanted {
            if let Some(fd) = fd {
                self.0.add(fd, EpollEvent::new(flags, number(cell, source)))?;
            }
        }
        Ok(())
    }

    /// Takes note that a cell's command is sent: from now on only what comes back matters.
    pub(crate) fn only_listen(&self, cell: CellId, control: impl AsFd) {
        let mut event = EpollEvent::new(EpollFlags::EPOLLIN, number(cell, Source::Control));
        // It can fail only for a descriptor that is not watched.
        let _ = self.0.modify(control, &mut event);
    }

    /// Watches a descriptor no more, which has nothing more to tell, or nobody to take it.
    pub(crate) fn ignore(&self, fd: impl AsFd) {
        // It can fail only for a descriptor that is not watched.
        let _ = self.0.delete(fd);
    }

    /// Waits until something happens.
    pub(crate) fn wait(&self, happened: &mut Vec<Event>) -> nix::Result<()> {
        let mut events = [EpollEvent::empty(); 256];
        let count = self.0.wait(&mut events, EpollTimeout::NONE)?;
        happened.clear();
        happened.extend(events[..count].iter().filter_map(|each| event(each.data())));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_events_are_the_same_thing() {
        for source in SOURCES {
            assert_eq!(event(number(7, source)), Some(Event::Cell(7, source)));
        }
        assert_eq!([0, 1, 2].map(event), OWN.map(Some));
        assert_eq!(event(7), None);
    }
}
