//! The coordinator: takes jobs, keeps them, and has them run by runners.
//!
//! - `http` reads requests and writes answers;
//! - `engine` carries out what is decided, and holds everything together;
//! - `scheduler` decides, in memory and without I/O;
//! - `store` keeps what was acknowledged;
//! - `dispatch` talks to the runners.
//!
//! [`serve`] is the one way in.

mod config;
mod dispatch;
mod engine;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod http;
mod length;
mod metrics;
mod scheduler;
mod store;
mod world;

#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

use std::{net::TcpListener, sync::Arc, time::Duration};

use cloister_web::{
    Access, BodyLimits, BodyReader, Guard, ServerLimits, Shutdown, Waiters, warn_of_clear_tokens,
};
use tokio::time::timeout;

pub use self::{
    config::Config,
    error::Error,
    store::{StoreError, backup, is_encrypted},
};
use self::{
    dispatch::{RunnerClient, Source, discover},
    engine::{Engine, Parts},
    http::App,
    store::Store,
    world::Real,
};

/// Serves on `listener` until `shutdown`: while it drains, running jobs finish within the grace
/// time, and what waits stays in the store.
pub async fn serve(config: Config, listener: TcpListener, shutdown: Shutdown) -> Result<(), Error> {
    let address = listener.local_addr().map_err(Error::Address)?;
    let access = Access::decide(address, config.tokens.clone(), config.insecure_no_auth)?;
    let access = config.gateway.into_iter().fold(access, Access::through);
    let sources = config.runner_urls.iter().map(|url| Source::parse(url));
    let sources = sources.collect::<Result<Vec<_>, _>>()?;
    warn_of_clear_tokens(address, &access, config.tls.is_some());
    dispatch::warn_of_clear_tokens(&sources, &config.runner_tokens);
    let store =
        store::open(&config.store, config.authorities.as_ref(), config.accept_damage.as_deref());
    let store = store.await?;
    run(&config, store, sources, access, listener, shutdown).await
}

async fn run(
    config: &Config,
    store: Arc<dyn Store>,
    sources: Vec<Source>,
    access: Access,
    listener: TcpListener,
    shutdown: Shutdown,
) -> Result<(), Error> {
    let runners = Arc::new(RunnerClient::new(config));
    let name = listener.local_addr().map_err(Error::Address)?.to_string();
    let parts = Parts { store, runners, world: Arc::new(Real), name };
    let engine = Engine::new(config, parts)?;
    for source in sources {
        engine.spawn(discover(Arc::clone(&engine), source));
    }
    engine.start();

    // One of the largest size always has room.
    let total = config.body_memory.max(config.max_body);
    let bodies =
        BodyReader::new(BodyLimits { size: config.max_body, total, ..BodyLimits::default() });
    let app = App {
        engine: Arc::clone(&engine),
        bodies,
        waiters: Waiters::new(config.max_waiters),
        bounds: Arc::new(config.bounds.clone()),
    };
    let tls = config.tls.clone();
    let guard = Guard::new(access, config.protect_metrics).over_tls(tls.is_some());
    let router = http::router(app, guard);
    let stop = drained(&engine, &shutdown, config.drain_grace);
    let limits = ServerLimits { reserved: http::RESERVED, ..ServerLimits::default() };
    let served = cloister_web::serve(listener, tls, router, limits, shutdown.clone(), stop).await;
    engine.close().await;
    Ok(served?)
}

/// Returns when the server may stop: nothing new is dispatched, and nothing runs any more or the
/// grace time is over.
async fn drained(engine: &Arc<Engine>, shutdown: &Shutdown, grace: Duration) {
    shutdown.draining().await;
    let drained = async {
        engine.drain().await;
        engine.idle().await;
    };
    tracing::info!("draining: running jobs finish, what waits stays in the store");
    if timeout(grace, drained).await.is_err() {
        tracing::warn!("jobs still run; they are taken up again at the next start");
    }
    engine.close_waits();
}
