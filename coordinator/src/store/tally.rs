//! How many ended jobs there are, and how much they take, without counting them for each batch that is
//! removed: once, and from then on only what has ended since.
//!
//! Ends have places in an order (`ended_seq`). Those up to one place are counted; the next look adds those
//! behind it, and a removal subtracts what it removed. PostgreSQL may show a place after a higher one,
//! and an operator may remove rows; so all are counted anew now and then, and in each term.

use std::time::Duration;

use tokio::{
    sync::{Mutex, MutexGuard},
    time::Instant,
};

use super::Epoch;

/// After how long all are counted anew.
const RECOUNT: Duration = Duration::from_secs(600);
/// How many are counted by one query, so that none takes long.
pub(super) const CHUNK: usize = 100_000;

/// Ended jobs up to a place in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) number: u64,
    /// Bytes.
    pub(super) size: u64,
    /// The place of the last one.
    pub(super) last: i64,
}

impl Ends {
    /// With a chunk that follows; whether more may.
    pub(super) fn add(&mut self, chunk: Self) -> bool {
        self.number += chunk.number;
        self.size = self.size.saturating_add(chunk.size);
        self.last = self.last.max(chunk.last);
        chunk.number >= CHUNK as u64
    }

    /// Without those that were removed.
    pub(super) fn remove(&mut self, number: u64, size: u64) {
        self.number = self.number.saturating_sub(number);
        self.size = self.size.saturating_sub(size);
    }
}

/// What is counted, in one term.
#[derive(Debug)]
struct Counted {
    epoch: Epoch,
    since: Instant,
    ends: Ends,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<Option<Counted>>);

/// One look. Unless it is [`done`](Self::done), the next one counts anew.
pub(super) struct Look<'a> {
    tally: MutexGuard<'a, Option<Counted>>,
    epoch: Epoch,
    since: Instant,
}

impl Tally {
    /// What is known to begin with.
    pub(super) async fn look(&self, epoch: Epoch) -> (Look<'_>, Ends) {
        let mut tally = self.0.lock().await;
        let fresh = |known: &Counted| known.epoch == epoch && known.since.elapsed() < RECOUNT;
        let known = tally.take().filter(fresh);
        let since = known.as_ref().map_or_else(Instant::now, |known| known.since);
        (Look { tally, epoch, since }, known.map_or_else(Ends::default, |known| known.ends))
    }
}

impl Look<'_> {
    /// What there is now.
    pub(super) fn done(mut self, ends: Ends) {
        *self.tally = Some(Counted { epoch: self.epoch, since: self.since, ends });
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn is_forgotten_by_a_failure_another_term_and_time() {
        let tally = Tally::default();
        let counted = Ends { number: 7, size: 70, last: 9 };
        let known = async |epoch| tally.look(Epoch(epoch)).await;
        known(1).await.0.done(counted);
        let (look, ends) = known(1).await;
        assert_eq!(ends, counted);
        drop(look);
        assert_eq!(known(1).await.1, Ends::default(), "the last look failed");
        known(1).await.0.done(counted);
        assert_eq!(known(2).await.1, Ends::default());
        known(1).await.0.done(counted);
        advance(RECOUNT / 2).await;
        let (look, ends) = known(1).await;
        look.done(ends);
        advance(RECOUNT / 2).await;
        assert_eq!(known(1).await.1, Ends::default());
    }
}
