//! The tables, and how an older database becomes one of today's.

use std::{path::Path, sync::Arc, time::Duration};

use rusqlite::{Connection, TransactionBehavior};
use uuid::Uuid;

use super::{super::StoreError, space};

/// How long a connection waits for another one's lock: for a checkpoint, or an operator's `sqlite3`.
pub(super) const BUSY: Duration = Duration::from_secs(5);

/// What the connection that writes keeps of the database in memory, in KiB: the ends of its trees, to
/// which nearly everything goes, take far less. SQLite's own choice is 2000 for each connection.
pub(super) const WRITER_CACHE: i64 = 1024;

/// What each that reads keeps, in KiB: it lasts until the next commit, and is seldom read twice.
pub(super) const READER_CACHE: i64 = 256;

/// Bounds what a connection keeps in memory, in KiB.
pub(super) fn bound_cache(connection: &Connection, size: i64) -> rusqlite::Result<()> {
    // Positive numbers are pages.
    connection.pragma_update(None, "cache_size", -size)
}

/// "Cell", in a field of the file's header that SQLite leaves to applications.
pub(super) const APPLICATION_ID: i64 = 0x4365_6c6c;

/// Each brings the schema from its index to the next version, `user_version`. What was released is
/// never changed, only followed by another.
const MIGRATIONS: [&str; 4] = [FIRST, SECOND, THIRD, FOURTH];

/// The version that has terms, and an id of its own.
const TERMS: i64 = 2;

pub(super) const FIRST: &str = "
    CREATE TABLE jobs (
        job_id BLOB PRIMARY KEY,
        tenant TEXT NOT NULL DEFAULT '',
        status TEXT NOT NULL,
        reason TEXT,
        attempt INTEGER NOT NULL,
        started_at INTEGER,
        finished_at INTEGER,
        not_before INTEGER,
        cancel INTEGER NOT NULL DEFAULT 0,
        runner TEXT,
        boot_id BLOB,
        execution_id BLOB,
        -- The job as JSON, without what it reads and prints.
        record TEXT NOT NULL
    ) STRICT;
    CREATE INDEX jobs_by_status ON jobs (status, job_id);
    CREATE INDEX jobs_by_reason ON jobs (reason, job_id) WHERE reason IS NOT NULL;
    CREATE INDEX jobs_by_end ON jobs (finished_at, job_id) WHERE finished_at IS NOT NULL;

    CREATE TABLE inputs (job_id BLOB PRIMARY KEY, stdin TEXT NOT NULL) STRICT;
    CREATE TABLE outputs (job_id BLOB PRIMARY KEY, outputs TEXT NOT NULL) STRICT;

    CREATE TABLE keys (
        tenant TEXT NOT NULL,
        key TEXT NOT NULL,
        digest BLOB NOT NULL,
        job_id BLOB NOT NULL,
        PRIMARY KEY (tenant, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX keys_by_job ON keys (job_id);

    CREATE TABLE labels (
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        job_id BLOB NOT NULL,
        PRIMARY KEY (name, value, job_id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX labels_by_job ON labels (job_id);

    -- Written to find out whether writing works.
    CREATE TABLE probe (id INTEGER PRIMARY KEY CHECK (id = 0), count INTEGER NOT NULL) STRICT;
    INSERT INTO probe VALUES (0, 0);
";

/// Terms, what others than the leader take in, what operators decide, and what jobs take of the disk.
pub(super) const SECOND: &str = "
    CREATE TABLE leadership (
        id INTEGER PRIMARY KEY CHECK (id = 0),
        cluster BLOB NOT NULL,
        epoch INTEGER NOT NULL,
        -- Who has or had that term: made anew at each start, and a name for a person.
        leader BLOB,
        name TEXT,
        -- When this file was copied from a coordinator's, until the copy is opened: milliseconds.
        copied_at INTEGER
    ) STRICT;

    CREATE TABLE inbox (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        -- 'job' or 'cancel'.
        kind TEXT NOT NULL,
        job_id BLOB NOT NULL,
        UNIQUE (job_id, kind)
    ) STRICT;

    CREATE TABLE orders (
        -- 'drain', with the runner's name, or 'pause', with none.
        kind TEXT NOT NULL,
        runner TEXT NOT NULL,
        reason TEXT,
        PRIMARY KEY (kind, runner)
    ) STRICT, WITHOUT ROWID;

    -- Bytes of the record, and of what the job reads and prints.
    ALTER TABLE jobs ADD COLUMN size INTEGER NOT NULL DEFAULT 0;
    UPDATE jobs SET size = octet_length(record)
        + coalesce((SELECT octet_length(stdin) FROM inputs WHERE inputs.job_id = jobs.job_id), 0)
        + coalesce((SELECT octet_length(outputs) FROM outputs WHERE outputs.job_id = jobs.job_id), 0);
    DROP INDEX jobs_by_end;
    CREATE INDEX jobs_by_end ON jobs (finished_at, job_id, size) WHERE finished_at IS NOT NULL;
    CREATE INDEX jobs_out ON jobs (job_id) WHERE execution_id IS NOT NULL;
";

/// The order in which ends were stored, and when, by the coordinator: a runner's clock may be wrong. What
/// had ended before is as old as it was.
const THIRD: &str = "
    ALTER TABLE jobs ADD COLUMN ended_seq INTEGER;
    -- Milliseconds.
    ALTER TABLE jobs ADD COLUMN stored_at INTEGER;
    UPDATE jobs SET ended_seq = ends.seq, stored_at = finished_at
        FROM (SELECT job_id, row_number() OVER (ORDER BY finished_at, job_id) AS seq
              FROM jobs WHERE finished_at IS NOT NULL) AS ends
        WHERE ends.job_id = jobs.job_id;
    DROP INDEX jobs_by_end;
    CREATE INDEX jobs_by_end ON jobs (ended_seq, size) WHERE ended_seq IS NOT NULL;
    CREATE INDEX jobs_by_age ON jobs (stored_at) WHERE stored_at IS NOT NULL;

    -- When ended jobs were last looked through, by the clock of who did; and by how much that clock is
    -- ahead of the time that has passed, until which time: milliseconds.
    CREATE TABLE retention (
        id INTEGER PRIMARY KEY CHECK (id = 0),
        seen_at INTEGER,
        ahead INTEGER NOT NULL,
        until INTEGER NOT NULL
    ) STRICT;
    INSERT INTO retention VALUES (0, NULL, 0, 0);

    -- What waits, and how much that is, by an index alone.
    CREATE INDEX jobs_waiting ON jobs (size) WHERE finished_at IS NULL AND execution_id IS NULL;
";

/// What jobs print, as rows of bytes: see `store::output`. The table `outputs` keeps what had ended before.
const FOURTH: &str = "
    CREATE TABLE printed (
        job_id BLOB NOT NULL,
        attempt INTEGER NOT NULL,
        -- 1 for standard output, 2 for standard error.
        stream INTEGER NOT NULL,
        row INTEGER NOT NULL,
        bytes BLOB NOT NULL,
        PRIMARY KEY (job_id, attempt, stream, row)
    ) STRICT;
";

/// Sets up the connection that writes and brings the schema up to date.
pub(super) fn prepare(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |source: rusqlite::Error| StoreError::Sqlite {
        doing: "setting up",
        path: path.into(),
        cause: Arc::new(source),
    };
    connection.busy_timeout(BUSY).map_err(failed)?;
    bound_cache(connection, WRITER_CACHE).map_err(failed)?;
    let found = check(connection, path)?;
    if found == 0 {
        space::set_mode(connection).map_err(failed)?;
    }
    migrate(connection, found).map_err(failed)?;
    space::bound_log(connection).map_err(failed)?;
    space::convert(connection, path, space::CHEAP);
    Ok(())
}

/// Whether it is a database of ours, or an empty one, and not newer than what is known; answers its
/// version.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    let found = version(connection, path)?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if found > known {
        let store = path.display().to_string();
        return Err(StoreError::Newer { store, found, known });
    }
    Ok(found)
}

/// The schema's version, of a database that is ours or empty.
fn version(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    let read = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let all = || {
        Ok((
            read("PRAGMA application_id")?,
            read("PRAGMA user_version")?,
            read("SELECT count(*) FROM sqlite_schema")?,
        ))
    };
    let (application, version, tables) = all().map_err(|source| StoreError::Sqlite {
        doing: "reading",
        path: path.into(),
        cause: Arc::new(source),
    })?;
    if application == APPLICATION_ID || (application, version, tables) == (0, 0, 0) {
        Ok(version)
    } else {
        Err(StoreError::Foreign { store: path.display().to_string() })
    }
}

fn migrate(connection: &mut Connection, from: i64) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    for (version, sql) in (1_i64..).zip(MIGRATIONS) {
        if version > from {
            let step = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            step.execute_batch(sql)?;
            if version == TERMS {
                let cluster = Uuid::new_v4();
                step.execute(
                    "INSERT INTO leadership (id, cluster, epoch) VALUES (0, ?, 0)",
                    [cluster.as_bytes()],
                )?;
            }
            step.pragma_update(None, "application_id", APPLICATION_ID)?;
            step.pragma_update(None, "user_version", version)?;
            step.commit()?;
        }
    }
    Ok(())
}
