//! A store behind a gate: what comes between it and its user is a test's, a full disk or a network
//! that is cut.

use std::{sync::Arc, time::Duration};

use cloister_api::{Job, Timestamp};
use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::{
    Answer, Backlog, Candidate, Claim, Digest, Epoch, Figures, Keep, Key, Leadership, Message,
    Order, Orders, Page, Query, Store, StoreClock, StoreError, Submitted,
};

/// Lets calls through, or not.
pub(crate) trait Gate: Send + Sync {
    /// Before a call gets to the store.
    fn before(&self, writes: bool) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Before its answer gets to the caller.
    fn after(&self, writes: bool) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// See the module.
pub(crate) struct Gated<G> {
    pub(crate) inner: Arc<dyn Store>,
    pub(crate) gate: G,
}

/// Each call by its name, its arguments, its answer, and whether it writes.
macro_rules! through {
    ($($name:ident($($arg:ident: $type:ty),*) -> $answer:ty, $writes:literal;)*) => {
        impl<G: Gate> Store for Gated<G> {
            $(fn $name(&self, $($arg: $type),*) -> Answer<'_, $answer> {
                Box::pin(async move {
                    self.gate.before($writes).await?;
                    // Not called before: the one in memory does all that it does in the call itself.
                    let answer = self.inner.$name($($arg),*).await;
                    self.gate.after($writes).await?;
                    answer
                })
            })*

            fn is_shared(&self) -> bool {
                self.inner.is_shared()
            }

            fn news(&self, at_most: Duration) -> BoxFuture<'_, ()> {
                self.inner.news(at_most)
            }
        }
    };
}

through! {
    lead(me: Candidate, ttl: Duration) -> Leadership, false;
    resign(epoch: Epoch) -> (), true;
    submit(job: Job, key: Option<Key>, epoch: Option<Epoch>) -> Submitted, true;
    submit_all(jobs: Vec<Job>, key: Option<Key>, epoch: Option<Epoch>) -> Submitted<Vec<Uuid>>, true;
    request_cancel(job: Uuid, epoch: Option<Epoch>) -> bool, true;
    inbox(epoch: Epoch, limit: usize) -> Vec<Message>, true;
    claim(epoch: Epoch, job: Uuid, claim: Claim) -> Option<Job>, true;
    unclaim(epoch: Epoch, job: Uuid) -> (), true;
    started(epoch: Epoch, job: Uuid, attempt: u32, at: Timestamp) -> (), true;
    finish(epoch: Epoch, job: Job, stored_at: Timestamp) -> (), true;
    retry(epoch: Epoch, job: Job, not_before: Timestamp) -> (), true;
    unfinished(after: Option<Uuid>, limit: usize) -> Backlog, false;
    get(job: Uuid) -> Option<Job>, false;
    find_key(tenant: String, key: String) -> Option<(Uuid, Digest)>, false;
    list(query: Query) -> Page, false;
    ended(jobs: Vec<Uuid>) -> Vec<Uuid>, false;
    clock() -> StoreClock, false;
    set_clock(epoch: Epoch, clock: StoreClock) -> (), true;
    expire(epoch: Epoch, keep: Keep, now: Timestamp) -> usize, true;
    figures() -> Figures, false;
    order(order: Order) -> (), true;
    orders() -> Orders, false;
    probe() -> (), true;
}
