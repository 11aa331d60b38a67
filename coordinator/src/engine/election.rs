//! Who leads: asked of the store about once a second, by every coordinator that shares it.
//!
//! The lease is a row of the store, in the store's own time. What this process may conclude from it
//! follows from its own clock alone, and errs on the safe side: it was the leader from the moment at
//! which it *asked* on, for the lease's length. After that it tells no runner anything until it was
//! confirmed anew, while what it had begun goes on: a store that is away for a while ends no job.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use super::{Engine, Term};
use crate::{
    scheduler::Scheduler,
    store::{Leadership, StoreError},
};

/// How long the leader's lease lasts, and so about the longest time without a leader.
pub(crate) const LEADER_LEASE: Duration = Duration::from_secs(5);
/// How often it is renewed, and how often others look whether it has run out.
const RENEW: Duration = Duration::from_secs(1);
/// The same of a store that nobody else uses: there is nobody who could lead in its place.
const LONE_LEASE: Duration = Duration::from_secs(60);
/// How often that is renewed.
const LONE_RENEW: Duration = Duration::from_secs(15);
/// What a store may take to answer; beyond it the next question is asked.
const ANSWER: Duration = Duration::from_secs(3);
/// How long one that drains gives others to take the lease: each asks about once a second.
const YIELD: Duration = Duration::from_millis(2_500);
/// What runners may take to say whether they take what they were just sent, when it is given back.
const ANSWERED: Duration = Duration::from_secs(1);
/// What giving it back may take.
const RESIGN: Duration = Duration::from_secs(1);

impl Engine {
    /// Asks who leads, and acts on it, until the engine ends.
    pub(crate) async fn campaign(self: Arc<Self>) {
        loop {
            if !*self.retired.borrow() {
                self.ask_who_leads().await;
            }
            // Candidates that were started together should not ask together for ever.
            let lone = !self.store.is_shared() && self.mandate().is_some();
            let pause = if lone { LONE_RENEW } else { RENEW };
            let pause = pause.mul_f64(0.9 + 0.2 * self.world.fraction());
            tokio::select! {
                biased;
                () = sleep(pause) => {}
                () = self.elect.notified() => {}
            }
        }
    }

    async fn ask_who_leads(self: &Arc<Self>) {
        let asked = Instant::now();
        let lease = if self.store.is_shared() { LEADER_LEASE } else { LONE_LEASE };
        match timeout(ANSWER, self.store.lead(self.me.clone(), lease)).await {
            Ok(Ok(found)) => self.found(&found, asked + lease),
            Ok(Err(error @ StoreError::Stale { .. })) => {
                tracing::debug!(%error, "asking who leads");
            }
            Ok(Err(error)) => self.store_failed(&error),
            Err(_) => tracing::warn!("the store does not say who leads, within {ANSWER:?}"),
        }
    }

    fn found(self: &Arc<Self>, found: &Leadership, valid_until: Instant) {
        if *self.retired.borrow() {
            return;
        }
        self.leader.send_replace(Some(found.clone()));
        if found.leader.id == self.me.id {
            self.led(found, valid_until);
        } else {
            self.not_led(Some(&found.leader));
        }
    }

    /// Who leads, as far as is known.
    pub(crate) fn leader(&self) -> Option<Leadership> {
        self.leader.borrow().clone()
    }

    /// Lets another one lead, if there is one that does. Returns when one does, or when this one leads
    /// again and has taken up what there is.
    pub(super) async fn hand_over(self: &Arc<Self>) {
        self.retired.send_replace(true);
        let Some(term) = self.state().term() else {
            // It had nothing to hand over, and takes nothing over.
            return;
        };
        // Whoever leads next could not tell what was just sent and never came from what began and was lost.
        let _ = timeout(ANSWERED, self.all_answered(term)).await;
        self.not_led(None);
        self.resign(term).await;
        sleep(YIELD).await;
        self.retired.send_replace(false);
        self.ask_who_leads().await;
        let mut changes = self.validity.subscribe();
        while self.state().term().is_some() && !self.read(Scheduler::leads) {
            // The sender is the engine's own, and lives as long.
            let _ = changes.changed().await;
        }
        if self.state().term().is_none() {
            self.retired.send_replace(true);
        }
    }

    /// Gives the lease back. That is a courtesy: it runs out by itself.
    pub(super) async fn resign(&self, term: Term) {
        if let Ok(Err(error)) = timeout(RESIGN, self.store.resign(term.epoch)).await {
            tracing::debug!(%error, "the leader's lease was not given back");
        }
    }
}
