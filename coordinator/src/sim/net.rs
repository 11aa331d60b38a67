//! What lies between a coordinator and its store, and its runners: a network that delays, cuts in one
//! direction or both, and machines that stand still.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{sync::watch, time::sleep};

use super::nature::Chance;
use crate::store::{StoreError, gated::Gate};

/// What a coordinator waits for that nothing comes from.
const NOTHING: Duration = Duration::from_secs(3);

/// Whom a coordinator talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Party {
    Store,
    Runner(usize),
}

/// Which way nothing gets through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) there: bool,
    pub(super) back: bool,
}

/// See the module.
pub(super) struct Net {
    chance: Chance,
    cuts: Mutex<HashMap<(usize, Party), Cut>>,
    /// The longest that a message takes, in milliseconds.
    pub(super) slowest: AtomicU64,
    /// Whether each coordinator stands still.
    pub(super) stopped: Vec<watch::Sender<bool>>,
    /// Told when a cut is mended.
    pub(super) mended: watch::Sender<()>,
}

impl Net {
    pub(super) fn new(chance: Chance, nodes: usize) -> Self {
        Self {
            chance,
            cuts: Mutex::default(),
            slowest: AtomicU64::new(5),
            stopped: (0..nodes).map(|_| watch::Sender::new(false)).collect(),
            mended: watch::Sender::new(()),
        }
    }

    pub(super) fn cut(&self, node: usize, party: Party, cut: Cut) {
        let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        if cut == Cut::default() {
            cuts.remove(&(node, party));
        } else {
            cuts.insert((node, party), cut);
        }
        drop(cuts);
        self.mended.send_replace(());
    }

    pub(super) fn between(&self, node: usize, party: Party) -> Cut {
        let cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        cuts.get(&(node, party)).copied().unwrap_or_default()
    }

    pub(super) fn mend(&self) {
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.slowest.store(5, Relaxed);
        self.mended.send_replace(());
    }

    /// One message's way.
    pub(super) async fn leg(&self) {
        sleep(Duration::from_millis(self.chance.below(self.slowest.load(Relaxed)))).await;
    }

    /// True at once for a coordinator that goes on; false after it stood still: what it was about to
    /// do then it would have looked at anew.
    pub(super) async fn moving(&self, node: usize) -> bool {
        let mut stopped = self.stopped[node].subscribe();
        let moved = !*stopped.borrow_and_update();
        // The sender lives as long as the network.
        let _ = stopped.wait_for(|stopped| !stopped).await;
        moved
    }
}

/// The way of one coordinator to the store.
pub(super) struct ToStore {
    pub(super) net: std::sync::Arc<Net>,
    pub(super) node: usize,
}

impl ToStore {
    async fn way(&self, cut: impl Fn(Cut) -> bool) -> Result<(), StoreError> {
        // What it had just decided to write when it was stopped it writes when it goes on.
        let moved = self.net.moving(self.node).await || self.net.chance.percent(30);
        self.net.leg().await;
        if cut(self.net.between(self.node, Party::Store)) {
            sleep(NOTHING).await;
        } else if moved {
            return Ok(());
        }
        Err(StoreError::Closed { store: "simulated".into() })
    }
}

impl Gate for ToStore {
    fn before(&self, _writes: bool) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.way(|cut| cut.there))
    }

    fn after(&self, _writes: bool) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.way(|cut| cut.back))
    }
}
