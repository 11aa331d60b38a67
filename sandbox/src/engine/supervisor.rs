//! The engine's thread: one loop over everything that can happen to any cell.

use std::{
    collections::{HashMap, VecDeque},
    io::ErrorKind,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, mpsc::Receiver},
    time::Duration,
};

use cloister_api::Network;
use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        eventfd::EventFd,
        wait::waitpid,
    },
    unistd::Pid,
};

use super::{
    Command, Stream,
    cell::{Cell, Handles, borrow},
    streams,
    timers::{Alarm, Timers},
    verdict::Cause,
};
use crate::{
    cgroup::{CPU_PERIOD_US, Shortage},
    error::{Context, Error, Fault, Step},
    launcher::Launcher,
    sys::monotonic_ns,
    wire::{CellId, Reply, Request, Sizes, receive, send},
};

/// How many cells are asked for at once. More wait here: were both sides to fill the socket, each
/// would wait for the other to read.
const MAX_PREPARING: usize = 64;
/// A cell takes milliseconds to come up; on a machine that is out of breath, a little more.
const LAUNCH_PATIENCE: Duration = Duration::from_secs(20);
/// The least time between two readings of the CPU time used.
const CPU_READING: Duration = Duration::from_millis(10);
/// On v1 the kernel announces a shortage some milliseconds before it counts its kill.
const SHORTAGE_PATIENCE: Duration = Duration::from_millis(50);
const SHORTAGE_READING: Duration = Duration::from_millis(1);

/// What an event of epoll is about: a cell's number and one of these, in one word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Control,
    Pidfd,
    Stdin,
    Stdout,
    Stderr,
    Shortage,
}

const SOURCES: [Source; 6] = [
    Source::Control,
    Source::Pidfd,
    Source::Stdin,
    Source::Stdout,
    Source::Stderr,
    Source::Shortage,
];
/// Cell 0 is none: its numbers are the engine's own descriptors.
const LAUNCHER: u64 = 0;
const WAKE: u64 = 1;
const TIMER: u64 = 2;

fn token(cell: CellId, source: Source) -> u64 {
    cell * 8 + source as u64
}

pub(crate) struct Supervisor {
    socket: OwnedFd,
    launcher: Pid,
    not_enforced: Vec<String>,
    /// The host's cores: no job uses its CPU time faster than on all of them.
    cores: f64,
    /// Whether processes are counted by `RLIMIT_NPROC`, for want of a cgroup.
    count_by_rlimit: bool,
    inbox: Receiver<Command>,
    wake: Arc<EventFd>,
    epoll: Epoll,
    timers: Timers,
    cells: HashMap<CellId, Cell>,
    /// Cells that are yet to be asked for, oldest first.
    waiting: VecDeque<CellId>,
    /// How many were asked for and have not come.
    preparing: usize,
    sink: OwnedFd,
    buffer: Vec<u8>,
}

/// Whether the loop goes on.
enum Next {
    Continue,
    Stop,
    Lost,
}

impl Supervisor {
    pub(crate) fn new(
        launcher: Launcher,
        inbox: Receiver<Command>,
        wake: Arc<EventFd>,
    ) -> Result<Self, Error> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("making an epoll")?;
        let timers = Timers::new().context("making a timerfd")?;
        let watch = |fd: &dyn AsFdDyn, data| {
            epoll
                .add(fd.fd(), EpollEvent::new(EpollFlags::EPOLLIN, data))
                .context("watching a descriptor")
        };
        watch(&launcher.socket, LAUNCHER)?;
        watch(&*wake, WAKE)?;
        watch(&timers.fd, TIMER)?;
        let not_enforced = launcher.host.not_enforced();
        #[expect(clippy::cast_precision_loss, reason = "no host has 2^52 cores")]
        let cores = launcher.host.cores as f64;
        Ok(Self {
            cores,
            count_by_rlimit: not_enforced.iter().any(|name| name == "pids"),
            not_enforced,
            socket: launcher.socket,
            launcher: launcher.pid,
            inbox,
            wake,
            epoll,
            timers,
            cells: HashMap::new(),
            waiting: VecDeque::new(),
            preparing: 0,
            sink: streams::sink().context("opening /dev/null")?,
            buffer: Vec::new(),
        })
    }

    /// The thread's life.
    pub(crate) fn run(mut self, lost: impl FnOnce()) {
        let mut events = [EpollEvent::empty(); 256];
        let next = loop {
            // Both fail only for descriptors that are not ours.
            let armed = self.timers.arm();
            let count = match armed.and_then(|()| self.epoll.wait(&mut events, EpollTimeout::NONE))
            {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(_) => break Next::Lost,
            };
            match self.handle(&events[..count]) {
                Next::Continue => {}
                end => break end,
            }
        };
        let cells = std::mem::take(&mut self.cells);
        // The launcher sees the socket's end, kills what is left, removes its cgroups, and ends.
        let Self { socket, launcher, .. } = self;
        drop(socket);
        let _ = waitpid(launcher, None);
        for (_, cell) in cells {
            cell.lose();
        }
        if matches!(next, Next::Lost) {
            lost();
        }
    }

    fn handle(&mut self, events: &[EpollEvent]) -> Next {
        for event in events {
            let next = match event.data() {
                LAUNCHER => self.hear_launcher(),
                WAKE => self.obey(),
                TIMER => {
                    self.timers.fired();
                    Next::Continue
                }
                data => {
                    if let Some(source) = SOURCES.get((data % 8) as usize) {
                        self.hear_cell(data / 8, *source);
                    }
                    Next::Continue
                }
            };
            if !matches!(next, Next::Continue) {
                return next;
            }
        }
        while let Some((cell, alarm)) = self.timers.next_due() {
            self.ring(cell, alarm);
        }
        Next::Continue
    }

    /// Does what the handles asked for.
    fn obey(&mut self) -> Next {
        let _ = self.wake.read();
        while let Ok(command) = self.inbox.try_recv() {
            match command {
                Command::Run { cell, task, stdio, observer } => {
                    match Cell::new(*task, stdio, observer, self.count_by_rlimit) {
                        Ok(made) => {
                            self.cells.insert(cell, made);
                            self.waiting.push_back(cell);
                        }
                        Err(error) => tracing::error!(%error, "a command could not be laid out"),
                    }
                }
                Command::Cancel { cell } => self.kill(cell, Cause::Cancelled),
                Command::Stop => return Next::Stop,
            }
        }
        self.prepare_waiting();
        Next::Continue
    }

    /// Asks the launcher for the cells that wait, as many as may be asked for at once.
    fn prepare_waiting(&mut self) {
        while self.preparing < MAX_PREPARING {
            let Some(id) = self.waiting.pop_front() else {
                return;
            };
            let Some(cell) = self.cells.get_mut(&id) else {
                continue;
            };
            let limits = &cell.task.limits;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "validated to lie between 0.01 and the machine's cores"
            )]
            let cpu_quota_us = (limits.cpus * CPU_PERIOD_US as f64).round() as u64;
            let request = Request::Prepare {
                cell: id,
                sizes: Sizes {
                    cpu_quota_us,
                    memory: limits.memory.0,
                    pids: limits.pids,
                    disk: limits.disk.0,
                },
                host_network: cell.task.network == Network::Host,
                stdio: cell.passed.is_some(),
            };
            let sent = send(&self.socket, &request, &borrow(cell.passed.as_ref()));
            cell.passed = None;
            match sent {
                Ok(()) => {
                    self.preparing += 1;
                    self.timers.set(id, Alarm::Launch, after(LAUNCH_PATIENCE));
                }
                Err(error) => {
                    cell.fail(Fault::new(Step::Refuse, &error));
                    self.conclude(id);
                }
            }
        }
    }

    fn hear_launcher(&mut self) -> Next {
        loop {
            match receive::<Reply>(&self.socket, false) {
                Ok(Some((Reply::Ready { cell, attached }, fds))) => {
                    self.preparing = self.preparing.saturating_sub(1);
                    match Handles::sort(attached, fds) {
                        Ok(handles) => self.adopt(cell, handles),
                        Err(error) => self.never_came(cell, Fault::new(Step::Release, &error)),
                    }
                }
                Ok(Some((Reply::Failed { cell, fault }, _))) => {
                    self.preparing = self.preparing.saturating_sub(1);
                    self.never_came(cell, fault);
                }
                Ok(Some((Reply::Hello(_) | Reply::Unfit(_), _))) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.prepare_waiting();
                    return Next::Continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Out of descriptors, most likely: the cell that came with it is found by its timer.
                Err(error) if error.kind() == ErrorKind::InvalidData => {
                    self.preparing = self.preparing.saturating_sub(1);
                    tracing::error!(%error, "a cell was made and could not be taken over");
                }
                Ok(None) | Err(_) => return Next::Lost,
            }
        }
    }

    fn never_came(&mut self, id: CellId, fault: Fault) {
        if let Some(cell) = self.cells.get_mut(&id) {
            cell.fail(fault);
            self.conclude(id);
        }
    }

    /// Takes a new cell over: watches it and sends it its command.
    fn adopt(&mut self, id: CellId, handles: Handles) {
        let Some(cell) = self.cells.get_mut(&id) else {
            // Given up meanwhile: with its control socket closed here, its PID 1 ends.
            let _ = send(&self.socket, &Request::Release { cell: id }, &[]);
            return;
        };
        let epoll = &self.epoll;
        let watch = |fd: Option<&OwnedFd>, source, flags| match fd {
            Some(fd) => epoll.add(fd, EpollEvent::new(flags, token(id, source))),
            None => Ok(()),
        };
        let both = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT;
        let watched = watch(Some(&handles.control), Source::Control, both)
            .and_then(|()| watch(Some(&handles.pidfd), Source::Pidfd, EpollFlags::EPOLLIN))
            .and_then(|()| watch(handles.stdin.as_ref(), Source::Stdin, EpollFlags::EPOLLOUT))
            .and_then(|()| watch(handles.stdout.as_ref(), Source::Stdout, EpollFlags::EPOLLIN))
            .and_then(|()| watch(handles.stderr.as_ref(), Source::Stderr, EpollFlags::EPOLLIN))
            .and_then(|()| watch(handles.oom.as_ref(), Source::Shortage, EpollFlags::EPOLLIN));
        cell.handles = Some(handles);
        if let Err(error) = watched {
            cell.fail(Fault::new(Step::Release, &error.into()));
        }
        if watched.is_err() || cell.is_blamed() {
            self.end(id);
        } else {
            self.hear_cell(id, Source::Control);
        }
    }

    fn hear_cell(&mut self, id: CellId, source: Source) {
        let Some(cell) = self.cells.get_mut(&id) else {
            return;
        };
        match source {
            Source::Control => {
                if cell.send_command()
                    && let Some(handles) = &cell.handles
                {
                    // All is sent: from here on only what comes back matters.
                    let mut event =
                        EpollEvent::new(EpollFlags::EPOLLIN, token(id, Source::Control));
                    let _ = self.epoll.modify(&handles.control, &mut event);
                }
                if cell.listen() {
                    self.started(id);
                }
            }
            Source::Pidfd => self.conclude(id),
            Source::Stdin => cell.feed(),
            Source::Stdout => drop(cell.capture(Stream::Stdout, &self.sink, &mut self.buffer)),
            Source::Stderr => drop(cell.capture(Stream::Stderr, &self.sink, &mut self.buffer)),
            Source::Shortage => {
                if let Some(oom) = cell.handles.as_mut().and_then(|handles| handles.oom.take()) {
                    drop(oom);
                    cell.shortage_until = after(SHORTAGE_PATIENCE);
                    self.look_for_shortage(id);
                }
            }
        }
    }

    /// The command was executed: from now on its time counts.
    fn started(&mut self, id: CellId) {
        let Some(cell) = self.cells.get(&id) else {
            return;
        };
        let Some(at) = cell.started_at() else { return };
        self.timers.unset(id, Alarm::Launch);
        self.timers.set(id, Alarm::Deadline, at.saturating_add(nanoseconds(cell.task.timeout.0)));
        self.watch_cpu_time(id);
    }

    fn ring(&mut self, id: CellId, alarm: Alarm) {
        match alarm {
            Alarm::Launch => self.give_up(id),
            Alarm::Deadline => self.kill(id, Cause::Timeout),
            Alarm::CpuTime => self.watch_cpu_time(id),
            Alarm::Shortage => self.look_for_shortage(id),
        }
    }

    /// A cell did not come up in time.
    fn give_up(&mut self, id: CellId) {
        if self.cells.get(&id).is_some_and(|cell| cell.handles.is_some()) {
            self.kill(id, Cause::Stuck);
        } else {
            self.never_came(id, Fault { step: Step::Release, errno: libc::ETIMEDOUT });
        }
    }

    /// Kills the job when its CPU time is used up, or sets the timer for the earliest moment at which
    /// it can be: all that is left, used on as many cores as it may have.
    fn watch_cpu_time(&mut self, id: CellId) {
        let Some(cell) = self.cells.get(&id) else {
            return;
        };
        let (Some(limit), Some(handles)) = (cell.task.limits.cpu_time, &cell.handles) else {
            return;
        };
        let Some(used) = handles.meter.cpu_us() else {
            return;
        };
        let left = limit.0.saturating_sub(Duration::from_micros(used));
        if left.is_zero() {
            self.kill(id, Cause::CpuTime);
        } else {
            let pace = cell.task.limits.cpus.min(self.cores);
            self.timers.set(id, Alarm::CpuTime, after(left.div_f64(pace).max(CPU_READING)));
        }
    }

    /// cgroup v1 kills one process where v2 kills the group: once a kill is counted, the rest follows.
    fn look_for_shortage(&mut self, id: CellId) {
        let Some(cell) = self.cells.get(&id) else {
            return;
        };
        let Some(handles) = &cell.handles else { return };
        match handles.meter.shortage().0 {
            Shortage::None if monotonic_ns() < cell.shortage_until => {
                self.timers.set(id, Alarm::Shortage, after(SHORTAGE_READING));
            }
            // It was met by giving memory back.
            Shortage::None => {}
            shortage => self.kill(id, Cause::Shortage(shortage)),
        }
    }

    fn kill(&mut self, id: CellId, cause: Cause) {
        if self.cells.get_mut(&id).is_some_and(|cell| cell.blame(cause)) {
            self.end(id);
        }
    }

    /// Kills a cell, by the switch where there is one, else by the launcher. One that is still being
    /// made is killed when it comes.
    fn end(&mut self, id: CellId) {
        let Some(cell) = self.cells.get(&id) else {
            return;
        };
        if cell.handles.is_some() && !cell.kill() {
            let _ = send(&self.socket, &Request::Kill { cell: id }, &[]);
        }
    }

    /// Everything in the cell is dead, or it never was: reads the records, tells the observer, and
    /// lets the launcher take away what is left.
    fn conclude(&mut self, id: CellId) {
        self.timers.clear(id);
        let Some(cell) = self.cells.remove(&id) else {
            return;
        };
        let existed = cell.handles.is_some();
        cell.conclude(&self.sink, &mut self.buffer, self.not_enforced.clone());
        if existed {
            let _ = send(&self.socket, &Request::Release { cell: id }, &[]);
        }
    }
}

/// Lets the three kinds of descriptors be watched by one closure.
trait AsFdDyn {
    fn fd(&self) -> std::os::fd::BorrowedFd<'_>;
}

impl<T: AsFd> AsFdDyn for T {
    fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.as_fd()
    }
}

/// That long from now, `CLOCK_MONOTONIC` nanoseconds.
fn after(duration: Duration) -> u64 {
    monotonic_ns().saturating_add(nanoseconds(duration))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
