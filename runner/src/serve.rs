//! The life of a runner: it serves, drains, and ends.

use std::{net::TcpListener, sync::Arc, time::Duration};

use cloister_sandbox::Engine;
use cloister_web::{Access, Guard, ServerLimits, Shutdown, warn_of_clear_tokens};
use tokio::time::{Instant, sleep_until, timeout};

use crate::{
    Config, Error, Lost, cells::Cells, clock::BootClock, execution::Why, http::routes,
    runner::Runner,
};

/// Answers on `listener` until `shutdown` has drained or ended it, or until `lost` is told that the
/// engine's launcher is gone, which is an error. The engine is stopped when this returns.
///
/// A drain takes no new work, and everything else goes on: running jobs have the configured grace,
/// then they are killed and told as lost. Results that wait for their owner are given a moment to be
/// fetched; those of a coordinator, for what is left of the grace, since it may be on its way back.
///
/// If `shutdown` is told to kill, running jobs have no grace any more, and results wait for their
/// owner for [`ResultLimits::linger`](crate::ResultLimits::linger) at most.
pub async fn serve(
    config: Config,
    engine: Engine,
    lost: Lost,
    listener: TcpListener,
    shutdown: Shutdown,
) -> Result<(), Error> {
    run(config, Arc::new(engine), lost, listener, shutdown).await
}

/// The same over any cells.
pub(crate) async fn run(
    config: Config,
    cells: Arc<dyn Cells>,
    lost: Lost,
    listener: TcpListener,
    shutdown: Shutdown,
) -> Result<(), Error> {
    let listen = listener.local_addr().map_err(Error::Address)?;
    let access = Access::decide(listen, config.tokens.clone(), config.insecure_no_auth)?;
    let tls = config.tls.clone();
    warn_of_clear_tokens(listen, &access, tls.is_some());
    let guard = Guard::new(access, config.protect_metrics)
        .over_tls(tls.is_some())
        .advise(config.token_advice.clone());
    let clock = Arc::new(BootClock::new().map_err(Error::Clock)?);
    let runner = Runner::new(&config, Arc::clone(&cells), clock, lost.clone(), shutdown.clone())?;
    let runner = Arc::new(runner);
    tracing::info!(
        runner = %listen, boot_id = %runner.boot_id, slots = runner.slots.total(), "the runner is ready"
    );
    let router = routes(Arc::clone(&runner), guard);
    let done = async {
        tokio::select! {
            () = lost.told() => tracing::error!("the process that makes cells has ended: this runner ends too"),
            () = drained(&runner, &config) => tracing::info!("the runner has drained"),
        }
    };
    // Each job that runs may have a connection, and all of them come from one coordinator.
    let limits = ServerLimits {
        connections: config.server.connections + runner.slots.total(),
        per_peer: config.server.per_peer + runner.slots.total(),
        ..config.server
    };
    let served = cloister_web::serve(listener, tls, router, limits, shutdown, done).await;
    // It waits for cells to be taken down, which must not hold up a thread of the runtime.
    let stopped = tokio::task::spawn_blocking(move || cells.stop()).await;
    if let Err(error) = stopped {
        tracing::error!(%error, "stopping the engine failed");
    }
    served?;
    if lost.is_lost() { Err(Error::LauncherLost) } else { Ok(()) }
}

/// Returns when draining has begun and nothing is left to wait for.
async fn drained(runner: &Runner, config: &Config) {
    let shutdown = &runner.shutdown;
    shutdown.draining().await;
    let grace: Duration = config.grace;
    let until = Instant::now() + grace;
    tracing::info!(running = runner.slots.used(), ?grace, "draining");
    let why = tokio::select! {
        biased;
        () = runner.slots.idle() => None,
        () = shutdown.killing() => Some(Why::Killed),
        () = sleep_until(until) => Some(Why::Stopped),
    };
    if let Some(why) = why {
        let running = runner.slots.used();
        if why == Why::Killed {
            tracing::warn!(running, "killing jobs: told to end at once");
        } else {
            tracing::warn!(running, "killing jobs that outlast the grace time");
        }
        runner.slots.cancel_all(why);
        runner.slots.idle().await;
    }
    if timeout(config.results.linger, runner.kept.empty()).await.is_ok() {
        return;
    }
    // A result that a coordinator does not find any more is a job that it tells as lost. Where it is
    // down itself, it comes back within the same time that jobs are given.
    tokio::select! {
        biased;
        () = runner.kept.all_fetched() => {}
        () = shutdown.killing() => {}
        () = sleep_until(until) => {}
    }
    if runner.kept.count() > 0 {
        tracing::warn!(results = runner.kept.count(), "ending with results that nobody fetched");
    }
}
