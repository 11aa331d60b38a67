//! Requests that are held open until something happens, apart from the others: they may take hours of
//! a connection together and cost nothing else, and must leave connections for those that ask and go.

use std::sync::Arc;

use cloister_api::{Kind, Problem};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// After how many seconds a refused client may come again.
const COME_AGAIN: u64 = 5;

/// How many requests may wait. Clones share the number.
#[derive(Clone, Debug)]
pub struct Waiters(Arc<Semaphore>);

impl Waiters {
    /// At most so many at once.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))))
    }

    /// One more, until the answer is dropped; `503` where there are as many as may be.
    pub fn enter(&self) -> Result<Waiting, Problem> {
        Arc::clone(&self.0).try_acquire_owned().map(Waiting).map_err(|_| {
            let detail = "as many requests wait as may; ask without waiting, or try again later";
            Problem::new(Kind::Unavailable, detail).retry_after(COME_AGAIN)
        })
    }
}

/// A request that waits.
#[derive(Debug)]
pub struct Waiting(#[expect(dead_code, reason = "held to be dropped")] OwnedSemaphorePermit);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_beyond_the_number_are_refused_until_one_has_left() {
        let waiters = Waiters::new(1);
        let first = waiters.enter().unwrap();
        let refused = waiters.clone().enter().unwrap_err();
        assert_eq!((refused.status, refused.retry_after), (503, Some(5)));
        drop(first);
        assert!(waiters.enter().is_ok());
    }
}
