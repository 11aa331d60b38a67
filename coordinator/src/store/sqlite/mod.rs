//! The embedded store: SQLite.
//!
//! One thread writes, so that there is never a lock to wait for, and writes that queue up while it
//! waits for the disk share the next commit (`writer`). Reads have connections of their own and see
//! the last commit (WAL). `synchronous=FULL`: a commit that was answered survives the loss of power.

mod backup;
mod damage;
mod inbox;
mod lease;
mod lock;
mod read;
mod retention;
mod schema;
mod space;
mod wal;
mod write;
mod writer;

#[cfg(test)]
mod tests;

use std::{fs, path::Path, sync::Arc, time::Duration};

use cloister_api::{Job, Timestamp};
use futures_util::future::BoxFuture;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::Mutex;
use uuid::Uuid;

pub(super) use self::backup::backup;
use self::{
    inbox::Kind,
    lease::Lease,
    lock::{Lock, file},
    read::Readers,
    writer::Writer,
};
use super::{
    Answer, Backlog, Candidate, Claim, Digest, Epoch, Figures, Keep, Key, Leadership, Message,
    Order, Orders, Page, Piece, Query, Store, StoreClock, StoreError, Stream, Submitted,
    Unreadable,
    news::News,
    record::{Changed, Found, New, apart},
    tally::Tally,
};

/// See the module.
pub(super) struct Sqlite {
    path: Arc<Path>,
    readers: Readers,
    writer: Writer,
    lease: Lease,
    news: News,
    tally: Tally,
    /// Rows of the inbox that the leader of this term was answered, and are still there.
    handed: Mutex<(Epoch, Vec<i64>)>,
}

impl Sqlite {
    /// Opens or makes the database at `path`, and its folder. One whose log is damaged is refused, unless
    /// that damage was accepted.
    pub(super) fn open(path: &Path, accepted: Option<&str>) -> Result<Self, StoreError> {
        let lock = Arc::new(Lock::take(path)?);
        let damaged = damage::refuse(path, accepted)?.is_some();
        let failed = |source: rusqlite::Error| StoreError::Sqlite {
            doing: "opening",
            path: path.into(),
            cause: Arc::new(source),
        };
        let mut connection = Connection::open(path).map_err(failed)?;
        if damaged {
            damage::check(&connection, path)?;
        }
        schema::prepare(&mut connection, path)?;
        if damaged {
            damage::go_on(&mut connection, path)?;
        }
        backup::recognise(&mut connection).map_err(failed)?;
        let lease = Lease::new(&connection).map_err(failed)?;
        lock.note_log()?;
        let shared: Arc<Path> = path.into();
        Ok(Self {
            readers: Readers::new(shared.clone(), lock.clone()),
            writer: Writer::start(connection, shared.clone(), lock).map_err(|e| file(path, e))?,
            path: shared,
            lease,
            news: News::default(),
            tally: Tally::default(),
            handed: Mutex::new((Epoch(0), Vec::new())),
        })
    }

    /// The one job that was asked for.
    fn only(&self, job: Option<Result<Job, Unreadable>>) -> Result<Option<Job>, StoreError> {
        let store = || self.path.display().to_string();
        let failed =
            |bad: Unreadable| StoreError::Record { store: store(), job: bad.job, why: bad.why };
        job.transpose().map_err(failed)
    }

    /// Has done what only a leader may.
    async fn leading<T, F>(
        &self,
        epoch: Epoch,
        doing: &'static str,
        mut work: F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        // A refusal is an answer like any other: as an error it would undo the others of its commit.
        let answer = self.writer.call(move |db| lease::within(db, epoch, &mut work)).await?;
        answer.map_err(|newest| StoreError::Stale { doing, epoch: epoch.0, newest: newest.0 })
    }

    /// The same for what only reads.
    async fn looking<T, F>(
        &self,
        epoch: Epoch,
        doing: &'static str,
        work: F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let answer = self.readers.call(move |db| lease::within(db, epoch, work)).await?;
        answer.map_err(|newest| StoreError::Stale { doing, epoch: epoch.0, newest: newest.0 })
    }

    /// Gives free space back to the file system, step by step: who writes meanwhile comes in between.
    async fn shrink(&self, epoch: Epoch) -> Result<(), StoreError> {
        const DOING: &str = "giving free space back";
        for _ in 0..space::STEPS {
            let excess = self.looking(epoch, DOING, space::excess).await?;
            if excess == 0 {
                break;
            }
            let pages = excess.min(space::STEP);
            self.leading(epoch, DOING, move |db| space::give_back(db, pages)).await?;
        }
        Ok(())
    }

    async fn take(&self, epoch: Epoch, limit: usize) -> Result<Vec<Message>, StoreError> {
        const DOING: &str = "reading the inbox";
        let mut handed = self.handed.lock().await;
        if handed.0 != epoch {
            *handed = (epoch, Vec::new());
        }
        let found = if handed.1.is_empty() {
            self.looking(epoch, DOING, move |db| inbox::look(db, limit)).await?
        } else {
            let old = handed.1.clone();
            let work = move |db: &Connection| {
                inbox::remove(db, &old)?;
                inbox::look(db, limit)
            };
            self.leading(epoch, DOING, work).await?
        };
        let messages = found.rows.into_iter().map(|(kind, job, row)| match kind {
            Kind::Job => match row.into_unfinished() {
                Ok(found) => Message::Submitted(Box::new(found)),
                Err(unreadable) => Message::Unreadable(unreadable),
            },
            Kind::Cancel => Message::Cancel(job),
        });
        let messages = messages.collect();
        handed.1 = found.seen;
        Ok(messages)
    }
}

/// A connection that only reads.
fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(schema::BUSY)?;
    schema::bound_cache(&connection, schema::READER_CACHE)?;
    Ok(connection)
}

impl Store for Sqlite {
    fn lead(&self, me: Candidate, ttl: Duration) -> Answer<'_, Leadership> {
        Box::pin(self.lease.lead(&self.writer, me, ttl))
    }

    fn resign(&self, epoch: Epoch) -> Answer<'_, ()> {
        Box::pin(async move {
            self.lease.resign(epoch).await;
            Ok(())
        })
    }

    fn submit(&self, job: Job, key: Option<Key>, epoch: Option<Epoch>) -> Answer<'_, Submitted> {
        Box::pin(async move {
            let new = New::of(job)?;
            let work = move |db: &Connection| write::submit(db, &new, key.as_ref(), epoch);
            let made = self.writer.call(work).await?;
            if made == (Submitted::New { taken: false }) {
                self.news.tell();
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
            let weight = all.len();
            let work = move |db: &Connection| write::submit_all(db, &all, key.as_ref(), epoch);
            let made = self.writer.call_for(weight, work).await?;
            if made == (Submitted::New { taken: false }) {
                self.news.tell();
            }
            Ok(made)
        })
    }

    fn request_cancel(&self, job: Uuid, epoch: Option<Epoch>) -> Answer<'_, bool> {
        Box::pin(async move {
            let work = move |db: &Connection| write::request_cancel(db, job, epoch);
            let leads = self.writer.call(work).await?;
            if !leads {
                self.news.tell();
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
            let work = move |db: &Connection| write::claim(db, job, &claim);
            let found = self.leading(epoch, "recording a claim", work).await?;
            self.only(found.map(Found::into_job))
        })
    }

    fn unclaim(&self, epoch: Epoch, job: Uuid) -> Answer<'_, ()> {
        let work = move |db: &Connection| write::unclaim(db, job);
        Box::pin(self.leading(epoch, "taking a claim back", work))
    }

    fn started(&self, epoch: Epoch, job: Uuid, attempt: u32, at: Timestamp) -> Answer<'_, ()> {
        let work = move |db: &Connection| write::started(db, job, attempt, at);
        Box::pin(self.leading(epoch, "recording a start", work))
    }

    fn put_output(&self, epoch: Epoch, piece: Piece) -> Answer<'_, ()> {
        let work = move |db: &Connection| write::put_output(db, &piece);
        Box::pin(self.leading(epoch, "recording output", work))
    }

    fn finish(&self, epoch: Epoch, job: Job, stored_at: Timestamp) -> Answer<'_, ()> {
        Box::pin(async move {
            let changed = Changed::of(job)?;
            let work = move |db: &Connection| write::finish(db, &changed, stored_at);
            self.leading(epoch, "recording an end", work).await
        })
    }

    fn retry(&self, epoch: Epoch, job: Job, not_before: Timestamp) -> Answer<'_, Option<u64>> {
        Box::pin(async move {
            let changed = Changed::of(job)?;
            let work = move |db: &Connection| write::retry(db, &changed, not_before);
            self.leading(epoch, "recording a retry", work).await
        })
    }

    fn unfinished(&self, after: Option<Uuid>, limit: usize) -> Answer<'_, Backlog> {
        Box::pin(async move {
            let rows = self.readers.call(move |db| read::unfinished(db, after, limit)).await?;
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
        Box::pin(self.readers.call(move |db| read::output(db, job, attempt, stream, row)))
    }

    fn get(&self, job: Uuid) -> Answer<'_, Option<Job>> {
        Box::pin(async move {
            let found = self.readers.call(move |db| read::get(db, job)).await?;
            self.only(found.map(Found::into_whole))
        })
    }

    fn find_key(&self, tenant: String, key: String) -> Answer<'_, Option<(Uuid, Digest)>> {
        Box::pin(self.readers.call(move |db| read::find_key(db, &tenant, &key)))
    }

    fn list(&self, query: Query) -> Answer<'_, Page> {
        Box::pin(async move {
            let (rows, more) = self.readers.call(move |db| read::list(db, &query)).await?;
            let last = rows.last().map(|row| row.id);
            let (jobs, unreadable) = apart(rows.into_iter().map(Found::into_listed));
            Ok(Page { jobs, unreadable, last, more })
        })
    }

    fn ended(&self, jobs: Vec<Uuid>) -> Answer<'_, Vec<Uuid>> {
        Box::pin(self.readers.call(move |db| read::ended(db, jobs)))
    }

    fn clock(&self) -> Answer<'_, StoreClock> {
        Box::pin(self.readers.call(retention::clock))
    }

    fn set_clock(&self, epoch: Epoch, clock: StoreClock) -> Answer<'_, ()> {
        let work = move |db: &Connection| retention::set_clock(db, clock);
        Box::pin(self.leading(epoch, "recording the clock", work))
    }

    fn expire(&self, epoch: Epoch, keep: Keep, now: Timestamp) -> Answer<'_, usize> {
        const DOING: &str = "removing old jobs";
        Box::pin(async move {
            let (look, mut there) = self.tally.look(epoch).await;
            while there.add(self.readers.call(move |db| retention::ends(db, there.last)).await?) {}
            let over = move |db: &Connection| retention::over(db, keep, now, there);
            let over = self.looking(epoch, DOING, over).await?;
            if over.is_empty() {
                look.done(there);
                self.shrink(epoch).await?;
                return Ok(0);
            }
            let removed = over.len();
            let work = move |db: &Connection| retention::remove(db, &over, there);
            look.done(self.leading(epoch, DOING, work).await?);
            Ok(removed)
        })
    }

    fn figures(&self) -> Answer<'_, Figures> {
        Box::pin(async move {
            let log = lock::with(&self.path, "-wal");
            self.readers
                .call(move |db| {
                    // It is there while the database is open, but for moments at either end.
                    let log = fs::metadata(&log).map_or(0, |log| log.len());
                    read::figures(db, log)
                })
                .await
        })
    }

    fn order(&self, order: Order) -> Answer<'_, ()> {
        Box::pin(async move {
            self.writer.call(move |db| write::order(db, &order)).await?;
            // So that the leader looks at orders as soon as at jobs.
            self.news.tell();
            Ok(())
        })
    }

    fn orders(&self) -> Answer<'_, Orders> {
        Box::pin(self.readers.call(read::orders))
    }

    fn probe(&self) -> Answer<'_, ()> {
        Box::pin(self.writer.call(write::probe))
    }

    fn is_shared(&self) -> bool {
        // Whoever opens it locks it.
        false
    }
}
