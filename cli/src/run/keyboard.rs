//! From the caller's terminal to the job's.
//!
//! It is read only while our process group has it: a command in the background touches nothing, and
//! waits until it is in the foreground. And it is read only while it gives lines, unless this command has
//! it to itself: else another program, such as a pager, reads the keys.
//!
//! The kernel has no event for a change of the foreground process group, and a shell's `fg` sends SIGCONT
//! only to a command that was stopped. While input waits that is not for us to read, we look again at intervals.

use std::os::fd::{AsFd, OwnedFd};

use nix::poll::{PollFd, PollFlags};
use rustix::{
    event::epoll,
    io::{Errno, write},
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};

use super::{
    relay::{Buffer, Relay},
    terminal::{Pty, Shared},
};

/// More than a line can have (N_TTY).
const LINE: usize = 8 << 10;

/// After how long we look again whether input that waits is for us: 100 ms.
const AGAIN: Itimerspec = Itimerspec {
    it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
    it_value: Timespec { tv_sec: 0, tv_nsec: 100_000_000 },
};

/// What is typed.
pub(super) struct Keyboard {
    pty: Shared,
    /// Tells once of each key or line that comes, also while it is not for us to read, and of `again`.
    news: OwnedFd,
    /// A timer that runs while input waits that is not for us.
    again: OwnedFd,
    /// Whether there may be more to read.
    more: bool,
    ended: bool,
    buffer: Buffer,
}

impl Keyboard {
    pub(super) fn new(pty: Shared) -> rustix::io::Result<Self> {
        let news = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&news, &pty.terminal, epoll::EventData::new_u64(0), flags)?;
        let again = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        epoll::add(&news, &again, epoll::EventData::new_u64(0), flags)?;
        Ok(Self { pty, news, again, more: true, ended: false, buffer: Buffer::default() })
    }

    /// Whether the terminal gives keys as they are pressed, and gives them to us.
    fn has_keys(&self) -> bool {
        let terminal = &self.pty.terminal;
        self.pty.interactive && terminal.is_ours() && !terminal.gives_lines()
    }

    fn read(&mut self) {
        let Pty { terminal, interactive, end, .. } = &*self.pty;
        let lines = terminal.gives_lines();
        self.more = terminal.is_ours() && (*interactive || lines);
        if !self.more {
            if terminal.has_input() {
                // It fails only for times that are out of range.
                let _ = timerfd_settime(&self.again, TimerfdTimerFlags::empty(), &AGAIN);
            }
            return;
        }
        match self.buffer.fill(LINE, |bytes| terminal.read(bytes)) {
            Err(Errno::INTR) => {}
            // Only now: an end that was typed in a line would become a NUL.
            Err(Errno::AGAIN) if *interactive && lines => self.more = self.pty.hold(),
            Err(Errno::AGAIN) => self.more = false,
            // The end was typed, or it is gone.
            Ok(0) | Err(_) => {
                self.ended = !lines || terminal.is_gone();
                self.buffer.push(*end);
            }
            // A part of a line was sent off by the character that ends the input.
            Ok(_) if lines && self.buffer.bytes().last() != Some(&b'\n') => self.buffer.push(*end),
            Ok(_) => {}
        }
    }
}

impl Relay for Keyboard {
    fn waits_for(&self) -> Option<PollFd<'_>> {
        if !self.buffer.is_empty() || (self.more && !self.ended) {
            return Some(PollFd::new(self.pty.master.as_fd(), PollFlags::POLLOUT));
        }
        if self.ended {
            return None;
        }
        let source = if self.has_keys() { self.pty.terminal.as_fd() } else { self.news.as_fd() };
        Some(PollFd::new(source, PollFlags::POLLIN))
    }

    fn advance(&mut self) {
        if self.buffer.is_empty() {
            let mut event = [epoll::Event {
                flags: epoll::EventFlags::empty(),
                data: epoll::EventData::new_u64(0),
            }];
            // What it tells is only that there is something.
            let _ = epoll::wait(&self.news, &mut event, Some(&Timespec::default()));
            self.read();
        }
        let master = &self.pty.master;
        match self.buffer.flush(|bytes| write(master, bytes)) {
            Ok(()) | Err(Errno::AGAIN) => {}
            Err(_) => self.job_ended(),
        }
    }

    fn job_ended(&mut self) {
        self.ended = true;
        self.buffer = Buffer::default();
    }
}
