//! What keeps a coordinator from starting, or ends it.

use std::io;

use crate::store::StoreError;

/// Why a coordinator can't serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store can't be opened or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The edge of the service can't be set up.
    #[error(transparent)]
    Web(#[from] cloister_web::Error),
    /// A runner's URL has no sense.
    #[error("the runner URL {url:?} {reason}; write it as http://HOST:PORT or https://HOST:PORT")]
    RunnerUrl {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The listening socket tells no address.
    #[error("cannot tell which address the listening socket has: {0}")]
    Address(io::Error),
    /// A metric's name was taken.
    #[error("cannot register the metrics")]
    Metrics(#[from] prometheus::Error),
}
