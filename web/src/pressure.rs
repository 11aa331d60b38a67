//! Tells in the log that connections run short, at a rate that clients do not set.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::sleep;

/// At most one line in this time.
pub(crate) const PERIOD: Duration = Duration::from_secs(10);

/// What was done for want of connections, and is yet to be told of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pressure(Arc<Mutex<Untold>>);

#[derive(Debug, Default)]
struct Untold {
    /// Whether a task waits for the end of a period, to tell of what came in it.
    counting: bool,
    closed: u64,
    refused: u64,
    last: Option<SocketAddr>,
}

impl Pressure {
    /// A connection that waited was closed for one from there. Must be called within a runtime.
    pub(crate) fn closed(&self, peer: SocketAddr) {
        self.note(peer, |untold| untold.closed += 1);
    }

    /// A connection from there got no regular place. Must be called within a runtime.
    pub(crate) fn refused(&self, peer: SocketAddr) {
        self.note(peer, |untold| untold.refused += 1);
    }

    /// The first is told at once, those within a period of a line together.
    fn note(&self, peer: SocketAddr, count: impl FnOnce(&mut Untold)) {
        let mut untold = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        count(&mut untold);
        untold.last = Some(peer);
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
            if untold.closed == 0 && untold.refused == 0 {
                untold.counting = false;
                return;
            }
            untold.tell();
        }
    }
}

impl Untold {
    fn tell(&mut self) {
        let closed = std::mem::take(&mut self.closed);
        let refused = std::mem::take(&mut self.refused);
        let peer = self.last.map(tracing::field::display);
        tracing::warn!(
            peer,
            closed,
            refused,
            "connections run short: idle ones are closed, and others are answered 503"
        );
    }
}
