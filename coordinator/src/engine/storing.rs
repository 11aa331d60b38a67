//! The store from the engine's point of view: what has happened is written until it is written, and a
//! store that fails is asked until it is back.

use std::{future::pending, sync::Arc};

use cloister_api::Job;
use tokio::time::sleep;
use uuid::Uuid;

use super::{Engine, PROBE, Term};
use crate::{
    scheduler::Event,
    store::{Answer, StoreError},
};

impl Engine {
    /// Does something with the store, in a term, until it succeeds: what has happened can't be
    /// refused, only be recorded later. Nothing new is dispatched meanwhile, so that what waits here
    /// is bounded by the runners' slots. Does not return once the term is over: the next leader sees
    /// to it, and whoever waits here ends with the term.
    pub(crate) async fn persist<'a, T>(
        self: &'a Arc<Self>,
        term: Term,
        doing: impl Fn() -> Answer<'a, T>,
    ) -> T {
        loop {
            match doing().await {
                Ok(done) => return done,
                Err(StoreError::Stale { .. }) => {
                    self.doubt(term);
                    return pending().await;
                }
                Err(error) => {
                    self.store_failed(&error);
                    let mut failure = self.store_failure.subscribe();
                    // The sender is the engine's own, and lives as long.
                    let _ = failure.wait_for(Option::is_none).await;
                }
            }
        }
    }

    /// A job from the store, as soon as the store can be read; `None` where there is none that can.
    pub(crate) async fn fetch(self: &Arc<Self>, term: Term, id: Uuid) -> Option<Job> {
        self.persist(term, || {
            Box::pin(async move {
                match self.store.get(id).await {
                    Err(error) if self.is_unreadable(&error) => Ok(None),
                    answer => answer,
                }
            })
        })
        .await
    }

    /// The same where the store may refuse what it is to store: that is an answer, for another try would
    /// be refused too, and no failure of the store.
    pub(crate) async fn persist_unless_refused<'a, T>(
        self: &'a Arc<Self>,
        term: Term,
        doing: impl Fn() -> Answer<'a, T>,
    ) -> Result<T, StoreError>
    where
        T: Send + 'a,
    {
        self.persist(term, || {
            let answer = doing();
            Box::pin(async move {
                match answer.await {
                    Err(error) if error.is_of_data() => Ok(Err(error)),
                    answer => answer.map(Ok),
                }
            })
        })
        .await
    }

    /// The store failed: nothing is dispatched until a probe succeeds. A record that cannot be read, or
    /// written, is no failure of the store.
    pub(crate) fn store_failed(self: &Arc<Self>, error: &StoreError) {
        if self.is_unreadable(error) || error.is_of_data() {
            return;
        }
        let why = error.to_string();
        let first = self.store_failure.send_replace(Some(why.clone())).is_none();
        self.apply(Event::StoreFailed(why));
        if first {
            tracing::error!(%error, "the store failed; nothing is dispatched until it is back");
            self.spawn(Arc::clone(self).probe());
        }
    }

    async fn probe(self: Arc<Self>) {
        loop {
            sleep(PROBE).await;
            match self.store.probe().await {
                Ok(()) => break,
                Err(error) => {
                    self.store_failure.send_replace(Some(error.to_string()));
                }
            }
        }
        tracing::info!("the store is back");
        // A write that was answered by an error may have been done.
        self.rescan.notify_one();
        self.store_failure.send_replace(None);
        self.apply(Event::StoreBack);
    }

    /// Why nothing can be taken in, if the store is the reason: it fails, or is silent for too long.
    pub(crate) fn store_trouble(&self) -> Option<String> {
        self.store_failure().or_else(|| self.store_late())
    }

    /// Why nothing can be taken in, if the store neither does what it was told nor fails.
    pub(super) fn store_late(&self) -> Option<String> {
        let seconds = self.writes.late()?.as_secs_f64();
        Some(format!(
            "the store has been busy with a write for {seconds:.1} s; look at its disk, or at the database"
        ))
    }

    /// Why the store takes no writes, if so.
    pub(crate) fn store_failure(&self) -> Option<String> {
        self.store_failure.borrow().clone()
    }
}
