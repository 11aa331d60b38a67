//! What is written, each by one statement, which is one transaction: see `lease`.

use cloister_api::Timestamp;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{
    super::{
        Claim, Epoch, Key, Order, Piece, StoreClock, Submitted,
        record::{Changed, Found, New},
    },
    connect::{Failure, Session},
    lease::{self, number, term},
    read::{self, columns, millis},
};

/// A runner that gets nothing new, in the table of orders.
pub(super) const DRAIN: &str = "drain";
/// Nobody gets anything, in the table of orders.
pub(super) const PAUSE: &str = "pause";

/// What only a leader may: where its term is over nothing is done, and this answers the latest one.
pub(super) type Led<T> = Result<T, Epoch>;

/// Does what a statement says whose first column tells whether the term `$1` is the latest one.
pub(super) async fn led(
    session: &Session,
    sql: &str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Led<tokio_postgres::Row>, Failure> {
    let statement = session.prepared(sql).await?;
    let row = session.query_one(&statement, values).await?;
    if row.try_get(0)? { Ok(Ok(row)) } else { Ok(Err(lease::newest(session).await?)) }
}

pub(super) async fn submit(
    session: &Session,
    new: &New,
    key: Option<&Key>,
    epoch: Option<Epoch>,
) -> Result<Submitted, Failure> {
    let sql = concat!(
        term!(),
        ", key AS (
            INSERT INTO keys SELECT $2, $3, $4, $5 WHERE $3::bytea IS NOT NULL
            ON CONFLICT DO NOTHING RETURNING job_id
        ), job AS (
            INSERT INTO jobs (job_id, status, attempt, record, size)
            SELECT $5::uuid, 'pending', $6, $7, $8
            WHERE $3::bytea IS NULL OR EXISTS (SELECT FROM key) RETURNING job_id
        ), input AS (
            INSERT INTO inputs SELECT job_id, $9 FROM job WHERE $9::bytea IS NOT NULL
        ), labelled AS (
            INSERT INTO labels
            SELECT name, value, job_id FROM job, unnest($10::bytea[], $11::bytea[]) AS l (name, value)
        ), told AS (
            INSERT INTO inbox (kind, job_id)
            SELECT 'job', job_id FROM job WHERE NOT EXISTS (SELECT FROM term) ON CONFLICT DO NOTHING
        )
        SELECT EXISTS (SELECT FROM job), EXISTS (SELECT FROM term)"
    );
    let statement = session.prepared(sql).await?;
    let tenant = key.map(|key| key.tenant.as_bytes());
    let name = key.map(|key| key.name.as_bytes());
    let digest = key.map(|key| &key.digest[..]);
    let (names, contents): (Vec<_>, Vec<_>) =
        new.labels.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).unzip();
    let stdin = new.stdin.as_deref().map(str::as_bytes);
    // It ends with the call's time: each further round means that the key came and went.
    loop {
        let values: [&(dyn ToSql + Sync); 11] = [
            &epoch.map(number),
            &tenant,
            &name,
            &digest,
            &new.id,
            &i64::from(new.attempt),
            &new.record.as_bytes(),
            &new.size(),
            &stdin,
            &names,
            &contents,
        ];
        let row = session.query_one(&statement, &values).await?;
        if row.try_get(0)? {
            return Ok(Submitted::New { taken: row.try_get(1)? });
        }
        let Some(key) = key else {
            return Err(Failure::Other("a job without a key was not written".into()));
        };
        // A statement of its own sees what the one before had to wait for.
        match read::find_key(session, &key.tenant, &key.name).await? {
            Some((job, digest)) if digest == key.digest => return Ok(Submitted::Same(job)),
            Some(_) => return Ok(Submitted::Other),
            None => {}
        }
    }
}

/// Answers whether the caller leads.
pub(super) async fn request_cancel(
    session: &Session,
    job: Uuid,
    epoch: Option<Epoch>,
) -> Result<bool, Failure> {
    let sql = concat!(
        term!(),
        ", changed AS (
            UPDATE jobs SET cancel = TRUE WHERE job_id = $2 AND finished_at IS NULL RETURNING job_id
        ), told AS (
            INSERT INTO inbox (kind, job_id)
            SELECT 'cancel', job_id FROM changed WHERE NOT EXISTS (SELECT FROM term)
            ON CONFLICT DO NOTHING
        )
        SELECT EXISTS (SELECT FROM term)"
    );
    let statement = session.prepared(sql).await?;
    let row = session.query_one(&statement, &[&epoch.map(number), &job]).await?;
    Ok(row.try_get(0)?)
}

pub(super) async fn claim(
    session: &Session,
    epoch: Epoch,
    job: Uuid,
    claim: &Claim,
) -> Result<Led<Option<Found>>, Failure> {
    let sql = concat!(
        term!(),
        ", changed AS (
            UPDATE jobs SET runner = $2, boot_id = $3, execution_id = $4, not_before = NULL
            WHERE job_id = $5 AND attempt = $6 AND status = 'pending' AND EXISTS (SELECT FROM term)
            RETURNING *
        )
        SELECT EXISTS (SELECT FROM term), changed.job_id, ",
        columns!("changed", "inputs.stdin", "NULL"),
        " FROM (SELECT) AS one LEFT JOIN changed ON TRUE LEFT JOIN inputs USING (job_id)"
    );
    let runner = claim.runner.as_bytes();
    let attempt = i64::from(claim.attempt);
    let values: [&(dyn ToSql + Sync); 6] =
        [&number(epoch), &runner, &claim.boot_id, &claim.execution_id, &job, &attempt];
    match led(session, sql, &values).await? {
        Err(newest) => Ok(Err(newest)),
        Ok(found) if found.try_get::<_, Option<Uuid>>(1)?.is_none() => Ok(Ok(None)),
        Ok(found) => read::found(&found, 2).map(|row| Ok(Some(row))),
    }
}

pub(super) async fn unclaim(
    session: &Session,
    epoch: Epoch,
    job: Uuid,
) -> Result<Led<()>, Failure> {
    let sql = concat!(
        term!(),
        ", changed AS (
            UPDATE jobs SET runner = NULL, boot_id = NULL, execution_id = NULL
            WHERE job_id = $2 AND status = 'pending' AND EXISTS (SELECT FROM term)
        )
        SELECT EXISTS (SELECT FROM term)"
    );
    Ok(led(session, sql, &[&number(epoch), &job]).await?.map(drop))
}

pub(super) async fn started(
    session: &Session,
    epoch: Epoch,
    job: Uuid,
    attempt: u32,
    at: Timestamp,
) -> Result<Led<()>, Failure> {
    let sql = concat!(
        term!(),
        ", changed AS (
            UPDATE jobs SET status = 'running', started_at = $4
            WHERE job_id = $2 AND attempt = $3 AND status = 'pending' AND execution_id IS NOT NULL
                AND EXISTS (SELECT FROM term)
        )
        SELECT EXISTS (SELECT FROM term)"
    );
    let values: [&(dyn ToSql + Sync); 4] = [&number(epoch), &job, &i64::from(attempt), &at.0];
    Ok(led(session, sql, &values).await?.map(drop))
}

/// What a job takes beside its record: `$attempts` and `$bytes` are those of [`Rows`], which are written with
/// it.
macro_rules! size_of_rest {
    ($attempts:literal, $bytes:literal) => {
        concat!(
            "coalesce((SELECT octet_length(stdin) FROM inputs WHERE inputs.job_id = jobs.job_id), 0)
             + coalesce((SELECT octet_length(outputs) FROM outputs
                         WHERE outputs.job_id = jobs.job_id), 0)
             + coalesce((SELECT sum(octet_length(bytes)) FROM printed
                         WHERE printed.job_id = jobs.job_id AND attempt <> ALL (",
            $attempts,
            "::bigint[])), 0)
             + coalesce((SELECT sum(octet_length(bytes)) FROM unnest(",
            $bytes,
            "::bytea[]) AS bytes), 0)"
        )
    };
}

/// Writes [`Rows`] of the job in `changed`, if there is one.
macro_rules! rows {
    ($attempts:literal, $streams:literal, $numbers:literal, $bytes:literal) => {
        concat!(
            "rows AS (
                INSERT INTO printed
                SELECT job_id, attempt, stream, row, bytes FROM changed, unnest(",
            $attempts,
            "::bigint[], ",
            $streams,
            "::smallint[], ",
            $numbers,
            "::bigint[], ",
            $bytes,
            "::bytea[]) AS r (attempt, stream, row, bytes)
                ON CONFLICT (job_id, attempt, stream, row) DO UPDATE SET bytes = excluded.bytes
            )"
        )
    };
}

/// Rows of output, column by column.
#[derive(Default)]
struct Rows<'a> {
    attempts: Vec<i64>,
    streams: Vec<i16>,
    numbers: Vec<i64>,
    bytes: Vec<&'a [u8]>,
}

impl<'a> Rows<'a> {
    fn of(pieces: &'a [Piece]) -> Self {
        let mut rows = Self::default();
        for piece in pieces {
            for (number, bytes) in piece.rows() {
                rows.attempts.push(piece.attempt.into());
                rows.streams.push(piece.stream.number());
                rows.numbers.push(number.into());
                rows.bytes.push(bytes);
            }
        }
        rows
    }
}

/// Records a part of what an attempt prints, unless the job has ended or is gone.
pub(super) async fn put_output(
    session: &Session,
    epoch: Epoch,
    piece: &Piece,
) -> Result<Led<()>, Failure> {
    let sql = concat!(
        term!(),
        ", changed AS (
            SELECT job_id FROM jobs
            WHERE job_id = $2 AND finished_at IS NULL AND EXISTS (SELECT FROM term) FOR UPDATE
        ), ",
        rows!("$3", "$4", "$5", "$6"),
        " SELECT EXISTS (SELECT FROM term)"
    );
    let rows = Rows::of(std::slice::from_ref(piece));
    let values: [&(dyn ToSql + Sync); 6] =
        [&number(epoch), &piece.job, &rows.attempts, &rows.streams, &rows.numbers, &rows.bytes];
    Ok(led(session, sql, &values).await?.map(drop))
}

pub(super) async fn finish(
    session: &Session,
    epoch: Epoch,
    job: &Changed,
    stored_at: Timestamp,
) -> Result<Led<()>, Failure> {
    let sql = concat!(
        term!(),
        ", changed AS (
            UPDATE jobs SET status = $3, reason = $4, attempt = $5, started_at = $6, finished_at = $7,
                runner = $8, boot_id = NULL, execution_id = NULL, not_before = NULL, record = $9,
                ended_seq = nextval('ends'), stored_at = $11, size = $10::bigint + ",
        size_of_rest!("$12", "$15"),
        " WHERE job_id = $2 AND finished_at IS NULL AND EXISTS (SELECT FROM term) RETURNING job_id
        ), ",
        rows!("$12", "$13", "$14", "$15"),
        " SELECT EXISTS (SELECT FROM term)"
    );
    let runner = job.runner.as_deref().map(str::as_bytes);
    let rows = Rows::of(&job.printed);
    let values: [&(dyn ToSql + Sync); 15] = [
        &number(epoch),
        &job.id,
        &job.status,
        &job.reason,
        &i64::from(job.attempt),
        &millis(job.started_at),
        &millis(job.finished_at),
        &runner,
        &job.record.as_bytes(),
        &job.size(),
        &stored_at.0,
        &rows.attempts,
        &rows.streams,
        &rows.numbers,
        &rows.bytes,
    ];
    Ok(led(session, sql, &values).await?.map(drop))
}

/// Answers the job's size, if it was changed.
pub(super) async fn retry(
    session: &Session,
    epoch: Epoch,
    job: &Changed,
    not_before: Timestamp,
) -> Result<Led<Option<u64>>, Failure> {
    let sql = concat!(
        term!(),
        ", changed AS (
            UPDATE jobs SET status = $3, attempt = $4, started_at = NULL, runner = NULL,
                boot_id = NULL, execution_id = NULL, not_before = $5, record = $6,
                size = $7::bigint + ",
        size_of_rest!("$8", "$11"),
        " WHERE job_id = $2 AND attempt < $4 AND finished_at IS NULL
                AND EXISTS (SELECT FROM term) RETURNING job_id, size
        ), ",
        rows!("$8", "$9", "$10", "$11"),
        " SELECT EXISTS (SELECT FROM term), (SELECT size FROM changed)"
    );
    let rows = Rows::of(&job.printed);
    let values: [&(dyn ToSql + Sync); 11] = [
        &number(epoch),
        &job.id,
        &job.status,
        &i64::from(job.attempt),
        &not_before.0,
        &job.record.as_bytes(),
        &job.size(),
        &rows.attempts,
        &rows.streams,
        &rows.numbers,
        &rows.bytes,
    ];
    match led(session, sql, &values).await? {
        Ok(row) => Ok(Ok(row.try_get::<_, Option<i64>>(1)?.map(i64::unsigned_abs))),
        Err(newest) => Ok(Err(newest)),
    }
}

pub(super) async fn set_clock(
    session: &Session,
    epoch: Epoch,
    clock: StoreClock,
) -> Result<Led<()>, Failure> {
    let sql = concat!(
        term!(),
        ", changed AS (
            UPDATE retention SET seen_at = $2, ahead = $3, until = $4 WHERE EXISTS (SELECT FROM term)
        )
        SELECT EXISTS (SELECT FROM term)"
    );
    let seen_at = millis(clock.seen_at);
    let values: [&(dyn ToSql + Sync); 4] = [&number(epoch), &seen_at, &clock.ahead, &clock.until.0];
    Ok(led(session, sql, &values).await?.map(drop))
}

pub(super) async fn order(session: &Session, order: &Order) -> Result<(), Failure> {
    let (kind, runner, reason) = match order {
        Order::DrainRunner { runner, drained } => (DRAIN, runner.as_str(), drained.then_some("")),
        Order::Pause(reason) => (PAUSE, "", reason.as_deref()),
        Order::TrustClock => {
            let statement = session.prepared("UPDATE retention SET ahead = 0").await?;
            session.execute(&statement, &[]).await?;
            return Ok(());
        }
    };
    if let Some(reason) = reason {
        let sql = "INSERT INTO orders VALUES ($1, $2, $3)
            ON CONFLICT (kind, runner) DO UPDATE SET reason = excluded.reason";
        let statement = session.prepared(sql).await?;
        let values: [&(dyn ToSql + Sync); 3] = [&kind, &runner.as_bytes(), &reason.as_bytes()];
        session.execute(&statement, &values).await?;
    } else {
        let sql = "DELETE FROM orders WHERE kind = $1 AND runner = $2";
        let statement = session.prepared(sql).await?;
        session.execute(&statement, &[&kind, &runner.as_bytes()]).await?;
    }
    Ok(())
}

pub(super) async fn probe(session: &Session) -> Result<(), Failure> {
    let statement = session.prepared("UPDATE probe SET count = count + 1").await?;
    session.execute(&statement, &[]).await?;
    Ok(())
}
