//! A store whose writes are watched: a disk that hangs answers nothing, neither well nor by an error,
//! and so shows only by how long somebody has waited for it.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cloister_api::{Job, Timestamp};
use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::{
    Answer, Backlog, Candidate, Claim, Digest, Epoch, Figures, Keep, Key, Leadership, Message,
    Order, Orders, Page, Piece, Query, Store, StoreClock, Stream, Submitted, calls::store_calls,
};

/// The writes that have begun and are not over. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Writes {
    under_way: Arc<Mutex<UnderWay>>,
    /// After how long one is late.
    late: Duration,
}

#[derive(Debug, Default)]
struct UnderWay {
    counter: u64,
    /// When each began, in that order.
    begun: BTreeMap<u64, Instant>,
}

/// A write that is under way, until this is dropped.
struct Write<'a> {
    number: u64,
    writes: &'a Writes,
}

impl Writes {
    pub(crate) fn new(late: Duration) -> Self {
        Self { under_way: Arc::default(), late }
    }

    /// For how long the oldest one has been under way, if that is too long.
    pub(crate) fn late(&self) -> Option<Duration> {
        let under_way = self.lock();
        let (_, begun) = under_way.begun.first_key_value()?;
        let age = begun.elapsed();
        (age >= self.late).then_some(age)
    }

    fn begin(&self) -> Write<'_> {
        let mut under_way = self.lock();
        under_way.counter += 1;
        let number = under_way.counter;
        under_way.begun.insert(number, Instant::now());
        Write { number, writes: self }
    }

    /// Waits for a write, and tells in the log of one that takes long and before which no other began.
    async fn watch<T>(&self, doing: &'static str, write: impl Future<Output = T>) -> T {
        let begun = self.begin();
        let mut write = pin!(write);
        if let Ok(done) = timeout(self.late, &mut write).await {
            return done;
        }
        let is_oldest = self.lock().begun.first_key_value().map(|(n, _)| *n) == Some(begun.number);
        if is_oldest {
            tracing::warn!(doing, "the store is slow: nothing is taken in until a write is done");
        }
        write.await
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Write<'_> {
    fn drop(&mut self) {
        self.writes.lock().begun.remove(&self.number);
    }
}

/// See the module.
pub(crate) struct Timed {
    inner: Arc<dyn Store>,
    writes: Writes,
}

impl Timed {
    pub(crate) fn new(inner: Arc<dyn Store>, writes: Writes) -> Self {
        Self { inner, writes }
    }
}

macro_rules! watched {
    ($timed:ident, $name:ident, $call:expr, write) => {
        $timed.writes.watch(stringify!($name), $call).await
    };
    ($timed:ident, $name:ident, $call:expr, $other:ident) => {
        $call.await
    };
}

macro_rules! timed {
    ($($name:ident($($arg:ident: $type:ty),*) -> $answer:ty, $does:ident;)*) => {
        impl Store for Timed {
            $(fn $name(&self, $($arg: $type),*) -> Answer<'_, $answer> {
                Box::pin(async move { watched!(self, $name, self.inner.$name($($arg),*), $does) })
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

store_calls!(timed);

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::advance;

    use super::*;

    const LATE: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn a_write_is_late_until_it_is_over() {
        let writes = Writes::new(LATE);
        assert_eq!(writes.late(), None);
        let first = writes.begin();
        advance(LATE / 2).await;
        let second = writes.begin();
        assert_eq!(writes.late(), None);
        advance(LATE / 2).await;
        assert_eq!(writes.late(), Some(LATE));
        drop(first);
        assert_eq!(writes.late(), None);
        advance(LATE).await;
        assert_eq!(writes.late(), Some(LATE + LATE / 2));
        drop(second);
        assert_eq!(writes.late(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn of_writes_that_hang_one_line_tells() {
        let (lines, _guard) = cloister_tests::Lines::listen();
        let writes = Writes::new(LATE);
        let hang = || timeout(LATE * 2, writes.watch("submit", pending::<()>()));
        let (first, second) = tokio::join!(hang(), hang());
        assert!(first.is_err() && second.is_err());
        assert_eq!(writes.late(), None, "nobody waits any more");
        let told = lines.all("the store is slow: nothing is taken in until a write is done");
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0]["doing"], "submit");
    }
}
