//! What the engine knows of one cell, and what it can do to it.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::Ordering,
    time::Duration,
};

use cloister_api::{Network, Task, Timestamp};
use rustix::net::{Shutdown, shutdown};

use super::{
    Observer, Resume, Room, Stream,
    command::Load,
    handles::{Handles, kill_by},
    report::{More, Report},
    streams::{Capture, Feed, Flow},
    verdict::{self, Cause, Exit, Records},
};
use crate::{
    cgroup::{CPU_PERIOD_US, Meter, Shortage},
    error::{Fault, Step},
    residue::Job,
    sys::monotonic_ns,
    wire::{CellId, Request, Sizes, Status},
};

/// How much of what is left in a pipe is taken out at the end: twice what the largest one holds
/// (`fs.pipe-max-size`, 1 MiB), and not for as long as somebody elsewhere might go on writing.
const LAST_BYTES: usize = 2 << 20;

/// What came of listening to a cell.
pub(crate) struct Heard {
    /// The command has just been executed.
    pub(crate) executed: bool,
    pub(crate) more: More,
}

/// One cell, from the request for it to its end.
pub(crate) struct Cell {
    pub(crate) task: Task,
    /// Where others look for it, and how they have its streams read on.
    resume: Resume,
    observer: Option<Box<dyn Observer>>,
    /// Descriptors of the caller, until the launcher has them.
    pub(crate) passed: Option<[OwnedFd; 3]>,
    /// Whether its streams are pipes of ours.
    captured: bool,
    /// Whether it runs in a cell that was made ahead.
    in_spare: bool,
    pub(crate) handles: Option<Handles>,
    cause: Option<Cause>,
    started: Option<(u64, Timestamp)>,
    exit: Option<Exit>,
    fault: Option<Fault>,
    not_executed: bool,
    /// The command on its way to PID 1, and what has come back.
    outgoing: Feed,
    report: Report,
    stdin: Feed,
    stdout: Capture,
    stderr: Capture,
    /// When a shortage of memory was announced last (cgroup v1), `CLOCK_MONOTONIC` nanoseconds.
    announced: Option<u64>,
}

impl Cell {
    pub(crate) fn new(task: Task, load: Load, resume: Resume, observer: Box<dyn Observer>) -> Self {
        let limit = task.limits.output.0;
        Self {
            task,
            resume,
            observer: Some(observer),
            captured: load.passed.is_none(),
            in_spare: false,
            passed: load.passed,
            handles: None,
            cause: None,
            started: None,
            exit: None,
            fault: None,
            not_executed: false,
            outgoing: Feed::new(load.command),
            report: Report::default(),
            stdin: Feed::new(load.input),
            stdout: Capture::new(limit),
            stderr: Capture::new(limit),
            announced: None,
        }
    }

    /// What its cgroup and its file system are limited to.
    pub(crate) fn sizes(&self) -> Sizes {
        let limits = &self.task.limits;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "validated to lie between 0.01 and the machine's cores"
        )]
        let cpu_quota_us = (limits.cpus * CPU_PERIOD_US as f64).round() as u64;
        Sizes { cpu_quota_us, memory: limits.memory.0, pids: limits.pids, disk: limits.disk.0 }
    }

    /// What the launcher is asked for.
    pub(crate) fn request(&self, cell: CellId) -> Request {
        let (sizes, host_network, stdio) =
            (self.sizes(), self.host_network(), self.passed.is_some());
        Request::Prepare { cell, sizes, host_network, stdio }
    }

    /// What the watcher of kernel memory has to know of its job.
    pub(super) fn watched(&self) -> Job {
        Job {
            memory: self.task.limits.memory.0,
            own_network: !self.host_network(),
            brake: self.handles.as_ref().and_then(|handles| handles.brake.clone()),
        }
    }

    fn host_network(&self) -> bool {
        self.task.network == Network::Host
    }

    /// Whether a cell that was made ahead would do: those have a network and pipes of their own.
    pub(crate) fn takes_a_spare(&self) -> bool {
        self.captured && !self.host_network()
    }

    /// Runs in that cell, which was made ahead, and not in the one of the number that it had first. What
    /// can't be sent of its command at once, the engine's thread sends.
    pub(crate) fn begin(&mut self, cell: CellId, handles: Handles) {
        self.resume.place.store(cell, Ordering::Relaxed);
        self.in_spare = true;
        self.handles = Some(handles);
        self.send_command();
    }

    /// Whether it can run in another cell: PID 1 of this one, which had been waiting, has died and certainly
    /// had not read the whole command. Had it, some of it might have been done, and would be done twice.
    pub(crate) fn can_begin_anew(&mut self) -> bool {
        self.listen();
        let unread = self.report.left_unread() || !self.outgoing.is_written();
        self.in_spare && unread && self.cause.is_none() && self.fault.is_none()
    }

    /// Will run in a new cell of that number.
    pub(crate) fn begin_anew(&mut self, cell: CellId) {
        self.resume.place.store(cell, Ordering::Relaxed);
        self.in_spare = false;
        self.handles = None;
        self.report = Report::default();
        self.outgoing.rewind();
    }

    /// Takes note of it if a shortage of memory was announced (cgroup v1).
    pub(crate) fn hear_shortage(&mut self) {
        let oom = self.handles.as_ref().and_then(|handles| handles.oom.as_ref());
        if oom.is_some_and(|oom| nix::unistd::read(oom, &mut [0; 8]).is_ok()) {
            self.announced = Some(monotonic_ns());
        }
    }

    /// How long ago that was.
    pub(crate) fn shortage_age(&self) -> Option<Duration> {
        self.announced.map(|at| Duration::from_nanos(monotonic_ns().saturating_sub(at)))
    }

    /// Whether somebody was killed for want of memory.
    pub(crate) fn shortage(&self) -> Shortage {
        let meter = self.handles.as_ref().map(|handles| &handles.meter);
        meter.map_or(Shortage::None, |meter| meter.shortage(self.announced.is_some()))
    }

    /// Notes why the cell is being killed, unless something else came first: then there is nothing
    /// to kill for.
    pub(crate) fn blame(&mut self, cause: Cause) -> bool {
        let first = self.cause.is_none() && self.exit.is_none() && self.fault.is_none();
        if first {
            self.cause = Some(cause);
        }
        first
    }

    pub(crate) fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    pub(crate) fn is_blamed(&self) -> bool {
        self.cause.is_some()
    }

    /// Lets PID 1 end if it has told how the command ended: it may wait until nobody listens any more.
    pub(crate) fn let_go(&self) {
        if let (Some(_), Some(handles)) = (self.exit, &self.handles) {
            // It can fail only where the other end is closed.
            let _ = shutdown(&handles.control, Shutdown::Write);
        }
    }

    /// Whether its command ended by itself and nothing but PID 1 is left, by the kernel's own count.
    pub(crate) fn is_over(&self) -> bool {
        let by_itself = self.exit.is_some_and(|exit| exit.signal == 0);
        let spent = || self.handles.as_ref().is_some_and(|handles| handles.meter.is_spent());
        by_itself && self.cause.is_none() && self.fault.is_none() && spent()
    }

    /// Kills everything in it; `false` where only the launcher can.
    pub(crate) fn kill(&self) -> bool {
        let killed = kill_by(self.handles.as_ref().and_then(|handles| handles.kill.as_ref()));
        // Its processes need the CPU to end.
        self.release_brake();
        killed
    }

    /// Lets it go on where the watcher of kernel memory holds it back.
    pub(crate) fn release_brake(&self) {
        if let Some(brake) = self.handles.as_ref().and_then(|handles| handles.brake.as_ref()) {
            brake.release();
        }
    }

    /// Sends what is left of the command; `true` when it is all sent.
    pub(crate) fn send_command(&mut self) -> bool {
        self.handles.as_ref().is_none_or(|handles| self.outgoing.advance(&handles.control))
    }

    /// Reads what PID 1 says.
    pub(crate) fn listen(&mut self) -> Heard {
        let Some(handles) = &self.handles else {
            return Heard { executed: false, more: More::Never };
        };
        let before = self.started.is_some();
        let more = self.report.listen(&handles.control, |status| match status {
            Status::Broken(fault) => drop(self.fault.get_or_insert(fault)),
            Status::NotExecuted(fault) => {
                self.not_executed = true;
                self.fault.get_or_insert(fault);
            }
            Status::Started { at } if self.started.is_none() => {
                let wall = Timestamp::now();
                // Its time runs from here: never from a moment that is yet to come.
                self.started = Some((at.min(monotonic_ns()), wall));
                if let Some(observer) = &mut self.observer {
                    observer.started(wall);
                }
            }
            Status::Started { .. } => {}
            Status::Exited { code, signal, at } => {
                self.exit.get_or_insert(Exit { code, signal, at });
            }
        });
        if more == More::Nonsense {
            self.fail(Fault { step: Step::Report, errno: libc::EPROTO });
        }
        Heard { executed: !before && self.started.is_some(), more }
    }

    /// When its time is over, `CLOCK_MONOTONIC` nanoseconds; none before the command was executed.
    pub(crate) fn deadline(&self) -> Option<u64> {
        let timeout = u64::try_from(self.task.timeout.0.as_nanos()).unwrap_or(u64::MAX);
        self.started.map(|(at, _)| at.saturating_add(timeout))
    }

    /// Feeds standard input, and closes it when all is fed.
    pub(crate) fn feed(&mut self) {
        let Some(handles) = &mut self.handles else {
            return;
        };
        if handles.stdin.as_ref().is_some_and(|stdin| self.stdin.advance(stdin)) {
            handles.stdin = None;
        }
    }

    /// Takes one turn's worth of a stream, if its observer has room. `last` says that nothing is waited
    /// for any more.
    pub(crate) fn capture(
        &mut self,
        stream: Stream,
        sink: &OwnedFd,
        buffer: &mut Vec<u8>,
        last: bool,
    ) -> Flow {
        let Some(handles) = &mut self.handles else {
            return Flow::Ended;
        };
        let (pipe, capture) = match stream {
            Stream::Stdout => (&mut handles.stdout, &mut self.stdout),
            Stream::Stderr => (&mut handles.stderr, &mut self.stderr),
        };
        let (Some(from), Some(observer)) = (&*pipe, &mut self.observer) else {
            return Flow::Ended;
        };
        let room = if capture.is_full() {
            Room::Never
        } else {
            match observer.room(stream, (!last).then_some(&self.resume)) {
                Room::Later if last => Room::Never,
                room => room,
            }
        };
        let flow = capture.advance(from, sink, buffer, room, |bytes| {
            observer.output(stream, bytes);
        });
        if flow == Flow::Ended {
            *pipe = None;
        }
        flow
    }

    /// Its streams that wait until its observer has room.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = Stream> + use<> {
        let waits = [(Stream::Stdout, &self.stdout), (Stream::Stderr, &self.stderr)];
        waits.map(|(stream, capture)| capture.waits().then_some(stream)).into_iter().flatten()
    }

    /// Tells the observer how it ended, and comes back with what is held of the cell. Everything in it
    /// but its PID 1 must be dead, or never have been.
    pub(crate) fn conclude(
        mut self,
        sink: &OwnedFd,
        buffer: &mut Vec<u8>,
        not_enforced: Vec<String>,
    ) -> Option<Handles> {
        self.listen();
        self.hear_shortage();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut taken = 0;
            while taken < LAST_BYTES
                && let Flow::Open(length) = self.capture(stream, sink, buffer, true)
            {
                taken += length;
            }
        }
        let meter = self.handles.as_ref().map(|handles| &handles.meter);
        let records = Records {
            cause: self.cause,
            deadline: self.deadline(),
            started: self.started,
            exit: self.exit,
            fault: self.fault,
            not_executed: self.not_executed,
            shortage: self.shortage(),
            usage: meter.map(Meter::usage).unwrap_or_default(),
            ended: monotonic_ns(),
        };
        let truncated = [&self.stdout, &self.stderr].map(Capture::is_truncated);
        let truncated = self.captured.then_some(truncated);
        let outcome = verdict::outcome(&self.task, records, truncated, not_enforced);
        if let Some(observer) = self.observer.take() {
            observer.ended(outcome);
        }
        self.handles.take()
    }
}

impl Drop for Cell {
    /// What nobody concluded went with the launcher, or with the thread: its observer hears of it.
    fn drop(&mut self) {
        if self.observer.is_none() {
            return;
        }
        self.listen();
        if let Some(observer) = self.observer.take() {
            observer.ended(verdict::launcher_gone(self.started.is_some()));
        }
    }
}

/// The passed descriptors, for a `Prepare`.
pub(crate) fn borrow(passed: Option<&[OwnedFd; 3]>) -> Vec<BorrowedFd<'_>> {
    passed.into_iter().flatten().map(AsFd::as_fd).collect()
}
