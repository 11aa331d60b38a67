//! Starting the program, and ending it whatever happens.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    ops::Deref,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{SigHandler, SigSet, Signal, kill, signal},
    unistd::Pid,
};

use crate::Client;

/// The built program: `CLOISTER_BIN`, or the one that was built beside this test or program.
pub fn cloister() -> PathBuf {
    if let Some(path) = std::env::var_os("CLOISTER_BIN") {
        return path.into();
    }
    let program = std::env::current_exe().expect("a running program has a path");
    // Programs are built in target/PROFILE, and tests in target/PROFILE/deps.
    let folders = program.ancestors().skip(1).take(2);
    let found = folders.map(|folder| folder.join("cloister")).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("no cloister is beside {}: build it first (cargo build)", program.display())
    })
}

/// Runs `cloister` with these arguments to its end, which must come within two minutes.
pub fn run(args: &[&str]) -> Output {
    Command::new("/usr/bin/timeout")
        .args(["--kill-after=5", "120"])
        .arg(cloister())
        .args(args)
        .env_remove("CLOISTER_TOKEN")
        .stdin(Stdio::null())
        .output()
        .expect("cloister can be started")
}

/// A new empty folder on a file system that cells may be shown (not below `/tmp`); removed with all
/// that is in it when dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one.
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = format!("{}{count}-{name}", Self::prefix());
        fs::create_dir_all(&path).expect("/var/tmp can be written");
        Self(path.into())
    }

    /// How the paths of all that this process makes begin.
    pub(crate) fn prefix() -> String {
        format!("/var/tmp/cloister-test-{}-", std::process::id())
    }
}

impl Deref for Scratch {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running service.
pub struct Service {
    child: Child,
    client: Client,
    runner: Option<Client>,
    data: PathBuf,
    log: PathBuf,
    /// Dropped after the service has ended.
    _own: Scratch,
}

impl Service {
    /// `cloister runner` on a free port of loopback.
    pub fn runner(args: &[&str]) -> Self {
        Self::runner_at(&free_port().to_string(), args)
    }

    /// `cloister runner` at this address.
    pub fn runner_at(listen: &str, args: &[&str]) -> Self {
        Self::start("runner", listen, None, args)
    }

    /// `cloister runner` that may open only so many files.
    pub fn runner_with_descriptors(count: u32, args: &[&str]) -> Self {
        let listen = free_port().to_string();
        // The shell becomes the program, so that its process is the service.
        let line = format!("ulimit -n {count}; exec \"$0\" \"$@\"");
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(line).arg(cloister());
        Self::launch(command, "runner", Client::new(format!("http://{listen}")), None, args)
    }

    /// `cloister KIND` on a free port, started by a command that becomes the one in its last arguments,
    /// such as setpriv(1). `data` is for the store, where there is one.
    pub fn by(mut command: Command, kind: &str, data: &Path, args: &[&str]) -> Self {
        command.arg(cloister());
        Self::of(command, kind, data, args)
    }

    /// `cloister KIND` on a free port, by this command, which runs some build of the program. `data` is
    /// for the store, where there is one.
    pub fn of(command: Command, kind: &str, data: &Path, args: &[&str]) -> Self {
        let client = Client::new(format!("http://{}", free_port()));
        Self::launch(command, kind, client, Some(data), args)
    }

    /// `cloister KIND` by TLS, started by this command with the program as its next argument: the
    /// arguments name a certificate that is for `host`, and that the authority in this file signed.
    /// The host must be this machine, and may have a port; else that is a free one.
    pub fn by_tls(
        mut command: Command,
        kind: &str,
        host: &str,
        authority: &Path,
        args: &[&str],
    ) -> Self {
        command.arg(cloister());
        let port = || format!("https://{host}:{}", free_port().port());
        let base = if host.contains(':') { format!("https://{host}") } else { port() };
        Self::launch(command, kind, Client::trusting(base, authority), None, args)
    }

    /// `cloister up` on free ports, with a store of its own.
    pub fn up(args: &[&str]) -> Self {
        Self::start("up", &free_port().to_string(), None, args)
    }

    /// `cloister up` on the store of an earlier one.
    pub fn up_again(data: &Path, args: &[&str]) -> Self {
        Self::start("up", &free_port().to_string(), Some(data), args)
    }

    /// `cloister coordinator` for these runners.
    pub fn coordinator(runner_urls: &str, args: &[&str]) -> Self {
        Self::start(
            "coordinator",
            &free_port().to_string(),
            None,
            &[&["--runner-url", runner_urls], args].concat(),
        )
    }

    fn start(kind: &str, listen: &str, data: Option<&Path>, args: &[&str]) -> Self {
        let client = Client::new(format!("http://{listen}"));
        Self::launch(Command::new(cloister()), kind, client, data, args)
    }

    fn launch(
        mut command: Command,
        kind: &str,
        client: Client,
        data: Option<&Path>,
        args: &[&str],
    ) -> Self {
        let (_, listen) = client.base().split_once("://").expect("a scheme");
        let own = Scratch::new(kind);
        let data = data.map_or_else(|| own.join("data"), Path::to_owned);
        let log = own.join("log");
        command.arg(kind).arg("--listen").arg(listen).args(args);
        let mut runner = None;
        match kind {
            "up" => {
                let behind = free_port();
                command.arg("--runner-listen").arg(behind.to_string()).arg("--data").arg(&data);
                runner = Some(Client::new(format!("http://{behind}")));
            }
            "coordinator" => {
                command
                    .arg("--store")
                    .arg(format!("sqlite:{}", data.join("cloister.db").display()));
            }
            _ => {
                // Any user may make files there; an older program does not know the variable.
                let spool = own.join("spool");
                fs::create_dir(&spool).expect("a folder can be made");
                fs::set_permissions(&spool, fs::Permissions::from_mode(0o777))
                    .expect("it is this user's");
                command.env("CLOISTER_SPOOL", spool);
            }
        }
        let output = fs::File::create(&log).expect("a log can be written");
        let errors = output.try_clone().expect("a log can be written");
        hears_signals(&mut command);
        let child = command
            .env("A_SECRET_OF_THE_SERVICE", "xyzzy")
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            // Ctrl-C of a person who runs the tests must not reach it: dropping ends it.
            .process_group(0)
            .spawn()
            .expect("cloister can be started");
        let mut service = Self { child, client, runner, data, log, _own: own };
        service.wait_until_it_answers();
        service
    }

    fn wait_until_it_answers(&mut self) {
        // There is no event for "a port answers"; each try is one. Its connection is not kept, since
        // some count what the service has open.
        let client = self.client.anew();
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            if client.try_get("/health").is_ok_and(|r| r.status == 200) {
                return;
            }
            let ended = self.child.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "the service ended: {ended:?}\n{}", self.log());
            assert!(Instant::now() < until, "the service does not answer\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Speaks to it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Speaks to the runner of an `up`.
    pub fn runner_client(&self) -> &Client {
        self.runner.as_ref().expect("only an `up` has a runner of its own")
    }

    /// Where its store is.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process id is positive"))
    }

    /// The process id of the launcher, the service's one child.
    pub fn launcher(&self) -> Pid {
        let path = format!("/proc/{0}/task/{0}/children", self.child.id());
        let children = fs::read_to_string(path).expect("the service lives");
        let pid = children.split_ascii_whitespace().next().expect("the launcher is its child");
        Pid::from_raw(pid.parse().expect("a process id is a number"))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the service lives");
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self, patience: Duration) -> std::process::ExitStatus {
        let until = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(Instant::now() < until, "the service goes on\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- log of the service:\n{}", self.log());
        }
        let until = Instant::now() + Duration::from_secs(20);
        // Once it is reaped, its id may be another's.
        while self.child.try_wait().is_ok_and(|status| status.is_none()) {
            // As an operator would, so that it takes its cgroups away; and again, so that it does not wait for
            // its jobs: the kernel makes one of two signals that come together.
            let last = Instant::now() > until;
            let _ = kill(self.pid(), if last { Signal::SIGKILL } else { Signal::SIGTERM });
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Has what is started be ended by a signal from its first moment. A caller that waits for signals has
/// blocked them, and what a shell starts in the background ignores SIGINT: both would be inherited.
pub(crate) fn hears_signals(command: &mut Command) {
    // SAFETY: between fork and exec only sigprocmask(2) and sigaction(2) are called, which are
    // async-signal-safe; the default action runs no code of ours.
    #[expect(unsafe_code, reason = "there is no other way to what a child inherits")]
    unsafe {
        command.pre_exec(|| {
            signal(Signal::SIGINT, SigHandler::SigDfl)?;
            Ok(SigSet::empty().thread_set_mask()?)
        });
    }
}

/// A port of loopback that was free a moment ago, from below the range that the kernel gives to clients
/// by itself (`net.ipv4.ip_local_port_range`): it stays free until the service takes it.
fn free_port() -> SocketAddr {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        // Where to begin differs between test programs.
        let offset =
            std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + offset % COUNT).expect("both together fit");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_started_hears_a_signal_that_a_shell_has_ignored() {
        let ends = |hears: bool| {
            let mut command = Command::new("sh");
            command.args(["-c", "kill -INT $$; echo goes on"]);
            if hears {
                hears_signals(&mut command);
            }
            command.output().expect("a shell can be started").stdout.is_empty()
        };
        // SAFETY: ignoring a signal, or not, runs no code of ours.
        #[expect(unsafe_code, reason = "as in a shell's background")]
        let before = unsafe { signal(Signal::SIGINT, SigHandler::SigIgn) }.unwrap();
        assert_eq!([ends(false), ends(true)], [false, true]);
        // SAFETY: it was there before.
        #[expect(unsafe_code, reason = "others may be interrupted again")]
        unsafe { signal(Signal::SIGINT, before) }.unwrap();
    }
}
