//! Supervising cells: one thread, one epoll, every cell.
//!
//! For each cell the thread holds a pidfd (its end), a control socket (what its PID 1 reports), the
//! pipes, and timers; it never ticks and never waits for one cell while another needs it. What comes
//! out is an [`Outcome`](cloister_api::Outcome), decided by the first event that the kernel recorded (see `verdict`).
//!
//! - `supervisor`: the thread's loop, and what each event means; `spares`: how many cells are made ahead;
//!   `pool`: those that wait, as threads share them.
//! - `command`: what goes into a cell; `handles`: what the engine holds of it; `cell`: what is known
//!   of it; `report`: what its PID 1 says.
//! - `observer`: who hears of a job and takes its output; `streams`: feeding and capturing, bounded.
//! - `timers`: one timerfd for all deadlines.
//! - `watch`: the one epoll.
//! - `verdict`: from records to a verdict; pure.

mod cell;
mod command;
mod handles;
mod line;
mod observer;
mod pool;
mod report;
mod spares;
mod streams;
mod supervisor;
mod timers;
mod verdict;
mod watch;

#[cfg(fuzzing)]
pub(crate) use self::{
    handles::Handles,
    report::{MAX_REPORT, Report},
};

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
};

use cloister_api::Task;
use nix::sys::eventfd::{EfdFlags, EventFd};

pub use self::observer::{Collector, Observer, Resume, Room, Stream};
use self::{line::Line, pool::Pool, spares::Spare};
use crate::{
    cgroup::{Folders, Stats},
    error::{Context, Error, Fault, Step},
    host::Host,
    launcher::Launcher,
    residue::{Gauge, Held, Jobs, Watcher},
    wire::CellId,
};

/// Where a job's standard input, output and error go.
#[derive(Debug)]
pub enum Stdio {
    /// The task's `stdin`, and pipes, of which the observer takes `limits.output` each.
    Captured,
    /// These descriptors; nothing is kept. A terminal that no session controls becomes the job's
    /// controlling terminal. The job can do to them whatever the kernel allows.
    Passed([OwnedFd; 3]),
}

/// The number of the cell that a job is in: a new one's, unless there is one that was made ahead.
type Place = Arc<AtomicU64>;

/// What the thread is told.
enum Command {
    /// In a new cell of that number, which is yet to be asked for.
    Run(CellId, Box<cell::Cell>),
    /// In one that the launcher is being asked for.
    RunInNew(CellId, Box<cell::Cell>),
    /// In one that was made ahead, and has the command already.
    RunInSpare(CellId, Box<cell::Cell>),
    /// That one could not be asked for.
    Unasked(CellId, Fault),
    Cancel(Place),
    /// Its observer has room again.
    Resume(Place),
    /// A cell holds that kernel memory, which is more than its job's memory limit leaves it.
    Exceeded(CellId, Held),
    Stop,
}

struct Shared {
    commands: Sender<Command>,
    wake: Arc<EventFd>,
    /// The number of the next cell.
    next: Arc<AtomicU64>,
    pool: Arc<Pool>,
    line: Arc<Line>,
    host: Host,
    folders: Arc<Folders>,
    /// What tells of uncharged kernel memory, where this host does.
    gauge: Option<Arc<Gauge>>,
    /// How many jobs were ended for it.
    ended_for_kernel_memory: Arc<AtomicU64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Runs jobs in cells. Cheap to clone; all clones speak to the same thread.
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

impl Engine {
    /// Starts the thread. `lost` is called, on that thread, if the launcher ends by itself: every
    /// cell has ended then, and no further one can be made.
    pub fn start(
        mut launcher: Launcher,
        lost: impl FnOnce() + Send + 'static,
    ) -> Result<Self, Error> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = Arc::new(EventFd::from_flags(flags).context("making an eventfd")?);
        let (commands, inbox): (_, Receiver<Command>) = channel();
        let host = launcher.host().clone();
        let folders = Arc::new(std::mem::take(&mut launcher.folders));
        let jobs = Arc::new(Jobs::default());
        let ended_for_kernel_memory = Arc::new(AtomicU64::new(0));
        let next = Arc::new(AtomicU64::new(1));
        let pool = Arc::new(Pool::new(launcher.cells_ahead));
        let line = Arc::new(Line::new(launcher.socket));
        let supervisor = supervisor::Supervisor::new(
            launcher.pid,
            &host,
            inbox,
            Arc::clone(&wake),
            Arc::clone(&next),
            Arc::clone(&pool),
            Arc::clone(&line),
            (Arc::clone(&jobs), Arc::clone(&ended_for_kernel_memory)),
        )?;
        let (told, woken) = (commands.clone(), Arc::clone(&wake));
        let exceeded = move |cell, held| {
            // The engine may have ended, and its receiver with it.
            if told.send(Command::Exceeded(cell, held)).is_ok() {
                let _ = woken.write(1);
            }
        };
        // Where there is none, `residue::report` has listed `kernel_memory` as missing.
        let gauge = Gauge::open().ok().map(Arc::new);
        let watcher = Watcher::start(gauge.clone(), &jobs, Arc::clone(&folders), exceeded)
            .context("starting the thread that watches kernel memory")?;
        let thread = std::thread::Builder::new()
            .name("cells".into())
            .spawn(move || {
                supervisor.run(lost);
                drop(watcher);
            })
            .context("starting the engine's thread")?;
        Ok(Self(Arc::new(Shared {
            commands,
            wake,
            next,
            pool,
            line,
            host,
            folders,
            gauge,
            ended_for_kernel_memory,
            thread: Mutex::new(Some(thread)),
        })))
    }

    /// What this host gives to cells.
    pub fn host(&self) -> &Host {
        &self.0.host
    }

    /// What all cells use now and used so far, together, since the start and with those that have ended.
    /// `pids` counts a process of ours in each.
    ///
    /// Reads a dozen small files of the kernel's, in the caller's thread: some tens of microseconds.
    pub fn stats(&self) -> Stats {
        let Shared { gauge, folders, ended_for_kernel_memory, .. } = &*self.0;
        let gauge = gauge.as_ref();
        Stats {
            uncharged_bytes: gauge.and_then(|gauge| gauge.uncharged(folders)),
            ended_for_kernel_memory: gauge.map(|_| ended_for_kernel_memory.load(Ordering::Relaxed)),
            ..folders.all()
        }
    }

    /// Runs a task in a cell of its own. Always ends in [`Observer::ended`], also when no cell could
    /// be made.
    pub fn run(&self, task: Task, stdio: Stdio, observer: Box<dyn Observer>) -> Ticket {
        let new = self.0.next.fetch_add(1, Ordering::Relaxed);
        let place = Arc::new(AtomicU64::new(new));
        match command::Load::new(&task, stdio, &self.0.host) {
            Ok(load) => {
                let resume = Resume {
                    place: Arc::clone(&place),
                    commands: self.0.commands.clone(),
                    wake: Arc::clone(&self.0.wake),
                };
                let cell = cell::Cell::new(task, load, resume, observer);
                self.begin(new, Box::new(cell));
            }
            Err(error) => observer.ended(verdict::not_laid_out(&error)),
        }
        Ticket { place, engine: self.clone() }
    }

    /// Has the job's command sent to a cell that waits, or a new one made of that number, from this
    /// thread: the engine's own may yet have to wake up. It hears of either first.
    fn begin(&self, new: CellId, mut cell: Box<cell::Cell>) {
        let spare = cell.takes_a_spare().then(|| self.0.pool.take(&cell.sizes())).flatten();
        if let Some(Spare { cell: number, held, .. }) = spare {
            cell.begin(number, held);
            self.tell(Command::RunInSpare(number, cell));
            return;
        }
        let Some(turn) = self.0.line.turn() else {
            self.tell(Command::Run(new, cell));
            return;
        };
        let (request, passed) = (cell.request(new), cell.passed.take());
        self.tell(Command::RunInNew(new, cell));
        if let Err(error) = turn.ask(&request, &cell::borrow(passed.as_ref())) {
            self.tell(Command::Unasked(new, Fault::new(Step::Refuse, &error)));
        }
    }

    /// Ends what still runs, and comes back when the launcher has taken its cgroups away and is
    /// gone.
    pub fn stop(&self) {
        self.tell(Command::Stop);
        let thread = self.0.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    fn tell(&self, command: Command) {
        // After `stop`, or after the launcher was lost, nobody listens: the cell that comes back
        // is dropped, and tells its observer.
        if self.0.commands.send(command).is_ok() {
            let _ = self.0.wake.write(1);
        }
    }
}

/// The handle to one running job.
#[derive(Clone)]
pub struct Ticket {
    place: Place,
    engine: Engine,
}

impl Ticket {
    /// What its cell uses now and used so far, at the cost of [`Engine::stats`]. Nothing is told where
    /// there is no cell yet, or any more; where it is just being made or taken away, some of it.
    pub fn stats(&self) -> Stats {
        self.engine.0.folders.cell(self.place.load(Ordering::Relaxed))
    }

    /// Ends the job. Its outcome says `cancelled`, unless it had ended before.
    pub fn cancel(&self) {
        self.engine.tell(Command::Cancel(Arc::clone(&self.place)));
    }
}
