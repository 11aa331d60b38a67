//! The embedded store: SQLite.
//!
//! One thread writes, so that there is never a lock to wait for, and writes that queue up while it
//! waits for the disk share the next commit (`writer`). Reads have connections of their own and see
//! the last commit (WAL). `synchronous=FULL`: a commit that was answered survives the loss of power.

mod read;
mod record;
mod retention;
mod schema;
mod write;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::{Connection, OpenFlags};

use self::{read::Readers, writer::Writer};
use super::{
    Answer, Claim, Digest, Keep, Key, Page, Query, Store, StoreError, Submitted, Unfinished,
};
use cloister_api::{Job, Timestamp};
use uuid::Uuid;

/// See the module.
pub(super) struct Sqlite {
    path: Arc<Path>,
    readers: Readers,
    writer: Writer,
    /// Held as long as the store is open. Dropped last.
    _lock: File,
}

impl Sqlite {
    /// Opens or makes the database at `path`, and its folder.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let lock = lock(path)?;
        let failed = |source: rusqlite::Error| StoreError::Sqlite {
            doing: "opening",
            path: path.into(),
            cause: Arc::new(source),
        };
        let mut connection = Connection::open(path).map_err(failed)?;
        schema::prepare(&mut connection, path)?;
        let shared: Arc<Path> = path.into();
        Ok(Self {
            readers: Readers::new(shared.clone()),
            writer: Writer::start(connection, shared.clone()).map_err(|e| file(path, e))?,
            path: shared,
            _lock: lock,
        })
    }

    fn record_error(&self, source: serde_json::Error) -> StoreError {
        StoreError::Record { path: self.path.to_path_buf(), cause: Arc::new(source) }
    }
}

fn file(path: &Path, source: io::Error) -> StoreError {
    StoreError::File { path: path.into(), cause: Arc::new(source) }
}

/// Makes the file, readable by nobody else (it holds what users send), and locks a file beside it:
/// two coordinators on one embedded store would each run its jobs.
fn lock(path: &Path) -> Result<File, StoreError> {
    let failed = |error| file(path, error);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map_err(failed)?;
    let mut beside = PathBuf::from(path).into_os_string();
    beside.push(".lock");
    let lock = options.open(beside).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: path.into() }),
        Err(TryLockError::Error(error)) => Err(failed(error)),
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
    fn submit(&self, job: Job, key: Option<Key>) -> Answer<'_, Submitted> {
        Box::pin(async move {
            let new = record::New::of(job).map_err(|e| self.record_error(e))?;
            self.writer.call(move |db| write::submit(db, &new, key.as_ref())).await
        })
    }

    fn claim(&self, job: Uuid, claim: Claim) -> Answer<'_, Option<Job>> {
        Box::pin(async move {
            let row = self.writer.call(move |db| write::claim(db, job, &claim)).await?;
            let job = row.map(record::Row::into_job).transpose();
            job.map_err(|e| self.record_error(e))
        })
    }

    fn unclaim(&self, job: Uuid) -> Answer<'_, ()> {
        Box::pin(self.writer.call(move |db| write::unclaim(db, job)))
    }

    fn started(&self, job: Uuid, attempt: u32, at: Timestamp) -> Answer<'_, ()> {
        Box::pin(self.writer.call(move |db| write::started(db, job, attempt, at)))
    }

    fn request_cancel(&self, job: Uuid) -> Answer<'_, ()> {
        Box::pin(self.writer.call(move |db| write::request_cancel(db, job)))
    }

    fn finish(&self, job: Job) -> Answer<'_, ()> {
        Box::pin(async move {
            let changed = record::Changed::of(job).map_err(|e| self.record_error(e))?;
            self.writer.call(move |db| write::finish(db, &changed)).await
        })
    }

    fn retry(&self, job: Job, not_before: Timestamp) -> Answer<'_, ()> {
        Box::pin(async move {
            let changed = record::Changed::of(job).map_err(|e| self.record_error(e))?;
            self.writer.call(move |db| write::retry(db, &changed, not_before)).await
        })
    }

    fn get(&self, job: Uuid) -> Answer<'_, Option<Job>> {
        Box::pin(async move {
            let row = self.readers.call(move |db| read::get(db, job)).await?;
            let job = row.map(record::Row::into_job).transpose();
            job.map_err(|e| self.record_error(e))
        })
    }

    fn find_key(&self, tenant: String, key: String) -> Answer<'_, Option<(Uuid, Digest)>> {
        Box::pin(self.readers.call(move |db| read::find_key(db, &tenant, &key)))
    }

    fn list(&self, query: Query) -> Answer<'_, Page> {
        Box::pin(async move {
            let (rows, more) = self.readers.call(move |db| read::list(db, &query)).await?;
            let jobs = rows.into_iter().map(record::Row::into_job);
            let jobs = jobs.collect::<Result<_, _>>();
            Ok(Page { jobs: jobs.map_err(|e| self.record_error(e))?, more })
        })
    }

    fn unfinished(&self, after: Option<Uuid>, limit: usize) -> Answer<'_, Vec<Unfinished>> {
        Box::pin(async move {
            let rows = self.readers.call(move |db| read::unfinished(db, after, limit)).await?;
            let jobs = rows.into_iter().map(record::Row::into_unfinished);
            let jobs = jobs.collect::<Result<_, _>>();
            jobs.map_err(|e| self.record_error(e))
        })
    }

    fn expire(&self, keep: Keep, now: Timestamp) -> Answer<'_, usize> {
        Box::pin(async move {
            let over = self.readers.call(move |db| retention::over(db, keep, now)).await?;
            if over.is_empty() {
                return Ok(0);
            }
            self.writer.call(move |db| retention::remove(db, &over).map(|()| over.len())).await
        })
    }

    fn probe(&self) -> Answer<'_, ()> {
        Box::pin(self.writer.call(write::probe))
    }
}
