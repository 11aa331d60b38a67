//! What is read, on a few connections that do nothing else.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::{Connection, OptionalExtension, ToSql, params};
use tokio::{sync::Semaphore, task::spawn_blocking};
use uuid::Uuid;

use super::{
    super::{
        Digest, Figures, Orders, Piece, Query, StoreError, Stream,
        output::INLINE,
        record::{Found, Row},
    },
    lock::Lock,
    open_reader,
    write::DRAIN,
};

/// Reads at once. Each takes a thread for as long as it lasts.
pub(super) const READERS: usize = 4;
/// A page ends early when its records take as much, so that a hundred large jobs make no huge answer.
const PAGE_BYTES: usize = 8 << 20;

/// Connections to read by, opened as they are needed.
pub(super) struct Readers {
    path: Arc<Path>,
    turns: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Reader>>>,
    lock: Arc<Lock>,
}

/// A connection to read by. A query may outlast the store, whose lock must outlast the connection.
struct Reader {
    connection: Connection,
    _lock: Arc<Lock>,
}

impl Readers {
    pub(super) fn new(path: Arc<Path>, lock: Arc<Lock>) -> Self {
        Self { path, turns: Arc::new(Semaphore::new(READERS)), idle: Arc::default(), lock }
    }

    /// Has `work` done on a thread where blocking is fine.
    pub(super) async fn call<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let closed = || StoreError::Closed { store: self.path.display().to_string() };
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| closed())?;
        let (path, idle, lock) = (self.path.clone(), self.idle.clone(), self.lock.clone());
        let result = spawn_blocking(move || {
            // The thread's, and not the caller's: who gives up does not end the query.
            let _turn = turn;
            let take = || idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let open = || open_reader(&path).map(|connection| Reader { connection, _lock: lock });
            let reader = take().map_or_else(open, Ok)?;
            let result = work(&reader.connection)?;
            // One that failed is not used again.
            let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push(reader);
            Ok(result)
        });
        let failed = |source: rusqlite::Error| StoreError::Sqlite {
            doing: "reading",
            path: self.path.to_path_buf(),
            cause: Arc::new(source),
        };
        result.await.map_err(|_| closed())?.map_err(failed)
    }
}

/// The columns of [`found`], for a query whose tables are `jobs`, and by a left join `inputs` and
/// `outputs` where they are wanted.
macro_rules! columns {
    ($stdin:literal, $outputs:literal) => {
        concat!(
            "jobs.status, jobs.attempt, jobs.started_at, jobs.not_before, jobs.cancel, ",
            "jobs.runner, jobs.boot_id, jobs.execution_id, jobs.record, ",
            $stdin,
            ", ",
            $outputs,
            ", jobs.job_id, jobs.size"
        )
    };
}
pub(super) use columns;

/// Reads [`columns!`]. A value of another shape than ours makes the row unreadable, and nothing else.
pub(super) fn found(from: &rusqlite::Row<'_>) -> rusqlite::Result<Found> {
    let key = from.get_ref(11)?.as_blob()?;
    // One that is cut short or too long is told as far as it goes.
    let mut id = [0; 16];
    let known = key.len().min(id.len());
    id[..known].copy_from_slice(&key[..known]);
    Ok(Found { id: Uuid::from_bytes(id), row: row(from).map_err(|error| error.to_string()) })
}

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let uuid = |at| -> rusqlite::Result<Option<Uuid>> {
        Ok(row.get::<_, Option<[u8; 16]>>(at)?.map(Uuid::from_bytes))
    };
    Ok(Row {
        status: row.get(0)?,
        attempt: row.get(1)?,
        started_at: row.get(2)?,
        not_before: row.get(3)?,
        cancel: row.get(4)?,
        runner: row.get(5)?,
        boot_id: uuid(6)?,
        execution_id: uuid(7)?,
        record: row.get(8)?,
        stdin: row.get(9)?,
        outputs: row.get(10)?,
        printed: Vec::new(),
        size: row.get(12)?,
    })
}

pub(super) fn get(db: &Connection, job: Uuid) -> rusqlite::Result<Option<Found>> {
    // Both see one state of the database.
    let both = db.unchecked_transaction()?;
    let mut found = both
        .prepare_cached(concat!(
            "SELECT ",
            columns!("inputs.stdin", "outputs.outputs"),
            " FROM jobs LEFT JOIN inputs USING (job_id) LEFT JOIN outputs USING (job_id)
              WHERE jobs.job_id = ?"
        ))?
        .query_row([job.as_bytes()], found)
        .optional()?;
    if let Some(Found { row: Ok(row), .. }) = &mut found {
        row.printed = printed(&both, job)?;
    }
    Ok(found)
}

/// All that a job's attempts printed, if it is little.
fn printed(db: &Connection, job: Uuid) -> rusqlite::Result<Vec<Piece>> {
    let little: bool = db
        .prepare_cached(
            "SELECT coalesce(sum(octet_length(bytes)), 0) <= ? FROM printed WHERE job_id = ?",
        )?
        .query_row(params![INLINE, job.as_bytes()], |row| row.get(0))?;
    if !little {
        return Ok(Vec::new());
    }
    let mut pieces = db.prepare_cached(
        "SELECT attempt, stream, row, bytes FROM printed WHERE job_id = ?
         ORDER BY attempt, stream, row",
    )?;
    let piece = |row: &rusqlite::Row<'_>| {
        let first: i16 = row.get(1)?;
        Ok(Piece {
            job,
            attempt: row.get(0)?,
            stream: if first == Stream::Stdout.number() { Stream::Stdout } else { Stream::Stderr },
            row: row.get(2)?,
            bytes: row.get::<_, Vec<u8>>(3)?.into(),
        })
    };
    pieces.query_map([job.as_bytes()], piece)?.collect()
}

/// One row of what an attempt printed.
pub(super) fn output(
    db: &Connection,
    job: Uuid,
    attempt: u32,
    stream: Stream,
    row: u32,
) -> rusqlite::Result<Option<Vec<u8>>> {
    db.prepare_cached(
        "SELECT bytes FROM printed WHERE job_id = ? AND attempt = ? AND stream = ? AND row = ?",
    )?
    .query_row(params![job.as_bytes(), attempt, stream.number(), row], |row| row.get(0))
    .optional()
}

pub(super) fn find_key(
    db: &Connection,
    tenant: &str,
    key: &str,
) -> rusqlite::Result<Option<(Uuid, Digest)>> {
    key_of(db, tenant, key)
}

/// The job that a key made, and the digest of its request.
pub(super) fn key_of(
    db: &Connection,
    tenant: &str,
    key: &str,
) -> rusqlite::Result<Option<(Uuid, Digest)>> {
    db.prepare_cached("SELECT job_id, digest FROM keys WHERE tenant = ? AND key = ?")?
        .query_row([tenant, key], |row| {
            // One that is damaged is that of no request: its key stays taken.
            let digest = row.get_ref(1)?.as_blob()?.try_into().unwrap_or_default();
            Ok((Uuid::from_bytes(row.get(0)?), digest))
        })
        .optional()
}

/// A page, and whether more follows. Keyset: it costs the same wherever it starts, and jobs that
/// come meanwhile shift nothing.
pub(super) fn list(db: &Connection, query: &Query) -> rusqlite::Result<(Vec<Found>, bool)> {
    let mut sql =
        String::from(concat!("SELECT ", columns!("NULL", "NULL"), " FROM jobs WHERE TRUE"));
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    if let Some(status) = query.status {
        sql.push_str(" AND jobs.status = ?");
        values.push(Box::new(status.as_str()));
    }
    if let Some(reason) = query.reason {
        sql.push_str(" AND jobs.reason = ?");
        values.push(Box::new(reason.as_str()));
    }
    for (name, value) in &query.labels {
        sql.push_str(
            " AND EXISTS (SELECT 1 FROM labels
              WHERE labels.name = ? AND labels.value = ? AND labels.job_id = jobs.job_id)",
        );
        values.push(Box::new(name.clone()));
        values.push(Box::new(value.clone()));
    }
    if let Some(before) = query.before {
        sql.push_str(" AND jobs.job_id < ?");
        values.push(Box::new(before.into_bytes()));
    }
    sql.push_str(" ORDER BY jobs.job_id DESC LIMIT ?");
    values.push(Box::new(count(query.limit.saturating_add(1))));

    let mut statement = db.prepare_cached(&sql)?;
    let mut matching = statement.query(rusqlite::params_from_iter(values))?;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(next) = matching.next()? {
        if rows.len() == query.limit || bytes >= PAGE_BYTES {
            return Ok((rows, true));
        }
        let row = found(next)?;
        bytes += row.size();
        rows.push(row);
    }
    Ok((rows, false))
}

pub(super) fn unfinished(
    db: &Connection,
    after: Option<Uuid>,
    limit: usize,
) -> rusqlite::Result<Vec<Found>> {
    let after = after.map_or([0; 16], Uuid::into_bytes);
    db.prepare_cached(concat!(
        "SELECT ",
        columns!("NULL", "NULL"),
        " FROM jobs WHERE jobs.status IN ('pending', 'running') AND jobs.job_id > ?
          ORDER BY jobs.job_id LIMIT ?"
    ))?
    .query_map(params![after, count(limit)], found)?
    .collect()
}

/// Those that have ended, or are not there.
pub(super) fn ended(db: &Connection, jobs: Vec<Uuid>) -> rusqlite::Result<Vec<Uuid>> {
    let mut live =
        db.prepare_cached("SELECT 1 FROM jobs WHERE job_id = ? AND finished_at IS NULL")?;
    let mut ended = Vec::new();
    for job in jobs {
        if !live.exists([job.as_bytes()])? {
            ended.push(job);
        }
    }
    Ok(ended)
}

pub(super) fn orders(db: &Connection) -> rusqlite::Result<Orders> {
    let mut orders = Orders::default();
    let mut all = db.prepare_cached("SELECT kind, runner, reason FROM orders ORDER BY runner")?;
    let mut rows = all.query([])?;
    while let Some(row) = rows.next()? {
        match row.get_ref(0)?.as_str()? {
            DRAIN => orders.drained.push(row.get(1)?),
            _ => orders.paused = row.get(2)?,
        }
    }
    Ok(orders)
}

/// How full the database is; `log` is what its write-ahead log takes, in bytes.
pub(super) fn figures(db: &Connection, log: u64) -> rusqlite::Result<Figures> {
    let number = |sql: &str| db.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0));
    // By the index alone: a row's size may lie behind megabytes of its record.
    let (pending, pending_size) = db
        .prepare_cached(
            "SELECT count(*), coalesce(sum(size), 0) FROM jobs INDEXED BY jobs_waiting
             WHERE finished_at IS NULL AND execution_id IS NULL",
        )?
        .query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
    let out = number("SELECT count(*) FROM jobs WHERE execution_id IS NOT NULL")?;
    let pages = number("PRAGMA page_count")?.saturating_mul(number("PRAGMA page_size")?);
    Ok(Figures {
        pending: usize::try_from(pending).unwrap_or_default(),
        pending_size: pending_size.unsigned_abs(),
        out: usize::try_from(out).unwrap_or_default(),
        size: u64::try_from(pages).unwrap_or_default() + log,
    })
}

/// A count as SQLite takes it.
pub(super) fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
