//! One service as an operator's supervisor sees it: started, ended, started again, each life with a log
//! of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{disk::Disk, net::Node};
use crate::{cleanup::children, service::hears_signals};

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// `cloister coordinator`
    Coordinator,
    /// `cloister runner`
    Runner,
    /// `cloister up`
    Up,
    /// PostgreSQL
    Postgres,
}

/// How a life ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// The harness killed it, or a process of it that it can't do without.
    Killed,
    /// It was asked to, and took so long.
    Asked { status: ExitStatus, took: Duration },
    /// By itself.
    Itself(ExitStatus),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Killed => write!(f, "killed"),
            Self::Asked { status, took } => write!(f, "asked to end: {status}, after {took:.2?}"),
            Self::Itself(status) => write!(f, "ended by itself: {status}"),
        }
    }
}

/// From a start to the end.
#[derive(Clone, Debug)]
pub(super) struct Life {
    /// Since the start of the run, as all times.
    pub(super) began: Duration,
    pub(super) ended: Option<Duration>,
    pub(super) how: Option<End>,
    pub(super) log: PathBuf,
    /// Whether it ever answered.
    pub(super) answered: bool,
    /// What `/metrics` said last, and when it was asked.
    pub(super) metrics: Option<(Duration, BTreeMap<String, f64>)>,
}

/// See the module.
pub(super) struct Process {
    pub(super) name: String,
    pub(super) role: Role,
    /// Where it is reached.
    pub(super) base: String,
    /// Whether its data is on the disk that faults are made on.
    pub(super) stores: bool,
    program: PathBuf,
    args: Vec<String>,
    user: Option<u32>,
    logs: PathBuf,
    state: Mutex<State>,
    hands: Mutex<()>,
}

#[derive(Default)]
struct State {
    child: Option<Child>,
    lives: Vec<Life>,
    /// Folders of its cells in the cgroup hierarchies, of all lives.
    cgroups: BTreeSet<PathBuf>,
}

impl Process {
    /// Not started yet.
    pub(super) fn new(
        name: &str,
        role: Role,
        base: String,
        program: PathBuf,
        args: Vec<String>,
        logs: &Path,
    ) -> Self {
        Self {
            name: name.into(),
            role,
            base,
            stores: false,
            program,
            args,
            user: None,
            logs: logs.into(),
            state: Mutex::default(),
            hands: Mutex::default(),
        }
    }

    /// It keeps its data on the disk.
    pub(super) fn storing(mut self) -> Self {
        self.stores = true;
        self
    }

    /// It runs as this user.
    pub(super) fn user(mut self, uid: u32) -> Self {
        self.user = Some(uid);
        self
    }

    /// Held by whoever does something to it: an end that comes meanwhile is that one's doing.
    pub(super) fn hands(&self) -> MutexGuard<'_, ()> {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, if nobody has it.
    pub(super) fn idle_hands(&self) -> Option<MutexGuard<'_, ()>> {
        self.hands.try_lock().ok()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts it at its place, and does not wait until it answers.
    pub(super) fn start(&self, node: &Node, disk: &Disk, now: Duration) {
        let mut state = self.state();
        assert!(state.child.is_none(), "{} is started only once", self.name);
        let log = self.logs.join(format!("{}.{}.log", self.name, state.lives.len() + 1));
        let output = File::create(&log).expect("a log can be written");
        let errors = output.try_clone().expect("a log can be written");
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        hears_signals(&mut command);
        command.env_remove("CLOISTER_TOKEN").env_remove("RUNNER_URL");
        command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        if let Some(uid) = self.user {
            command.uid(uid).gid(uid);
        }
        let child = thread::scope(|scope| {
            let starting = scope.spawn(|| {
                node.enter();
                if self.stores {
                    disk.enter();
                }
                command.spawn()
            });
            starting.join().expect("starting a program does not panic")
        });
        let child = child
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", self.program.display()));
        state.child = Some(child);
        state.lives.push(Life {
            began: now,
            ended: None,
            how: None,
            log,
            answered: false,
            metrics: None,
        });
    }

    /// Its process id, while it lives.
    pub(super) fn pid(&self) -> Option<Pid> {
        let state = self.state();
        let id = state.child.as_ref()?.id();
        Some(Pid::from_raw(i32::try_from(id).expect("a process id is positive")))
    }

    /// Its life's number, while it lives.
    pub(super) fn life(&self) -> Option<usize> {
        let state = self.state();
        state.child.as_ref().map(|_| state.lives.len() - 1)
    }

    /// Its lives so far.
    pub(super) fn lives(&self) -> Vec<Life> {
        self.state().lives.clone()
    }

    /// Sends it a signal, if it lives.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            let _ = kill(pid, signal);
        }
    }

    /// It and all below it, parents first.
    pub(super) fn tree(&self) -> Vec<Pid> {
        let mut all: Vec<Pid> = self.pid().into_iter().collect();
        let mut next = 0;
        while let Some(pid) = all.get(next) {
            all.extend(children(*pid));
            next += 1;
        }
        all
    }

    /// The launcher of a runner that lives.
    pub(super) fn launcher(&self) -> Option<Pid> {
        children(self.pid()?).into_iter().next()
    }

    /// Ends it without a word. PostgreSQL goes with all its processes, as in a power cut.
    pub(super) fn kill(&self, now: impl Fn() -> Duration) {
        let others = if self.role == Role::Postgres {
            // So that none is added while they are looked for.
            self.signal(Signal::SIGSTOP);
            self.tree().split_off(1)
        } else {
            Vec::new()
        };
        self.signal(Signal::SIGKILL);
        for pid in others {
            let _ = kill(pid, Signal::SIGKILL);
        }
        self.wait(None);
        self.ended(now(), End::Killed);
    }

    /// Asks it to end, and waits so long; then it is killed. Whether it was in time.
    pub(super) fn ask_to_end(&self, patience: Duration, now: impl Fn() -> Duration) -> bool {
        // To PostgreSQL SIGTERM says to wait for all clients (postgres(1)).
        let word = if self.role == Role::Postgres { Signal::SIGINT } else { Signal::SIGTERM };
        let began = Instant::now();
        self.signal(word);
        if let Some(status) = self.wait(Some(patience)) {
            self.ended(now(), End::Asked { status, took: began.elapsed() });
            return true;
        }
        self.kill(now);
        false
    }

    /// Waits for an end that something else brings about. Whether it came.
    pub(super) fn await_end(
        &self,
        patience: Duration,
        how: impl Fn(ExitStatus) -> End,
        now: impl Fn() -> Duration,
    ) -> bool {
        let status = self.wait(Some(patience));
        if let Some(status) = status {
            self.ended(now(), how(status));
        }
        status.is_some()
    }

    fn wait(&self, patience: Option<Duration>) -> Option<ExitStatus> {
        let until = patience.map(|patience| Instant::now() + patience);
        loop {
            match self
                .state()
                .child
                .as_mut()
                .map(|child| child.try_wait().expect("it is our child"))
            {
                None => return None,
                Some(Some(status)) => return Some(status),
                Some(None) if until.is_some_and(|until| Instant::now() > until) => return None,
                Some(None) => {}
            }
            // A child's end can be waited for only without a limit.
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn ended(&self, now: Duration, how: End) {
        let mut state = self.state();
        state.child = None;
        if let Some(life) = state.lives.last_mut() {
            life.ended = Some(now);
            life.how = Some(how);
        }
    }

    /// The last lines of its newest log.
    pub(super) fn last_words(&self) -> String {
        let state = self.state();
        let log = state.lives.last().map(|life| fs::read_to_string(&life.log).unwrap_or_default());
        let log = log.unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    /// It answered, in this life.
    pub(super) fn answered(&self, life: usize) {
        if let Some(life) = self.state().lives.get_mut(life) {
            life.answered = true;
        }
    }

    /// Keeps what `/metrics` said, for the life in which it was asked.
    pub(super) fn keep(&self, life: usize, asked: Duration, metrics: BTreeMap<String, f64>) {
        if let Some(life) = self.state().lives.get_mut(life) {
            life.metrics = Some((asked, metrics));
        }
    }

    /// Notes which folders its launcher has in the cgroup hierarchies.
    pub(super) fn note_cgroups(&self) {
        let Some(launcher) = self.launcher() else {
            return;
        };
        let descriptors = fs::read_dir(format!("/proc/{launcher}/fd")).into_iter().flatten();
        let links = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        let own = links.filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("cloister-"))
        });
        self.state().cgroups.extend(own);
    }

    /// Those of them that exist.
    pub(super) fn cgroups_left(&self) -> Vec<PathBuf> {
        self.state().cgroups.iter().filter(|path| path.exists()).cloned().collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.pid().is_none() {
            return;
        }
        for pid in self.tree() {
            let _ = kill(pid, Signal::SIGCONT);
        }
        // The second one says not to wait for jobs.
        self.signal(Signal::SIGINT);
        self.signal(Signal::SIGINT);
        if self.wait(Some(Duration::from_secs(10))).is_none() {
            self.kill(|| Duration::ZERO);
        }
    }
}
