//! A PostgreSQL server for tests: from Debian's package, in a folder of its own, listening on a socket in
//! that folder and on a port of loopback. It ends and leaves nothing with the process that started it,
//! however that ends.

use std::{
    fs,
    io::Write,
    net::TcpListener,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User, geteuid},
};

/// Where Debian has the versions of the server.
const VERSIONS: &str = "/usr/lib/postgresql";
/// How long the server may take to start, or to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Ends the server when its standard input does, which is when whoever started it has ended; then
/// removes its folder. The process is the server's if its working directory is its data.
const JANITOR: &str = r#"
    trap '' INT TERM HUP
    cat >/dev/null
    pid=$(head -n 1 "$0/data/postmaster.pid" 2>/dev/null)
    if [ -n "$pid" ] && [ "$(readlink "/proc/$pid/cwd")" = "$0/data" ]; then
        kill -CONT "$pid"
        kill -QUIT "$pid"
        for i in $(seq 600); do [ -e "/proc/$pid" ] || break; sleep 0.1; done
    fi
    rm -rf "$0"
"#;

/// A running server, or one that was stopped and can be started again.
pub struct Postgres {
    folder: PathBuf,
    programs: PathBuf,
    port: u16,
    password: String,
    databases: AtomicU32,
    server: Option<Child>,
    janitor: Child,
}

impl Postgres {
    /// A new server. It does not wait for the disk, so what it has is lost with the machine, but not with
    /// its processes.
    pub fn start() -> Self {
        let programs = programs();
        let folder = std::env::temp_dir().join(format!("cloister-pg-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&folder).expect("the folder for temporary files can be written");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("it is ours");
        let folder = folder.canonicalize().expect("it is there");
        let mut janitor = Command::new("/bin/sh");
        janitor.args(["-c", JANITOR]).arg(&folder).stdin(Stdio::piped()).process_group(0);
        let janitor = janitor.spawn().expect("/bin/sh can be started");
        if let Some(user) = user() {
            let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
            chown(&folder, Some(uid), Some(gid)).expect("root may give a folder away");
        }
        let password = uuid::Uuid::new_v4().simple().to_string();
        let mut server = Self {
            port: free_port(),
            databases: AtomicU32::new(0),
            server: None,
            folder,
            programs,
            password,
            janitor,
        };
        server.initialise();
        server.start_again();
        server
    }

    /// One for all tests of this process.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        // The user need not be able to read wherever the tests were started.
        command.current_dir(&self.folder).stdin(Stdio::null()).env_clear();
        command.envs([("LC_ALL", "C.UTF-8"), ("PATH", "/usr/bin:/bin")]);
        if let Some(user) = user() {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn initialise(&self) {
        let password = self.folder.join("password");
        fs::write(&password, &self.password).expect("the folder can be written");
        let mut initdb = self.command("initdb");
        initdb.args(["--no-sync", "--username=admin", "--auth-local=trust", "--encoding=UTF8"]);
        // SCRAM takes a client without optimisation a tenth of a second of its thread for each connection.
        initdb.arg("--auth-host=password").arg("--pwfile").arg(&password);
        initdb.arg("--pgdata").arg(self.data());
        let made = initdb.output().expect("initdb can be started");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{}'\n\
             fsync = off\nfull_page_writes = off\nmax_connections = 300\nshared_buffers = 32MB\n\
             log_line_prefix = '%m [%p] '\n",
            self.port,
            self.folder.display()
        );
        let file = self.data().join("postgresql.conf");
        let mut file = fs::OpenOptions::new().append(true).open(file).expect("initdb made it");
        file.write_all(settings.as_bytes()).expect("it can be written");
    }

    /// Starts it after [`stop`](Self::stop) or [`kill`](Self::kill), on the same port; returns when it
    /// can be used.
    pub fn start_again(&mut self) {
        let until = Instant::now() + PATIENCE;
        let mut tried = false;
        while !tried || !self.answers() {
            assert!(Instant::now() < until, "PostgreSQL does not start: {}", self.log());
            tried = true;
            // Its memory may still be in use by processes of the one before.
            let ended = self.server.as_mut().is_none_or(|s| !matches!(s.try_wait(), Ok(None)));
            if ended {
                let log = self.folder.join("log");
                let log = fs::OpenOptions::new().create(true).append(true).open(log);
                let log = log.expect("the folder can be written");
                let mut server = self.command("postgres");
                server.arg("-D").arg(self.data()).process_group(0);
                server.stdout(Stdio::null()).stderr(log);
                self.server = Some(server.spawn().expect("postgres can be started"));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn answers(&self) -> bool {
        let mut ready = self.command("pg_isready");
        ready.args(["--quiet", "--host"]).arg(&self.folder).arg(format!("--port={}", self.port));
        ready.status().is_ok_and(|status| status.success())
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Ends it as an operator would, with all its connections.
    pub fn stop(&mut self) {
        self.signal(Signal::SIGINT);
        self.wait();
    }

    /// Kills it and all its processes, with SIGKILL.
    pub fn kill(&mut self) {
        let processes = self.processes();
        for process in processes {
            let _ = kill(process, Signal::SIGKILL);
        }
        self.wait();
    }

    /// Stops all its processes, with SIGSTOP: it looks connected, and does not answer.
    pub fn freeze(&self) {
        for process in self.processes() {
            let _ = kill(process, Signal::SIGSTOP);
        }
    }

    /// Stops those of its processes that serve connections to a database now; answers how many.
    pub fn freeze_connections(&self, database: &str) -> usize {
        let sql = format!("SELECT pid FROM pg_stat_activity WHERE datname = '{database}'");
        let pids = self.admin("postgres", &sql);
        let pids = pids.lines().map(|pid| pid.parse().expect("it is a number"));
        pids.filter(|pid| kill(Pid::from_raw(*pid), Signal::SIGSTOP).is_ok()).count()
    }

    /// Lets them go on.
    pub fn thaw(&self) {
        for process in self.processes() {
            let _ = kill(process, Signal::SIGCONT);
        }
    }

    fn wait(&mut self) {
        let mut server = self.server.take().expect("it was started");
        server.wait().expect("it is this process's own");
    }

    fn signal(&self, signal: Signal) {
        let server = self.server.as_ref().expect("it was started");
        kill(pid(server), signal).expect("it is not reaped yet");
    }

    /// Its processes, the first of all at first, so that it makes no more.
    fn processes(&self) -> Vec<Pid> {
        let Some(server) = &self.server else { return Vec::new() };
        let first = pid(server);
        let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children"));
        let children = children.unwrap_or_default();
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        std::iter::once(first).chain(children.map(Pid::from_raw)).collect()
    }

    /// A new empty database, owned by an ordinary user, by its URL.
    pub fn database(&self) -> String {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let (user, name) = (format!("user{number}"), format!("jobs{number}"));
        self.admin("postgres", &format!("CREATE USER {user} PASSWORD '{}'", self.password));
        self.admin("postgres", &format!("CREATE DATABASE {name} OWNER {user}"));
        self.url(&user, &name)
    }

    /// The URL of a database.
    pub fn url(&self, user: &str, database: &str) -> String {
        let (password, port) = (&self.password, self.port);
        format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}")
    }

    /// What must stand in no message.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Has SQL done by the administrator, and answers what it printed.
    pub fn admin(&self, database: &str, sql: &str) -> String {
        self.client("psql", &["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql, database])
    }

    /// Has one of PostgreSQL's own client programs run by the administrator, and answers what it
    /// printed.
    pub fn client(&self, program: &str, args: &[&str]) -> String {
        let mut client = self.command(program);
        let host = self.folder.display().to_string();
        client.env("PGHOST", host).env("PGPORT", self.port.to_string()).env("PGUSER", "admin");
        let output = client.args(args).output().expect("it can be started");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {args:?}: {said}");
        String::from_utf8_lossy(&output.stdout).trim().into()
    }

    /// From now on it also speaks TLS, with this certificate and key, in PEM.
    pub fn encrypt(&self, certificate: &str, key: &str) {
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let file = self.data().join(name);
            fs::write(&file, text).expect("the folder can be written");
            // It refuses a key that others can read.
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("it is ours");
            if let Some(user) = user() {
                let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
                chown(&file, Some(uid), Some(gid)).expect("root may give a file away");
            }
        }
        self.admin("postgres", "ALTER SYSTEM SET ssl = on");
        self.admin("postgres", "SELECT pg_reload_conf()");
        let until = Instant::now() + PATIENCE;
        while self.admin("postgres", "SHOW ssl") != "on" {
            assert!(Instant::now() < until, "it speaks no TLS: {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// A folder that it may write, and that goes with it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.thaw();
        if let Some(server) = &mut self.server {
            // Which is to end at once, and to end all others.
            let _ = kill(pid(server), Signal::SIGQUIT);
            let _ = server.wait();
        }
        // Closes its standard input.
        let _ = self.janitor.wait();
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("the kernel's ids are as small"))
}

/// Whom the server runs as: it refuses to be root.
fn user() -> Option<User> {
    if !geteuid().is_root() {
        return None;
    }
    let found = ["postgres", "nobody"].map(|name| User::from_name(name).ok().flatten());
    Some(found.into_iter().flatten().next().expect("there is a user postgres, or nobody"))
}

/// The newest server's programs.
pub(crate) fn programs() -> PathBuf {
    let versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let installed = versions.map(|version| version.path());
    let installed = installed.filter(|path| path.join("bin/initdb").is_file());
    let newest = installed.max_by_key(number).unwrap_or_else(|| {
        panic!("no PostgreSQL server is in {VERSIONS}: install Debian's package postgresql")
    });
    newest.join("bin")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    listener.local_addr().expect("it is bound").port()
}
