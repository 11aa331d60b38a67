//! Services that are measured.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use cloister_tests::{Client, Scratch, Service};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    http::{Connection, find, request},
    load::{Load, Until, drive, repeat},
};

/// What a job of a measurement is.
pub(crate) const TRUE: &str = r#"{"argv":["/bin/true"]}"#;
/// Between the signal that asks for an end and the one that says at once: the kernel would make one of
/// two that come together.
pub(crate) const APART: Duration = Duration::from_millis(100);
/// Until a service of the reference answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a service listens.
pub(crate) fn address(client: &Client) -> anyhow::Result<SocketAddr> {
    let base = client.base();
    let text = base.strip_prefix("http://").context("the service does not speak HTTP")?;
    text.parse().with_context(|| format!("{base} has no address"))
}

/// Options of a runner that makes so many cells ahead at most.
pub(crate) fn cells_ahead(count: usize) -> Vec<String> {
    vec!["--cells-ahead".to_owned(), count.to_string()]
}

/// A runner for so many jobs at once. `ahead`: how many cells it makes ahead, where not its default.
pub(crate) fn runner(slots: usize, ahead: Option<usize>) -> Service {
    let mut args = vec!["--slots".to_owned(), slots.to_string()];
    args.extend(ahead.map(cells_ahead).unwrap_or_default());
    Service::runner(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Ends a service that has jobs, without waiting for them.
pub(crate) fn end(service: Service) {
    service.signal(Signal::SIGTERM);
    thread::sleep(APART);
    service.signal(Signal::SIGTERM);
    drop(service);
}

/// `/execute` of a runner of ours again and again, with `/bin/true`.
pub(crate) fn execute(clients: usize, until: Until, runner: SocketAddr) -> anyhow::Result<Load> {
    // Every answer is looked at: a job that fails may do so sooner.
    drive(clients, until, || {
        let mut connection = Connection::open(runner)?;
        let request = request("POST", "/execute", runner, TRUE);
        Ok(move || {
            let answer = connection.call(&request)?;
            answer.must_be(200)?;
            completed(answer.body)
        })
    })
}

/// Fails unless this is what became of a job that ended well.
pub(crate) fn completed(body: &[u8]) -> anyhow::Result<()> {
    let good = find(body, br#""status":"completed""#).is_some();
    ensure!(good, "a job did not end well: {}", String::from_utf8_lossy(body));
    Ok(())
}

/// A port of loopback that was free a moment ago.
fn free_port() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("listening on loopback failed")?;
    listener.local_addr().context("a listener's address cannot be read")
}

/// The described system written the described way: its runner and its coordinator.
pub(crate) struct Reference {
    /// Its processes, each a group.
    services: Vec<Child>,
    /// Where its runner listens.
    pub(crate) runner: SocketAddr,
    /// Where its coordinator does.
    pub(crate) coordinator: SocketAddr,
    /// Where its sources are.
    sources: Scratch,
}

impl Reference {
    /// Starts both with the Python environment in this folder.
    pub(crate) fn start(environment: Option<&PathBuf>) -> anyhow::Result<Self> {
        let environment =
            environment.context("no Python environment for it was named (bench/run makes one)")?;
        let sources = Scratch::new("reference");
        for (name, text) in [
            ("runner.py", include_str!("../reference/runner.py")),
            ("coordinator.py", include_str!("../reference/coordinator.py")),
        ] {
            fs::write(sources.join(name), text)
                .with_context(|| format!("the reference's {name} cannot be written"))?;
        }
        let (runner, coordinator) = (free_port()?, free_port()?);
        let mut reference = Self { services: Vec::new(), runner, coordinator, sources };
        for (name, address) in [("runner", runner), ("coordinator", coordinator)] {
            let child = Command::new(environment.join("bin/uvicorn"))
                .args([&format!("{name}:app"), "--log-level", "error", "--port"])
                .arg(address.port().to_string())
                .env("RUNNER_URL", format!("http://{runner}"))
                .env("PYTHONDONTWRITEBYTECODE", "1")
                .env("PYTHONWARNINGS", "ignore")
                .current_dir(&*reference.sources)
                .stdin(Stdio::null())
                .process_group(0)
                .spawn()
                .with_context(|| format!("starting the reference's {name} failed"))?;
            reference.services.push(child);
        }
        for address in [runner, coordinator] {
            reference.wait_for(address)?;
        }
        Ok(reference)
    }

    /// Its runner's `/execute` again and again.
    pub(crate) fn execute(&self, clients: usize, until: Until) -> anyhow::Result<Load> {
        let request = request("POST", "/execute", self.runner, r#"{"command":"/bin/true"}"#);
        repeat(clients, until, self.runner, &request, 200)
    }

    fn wait_for(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        // There is no event for "a port answers"; each try is one.
        let until = Instant::now() + PATIENCE;
        loop {
            let health = Connection::open(address).and_then(|mut connection| {
                connection.call(&request("GET", "/health", address, ""))?.must_be(200)
            });
            let Err(error) = health else { return Ok(()) };
            for service in &mut self.services {
                if let Some(status) = service.try_wait().context("a child cannot be waited for")? {
                    bail!("a service of the reference ended with {status}");
                }
            }
            if Instant::now() > until {
                return Err(error.context("a service of the reference does not answer"));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        for service in &mut self.services {
            // Without the grace that it gives to connections.
            if let Ok(id) = i32::try_from(service.id()) {
                let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
            }
            let _ = service.wait();
        }
    }
}
