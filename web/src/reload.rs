//! What is read again on SIGHUP: tokens, certificates and their keys, the authorities that are trusted.
//!
//! A service has dropped its privileges by then, so that it reads as the user that it became. What was
//! rejected: keeping the folders of these files open from before, which gets past private folders above
//! a file, but never past the file's own owner and mode, and reads the old one for ever once somebody
//! puts a new folder in its place. So files are found by their paths; whether that will work is tried
//! once at the start, and said then, rather than at the first rotation.

use std::{
    fs::File,
    io::{IsTerminal, stdout},
    path::Path,
};

use tokio::signal::unix::{SignalKind, signal};

use crate::{Error, Shutdown};

/// Something that came from files and can come from them again.
pub trait Reload: Send + Sync {
    /// From which.
    fn files(&self) -> Vec<&Path>;

    /// Reads them again. On an error everything is as it was; `false` if there is nothing to read.
    fn reload(&self) -> Result<bool, Error>;
}

/// All that a service reads again.
#[derive(Default)]
pub struct Reloads(Vec<Box<dyn Reload>>);

impl Reloads {
    /// Takes one more in.
    pub fn add(&mut self, one: impl Reload + 'static) {
        self.0.push(Box::new(one));
    }

    /// Warns of files that can't be read (any more). To be called once privileges are dropped; `user`
    /// is who the service is then.
    pub fn warn_unreadable(&self, user: u32) {
        for path in self.0.iter().flat_map(|one| one.files()) {
            if let Err(error) = File::open(path) {
                let path = path.display();
                tracing::warn!(
                    %path, user, %error,
                    "{path} can't be read by user {user} after the privileges are dropped: a reload \
                     needs a restart, or `chown {user}` and folders that let that user pass"
                );
            }
        }
    }

    /// Reads everything again on each SIGHUP, which from here on does not end the process. Where the
    /// SIGHUP says that the terminal is gone on which the service logs, the service drains instead.
    /// Must be called within a runtime.
    pub fn on_hangup(self, shutdown: Shutdown) -> Result<(), Error> {
        let mut hangup = signal(SignalKind::hangup()).map_err(Error::Signals)?;
        let on_terminal = stdout().is_terminal();
        let reloads = std::sync::Arc::new(self);
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                if on_terminal && !stdout().is_terminal() {
                    shutdown.drain();
                    continue;
                }
                let reloads = std::sync::Arc::clone(&reloads);
                // Files may lie on a disk that takes its time.
                let _ = tokio::task::spawn_blocking(move || reloads.all()).await;
            }
        });
        Ok(())
    }

    /// Reads everything again, each for itself.
    fn all(&self) {
        let mut any = false;
        for one in &self.0 {
            match one.reload() {
                Ok(read) => any |= read,
                Err(error) => {
                    any = true;
                    tracing::error!(%error, "SIGHUP: what was read before stays in force: {error}");
                }
            }
        }
        if !any {
            tracing::info!(
                "SIGHUP: no file of tokens or certificates was named, so that there is nothing to read \
                 again; a token given by CLOISTER_TOKEN changes by a restart alone"
            );
        }
    }
}
