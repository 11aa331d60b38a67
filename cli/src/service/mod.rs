//! The services: in which order they come up, and with which rights.
//!
//! 1. The sockets are bound, since a low port may need privileges, and a taken one should be known
//!    at once.
//! 2. The launcher is forked, before any thread and before any file with a secret is read.
//! 3. Tokens are read and the data folder is handed over, while the process still may.
//! 4. Every privilege is dropped. Only then is a thread started, and only then is anybody answered.

mod args;

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use cloister_runner::Lost;
use cloister_sandbox::{Engine, Launcher, drop_privileges, private_store};
use cloister_web::{Secret, Shutdown, check_exposure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::{allocator, log, trial::trial};

pub(crate) use args::{Coordinator, Runner, Up};

/// How much longer the coordinator of an `up` waits than its runner: for recording what the runner
/// killed in the end.
const RECORDING: Duration = Duration::from_secs(5);

/// `cloister up`: a coordinator and one runner in one process.
pub(crate) fn up(args: &Up) -> anyhow::Result<ExitCode> {
    prepare();
    let listener = bind(args.listen, args.common.has_token(), args.common.insecure_no_auth)?;
    let has_runner_token = args.runner_token_file.is_some();
    let runner_listener = bind(args.runner_listen, has_runner_token, args.common.insecure_no_auth)?;
    let runner_address = runner_listener.local_addr()?;
    let launcher = launcher(&args.cells)?;

    let runner_token = args.runner_token_file.as_deref().map(Secret::from_file).transpose()?;
    let mut coordinator = args.queue.config(&args.common);
    coordinator.drain_grace += RECORDING;
    let mut runner = args.cells.config(&args.common);
    coordinator.tokens = args.common.tokens()?;
    coordinator.runner_urls = vec![format!("http://{}", reachable(runner_address))];
    coordinator.runner_token.clone_from(&runner_token);
    runner.tokens = runner_token.into_iter().collect();
    let database = private_store(&args.data.join("cloister.db"), args.common.service_uid)?;
    coordinator.store = format!("sqlite:{}", database.display());
    drop_privileges(args.common.service_uid)?;

    let (engine, lost) = engine(launcher)?;
    log::greet(listener.local_addr()?);
    runtime()?.block_on(async {
        let front = Shutdown::new();
        front.on_signals()?;
        // Both drain at once: what outlasts the grace time is killed by the runner, and the
        // coordinator hears of that and records it.
        let back = front.clone();
        let coordinating = async {
            let result = cloister_coordinator::serve(coordinator, listener, front.clone()).await;
            result.context("the coordinator failed")
        };
        let running = async {
            let result = cloister_runner::serve(runner, engine, lost, runner_listener, back).await;
            if result.is_err() {
                // Without a runner there is nothing to wait for.
                front.end();
            }
            result.context("the runner failed")
        };
        let (coordinated, ran) = tokio::join!(coordinating, running);
        ran.and(coordinated)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// `cloister coordinator`
pub(crate) fn coordinator(args: &Coordinator) -> anyhow::Result<ExitCode> {
    prepare();
    let listener = bind(args.listen, args.common.has_token(), args.common.insecure_no_auth)?;
    let mut config = args.queue.config(&args.common);
    config.tokens = args.common.tokens()?;
    config.runner_token = args.runner_token_file.as_deref().map(Secret::from_file).transpose()?;
    config.runner_urls = runner_urls(&args.runner_url)?;
    config.store = store(&args.store, args.common.service_uid)?;
    drop_privileges(args.common.service_uid)?;
    raise_descriptor_limit()?;
    runtime()?.block_on(async {
        let shutdown = Shutdown::new();
        shutdown.on_signals()?;
        cloister_coordinator::serve(config, listener, shutdown)
            .await
            .context("the coordinator failed")
    })?;
    Ok(ExitCode::SUCCESS)
}

/// `cloister runner`
pub(crate) fn runner(args: &Runner) -> anyhow::Result<ExitCode> {
    prepare();
    let listener = bind(args.listen, args.common.has_token(), args.common.insecure_no_auth)?;
    let launcher = launcher(&args.cells)?;
    let mut config = args.cells.config(&args.common);
    config.tokens = args.common.tokens()?;
    drop_privileges(args.common.service_uid)?;
    let (engine, lost) = engine(launcher)?;
    runtime()?.block_on(async {
        let shutdown = Shutdown::new();
        shutdown.on_signals()?;
        cloister_runner::serve(config, engine, lost, listener, shutdown)
            .await
            .context("the runner failed")
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What every service does first, while it has one thread.
fn prepare() {
    allocator::keep_little();
    log::for_service();
}

fn bind(listen: SocketAddr, has_token: bool, insecure: bool) -> anyhow::Result<TcpListener> {
    check_exposure(listen, has_token, insecure)?;
    TcpListener::bind(listen).with_context(|| format!("cannot listen on {listen}"))
}

/// Forks the launcher, and refuses what this host can't keep.
fn launcher(cells: &args::Cells) -> anyhow::Result<Launcher> {
    let launcher = Launcher::fork(&cells.launcher())?;
    let mut missing = launcher.host().enforcement.iter().filter(|line| line.lacking()).peekable();
    if missing.peek().is_none() {
        return Ok(launcher);
    }
    let lines: Vec<String> = missing
        .map(|line| {
            let remedy = line.remedy.as_deref().unwrap_or("none is known");
            format!("\n  {}: {} (remedy: {remedy})", line.name, line.detail)
        })
        .collect();
    if !cells.allow_degraded {
        bail!(
            "this host cannot enforce what jobs are promised:{}\n--allow-degraded starts it all the same",
            lines.concat()
        );
    }
    let not_enforced = launcher.host().not_enforced().join(",");
    tracing::warn!(not_enforced, "not everything is enforced here:{}", lines.concat());
    Ok(launcher)
}

/// The path behind `sqlite:`, in a folder that the service's user can use.
fn store(url: &str, user: u32) -> anyhow::Result<String> {
    let Some(path) = url.strip_prefix("sqlite:") else {
        bail!("the store {url:?} is not known; write sqlite:PATH");
    };
    Ok(format!("sqlite:{}", private_store(Path::new(path), user)?.display()))
}

/// An option wins, then `CLOISTER_RUNNER_URL`, then `RUNNER_URL`.
fn runner_urls(given: &[String]) -> anyhow::Result<Vec<String>> {
    let plain = std::env::var("RUNNER_URL").unwrap_or_default();
    let named = |urls: &mut dyn Iterator<Item = &str>| {
        urls.map(str::trim).filter(|url| !url.is_empty()).map(String::from).collect::<Vec<_>>()
    };
    let given = named(&mut given.iter().map(String::as_str));
    let urls = if given.is_empty() { named(&mut plain.split(',')) } else { given };
    if urls.is_empty() {
        bail!("no runner is named; give --runner-url http://HOST:8080, or set RUNNER_URL");
    }
    Ok(urls)
}

/// The address under which this machine itself reaches what listens there.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let loopback = if address.is_ipv4() { "127.0.0.1" } else { "::1" };
        address.set_ip(loopback.parse().expect("a loopback address"));
    }
    address
}

/// Each cell takes a dozen descriptors of the service.
fn raise_descriptor_limit() -> anyhow::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the limit of open files")
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")
}

/// Starts an engine on the launcher, and has it prove that cells can be made here.
fn engine(launcher: Launcher) -> anyhow::Result<(Engine, Lost)> {
    raise_descriptor_limit()?;
    let lost = Lost::new();
    let teller = lost.clone();
    let engine = Engine::start(launcher, move || teller.tell())?;
    trial(&engine).context("this host lets no cell be made; `cloister check` says more")?;
    Ok((engine, lost))
}
