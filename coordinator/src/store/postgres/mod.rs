//! The store that several coordinators share: PostgreSQL, 14 or newer.
//!
//! Whatever is written is one statement, and so one transaction and one round trip (`write`), checked
//! against the leader's term within itself (`lease`). What is promised rests on the database's own
//! durability: an answer comes after its commit, with `synchronous_commit` on.

mod batch;
mod connect;
mod inbox;
mod lease;
mod listen;
mod pooler;
mod read;
mod retention;
mod schema;
mod url;
mod write;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use cloister_api::{Job, Timestamp};
use cloister_web::ClientTls;
use futures_util::future::BoxFuture;
use tokio::sync::Mutex;
use uuid::Uuid;

use self::{
    connect::{Failure, Link, Manager, Session},
    lease::Terms,
    listen::Listener,
    schema::Prepared,
    url::Address,
    write::Led,
};
use super::{
    Answer, Backlog, Candidate, Claim, Digest, Epoch, Figures, Keep, Key, Leadership, Message,
    Order, Orders, Page, Piece, Query, Store, StoreClock, StoreError, Stream, Submitted,
    Unreadable,
    news::News,
    record::{Changed, Found, New, apart},
    tally::Tally,
};

/// What writing is called in errors, where it is nothing special.
const WRITING: &str = "writing";
/// The same of reading.
const READING: &str = "reading";

/// Whether this is the URL of a database that is to be reached by TLS.
pub(super) fn is_encrypted(url: &str) -> bool {
    Address::parse(url).is_ok_and(|address| address.encrypted)
}

/// See the module.
pub(super) struct Postgres {
    link: Link,
    news: Arc<News>,
    tally: Tally,
    terms: Arc<Terms>,
    listener: Listener,
    /// Rows of the inbox that the leader of this term was answered, and are still there.
    handed: Mutex<(Epoch, Vec<i64>)>,
}

impl Postgres {
    /// Connects to the database, and brings it up to date.
    pub(super) async fn open(url: &str, tls: Option<&ClientTls>) -> Result<Self, StoreError> {
        let address = Address::parse(url)?;
        if address.is_exposed() {
            tracing::warn!(
                store = address.store,
                "what is kept there, and the password, travel in clear: whoever sees the network can \
                 read them; sslmode=verify-full in its URL encrypts"
            );
        }
        let plain = Manager::of(&address, tls)?;
        let Prepared { settings, terms } = schema::prepare(&plain, &address.store).await?;
        let manager = || settings.iter().fold(plain.clone(), |manager, set| manager.with(set));
        let news = Arc::new(News::default());
        Ok(Self {
            link: Link::new(address.store.clone(), manager)?,
            listener: Listener::start(manager(), Arc::clone(&news)),
            news,
            tally: Tally::default(),
            terms: Arc::new(terms),
            handed: Mutex::new((Epoch(0), Vec::new())),
        })
    }

    /// The one job that was asked for.
    fn only(&self, job: Option<Result<Job, Unreadable>>) -> Result<Option<Job>, StoreError> {
        let store = || self.link.store.clone();
        let failed =
            |bad: Unreadable| StoreError::Record { store: store(), job: bad.job, why: bad.why };
        job.transpose().map_err(failed)
    }

    /// Has done what only a leader may.
    async fn leading<T, F>(
        &self,
        epoch: Epoch,
        doing: &'static str,
        work: F,
    ) -> Result<T, StoreError>
    where
        F: for<'c> FnOnce(&'c Session) -> BoxFuture<'c, Result<Led<T>, Failure>> + Send,
    {
        let answer = self.link.call(WRITING, work).await?;
        answer.map_err(|newest| StoreError::Stale { doing, epoch: epoch.0, newest: newest.0 })
    }

    /// Tells whoever waits for the inbox, here and elsewhere.
    fn tell(&self) {
        self.news.tell();
        self.listener.tell_others();
    }

    async fn take(&self, epoch: Epoch, limit: usize) -> Result<Vec<Message>, StoreError> {
        let mut handed = self.handed.lock().await;
        if handed.0 != epoch {
            *handed = (epoch, Vec::new());
        }
        let had = handed.1.clone();
        let found = self
            .leading(epoch, "reading the inbox", move |session| {
                Box::pin(async move { inbox::take(session, epoch, &had, limit).await })
            })
            .await?;
        let seen = found.iter().map(|found| found.seq).collect();
        let messages = found.into_iter().map(|found| {
            if !found.new {
                return Message::Cancel(found.job);
            }
            match found.row.into_unfinished() {
                Ok(job) => Message::Submitted(Box::new(job)),
                Err(unreadable) => Message::Unreadable(unreadable),
            }
        });
        let messages = messages.collect();
        handed.1 = seen;
        Ok(messages)
    }
}

impl Store for Postgres {
    fn lead(&self, me: Candidate, ttl: Duration) -> Answer<'_, Leadership> {
        let terms = Arc::clone(&self.terms);
        Box::pin(self.link.call_first("asking for the lead of", move |session| {
            Box::pin(async move { lease::lead(session, &terms, &me, ttl).await })
        }))
    }

    fn resign(&self, epoch: Epoch) -> Answer<'_, ()> {
        Box::pin(self.link.call_first("giving back the lead of", move |session| {
            Box::pin(lease::resign(session, epoch))
        }))
    }

    fn submit(&self, job: Job, key: Option<Key>, epoch: Option<Epoch>) -> Answer<'_, Submitted> {
        Box::pin(async move {
            let new = New::of(job)?;
            let made = self
                .link
                .call(WRITING, move |session| {
                    Box::pin(async move { write::submit(session, &new, key.as_ref(), epoch).await })
                })
                .await?;
            if made == (Submitted::New { taken: false }) {
                self.tell();
            }
            Ok(made)
        })
    }

    fn submit_all(
        &self,
        jobs: Vec<Job>,
        key: Option<Key>,
        epoch: Option<Epoch>,
    ) -> Answer<'_, Submitted<Vec<Uuid>>> {
        Box::pin(async move {
            let all = jobs.into_iter().map(New::of).collect::<Result<Vec<_>, _>>()?;
            let made = self
                .link
                .call(WRITING, move |session| {
                    Box::pin(async move { batch::submit(session, &all, key.as_ref(), epoch).await })
                })
                .await?;
            if made == (Submitted::New { taken: false }) {
                self.tell();
            }
            Ok(made)
        })
    }

    fn request_cancel(&self, job: Uuid, epoch: Option<Epoch>) -> Answer<'_, bool> {
        Box::pin(async move {
            let leads = self
                .link
                .call(WRITING, move |session| Box::pin(write::request_cancel(session, job, epoch)))
                .await?;
            if !leads {
                self.tell();
            }
            Ok(leads)
        })
    }

    fn inbox(&self, epoch: Epoch, limit: usize) -> Answer<'_, Vec<Message>> {
        Box::pin(self.take(epoch, limit))
    }

    fn news(&self, at_most: Duration) -> BoxFuture<'_, ()> {
        Box::pin(self.news.wait(at_most))
    }

    fn claim(&self, epoch: Epoch, job: Uuid, claim: Claim) -> Answer<'_, Option<Job>> {
        Box::pin(async move {
            let row = self
                .leading(epoch, "recording a claim", move |session| {
                    Box::pin(async move { write::claim(session, epoch, job, &claim).await })
                })
                .await?;
            self.only(row.map(Found::into_job))
        })
    }

    fn unclaim(&self, epoch: Epoch, job: Uuid) -> Answer<'_, ()> {
        Box::pin(self.leading(epoch, "taking a claim back", move |session| {
            Box::pin(write::unclaim(session, epoch, job))
        }))
    }

    fn started(&self, epoch: Epoch, job: Uuid, attempt: u32, at: Timestamp) -> Answer<'_, ()> {
        Box::pin(self.leading(epoch, "recording a start", move |session| {
            Box::pin(write::started(session, epoch, job, attempt, at))
        }))
    }

    fn put_output(&self, epoch: Epoch, piece: Piece) -> Answer<'_, ()> {
        Box::pin(self.leading(epoch, "recording output", move |session| {
            Box::pin(async move { write::put_output(session, epoch, &piece).await })
        }))
    }

    fn finish(&self, epoch: Epoch, job: Job, stored_at: Timestamp) -> Answer<'_, ()> {
        Box::pin(async move {
            let changed = Changed::of(job)?;
            self.leading(epoch, "recording an end", move |session| {
                Box::pin(async move { write::finish(session, epoch, &changed, stored_at).await })
            })
            .await
        })
    }

    fn retry(&self, epoch: Epoch, job: Job, not_before: Timestamp) -> Answer<'_, Option<u64>> {
        Box::pin(async move {
            let changed = Changed::of(job)?;
            self.leading(epoch, "recording a retry", move |session| {
                Box::pin(async move { write::retry(session, epoch, &changed, not_before).await })
            })
            .await
        })
    }

    fn unfinished(&self, after: Option<Uuid>, limit: usize) -> Answer<'_, Backlog> {
        Box::pin(async move {
            // Whoever asks wants to know of all that there is, and will be without him.
            self.link.settle().await?;
            let rows = self
                .link
                .call(READING, move |session| Box::pin(read::unfinished(session, after, limit)))
                .await?;
            let last = rows.last().map(|row| row.id);
            let (jobs, unreadable) = apart(rows.into_iter().map(Found::into_unfinished));
            Ok(Backlog { jobs, unreadable, last })
        })
    }

    fn output(
        &self,
        job: Uuid,
        attempt: u32,
        stream: Stream,
        row: u32,
    ) -> Answer<'_, Option<Vec<u8>>> {
        Box::pin(self.link.call(READING, move |session| {
            Box::pin(read::output(session, job, attempt, stream, row))
        }))
    }

    fn get(&self, job: Uuid) -> Answer<'_, Option<Job>> {
        Box::pin(async move {
            let row =
                self.link.call(READING, move |session| Box::pin(read::get(session, job))).await?;
            self.only(row.map(Found::into_whole))
        })
    }

    fn find_key(&self, tenant: String, key: String) -> Answer<'_, Option<(Uuid, Digest)>> {
        Box::pin(self.link.call(READING, move |session| {
            Box::pin(async move { read::find_key(session, &tenant, &key).await })
        }))
    }

    fn list(&self, query: Query) -> Answer<'_, Page> {
        Box::pin(async move {
            let (rows, more) = self
                .link
                .call(READING, move |session| {
                    Box::pin(async move { read::list(session, &query).await })
                })
                .await?;
            let last = rows.last().map(|row| row.id);
            let (jobs, unreadable) = apart(rows.into_iter().map(Found::into_listed));
            Ok(Page { jobs, unreadable, last, more })
        })
    }

    fn ended(&self, jobs: Vec<Uuid>) -> Answer<'_, Vec<Uuid>> {
        Box::pin(self.link.call(READING, move |session| {
            Box::pin(async move { read::ended(session, &jobs).await })
        }))
    }

    fn clock(&self) -> Answer<'_, StoreClock> {
        Box::pin(self.link.call(READING, |session| Box::pin(read::clock(session))))
    }

    fn set_clock(&self, epoch: Epoch, clock: StoreClock) -> Answer<'_, ()> {
        Box::pin(self.leading(epoch, "recording the clock", move |session| {
            Box::pin(write::set_clock(session, epoch, clock))
        }))
    }

    fn expire(&self, epoch: Epoch, keep: Keep, now: Timestamp) -> Answer<'_, usize> {
        Box::pin(async move {
            let (look, mut there) = self.tally.look(epoch).await;
            let newer = |after| {
                self.link.call(READING, move |session| Box::pin(retention::ends(session, after)))
            };
            while there.add(newer(there.last).await?) {}
            let removed = self
                .leading(epoch, "removing old jobs", move |session| {
                    Box::pin(retention::expire(session, epoch, keep, now, there))
                })
                .await?;
            there.remove(removed.counted, removed.size);
            look.done(there);
            Ok(removed.number)
        })
    }

    fn figures(&self) -> Answer<'_, Figures> {
        Box::pin(self.link.call(READING, |session| Box::pin(read::figures(session))))
    }

    fn order(&self, order: Order) -> Answer<'_, ()> {
        Box::pin(async move {
            self.link
                .call(WRITING, move |session| {
                    Box::pin(async move { write::order(session, &order).await })
                })
                .await?;
            // So that the leader looks at orders as soon as at jobs.
            self.tell();
            Ok(())
        })
    }

    fn orders(&self) -> Answer<'_, Orders> {
        Box::pin(self.link.call(READING, |session| Box::pin(read::orders(session))))
    }

    fn probe(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            self.link.settle().await?;
            self.link.call(WRITING, |session| Box::pin(write::probe(session))).await
        })
    }

    fn is_shared(&self) -> bool {
        true
    }
}
