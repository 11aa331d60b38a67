//! Everything that one run consists of: the network, the disk, the services, and who watches them.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    net::{IpAddr, SocketAddr},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use super::{
    disk::Disk,
    history::{History, What},
    http::Http,
    jobs::Jobs,
    net::{Network, Node},
    postgres::Postgres,
    process::{Process, Role},
    recorder::Recorder,
};
use crate::{Scratch, cloister};

/// How long running jobs may go on after SIGTERM.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// A store's disk, MiB. PostgreSQL keeps some 200 MiB of its log.
const DISK: u64 = 1024;
/// The node of clients and observers.
pub(super) const CLIENTS: &str = "clients";
const RECORDER: &str = "recorder";
pub(super) const POSTGRES: &str = "postgres";

/// Which store, and so which services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Store {
    /// One coordinator with its embedded store
    Sqlite,
    /// Three coordinators on a PostgreSQL
    Postgres,
}

impl Store {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// Which services there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Coordinators for this store, and so many runners.
    Apart(Store, usize),
    /// One `cloister up`.
    Up,
}

/// What a world is made of.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) shape: Shape,
    /// Decides on the jobs.
    pub(super) seed: u64,
    /// Jobs at once, of each runner.
    pub(super) slots: usize,
    /// Jobs in all.
    pub(super) jobs: usize,
    /// How long a runner goes on with a job without hearing of a coordinator.
    pub(super) lease: Duration,
}

/// See the module.
pub(super) struct World {
    // In the order in which they are to go.
    pub(super) processes: Vec<Process>,
    recorder: Recorder,
    pub(super) disk: Disk,
    pub(super) network: Network,
    pub(super) history: Arc<History>,
    pub(super) jobs: Jobs,
    pub(super) lease: Duration,
    postgres: Option<Postgres>,
    token: String,
    folder: Scratch,
}

impl World {
    /// Makes it and starts all services; they answer when this returns.
    pub(super) fn new(plan: &Plan) -> Result<Self> {
        let Plan { shape, seed, slots, jobs, .. } = *plan;
        let folder = Scratch::new("faults");
        let lives = folder.join("owner");
        fs::write(lives, super::cleanup::owner()).context("writing whose folder it is")?;
        let logs = folder.join("logs");
        fs::create_dir(&logs).context("making the folder of logs")?;
        let (token, runner_token) = (secret(), secret());
        let token_file = keep_secret(&folder, "token", &token)?;
        let runner_token_file = keep_secret(&folder, "runner-token", &runner_token)?;
        let disk = Disk::new(&folder, DISK).context("making a disk")?;

        let (coordinators, runners) = match shape {
            Shape::Apart(Store::Sqlite, runners) => (names("coordinator", 1), runners),
            Shape::Apart(Store::Postgres, runners) => (names("coordinator", 3), runners),
            Shape::Up => (vec!["up".to_owned()], 0),
        };
        let runners = names("runner", runners);
        let mut nodes = [coordinators.as_slice(), runners.as_slice()].concat();
        nodes.extend([CLIENTS, RECORDER, POSTGRES].map(String::from));
        let network = Network::new(&nodes);

        let history = Arc::new(History::new(jobs));
        let kinds = Jobs::new(seed, Recorder::address(network.node(RECORDER)));
        let known: Vec<(IpAddr, String)> =
            nodes.iter().map(|name| (network.node(name).address().into(), name.clone())).collect();
        let whose = move |from: SocketAddr| {
            let found = known.iter().find(|(address, _)| *address == from.ip());
            found.map(|(_, name)| name.clone()).unwrap_or_default()
        };
        let recorder = Recorder::new(network.node(RECORDER), &history, &kinds, whose);

        let postgres = (shape == Shape::Apart(Store::Postgres, runners.len()))
            .then(|| Postgres::new(&disk, &folder, &secret()))
            .transpose()
            .context("making a PostgreSQL")?;
        let store = match &postgres {
            Some(postgres) => postgres.url(network.node(POSTGRES).address()),
            None => format!("sqlite:{}", disk.path().join("data/cloister.db").display()),
        };
        let listening = |name: &str, port: u16| format!("{}:{port}", network.node(name).address());
        let common = |listen: &str, token_file: &str| {
            let grace = GRACE.as_secs().to_string();
            let mut args: Vec<String> = Vec::new();
            args.extend(
                ["--listen", listen, "--token-file", token_file, "--grace", &grace]
                    .map(String::from),
            );
            args
        };
        let lease = format!("{}ms", plan.lease.as_millis());
        let service = |name: &str, role, kind: &str, listen: &str, args: Vec<String>| {
            let args = [vec![kind.to_owned()], args].concat();
            Process::new(name, role, format!("http://{listen}"), cloister(), args, &logs)
        };
        let cells = ["--slots", &slots.to_string(), "--allow-network", "host"].map(String::from);
        let mut processes = Vec::new();
        if let Some(postgres) = &postgres {
            let (program, args) = postgres.server();
            let base = listening(POSTGRES, 5432);
            let process = Process::new(POSTGRES, Role::Postgres, base, program, args, &logs);
            processes.push(process.storing().user(postgres.uid()));
        }
        let mut urls = Vec::new();
        for name in &runners {
            let listen = listening(name, 8080);
            urls.push(format!("http://{listen}"));
            let spool = folder.join(format!("spool-{name}")).display().to_string();
            let spool = ["--spool".into(), spool];
            let args = [common(&listen, &runner_token_file), cells.to_vec(), spool.into()].concat();
            processes.push(service(name, Role::Runner, "runner", &listen, args));
        }
        for name in &coordinators {
            let listen = listening(name, 8000);
            let mut args = common(&listen, &token_file);
            args.extend(["--lease".into(), lease.clone()]);
            let process = if shape == Shape::Up {
                let data = disk.path().join("data").display().to_string();
                args.extend(["--data".into(), data]);
                args.extend(cells.clone());
                service(name, Role::Up, "up", &listen, args)
            } else {
                args.extend(["--store", &store].map(String::from));
                args.extend(["--runner-url".into(), urls.join(",")]);
                args.extend(["--runner-token-file", &runner_token_file].map(String::from));
                service(name, Role::Coordinator, "coordinator", &listen, args)
            };
            processes.push(if postgres.is_none() { process.storing() } else { process });
        }
        let world = Self {
            processes,
            recorder,
            disk,
            network,
            history,
            jobs: kinds,
            lease: plan.lease,
            postgres,
            token,
            folder,
        };
        world.start_all()?;
        Ok(world)
    }

    /// Starts whatever does not run, PostgreSQL first, and waits until all answer.
    pub(super) fn start_all(&self) -> Result<()> {
        for process in &self.processes {
            if process.pid().is_none() {
                self.start(process);
                self.await_ready(process)?;
            }
            if let (Role::Postgres, Some(postgres), 1) =
                (process.role, &self.postgres, process.lives().len())
            {
                let address = self.network.node(POSTGRES).address();
                self.at_clients(|| postgres.create_database(address))?;
            }
        }
        Ok(())
    }

    /// Starts a service at its place.
    pub(super) fn start(&self, process: &Process) {
        let now = self.history.now();
        process.start(self.network.node(&process.name), &self.disk, now);
        self.history.note(format!("{} is started", process.name));
    }

    fn await_ready(&self, process: &Process) -> Result<()> {
        let patience = Duration::from_secs(60);
        ensure!(
            self.comes_back(process, patience),
            "{} does not answer; the end of its log:\n{}",
            process.name,
            process.last_words()
        );
        process.note_cgroups();
        Ok(())
    }

    /// Waits until a service answers, for so long at most. Whether it came to that.
    pub(super) fn comes_back(&self, process: &Process, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        self.at_clients(|| {
            let http = self.client(Duration::from_secs(2));
            // There is no event for "a port answers"; each try is one.
            loop {
                let life = process.life();
                if self.answers(process, &http) {
                    if let Some(life) = life.filter(|_| process.life() == life) {
                        process.answered(life);
                    }
                    return true;
                }
                if Instant::now() > until {
                    return false;
                }
                thread::sleep(Duration::from_millis(50));
            }
        })
    }

    fn answers(&self, process: &Process, http: &Http) -> bool {
        match (process.role, &self.postgres) {
            (Role::Postgres, Some(postgres)) => {
                let address = self.network.node(POSTGRES).address().to_string();
                Command::new(postgres.program("pg_isready"))
                    .args(["-q", "-t", "2", "-h", &address])
                    .stdout(Stdio::null())
                    .status()
                    .is_ok_and(|status| status.success())
            }
            (Role::Coordinator | Role::Up, _) => {
                let answer = http.get(&format!("{}/ready", process.base));
                answer.is_ok_and(|answer| answer.status == 200)
            }
            _ => {
                let answer = http.get(&format!("{}/health", process.base));
                answer.is_ok_and(|answer| answer.status == 200)
            }
        }
    }

    /// A client that shows the clients' token.
    pub(super) fn client(&self, patience: Duration) -> Http {
        Http::new(&self.token, patience)
    }

    /// Does something at the clients' place in the network.
    pub(super) fn at_clients<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.clients().enter();
                work()
            });
            thread.join().expect("a panic would have ended this as well")
        })
    }

    /// The clients' place.
    pub(super) fn clients(&self) -> &Node {
        self.network.node(CLIENTS)
    }

    /// The services of this role.
    pub(super) fn of(&self, role: Role) -> Vec<&Process> {
        self.processes.iter().filter(|process| process.role == role).collect()
    }

    /// Those that take jobs.
    pub(super) fn coordinators(&self) -> Vec<&Process> {
        let takes = |process: &&Process| matches!(process.role, Role::Coordinator | Role::Up);
        self.processes.iter().filter(takes).collect()
    }

    /// The one that keeps the jobs.
    pub(super) fn keeper(&self) -> &Process {
        self.processes.iter().find(|process| process.stores).expect("somebody keeps the jobs")
    }

    /// The service that is reached at this URL.
    pub(super) fn at(&self, url: &str) -> Option<&Process> {
        // The runner of an `up` listens on its loopback.
        let within =
            url.starts_with("http://127.0.0.1:").then(|| self.of(Role::Up).pop()).flatten();
        within.or_else(|| self.processes.iter().find(|process| process.base == url))
    }

    /// The folder that every service has on its command line, for finding what is left of them.
    pub(super) fn folder(&self) -> PathBuf {
        self.folder.to_path_buf()
    }

    /// The witness.
    pub(super) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Something happened to a job.
    pub(super) fn tell(&self, index: usize, what: What) {
        self.history.add(index, what);
    }

    /// Copies the logs of all lives there.
    pub(super) fn keep_logs(&self, to: &std::path::Path) -> std::io::Result<()> {
        let _ = fs::remove_dir_all(to);
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(self.folder.join("logs"))? {
            let entry = entry?;
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Coordinators and runners first, then the store that they use.
        while let Some(process) = self.processes.pop() {
            drop(process);
        }
        self.recorder.close(self.network.node(CLIENTS));
    }
}

fn names(kind: &str, count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("{kind}-{number}")).collect()
}

/// A token of chance that no seed has to repeat.
fn secret() -> String {
    let (a, b) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    format!("{}{}", a.simple(), b.simple())
}

fn keep_secret(folder: &Scratch, name: &str, secret: &str) -> Result<String> {
    let path = folder.join(name);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let mut file = file.with_context(|| format!("making {}", path.display()))?;
    file.write_all(secret.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
    Ok(path.display().to_string())
}
