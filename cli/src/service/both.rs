//! The two services of an `up` in one process: they start together and end together.
//!
//! - The first signal drains both. Jobs that outlast the grace time are killed by the runner; the
//!   coordinator waits a little longer, and records that.
//! - The second signal kills what runs. The runner reports each job as killed, the coordinator records
//!   it, and both end as soon as that is done, at most [`RECORDING`] later. Otherwise the next start
//!   could only tell that the runner was restarted.
//! - A service that fails ends the other one at once: neither is of use alone.

use std::{convert::Infallible, future::pending, net::TcpListener, time::Duration};

use anyhow::{Context, bail};
use cloister_runner::Lost;
use cloister_sandbox::Engine;
use cloister_web::Shutdown;
use tokio::time::sleep;

/// How long the coordinator may take to record what the runner killed.
pub(super) const RECORDING: Duration = Duration::from_secs(5);

/// One of the two services.
pub(super) struct Side<C> {
    pub(super) config: C,
    pub(super) listener: TcpListener,
}

/// Serves until both have ended.
pub(super) async fn run(
    coordinator: Side<cloister_coordinator::Config>,
    runner: Side<cloister_runner::Config>,
    engine: Engine,
    lost: Lost,
    signals: Shutdown,
) -> anyhow::Result<()> {
    let (front, back) = (Shutdown::new(), Shutdown::new());
    let coordinating = async {
        let Side { config, listener } = coordinator;
        let result = cloister_coordinator::serve(config, listener, front.clone()).await;
        if result.is_err() {
            back.end();
        }
        result.context("the coordinator failed")
    };
    let running = async {
        let Side { config, listener } = runner;
        let result = cloister_runner::serve(config, engine, lost, listener, back.clone()).await;
        if result.is_err() {
            front.end();
        }
        result.context("the runner failed")
    };
    // Either is thousands of bytes large.
    let both = async { tokio::join!(Box::pin(coordinating), Box::pin(running)) };
    let (coordinated, ran) = tokio::select! {
        ended = both => ended,
        never = pass_on(&signals, &front, &back) => match never {},
    };
    match (coordinated, ran) {
        (Err(coordinator), Err(runner)) => bail!("{runner:#}; {coordinator:#}"),
        (coordinated, ran) => ran.and(coordinated),
    }
}

/// Tells both services what a signal asks of them.
async fn pass_on(signals: &Shutdown, front: &Shutdown, back: &Shutdown) -> Infallible {
    signals.draining().await;
    front.drain();
    back.drain();
    signals.ended().await;
    // The coordinator goes on draining: it ends once it has recorded what the runner reports.
    back.kill();
    sleep(RECORDING).await;
    front.end();
    back.end();
    pending().await
}
