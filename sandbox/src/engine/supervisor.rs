//! The engine's thread: one loop over everything that can happen to any cell.

use std::{
    collections::{HashMap, VecDeque},
    io::ErrorKind,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, mpsc::Receiver},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{eventfd::EventFd, wait::waitpid},
    unistd::Pid,
};

use super::{
    Command, Stream,
    cell::{Cell, borrow},
    handles::Handles,
    report::More,
    streams,
    timers::{Alarm, Timers},
    verdict::Cause,
    watch::{Event, Source, Watch},
};
use crate::{
    cgroup::Shortage,
    error::{Context, Error, Fault, Step},
    launcher::Launcher,
    sys::monotonic_ns,
    wire::{CellId, Reply, Request, receive, send},
};

/// How many cells are asked for at once. More wait here: were both sides to fill the socket, each
/// would wait for the other to read.
const MAX_PREPARING: usize = 64;
/// A cell takes milliseconds to come up; on a machine that is out of breath, a little more.
const LAUNCH_PATIENCE: Duration = Duration::from_secs(20);
/// The least time between two readings of the CPU time used.
const CPU_READING: Duration = Duration::from_millis(10);
/// How long a kill is looked for after a shortage was announced (cgroup v1), and how soon first.
const SHORTAGE_PATIENCE: Duration = Duration::from_secs(10);
const SHORTAGE_READING: Duration = Duration::from_millis(1);

pub(crate) struct Supervisor {
    socket: OwnedFd,
    launcher: Pid,
    not_enforced: Vec<String>,
    /// The host's cores: no job uses its CPU time faster than on all of them.
    cores: f64,
    inbox: Receiver<Command>,
    wake: Arc<EventFd>,
    watch: Watch,
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
        let timers = Timers::new().context("making a timerfd")?;
        let watch = Watch::new([launcher.socket.as_fd(), wake.as_fd(), timers.fd.as_fd()])
            .context("making an epoll")?;
        let not_enforced = launcher.host.not_enforced();
        #[expect(clippy::cast_precision_loss, reason = "no host has 2^52 cores")]
        let cores = launcher.host.cores as f64;
        Ok(Self {
            cores,
            not_enforced,
            socket: launcher.socket,
            launcher: launcher.pid,
            inbox,
            wake,
            watch,
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
        let mut events = Vec::new();
        let next = loop {
            // Both fail only for descriptors that are not ours.
            match self.timers.arm().and_then(|()| self.watch.wait(&mut events)) {
                Ok(()) => {}
                Err(Errno::EINTR) => continue,
                Err(_) => break Next::Lost,
            }
            match self.handle(&events) {
                Next::Continue => {}
                end => break end,
            }
        };
        let cells = std::mem::take(&mut self.cells);
        // The launcher sees the socket's end, kills what is left, removes its cgroups, and ends.
        let Self { socket, launcher, .. } = self;
        drop(socket);
        let _ = waitpid(launcher, None);
        // Each tells its observer that it is lost.
        drop(cells);
        if matches!(next, Next::Lost) {
            lost();
        }
    }

    fn handle(&mut self, events: &[Event]) -> Next {
        for event in events {
            let next = match *event {
                Event::Launcher => self.hear_launcher(),
                Event::Wake => self.obey(),
                Event::Timer => {
                    self.timers.fired();
                    Next::Continue
                }
                Event::Cell(cell, source) => {
                    self.hear_cell(cell, source);
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
                Command::Run(id, cell) => {
                    self.cells.insert(id, *cell);
                    self.waiting.push_back(id);
                }
                Command::Cancel(id) => self.kill(id, Cause::Cancelled),
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
            if cell.is_blamed() {
                self.conclude(id);
                continue;
            }
            let request = cell.request(id);
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
            let packet = match receive::<Reply>(&self.socket, false) {
                Ok(Some(packet)) => packet,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.prepare_waiting();
                    return Next::Continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Ok(None) | Err(_) => return Next::Lost,
            };
            self.preparing = self.preparing.saturating_sub(1);
            match packet.message {
                Reply::Ready { cell, attached } => {
                    let memory = self.cells.get(&cell).map_or(0, |cell| cell.task.limits.memory.0);
                    match Handles::sort(attached, packet.fds, memory) {
                        Ok(handles) if packet.whole => self.adopt(cell, handles),
                        // What came is closed again; with its control socket the cell ends.
                        _ => {
                            self.never_came(cell, Fault { step: Step::Adopt, errno: libc::EMFILE });
                        }
                    }
                }
                Reply::Failed { cell, fault } => self.never_came(cell, fault),
                Reply::Hello { .. } | Reply::Unfit(_) => {}
            }
        }
    }

    /// A cell will not come, or came in part.
    fn never_came(&mut self, id: CellId, fault: Fault) {
        if let Some(cell) = self.cells.get_mut(&id) {
            cell.fail(fault);
            self.conclude(id);
        }
    }

    /// Takes a new cell over: watches it and sends it its command.
    fn adopt(&mut self, id: CellId, handles: Handles) {
        let Some(cell) = self.cells.get_mut(&id) else {
            // Given up and released meanwhile.
            return;
        };
        let watched = self.watch.add(id, &handles);
        cell.handles = Some(handles);
        if let Err(error) = watched {
            cell.fail(Fault::new(Step::Adopt, &error.into()));
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
                    self.watch.only_listen(id, &handles.control);
                }
                let heard = cell.listen();
                if heard.more != More::Perhaps
                    && let Some(handles) = &cell.handles
                {
                    // Its end would be told again and again.
                    self.watch.ignore(&handles.control);
                }
                if heard.more == More::Nonsense {
                    self.end(id);
                } else if heard.executed {
                    self.started(id);
                }
            }
            Source::Pidfd => self.conclude(id),
            Source::Stdin => cell.feed(),
            Source::Stdout => drop(cell.capture(Stream::Stdout, &self.sink, &mut self.buffer)),
            Source::Stderr => drop(cell.capture(Stream::Stderr, &self.sink, &mut self.buffer)),
            Source::Shortage => {
                cell.hear_shortage();
                self.look_for_shortage(id);
            }
        }
    }

    /// The command was executed: from now on its time counts, and its output is heard.
    fn started(&mut self, id: CellId) {
        let Some(cell) = self.cells.get_mut(&id) else { return };
        let (Some(deadline), Some(handles)) = (cell.deadline(), &cell.handles) else { return };
        if let Err(error) = self.watch.add_streams(id, handles) {
            cell.fail(Fault::new(Step::Adopt, &error.into()));
            self.end(id);
            return;
        }
        self.timers.unset(id, Alarm::Launch);
        self.timers.set(id, Alarm::Deadline, deadline);
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
        // It may have come up a moment ago.
        self.hear_cell(id, Source::Control);
        match self.cells.get(&id) {
            Some(cell) if cell.deadline().is_some() => {}
            Some(cell) if cell.handles.is_some() => self.kill(id, Cause::Stuck),
            _ => self.never_came(id, Fault { step: Step::Release, errno: libc::ETIMEDOUT }),
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
        if !handles.meter.counts_cpu() {
            return;
        }
        // What can't be read now is read again: it is never taken for nothing used.
        let used = handles.meter.cpu_us().map(Duration::from_micros);
        let left = used.map(|used| limit.0.saturating_sub(used));
        if left.is_some_and(|left| left.is_zero()) {
            self.kill(id, Cause::CpuTime);
        } else {
            let pace = cell.task.limits.cpus.min(self.cores);
            let earliest = left.unwrap_or_default().div_f64(pace);
            self.timers.set(id, Alarm::CpuTime, after(earliest.max(CPU_READING)));
        }
    }

    /// cgroup v1 kills one process where v2 kills the group: once a kill is counted, the rest
    /// follows. The kernel announces a shortage before it counts the kill, by some milliseconds or, if
    /// many run short at once, by more: it is looked for at growing intervals.
    fn look_for_shortage(&mut self, id: CellId) {
        let Some(cell) = self.cells.get(&id) else { return };
        let Some(age) = cell.shortage_age() else { return };
        match cell.shortage() {
            Shortage::None if age < SHORTAGE_PATIENCE => {
                self.timers.set(id, Alarm::Shortage, after((age / 4).max(SHORTAGE_READING)));
            }
            // It was met by giving memory back.
            Shortage::None => {}
            // Found only when its time is over, as on a machine where the engine itself has to wait: if
            // the command had ended of it before, that is what will be told.
            _ if cell.deadline().is_some_and(|deadline| deadline < monotonic_ns()) => {
                self.kill(id, Cause::Timeout);
            }
            shortage => self.kill(id, Cause::Shortage(shortage)),
        }
    }

    fn kill(&mut self, id: CellId, cause: Cause) {
        // What it said before is heard first: a job that has ended is not killed for ending late.
        self.hear_cell(id, Source::Control);
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
        let Some(cell) = self.cells.remove(&id) else { return };
        cell.conclude(&self.sink, &mut self.buffer, self.not_enforced.clone());
        // Also of one that never came here: it may still be made, or have been made in part.
        let _ = send(&self.socket, &Request::Release { cell: id }, &[]);
    }
}

/// That long from now, `CLOCK_MONOTONIC` nanoseconds.
fn after(duration: Duration) -> u64 {
    monotonic_ns().saturating_add(nanoseconds(duration))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
