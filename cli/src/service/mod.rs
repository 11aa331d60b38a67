//! The services: in which order they come up, and with which rights.
//!
//! 1. The sockets are bound, since a low port may need privileges, and a taken one should be known
//!    at once.
//! 2. The launcher is forked, before any thread and before any file with a secret is read.
//! 3. Tokens, certificates and keys are read and the data folder is handed over, while the process still may.
//! 4. Every privilege is dropped, and the process enters its Landlock domain and its seccomp filter. Only then is a
//!    thread started, and only then is anybody answered.
//!
//! SIGHUP, which has files read again, waits from the first line on until there is somebody to do it.

mod args;
mod both;
mod gateway;
mod new_tokens;

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use cloister_coordinator::{Config, is_encrypted};
use cloister_runner::{Lost, SpoolFolder};
use cloister_sandbox::{Confinement, Engine, Launcher, Needs, drop_privileges, private_store};
use cloister_web::{ClientTls, Reload, Reloads, Shutdown, Tokens, check_exposure, is_loopback};
use nix::{
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        signal::{SigSet, Signal},
    },
    unistd::Uid,
};

use self::both::Side;
use crate::{allocator, log, trial::trial};

pub(crate) use args::{Coordinator, Runner, Up};

/// What the runner of an `up` without `--runner-token-file` tells callers other than its coordinator.
const RUNNER_OF_UP: &str = "this port belongs to the runner of `cloister up` and accepts only its \
    coordinator: submit jobs to the coordinator (POST /jobs), or start `cloister up` with \
    --runner-token-file FILE";

/// `cloister up`: a coordinator and one runner in one process.
pub(crate) fn up(args: &Up) -> anyhow::Result<ExitCode> {
    prepare()?;
    check_runner_side(args)?;
    let listener = bind(args.listen, args.common.has_token(), args.common.insecure_no_auth)?;
    let has_runner_token = args.runner_token_file.is_some();
    let runner_listener = bind(args.runner_listen, has_runner_token, args.common.insecure_no_auth)
        .context("the runner of `up` takes its tokens from --runner-token-file")?;
    let runner_address = runner_listener.local_addr()?;
    let mut launcher = launcher(&args.cells)?;

    let runner_tokens = match &args.runner_token_file {
        Some(file) => Tokens::read(Some(file), None)?,
        None => new_tokens::own()?,
    };
    let mut coordinator = args.queue.config(&args.common);
    coordinator.drain_grace += both::RECORDING;
    let mut runner = args.cells.config(&args.common);
    coordinator.tokens = args.common.tokens()?;
    coordinator.tls = args.common.tls()?;
    coordinator.runner_urls = vec![format!("http://{}", reachable(runner_address))];
    coordinator.runner_tokens = runner_tokens.clone();
    runner.tokens = runner_tokens;
    runner.token_advice = (!has_runner_token).then(|| RUNNER_OF_UP.into());
    let database = private_store(&args.data.join("cloister.db"), args.common.service_uid)?;
    coordinator.store = format!("sqlite:{}", database.display());
    let spool = match &args.spool {
        Some(folder) => folder.clone(),
        None => database.with_file_name("spool"),
    };
    let spool = SpoolFolder::open(&spool, args.common.service_uid)?;
    runner.spool = Some(spool.clone());
    let needs = Needs {
        files: files(&args.common, &[args.runner_token_file.as_deref()]),
        store: Some(database),
        spool: Some(spool.needs()),
        names: false,
        ports: Some(vec![runner_address.port()]),
    };
    let mut reloads = Reloads::default();
    reloads.add(coordinator.tokens.clone());
    reloads.add(coordinator.runner_tokens.clone());
    reload_too(&mut reloads, coordinator.tls.clone());
    confine(&needs, args.common.service_uid, Some(&mut launcher))?;
    reloads.warn_unreadable(Uid::effective().as_raw());

    let (engine, lost) = engine(launcher)?;
    log::greet(listener.local_addr()?, coordinator.tls.is_some());
    runtime()?.block_on(async {
        let signals = on_signals(reloads)?;
        let coordinator = Side { config: coordinator, listener };
        let runner = Side { config: runner, listener: runner_listener };
        both::run(coordinator, runner, engine, lost, signals).await
    })?;
    Ok(ExitCode::SUCCESS)
}

/// `cloister coordinator`
pub(crate) fn coordinator(args: &Coordinator) -> anyhow::Result<ExitCode> {
    prepare()?;
    let listener = bind(args.listen, args.common.has_token(), args.common.insecure_no_auth)?;
    let mut config = args.queue.config(&args.common);
    if args.create_tokens {
        new_tokens::create(&[
            args.common.token_file.as_deref(),
            args.runner_token_file.as_deref(),
        ])?;
    }
    if args.published.is_some_and(|address| address.to_canonical().is_loopback()) {
        config.gateway = Some(gateway::find()?);
    }
    config.tokens = args.common.tokens()?;
    config.tls = args.common.tls()?;
    config.runner_tokens = Tokens::read(args.runner_token_file.as_deref(), None)?;
    config.runner_urls = runner_urls(&args.runner_url)?;
    config.store = store(&args.store, args.common.service_uid)?;
    let needs = Needs {
        files: files(&args.common, &[args.runner_token_file.as_deref(), args.ca_file.as_deref()]),
        store: config.store.strip_prefix("sqlite:").map(PathBuf::from),
        spool: None,
        names: true,
        ports: None,
    };
    config.authorities = authorities(&config, args.ca_file.as_deref())?;
    let mut reloads = Reloads::default();
    reloads.add(config.tokens.clone());
    reloads.add(config.runner_tokens.clone());
    reload_too(&mut reloads, config.tls.clone());
    reload_too(&mut reloads, config.authorities.clone());
    confine(&needs, args.common.service_uid, None)?;
    reloads.warn_unreadable(Uid::effective().as_raw());
    raise_descriptor_limit()?;
    runtime()?.block_on(async {
        let shutdown = on_signals(reloads)?;
        cloister_coordinator::serve(config, listener, shutdown)
            .await
            .context("the coordinator failed")
    })?;
    Ok(ExitCode::SUCCESS)
}

/// `cloister runner`
pub(crate) fn runner(args: &Runner) -> anyhow::Result<ExitCode> {
    prepare()?;
    let listener = bind(args.listen, args.common.has_token(), args.common.insecure_no_auth)?;
    let mut launcher = launcher(&args.cells)?;
    let mut config = args.cells.config(&args.common);
    config.tokens = args.common.tokens()?;
    config.tls = args.common.tls()?;
    let mut reloads = Reloads::default();
    reloads.add(config.tokens.clone());
    reload_too(&mut reloads, config.tls.clone());
    let spool = SpoolFolder::open(&args.spool, args.common.service_uid)?;
    config.spool = Some(spool.clone());
    let needs = Needs {
        files: files(&args.common, &[]),
        spool: Some(spool.needs()),
        ports: Some(Vec::new()),
        ..Needs::default()
    };
    confine(&needs, args.common.service_uid, Some(&mut launcher))?;
    reloads.warn_unreadable(Uid::effective().as_raw());
    let (engine, lost) = engine(launcher)?;
    runtime()?.block_on(async {
        let shutdown = on_signals(reloads)?;
        cloister_runner::serve(config, engine, lost, listener, shutdown)
            .await
            .context("the runner failed")
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What every service does first, while it has one thread.
fn prepare() -> anyhow::Result<()> {
    allocator::keep_little();
    log::for_service();
    // Before there is a handler it would end the process. The launcher inherits this, and ignores the
    // signal anyway; commands of jobs start with a mask of their own.
    hangup().thread_block().context("holding back SIGHUP")
}

fn hangup() -> SigSet {
    SigSet::from(Signal::SIGHUP)
}

/// From here on SIGTERM and SIGINT end the service, and SIGHUP has it read files again: also one that
/// came meanwhile.
fn on_signals(reloads: Reloads) -> anyhow::Result<Shutdown> {
    let shutdown = Shutdown::new();
    shutdown.on_signals()?;
    reloads.on_hangup(shutdown.clone())?;
    hangup().thread_unblock().context("letting SIGHUP come")?;
    Ok(shutdown)
}

fn reload_too(reloads: &mut Reloads, one: Option<impl Reload + 'static>) {
    if let Some(one) = one {
        reloads.add(one);
    }
}

/// The files that are read again while a service runs.
fn files(common: &args::Common, others: &[Option<&Path>]) -> Vec<PathBuf> {
    let own = common.files();
    own.into_iter().chain(others.iter().copied().flatten()).map(Path::to_owned).collect()
}

/// Takes from this process all that it does not need: its privileges, then the files, connections and
/// system calls of any user.
fn confine(needs: &Needs<'_>, user: u32, launcher: Option<&mut Launcher>) -> anyhow::Result<()> {
    let confinement = Confinement::prepare(needs, launcher.as_deref())?;
    drop_privileges(user)?;
    let lines = confinement.enter()?;
    for line in lines.iter().filter(|line| !line.enforced) {
        let remedy = line.remedy.as_deref().unwrap_or("none is known");
        tracing::warn!(
            not_enforced = line.name,
            "the service is less confined: {} (remedy: {remedy})",
            line.detail
        );
    }
    if let Some(launcher) = launcher {
        launcher.report(lines);
    }
    Ok(())
}

/// The runner of an `up` has no certificate: the way to it is this machine's loopback, which needs
/// none. Refused is what would encrypt one door and leave the other open.
fn check_runner_side(args: &Up) -> anyhow::Result<()> {
    if args.common.has_tls() && !is_loopback(args.runner_listen) {
        bail!(
            "refusing to encrypt the way to the coordinator and not that to the runner at {}, which \
             others can reach: leave --runner-listen on loopback, or start `cloister runner` and \
             `cloister coordinator` apart, each with --tls-cert",
            args.runner_listen
        );
    }
    Ok(())
}

/// Who is trusted to tell runners and the database from others, where any is to be reached by TLS.
fn authorities(config: &Config, ca_file: Option<&Path>) -> anyhow::Result<Option<ClientTls>> {
    let https = |url: &String| url.starts_with("https://");
    if config.runner_urls.iter().any(https) || is_encrypted(&config.store) {
        return Ok(Some(ClientTls::load(ca_file)?));
    }
    if let Some(path) = ca_file {
        tracing::warn!(
            path = %path.display(),
            "the --ca-file serves nothing: no runner's URL is https://, and the store's asks for no \
             encryption (sslmode=verify-full)"
        );
    }
    Ok(None)
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

/// A store's URL: of a database, as it is; of a file, in a folder that the service's user can use.
fn store(url: &str, user: u32) -> anyhow::Result<String> {
    let Some(path) = url.strip_prefix("sqlite:") else {
        return Ok(url.into());
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
        bail!(
            "no runner is named; give --runner-url http://HOST:8080 or https://HOST:8080, or set RUNNER_URL"
        );
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
