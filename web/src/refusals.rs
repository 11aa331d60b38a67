//! Tells of refused credentials in the log, at a rate that whoever is refused does not set.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::sleep;

/// At most one line in this time.
const PERIOD: Duration = Duration::from_secs(1);

/// Refusals that are yet to be told of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusals(Arc<Mutex<Untold>>);

#[derive(Debug, Default)]
struct Untold {
    /// Whether a task waits for the end of a period, to tell of what came in it.
    counting: bool,
    count: u64,
    last: Option<SocketAddr>,
}

impl Refusals {
    /// One more, from there. The first is told at once, those within a second of a line together.
    /// Must be called within a runtime.
    pub(crate) fn note(&self, peer: Option<SocketAddr>) {
        let mut untold = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        untold.count += 1;
        untold.last = peer;
        if !untold.counting {
            untold.counting = true;
            untold.tell();
            tokio::spawn(self.clone().count());
        }
    }

    /// Tells once a period, until one has passed without any.
    async fn count(self) {
        loop {
            sleep(PERIOD).await;
            let mut untold = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if untold.count == 0 {
                untold.counting = false;
                return;
            }
            untold.tell();
        }
    }
}

impl Untold {
    fn tell(&mut self) {
        let count = std::mem::take(&mut self.count);
        let peer = self.last.map(tracing::field::display);
        tracing::warn!(
            target: "audit",
            peer, token = "none", action = "authenticate", status = 401, count,
            "credentials were refused"
        );
    }
}
