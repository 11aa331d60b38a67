//! The coordinator as its users and its runners see it: over HTTP, against runners that are made up
//! here, with a store on disk.

mod bad_input;
mod batch;
mod client;
mod clocks;
mod dispatch;
mod jobs;
mod logs;
mod operators;
mod printed;
mod quarantine;
mod restart;
mod room;
mod runner;
mod trouble;

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use cloister_web::{Access, Shutdown};
use tokio::task::JoinHandle;

use self::{client::Client, runner::FakeRunner};
use crate::{
    Config, Error,
    dispatch::Source,
    store::{self, Store, tests::Folder},
};

/// Long for a machine, short for a person: a test that waits for it has failed.
const SOON: Duration = Duration::from_secs(20);

/// A coordinator with a store of its own.
struct Coordinator {
    config: Config,
    address: SocketAddr,
    client: Client,
    shutdown: Shutdown,
    task: JoinHandle<Result<(), Error>>,
    folder: Arc<Folder>,
}

impl Coordinator {
    /// With the given runners and otherwise the defaults.
    async fn with(runners: &[&FakeRunner]) -> Self {
        Self::start(config(runners)).await
    }

    async fn start(config: Config) -> Self {
        Self::start_in(config, Arc::new(Folder::new()), |store| store).await
    }

    /// In a folder, with the store there as `wrap` changes it.
    async fn start_in(
        mut config: Config,
        folder: Arc<Folder>,
        wrap: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>,
    ) -> Self {
        config.store = folder.url();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let tokens = config.tokens.clone();
        let access = Access::decide(address, tokens, false).unwrap();
        let urls = config.runner_urls.iter();
        let sources = urls.map(|url| Source::parse(url)).collect::<Result<_, _>>();
        let (sources, store) =
            (sources.unwrap(), wrap(store::open(&config.store, None, None).await.unwrap()));
        let (of, until) = (config.clone(), shutdown.clone());
        let task =
            tokio::spawn(
                async move { crate::run(&of, store, sources, access, listener, until).await },
            );
        let client = Client::new(address);
        client.until("/health", |_, health| health["leads"] == true).await;
        Self { config, address, client, shutdown, task, folder }
    }

    /// Ends it at once, as a crash would, and starts another on the same store.
    async fn crash_and_restart(self) -> Self {
        self.shutdown.end();
        self.task.await.unwrap().unwrap();
        Self::start_in(self.config, self.folder, |store| store).await
    }

    /// Waits until all its runners answer.
    async fn ready(self) -> Self {
        let wanted = self.config.runner_urls.len();
        self.client.until("/health", |_, health| health["runners"]["up"] == wanted).await;
        self
    }
}

fn config(runners: &[&FakeRunner]) -> Config {
    Config {
        runner_urls: runners.iter().map(|runner| runner.url()).collect(),
        lease: Duration::from_millis(480),
        drain_grace: SOON,
        ..Config::default()
    }
}
