//! Doing little while there is little to do.
//!
//! What is looked at every second or two while jobs come and go is looked at rarely while none do: each
//! look wakes the machine's CPU. Whoever rests so is woken by what happens here (`stir`), and so this
//! is only for what nobody else can change unheard.

use std::time::Duration;

use tokio::{
    sync::watch::Receiver,
    time::{sleep, timeout},
};

use super::Engine;
use crate::scheduler::Event;

/// How long one that rests does so at most.
pub(super) const STILL: Duration = Duration::from_secs(60);

impl Engine {
    /// Tells those who rest, if it is something that they should look at.
    pub(super) fn stir(&self, event: &Event) {
        if matches!(event, Event::Submitted(_) | Event::Resumed { .. } | Event::Recorded { .. }) {
            self.stirred.send_replace(());
        }
    }

    /// Changes when jobs come and go.
    pub(crate) fn stirs(&self) -> Receiver<()> {
        self.stirred.subscribe()
    }

    /// Whether this process leads, and nobody has anything to do for it.
    pub(crate) fn is_quiet(&self) -> bool {
        self.mandate().is_some() && self.read(|scheduler| scheduler.leads() && scheduler.len() == 0)
    }

    /// Returns after `pause` at the earliest; then, where nobody else uses the store, once something
    /// happened since the last time.
    pub(super) async fn rest(&self, pause: Duration, stirs: &mut Receiver<()>) {
        sleep(pause).await;
        if !self.store.is_shared() {
            // The sender is the engine's own, and lives as long.
            let _ = timeout(STILL, stirs.changed()).await;
        }
    }
}
