//! Waking whoever waits for the inbox.

use std::time::Duration;

use tokio::{sync::Notify, time::timeout};

/// Wakes for those that wait now, and for the next one to wait.
#[derive(Default)]
pub(super) struct News(Notify);

impl News {
    /// Something may have come.
    pub(super) fn tell(&self) {
        self.0.notify_waiters();
        self.0.notify_one();
    }

    /// See [`Store::news`](super::Store::news).
    pub(super) async fn wait(&self, at_most: Duration) {
        // Either way the caller looks.
        let _ = timeout(at_most, self.0.notified()).await;
    }
}
