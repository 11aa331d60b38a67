//! The engine's thread: one loop over everything that can happen to any cell.
//!
//! - `ahead`: cells that wait for their jobs, and those whose job has ended.
//! - `alarms`: what is done when a time is over.

mod ahead;
mod alarms;
mod output;

use std::{
    collections::{HashMap, VecDeque},
    io::ErrorKind,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::Receiver,
    },
};

use nix::{
    errno::Errno,
    sys::{eventfd::EventFd, wait::waitpid},
    unistd::Pid,
};

use ahead::Leaving;
use alarms::{LAUNCH_PATIENCE, after};

use super::{
    Command, Stream,
    cell::{Cell, borrow},
    handles::Handles,
    line::Line,
    pool::Pool,
    report::More,
    spares::Spares,
    streams,
    timers::{Alarm, Timers},
    verdict::Cause,
    watch::{Event, Source, Watch},
};
use crate::{
    error::{Context, Error, Fault, Step},
    host::Host,
    residue::Jobs,
    wire::{CellId, Reply},
};

pub(crate) struct Supervisor {
    line: Arc<Line>,
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
    /// Cells that wait for a job.
    pool: Arc<Pool>,
    /// Cells whose job was told to have ended, until their PID 1 has.
    leaving: HashMap<CellId, Leaving>,
    /// The number of the next cell.
    next: Arc<AtomicU64>,
    /// The jobs that run, for what watches their kernel memory, and how many were ended for it.
    jobs: Arc<Jobs>,
    ended_for_kernel_memory: Arc<AtomicU64>,
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
    #[expect(
        clippy::too_many_arguments,
        reason = "what the engine shares with its thread, each once"
    )]
    pub(crate) fn new(
        launcher: Pid,
        host: &Host,
        inbox: Receiver<Command>,
        wake: Arc<EventFd>,
        next: Arc<AtomicU64>,
        pool: Arc<Pool>,
        line: Arc<Line>,
        (jobs, ended_for_kernel_memory): (Arc<Jobs>, Arc<AtomicU64>),
    ) -> Result<Self, Error> {
        let timers = Timers::new().context("making a timerfd")?;
        let watch = Watch::new([line.as_fd(), wake.as_fd(), timers.fd.as_fd()])
            .context("making an epoll")?;
        #[expect(clippy::cast_precision_loss, reason = "no host has 2^52 cores")]
        let cores = host.cores as f64;
        Ok(Self {
            cores,
            not_enforced: host.not_enforced(),
            line,
            launcher,
            inbox,
            wake,
            watch,
            timers,
            cells: HashMap::new(),
            waiting: VecDeque::new(),
            pool,
            leaving: HashMap::new(),
            next,
            jobs,
            ended_for_kernel_memory,
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
        self.pool.with(Spares::close);
        // The launcher sees the line's end, kills what is left, removes its cgroups, and ends.
        self.line.close();
        let _ = waitpid(self.launcher, None);
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
                Command::RunInNew(id, cell) => {
                    self.cells.insert(id, *cell);
                    self.timers.set(id, Alarm::Launch, after(LAUNCH_PATIENCE));
                }
                Command::Unasked(id, fault) => {
                    if let Some(cell) = self.cells.get_mut(&id) {
                        cell.fail(fault);
                        self.conclude(id);
                    }
                }
                Command::RunInSpare(id, cell) => {
                    self.cells.insert(id, *cell);
                    self.timers.set(id, Alarm::Launch, after(LAUNCH_PATIENCE));
                    self.watch_job(id);
                }
                Command::Cancel(place) => {
                    self.kill(place.load(Ordering::Relaxed), Cause::Cancelled);
                }
                Command::Resume(place) => self.resume(place.load(Ordering::Relaxed)),
                Command::Exceeded(id, held) => {
                    if self.kill_alive(id, Cause::KernelMemory(held)) {
                        self.ended_for_kernel_memory.fetch_add(1, Ordering::Relaxed);
                    } else if let Some(cell) = self.cells.get(&id) {
                        // It was ending for another reason when the watcher held it back.
                        cell.release_brake();
                    }
                }
                Command::Stop => return Next::Stop,
            }
        }
        if self.pool.with(|spares| spares.has_work()) {
            self.refill_soon();
        }
        self.prepare_waiting();
        Next::Continue
    }

    /// Asks the launcher for the cells that wait, as many as may be asked for at once.
    fn prepare_waiting(&mut self) {
        let line = Arc::clone(&self.line);
        while !self.waiting.is_empty() {
            let Some(turn) = line.turn() else { return };
            let Some(id) = self.waiting.pop_front() else { return };
            let Some(cell) = self.cells.get_mut(&id) else {
                continue;
            };
            if cell.is_blamed() {
                self.conclude(id);
                continue;
            }
            let request = cell.request(id);
            let passed = cell.passed.take();
            match turn.ask(&request, &borrow(passed.as_ref())) {
                Ok(()) => {
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
            let packet = match self.line.receive() {
                Ok(Some(packet)) => packet,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.prepare_waiting();
                    self.refill_when_idle();
                    return Next::Continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Ok(None) | Err(_) => return Next::Lost,
            };
            self.line.answered();
            // Of jobs whose cells come, this thread was told first, if perhaps just now.
            if let end @ (Next::Stop | Next::Lost) = self.obey() {
                return end;
            }
            match packet.message {
                Reply::Ready { cell, attached } => {
                    let spare = self.pool.with(|spares| spares.arrived(cell));
                    // Of neither kind is one that was given up: what came of it is closed again.
                    let sizes = spare.or_else(|| self.cells.get(&cell).map(Cell::sizes));
                    let sizes = sizes.unwrap_or_default();
                    let sorted = Handles::sort(attached, packet.fds, &sizes);
                    match (sorted, spare) {
                        (Ok(handles), None) if packet.whole => self.adopt(cell, handles),
                        (Ok(handles), Some(sizes)) if packet.whole => {
                            self.keep(cell, sizes, handles);
                        }
                        // What came is closed again; with its control socket the cell ends.
                        _ => {
                            let fault = Fault { step: Step::Adopt, errno: libc::EMFILE };
                            self.never_came(cell, spare.is_some(), fault);
                        }
                    }
                }
                Reply::Failed { cell, fault } => {
                    let is_spare = self.pool.with(|spares| spares.arrived(cell)).is_some();
                    self.never_came(cell, is_spare, fault);
                }
                Reply::Hello { .. } | Reply::Unfit(_) => {}
            }
        }
    }

    /// A cell will not come, or came in part.
    fn never_came(&mut self, id: CellId, is_spare: bool, fault: Fault) {
        if let Some(cell) = self.cells.get_mut(&id) {
            cell.fail(fault);
            self.conclude(id);
        } else if is_spare {
            self.lose_spare(id);
        }
    }

    /// Takes a new cell over.
    fn adopt(&mut self, id: CellId, handles: Handles) {
        let Some(cell) = self.cells.get_mut(&id) else {
            // Given up and released meanwhile.
            return;
        };
        if let Err(error) = self.watch.add(id, &handles) {
            cell.fail(Fault::new(Step::Adopt, &error.into()));
            cell.handles = Some(handles);
            self.end(id);
            // Nobody will tell of its end.
            self.conclude(id);
        } else {
            cell.handles = Some(handles);
            self.watch_job(id);
        }
    }

    /// Sends a cell its command, or what is left of it, and listens to what comes back.
    fn watch_job(&mut self, id: CellId) {
        let Some(cell) = self.cells.get_mut(&id) else { return };
        let Some(handles) = &cell.handles else { return };
        let watched = self.watch.add_job(id, handles);
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
            self.hear_empty(id, source);
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
                    return;
                }
                let over = cell.is_over();
                if heard.executed {
                    self.started(id);
                }
                if over {
                    self.conclude_early(id);
                }
                // The end of its cell is that of the job, then.
                if let Some(cell) = self.cells.get(&id) {
                    cell.let_go();
                }
            }
            Source::Pidfd if cell.can_begin_anew() => self.begin_anew(id),
            Source::Pidfd => self.conclude(id),
            Source::Stdin => cell.feed(),
            Source::Stdout => self.capture(id, Stream::Stdout),
            Source::Stderr => self.capture(id, Stream::Stderr),
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
        self.jobs.began(id, cell.watched());
        self.watch_cpu_time(id);
    }

    fn kill(&mut self, id: CellId, cause: Cause) {
        let _ = self.kill_alive(id, cause);
    }

    /// Whether there was something to kill, for that cause.
    fn kill_alive(&mut self, id: CellId, cause: Cause) -> bool {
        // What it said before is heard first: a job that has ended is not killed for ending late.
        self.hear_cell(id, Source::Control);
        let killed = self.cells.get_mut(&id).is_some_and(|cell| cell.blame(cause));
        if killed {
            self.end(id);
        }
        killed
    }

    /// Kills a cell, by the switch where there is one, else by the launcher. One that is still being
    /// made is killed when it comes.
    fn end(&mut self, id: CellId) {
        let Some(cell) = self.cells.get(&id) else {
            return;
        };
        if cell.handles.is_some() && !cell.kill() {
            self.line.kill(id);
        }
    }

    /// Everything in the cell is dead, or it never was: reads the records, tells the observer, and
    /// lets the launcher take away what is left.
    fn conclude(&mut self, id: CellId) {
        self.timers.clear(id);
        self.jobs.ended(id);
        let Some(cell) = self.cells.remove(&id) else { return };
        drop(cell.conclude(&self.sink, &mut self.buffer, self.not_enforced.clone()));
        // Also of one that never came here: it may still be made, or have been made in part.
        self.release(id);
    }
}
