//! What the job gets in place of the caller's streams.
//!
//! A descriptor of the caller's is more than a way for bytes. A socket can be connected elsewhere, a
//! file be made set-uid, cut off or locked, a pipe be read at the wrong end; a terminal has modes, and
//! its flags are shared with every process that has it open. So the job gets a pipe of its own for each, and
//! for a terminal a pty. Streams that lead to the same place stay one, so that the order of what is
//! written to them is kept.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use anyhow::{Context, bail};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use rustix::{
    fs::{FileType, SeekFrom, Stat, fstat, seek},
    io::fcntl_dupfd_cloexec,
    net::{SocketType, sockopt::socket_type},
    termios::isatty,
};

use super::{
    input::{Input, Source},
    keyboard::Keyboard,
    output::{Output, Sink},
    relay::{Relay, pipe},
    terminal::{Pty, Shared, Terminal, restore_on_panic},
};

const NAMES: [&str; 3] = ["standard input", "standard output", "standard error"];

/// All relays of one job.
#[derive(Default)]
pub(super) struct Streams {
    relays: Vec<Box<dyn Relay>>,
    pty: Option<Shared>,
}

impl Streams {
    /// Comes back with the job's three streams, too.
    pub(super) fn new() -> anyhow::Result<(Self, [OwnedFd; 3])> {
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let callers = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        let mut stats = Vec::new();
        for (stream, name) in callers.iter().zip(NAMES) {
            let stat = fstat(stream).with_context(|| format!("{name} cannot be looked at"))?;
            if kind(&stat) == FileType::Directory {
                bail!("{name} is a folder, which a cell is not given; expose it instead");
            }
            stats.push(stat);
        }
        let mut streams = Self::default();
        let on_terminal = streams.make_pty(callers).context(
            "no terminal can be made for the command; without one (… | cat, < FILE) none is needed",
        )?;
        let mut theirs = Vec::<OwnedFd>::with_capacity(3);
        for (number, (stream, name)) in callers.into_iter().zip(NAMES).enumerate() {
            let made =
                if let (Some(slave), true) = (&on_terminal.slave, on_terminal.streams[number]) {
                    Ok(fcntl_dupfd_cloexec(slave, 0)?)
                } else if number == 0 {
                    streams.feed(stream, &stats[0])
                } else if number == 2 && !on_terminal.streams[1] && same(&stats[1], &stats[2]) {
                    Ok(fcntl_dupfd_cloexec(&theirs[1], 0)?)
                } else {
                    streams.drain(name, stream, &stats[number])
                };
            theirs.push(made.with_context(|| format!("{name} cannot be passed on"))?);
        }
        let theirs = theirs.try_into().map_err(|_| anyhow::anyhow!("three streams"))?;
        Ok((streams, theirs))
    }

    /// Makes a pty if any stream is a terminal: for all that are that terminal.
    fn make_pty(&mut self, callers: [BorrowedFd<'_>; 3]) -> anyhow::Result<OnTerminal> {
        let Some(first) = callers.into_iter().find(|stream| isatty(stream)) else {
            return Ok(OnTerminal { slave: None, streams: [false; 3] });
        };
        let terminal = Terminal::of(first)?;
        let mut streams = [false; 3];
        for (on_it, stream) in streams.iter_mut().zip(callers) {
            *on_it = isatty(stream) && terminal.is(stream)?;
        }
        let interactive = streams[0] && streams[1];
        if interactive {
            restore_on_panic();
        }
        let (pty, slave) = Pty::new(terminal, interactive)?;
        let pty = Arc::new(pty);
        let ours = fcntl_dupfd_cloexec(&pty.master, 0)?;
        let shown = Output::new("the terminal", ours, Sink::Terminal(pty.terminal.try_clone()?))?;
        self.relays.push(Box::new(shown));
        if streams[0] {
            self.relays.push(Box::new(Keyboard::new(Arc::clone(&pty))?));
        }
        self.pty = Some(pty);
        Ok(OnTerminal { slave: Some(slave), streams })
    }

    /// A stream that the job reads.
    fn feed(&mut self, stream: BorrowedFd<'_>, stat: &Stat) -> rustix::io::Result<OwnedFd> {
        let source = match kind(stat) {
            FileType::Fifo => Source::Pipe { shown: 0 },
            FileType::Socket => {
                Source::Socket { datagrams: socket_type(stream)? != SocketType::STREAM }
            }
            FileType::RegularFile | FileType::BlockDevice => {
                // A file of /proc may have no position.
                let position = seek(stream, SeekFrom::Current(0));
                position.map_or(Source::Device, |start| Source::File { start, given: 0 })
            }
            _ => Source::Device,
        };
        let (input, theirs) = Input::new(fcntl_dupfd_cloexec(stream, 0)?, source)?;
        self.relays.push(Box::new(input));
        Ok(theirs)
    }

    /// A stream that the job writes.
    fn drain(
        &mut self,
        name: &'static str,
        stream: BorrowedFd<'_>,
        stat: &Stat,
    ) -> rustix::io::Result<OwnedFd> {
        let ours = || fcntl_dupfd_cloexec(stream, 0);
        let sink = match kind(stat) {
            FileType::Fifo => Sink::Pipe(ours()?),
            FileType::Socket => Sink::Socket(ours()?),
            _ if isatty(stream) => Sink::Terminal(Terminal::of(stream)?),
            _ => Sink::File(ours()?),
        };
        let (from, theirs) = pipe()?;
        self.relays.push(Box::new(Output::new(name, from, sink)?));
        Ok(theirs)
    }

    /// Waits until any of `others` can be read, or a relay can go on, which it then does. Comes back
    /// with whether anything came before the time was over.
    pub(super) fn turn(
        &mut self,
        others: &[BorrowedFd<'_>],
        timeout: PollTimeout,
    ) -> anyhow::Result<bool> {
        let others = others.iter().map(|other| PollFd::new(*other, PollFlags::POLLIN));
        let mut events: Vec<_> = others.collect();
        let first = events.len();
        let waiting: Vec<_> = self
            .relays
            .iter()
            .map(|relay| relay.waits_for().map(|fd| events.push(fd)).is_some())
            .collect();
        match poll(&mut events, timeout) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(true),
            Err(error) => return Err(error).context("waiting for the command failed"),
        }
        let ready: Vec<_> =
            events.iter().skip(first).map(|event| event.any() != Some(false)).collect();
        let waiting = self.relays.iter_mut().zip(waiting).filter(|(_, waits)| *waits);
        for ((relay, _), _) in waiting.zip(ready).filter(|(_, ready)| *ready) {
            relay.advance();
        }
        Ok(true)
    }

    /// Whether everything was relayed that there was.
    pub(super) fn are_done(&self) -> bool {
        self.relays.iter().all(|relay| relay.waits_for().is_none())
    }

    /// Nothing more goes to the job, which has ended.
    pub(super) fn job_ended(&mut self) {
        self.relays.iter_mut().for_each(|relay| relay.job_ended());
    }

    /// The caller's terminal has another size.
    pub(super) fn resize(&self) {
        if let Some(pty) = &self.pty {
            pty.resize();
        }
    }

    /// We were stopped, and go on: its modes may be others.
    pub(super) fn continued(&self) {
        if let Some(pty) = &self.pty {
            pty.resize();
            pty.hold();
        }
    }

    /// What is to be said of bytes that were lost.
    pub(super) fn faults(&self) -> Vec<String> {
        self.relays.iter().filter_map(|relay| relay.fault()).collect()
    }
}

/// The job's end of its pty, and which streams it stands for.
struct OnTerminal {
    slave: Option<OwnedFd>,
    streams: [bool; 3],
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn same(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}
