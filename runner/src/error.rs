//! Why a runner did not start, or ended by itself.

use std::{io, path::PathBuf};

/// What ended [`serve`](crate::serve()).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The edge could not be set up.
    #[error(transparent)]
    Web(#[from] cloister_web::Error),
    /// The listening socket does not tell its address.
    #[error("cannot read the address of the listening socket: {0}")]
    Address(io::Error),
    /// There is no timer for leases.
    #[error("cannot make the timer by which leases run out: {0}")]
    Clock(io::Error),
    /// The folder for large outputs cannot be used.
    #[error("cannot use {} as the spool: {source}; name another folder by --spool", path.display())]
    Spool {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The thread that writes them cannot be started.
    #[error("cannot start the thread that writes the spool: {0}")]
    SpoolThread(io::Error),
    /// A metric's name is used twice, or is malformed.
    #[error("cannot register the runner's metrics")]
    Metrics(#[from] prometheus::Error),
    /// The process that makes cells is gone, and every cell with it.
    #[error(
        "the process that makes cells has ended, and every job with it; \
         its last words are in the log, and the runner must be started anew"
    )]
    LauncherLost,
}
