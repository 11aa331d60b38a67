//! A store behind a gate: what comes between it and its user is a test's, a full disk or a network
//! that is cut.

use std::{sync::Arc, time::Duration};

use cloister_api::{Job, Timestamp};
use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::{
    Answer, Backlog, Candidate, Claim, Digest, Epoch, Figures, Keep, Key, Leadership, Message,
    Order, Orders, Page, Piece, Query, Store, StoreClock, StoreError, Stream, Submitted,
    calls::store_calls,
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

/// Whether a call changes anything.
macro_rules! writes {
    (read) => {
        false
    };
    ($other:ident) => {
        true
    };
}

macro_rules! through {
    ($($name:ident($($arg:ident: $type:ty),*) -> $answer:ty, $does:ident;)*) => {
        impl<G: Gate> Store for Gated<G> {
            $(fn $name(&self, $($arg: $type),*) -> Answer<'_, $answer> {
                Box::pin(async move {
                    self.gate.before(writes!($does)).await?;
                    // Not called before: the one in memory does all that it does in the call itself.
                    let answer = self.inner.$name($($arg),*).await;
                    self.gate.after(writes!($does)).await?;
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

store_calls!(through);
