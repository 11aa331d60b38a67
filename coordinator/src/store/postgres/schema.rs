//! The tables, how an older database becomes one of today's, and how a copy is recognised.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{Transaction, error::SqlState};
use uuid::Uuid;

use super::{
    super::StoreError,
    connect::{Failure, Manager, Session},
    lease::Terms,
    pooler,
};

/// "Cloister", as the key of the lock that whoever changes the schema holds.
const LOCK: i64 = 0x436c_6f69_7374_6572;
/// How long the schema may take to be brought up to date, with waiting for others that do so.
const MIGRATING: Duration = Duration::from_secs(600);
/// PostgreSQL 14: whoever made the ones before maintains them no more.
const OLDEST: i32 = 140_000;

/// Each brings the schema from its index to the next version. What was released is never changed,
/// only followed by another. Whatever users send is `bytea`: `text` takes no NUL, and only what the
/// database's encoding has.
pub(super) const MIGRATIONS: [&str; 3] = [FIRST, SECOND, THIRD];

const FIRST: &str = "
    CREATE TABLE jobs (
        job_id uuid PRIMARY KEY,
        status text NOT NULL,
        reason text,
        attempt bigint NOT NULL,
        started_at bigint,
        finished_at bigint,
        not_before bigint,
        cancel boolean NOT NULL DEFAULT false,
        runner bytea,
        boot_id uuid,
        execution_id uuid,
        -- The job as JSON, without what it reads and prints.
        record bytea NOT NULL,
        -- Bytes of the record, and of what the job reads and prints.
        size bigint NOT NULL
    );
    CREATE INDEX jobs_by_status ON jobs (status, job_id);
    CREATE INDEX jobs_by_reason ON jobs (reason, job_id) WHERE reason IS NOT NULL;
    CREATE INDEX jobs_by_end ON jobs (finished_at, job_id) INCLUDE (size)
        WHERE finished_at IS NOT NULL;
    CREATE INDEX jobs_live ON jobs (job_id) WHERE finished_at IS NULL;
    CREATE INDEX jobs_out ON jobs (job_id) WHERE execution_id IS NOT NULL;

    CREATE TABLE inputs (job_id uuid PRIMARY KEY, stdin bytea NOT NULL);
    CREATE TABLE outputs (job_id uuid PRIMARY KEY, outputs bytea NOT NULL);

    CREATE TABLE keys (
        tenant bytea NOT NULL,
        key bytea NOT NULL,
        digest bytea NOT NULL,
        job_id uuid NOT NULL,
        PRIMARY KEY (tenant, key)
    );
    CREATE INDEX keys_by_job ON keys (job_id);

    CREATE TABLE labels (
        name bytea NOT NULL,
        value bytea NOT NULL,
        job_id uuid NOT NULL
    );
    -- A hash, since an entry of an index has a limit that a label has not.
    CREATE INDEX labels_by_value ON labels (sha256(name), sha256(value), job_id);
    CREATE INDEX labels_by_job ON labels (job_id);

    CREATE TABLE leadership (
        id integer PRIMARY KEY DEFAULT 0 CHECK (id = 0),
        cluster uuid NOT NULL,
        -- Unique so that a change takes the lock of a key: see `lease`.
        epoch bigint NOT NULL UNIQUE,
        -- Who has that term: made anew at each start, and a name for a person.
        leader uuid,
        name bytea,
        expires_at timestamptz,
        -- For how many seconds it was taken: one that ends later than in so many is of a clock that was
        -- set back since.
        lasts double precision NOT NULL DEFAULT 0,
        -- Which database this is: a copy stands in another one.
        system bigint,
        database oid NOT NULL
    );

    -- Coordinators that could lead.
    CREATE TABLE candidates (
        id uuid PRIMARY KEY,
        name bytea NOT NULL,
        seen_at timestamptz NOT NULL
    );

    CREATE TABLE inbox (
        seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        -- 'job' or 'cancel'.
        kind text NOT NULL,
        job_id uuid NOT NULL,
        UNIQUE (job_id, kind)
    );

    CREATE TABLE orders (
        -- 'drain', with the runner's name, or 'pause', with none.
        kind text NOT NULL,
        runner bytea NOT NULL,
        reason bytea NOT NULL,
        PRIMARY KEY (kind, runner)
    );

    -- Written to find out whether writing works.
    CREATE TABLE probe (id integer PRIMARY KEY CHECK (id = 0), count bigint NOT NULL);
    INSERT INTO probe VALUES (0, 0);
";

/// The order in which ends were stored, and when, by the coordinator: a runner's clock may be wrong. What
/// had ended before is as old as it was.
const SECOND: &str = "
    ALTER TABLE jobs ADD COLUMN ended_seq bigint, ADD COLUMN stored_at bigint;
    UPDATE jobs SET ended_seq = ends.seq, stored_at = finished_at
        FROM (SELECT job_id, row_number() OVER (ORDER BY finished_at, job_id) AS seq
              FROM jobs WHERE finished_at IS NOT NULL) AS ends
        WHERE ends.job_id = jobs.job_id;
    CREATE SEQUENCE ends AS bigint;
    SELECT setval('ends', (SELECT max(ended_seq) FROM jobs));
    DROP INDEX jobs_by_end;
    CREATE INDEX jobs_by_end ON jobs (ended_seq) INCLUDE (size) WHERE ended_seq IS NOT NULL;
    CREATE INDEX jobs_by_age ON jobs (stored_at) WHERE stored_at IS NOT NULL;

    -- When ended jobs were last looked through, by the clock of who did; and by how much that clock is
    -- ahead of the time that has passed, until which time: milliseconds.
    CREATE TABLE retention (
        id integer PRIMARY KEY CHECK (id = 0),
        seen_at bigint,
        ahead bigint NOT NULL,
        until bigint NOT NULL
    );
    INSERT INTO retention VALUES (0, NULL, 0, 0);

    -- What waits, and how much that is, by an index alone.
    CREATE INDEX jobs_waiting ON jobs (size) WHERE finished_at IS NULL AND execution_id IS NULL;
";

/// What jobs print, as rows of bytes: see `store::output`. The table `outputs` keeps what had ended before.
const THIRD: &str = "
    CREATE TABLE printed (
        job_id uuid NOT NULL,
        attempt bigint NOT NULL,
        -- 1 for standard output, 2 for standard error.
        stream smallint NOT NULL,
        row bigint NOT NULL,
        bytes bytea NOT NULL,
        PRIMARY KEY (job_id, attempt, stream, row)
    );
";

/// Why a restored copy does nothing yet.
const COPIED: &str = "this database was copied from another one, restored or upgraded: jobs that had \
    not ended when it was copied may have ended since; `cloister resume` lets them be run";

/// What is known of a database that is up to date.
pub(super) struct Prepared {
    /// What a session must be set to beyond the usual.
    pub(super) settings: Vec<&'static str>,
    pub(super) terms: Terms,
}

/// Brings the schema up to date.
pub(super) async fn prepare(manager: &Manager, store: &str) -> Result<Prepared, StoreError> {
    let mut session = pooler::connect(manager, store).await?;
    let all = timeout(MIGRATING, bring_up(&mut session, store)).await;
    all.map_err(|_| Failure::Slow.error("setting up", store))?
}

async fn bring_up(session: &mut Session, store: &str) -> Result<Prepared, StoreError> {
    let failed = |error| Failure::Database(error).error("setting up", store);
    let mut step = session.client_mut().transaction().await.map_err(failed)?;
    let unfit = |why: String| StoreError::Unfit { store: store.into(), why };
    let settings = async {
        let row = step
            .query_one(
                "SELECT current_setting('server_version_num')::int, current_setting('server_version'),
                     current_setting('synchronous_commit'), current_setting('fsync')",
                &[],
            )
            .await?;
        let texts = (row.try_get::<_, String>(1)?, row.try_get(2)?, row.try_get(3)?);
        Ok((row.try_get::<_, i32>(0)?, texts))
    };
    let (number, (version, commit, fsync)): (_, (_, String, String)) =
        settings.await.map_err(failed)?;
    if number < OLDEST {
        return Err(unfit(format!("it is PostgreSQL {version}; 14 is the oldest that will do")));
    }
    if fsync == "off" {
        tracing::warn!(
            store,
            "fsync is off at the database: jobs that were acknowledged are lost with its machine"
        );
    }
    migrate(&step, store).await?;
    recognise(&step).await.map_err(failed)?;
    let terms = Terms::of(&mut step).await.map_err(failed)?;
    step.commit().await.map_err(failed)?;
    // An answer promises that what was written is on the disk.
    let settings = if commit == "off" { vec!["-c synchronous_commit=on"] } else { Vec::new() };
    Ok(Prepared { settings, terms })
}

async fn migrate(step: &Transaction<'_>, store: &str) -> Result<(), StoreError> {
    let failed = |error| Failure::Database(error).error("setting up", store);
    let limit = format!("SET LOCAL statement_timeout = {}", MIGRATING.as_millis());
    step.batch_execute(&limit).await.map_err(failed)?;
    // Until the end of the transaction: coordinators that start at once do it one after the other.
    step.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await.map_err(failed)?;
    let found = version(step, store).await?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(StoreError::Newer { store: store.into(), found, known });
    }
    for (version, sql) in (1_i64..).zip(MIGRATIONS) {
        if version > found {
            step.batch_execute(sql).await.map_err(failed)?;
            step.execute("UPDATE version SET version = $1", &[&version]).await.map_err(failed)?;
        }
    }
    Ok(())
}

/// The schema's version, of a database that is ours or has nothing of its name.
async fn version(step: &Transaction<'_>, store: &str) -> Result<i64, StoreError> {
    let failed = |error| Failure::Database(error).error("reading", store);
    let foreign = || StoreError::Foreign { store: format!("the schema cloister of {store}") };
    let found = async {
        let row = step
            .query_one(
                "SELECT to_regclass('cloister.version') IS NOT NULL,
                     EXISTS (SELECT FROM pg_namespace WHERE nspname = 'cloister'),
                     EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                         WHERE n.nspname = 'cloister')",
                &[],
            )
            .await?;
        Ok((row.try_get::<_, bool>(0)?, row.try_get::<_, bool>(1)?, row.try_get::<_, bool>(2)?))
    };
    match found.await.map_err(failed)? {
        (true, ..) => {
            let rows = step.query("SELECT version FROM cloister.version", &[]).await;
            let row = match rows {
                Ok(rows) => rows.into_iter().next(),
                Err(error) if error.code() == Some(&SqlState::UNDEFINED_COLUMN) => None,
                Err(error) => return Err(failed(error)),
            };
            row.and_then(|row| row.try_get(0).ok()).ok_or_else(foreign)
        }
        (false, _, true) => Err(foreign()),
        (false, there, false) => {
            if !there {
                step.batch_execute("CREATE SCHEMA cloister").await.map_err(failed)?;
            }
            let sql = "CREATE TABLE cloister.version (version bigint NOT NULL);
                INSERT INTO cloister.version VALUES (0)";
            step.batch_execute(sql).await.map_err(failed)?;
            Ok(0)
        }
    }
}

/// Gives the database an id, at first and where it is a copy of another one: by which server and
/// database it stood in. `pg_control_system()` may have been kept from users; then only the database
/// counts.
async fn recognise(step: &Transaction<'_>) -> Result<(), tokio_postgres::Error> {
    let sql = "SELECT has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')";
    let permitted: bool = step.query_one(sql, &[]).await?.try_get(0)?;
    let system: Option<i64> = if permitted {
        let sql = "SELECT system_identifier FROM pg_control_system()";
        Some(step.query_one(sql, &[]).await?.try_get(0)?)
    } else {
        None
    };
    let sql = "SELECT oid FROM pg_database WHERE datname = current_database()";
    let database: u32 = step.query_one(sql, &[]).await?.try_get(0)?;
    let known = step.query_opt("SELECT system, database FROM leadership", &[]).await?;
    let Some(known) = known else {
        let sql =
            "INSERT INTO leadership (cluster, epoch, system, database) VALUES ($1, 0, $2, $3)";
        step.execute(sql, &[&Uuid::new_v4(), &system, &database]).await?;
        return Ok(());
    };
    let (old, of): (Option<i64>, u32) = (known.try_get(0)?, known.try_get(1)?);
    let same = of == database && (old == system || old.is_none() || system.is_none());
    if !same {
        tracing::warn!("{COPIED}");
        let sql =
            "UPDATE leadership SET cluster = $1, leader = NULL, name = NULL, expires_at = NULL";
        step.execute(sql, &[&Uuid::new_v4()]).await?;
        step.execute("DELETE FROM candidates", &[]).await?;
        let sql = "INSERT INTO orders VALUES ('pause', '', $1)
            ON CONFLICT (kind, runner) DO UPDATE SET reason = excluded.reason";
        step.execute(sql, &[&COPIED.as_bytes()]).await?;
    }
    if !same || old.is_none() {
        let sql = "UPDATE leadership SET system = $1, database = $2";
        step.execute(sql, &[&system, &database]).await?;
    }
    Ok(())
}
