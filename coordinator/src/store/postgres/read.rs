//! What is read.

use cloister_api::Timestamp;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{
    super::{
        Digest, Figures, Orders, Piece, Query, StoreClock, Stream,
        output::INLINE,
        record::{Found, Row},
    },
    connect::{Failure, Session},
    write::DRAIN,
};

/// A page ends early when its records take as much, so that a hundred large jobs make no huge answer.
const PAGE_BYTES: i64 = 8 << 20;

/// The columns of [`found`], of a table of jobs named `$jobs`, and of `inputs` and `outputs` where they are
/// wanted.
macro_rules! columns {
    ($jobs:literal, $stdin:literal, $outputs:literal) => {
        concat!(
            $jobs,
            ".status, ",
            $jobs,
            ".attempt, ",
            $jobs,
            ".started_at, ",
            $jobs,
            ".not_before, ",
            $jobs,
            ".cancel, ",
            $jobs,
            ".runner, ",
            $jobs,
            ".boot_id, ",
            $jobs,
            ".execution_id, ",
            $jobs,
            ".record, ",
            $stdin,
            "::bytea, ",
            $outputs,
            "::bytea, ",
            $jobs,
            ".job_id, ",
            $jobs,
            ".size"
        )
    };
}
pub(super) use columns;

/// How many [`columns!`] there are.
const COLUMNS: usize = 13;

/// Reads [`columns!`], from `at` on. A value of another shape than ours makes the row unreadable, and
/// nothing else.
pub(super) fn found(from: &tokio_postgres::Row, at: usize) -> Result<Found, Failure> {
    let row = row(from, at).map_err(|failure| failure.to_string());
    Ok(Found { id: from.try_get(at + 11)?, row })
}

fn row(row: &tokio_postgres::Row, at: usize) -> Result<Row, Failure> {
    let attempt: i64 = row.try_get(at + 1)?;
    Ok(Row {
        status: row.try_get(at)?,
        attempt: u32::try_from(attempt)
            .map_err(|_| Failure::Other(format!("attempt: {attempt} is no number of one")))?,
        started_at: row.try_get(at + 2)?,
        not_before: row.try_get(at + 3)?,
        cancel: row.try_get(at + 4)?,
        runner: text(row, at + 5)?,
        boot_id: row.try_get(at + 6)?,
        execution_id: row.try_get(at + 7)?,
        record: text(row, at + 8)?.unwrap_or_default(),
        stdin: text(row, at + 9)?,
        outputs: text(row, at + 10)?,
        printed: Vec::new(),
        size: row.try_get(at + 12)?,
    })
}

/// Text that is kept as bytes.
fn text(row: &tokio_postgres::Row, at: usize) -> Result<Option<String>, Failure> {
    let text = row.try_get::<_, Option<Vec<u8>>>(at)?.map(String::from_utf8).transpose();
    text.map_err(|error| Failure::Other(format!("column {}: {error}", row.columns()[at].name())))
}

pub(super) async fn get(session: &Session, job: Uuid) -> Result<Option<Found>, Failure> {
    let sql = concat!(
        "SELECT ",
        columns!("jobs", "inputs.stdin", "outputs.outputs"),
        ", few.attempts, few.streams, few.numbers, few.bytes
          FROM jobs LEFT JOIN inputs USING (job_id) LEFT JOIN outputs USING (job_id)
          LEFT JOIN LATERAL (
              SELECT array_agg(attempt ORDER BY attempt, stream, row) AS attempts,
                  array_agg(stream ORDER BY attempt, stream, row) AS streams,
                  array_agg(row ORDER BY attempt, stream, row) AS numbers,
                  array_agg(bytes ORDER BY attempt, stream, row) AS bytes
              FROM printed WHERE printed.job_id = jobs.job_id
                  AND (SELECT sum(octet_length(bytes)) FROM printed WHERE printed.job_id = $1) <= $2
          ) AS few ON TRUE
          WHERE jobs.job_id = $1"
    );
    let statement = session.prepared(sql).await?;
    let Some(row) = session.query_opt(&statement, &[&job, &i64::from(INLINE)]).await? else {
        return Ok(None);
    };
    let mut found = found(&row, 0)?;
    if let Ok(of) = &mut found.row {
        of.printed = printed(&row, job, COLUMNS)?;
    }
    Ok(Some(found))
}

/// What a job's attempts printed, from four columns.
fn printed(row: &tokio_postgres::Row, job: Uuid, at: usize) -> Result<Vec<Piece>, Failure> {
    let attempts: Vec<i64> = row.try_get::<_, Option<_>>(at)?.unwrap_or_default();
    let streams: Vec<i16> = row.try_get::<_, Option<_>>(at + 1)?.unwrap_or_default();
    let numbers: Vec<i64> = row.try_get::<_, Option<_>>(at + 2)?.unwrap_or_default();
    let bytes: Vec<Vec<u8>> = row.try_get::<_, Option<_>>(at + 3)?.unwrap_or_default();
    let rows = attempts.into_iter().zip(streams).zip(numbers).zip(bytes);
    let pieces = rows.map(|(((attempt, stream), number), bytes)| Piece {
        job,
        attempt: u32::try_from(attempt).unwrap_or_default(),
        stream: if stream == Stream::Stdout.number() { Stream::Stdout } else { Stream::Stderr },
        row: u32::try_from(number).unwrap_or_default(),
        bytes: bytes.into(),
    });
    Ok(pieces.collect())
}

/// One row of what an attempt printed.
pub(super) async fn output(
    session: &Session,
    job: Uuid,
    attempt: u32,
    stream: Stream,
    row: u32,
) -> Result<Option<Vec<u8>>, Failure> {
    let sql = "SELECT bytes FROM printed
        WHERE job_id = $1 AND attempt = $2 AND stream = $3 AND row = $4";
    let statement = session.prepared(sql).await?;
    let (attempt, row) = (i64::from(attempt), i64::from(row));
    let values: [&(dyn ToSql + Sync); 4] = [&job, &attempt, &stream.number(), &row];
    let found = session.query_opt(&statement, &values).await?;
    Ok(found.map(|found| found.try_get(0)).transpose()?)
}

/// The job that a key made, and the digest of its request.
pub(super) async fn find_key(
    session: &Session,
    tenant: &str,
    key: &str,
) -> Result<Option<(Uuid, Digest)>, Failure> {
    let sql = "SELECT job_id, digest FROM keys WHERE tenant = $1 AND key = $2";
    let statement = session.prepared(sql).await?;
    let known = session.query_opt(&statement, &[&tenant.as_bytes(), &key.as_bytes()]).await?;
    let read = |row: tokio_postgres::Row| {
        let digest: Vec<u8> = row.try_get(1)?;
        // One that is damaged is that of no request: its key stays taken.
        Ok((row.try_get(0)?, Digest::try_from(digest).unwrap_or_default()))
    };
    known.map(read).transpose()
}

/// A page, and whether more follows. Keyset: it costs the same wherever it starts, and jobs that
/// come meanwhile shift nothing.
pub(super) async fn list(session: &Session, query: &Query) -> Result<(Vec<Found>, bool), Failure> {
    let mut values: Vec<Box<dyn ToSql + Sync + Send>> = Vec::new();
    let mut wanted = String::from("TRUE");
    let mut want = |condition: &dyn Fn(usize) -> String, value: Box<dyn ToSql + Sync + Send>| {
        values.push(value);
        wanted.push_str(" AND ");
        wanted.push_str(&condition(values.len()));
    };
    if let Some(status) = query.status {
        want(&|at| format!("status = ${at}"), Box::new(status.as_str()));
    }
    if let Some(reason) = query.reason {
        want(&|at| format!("reason = ${at}"), Box::new(reason.as_str()));
    }
    for (name, value) in &query.labels {
        let same = |what: &str, at| format!("sha256({what}) = sha256(${at}) AND {what} = ${at}");
        let labelled = |at| {
            let name = same("name", at);
            format!("EXISTS (SELECT FROM labels l WHERE l.job_id = jobs.job_id AND {name}")
        };
        want(&labelled, Box::new(name.clone().into_bytes()));
        want(&|at| format!("{})", same("value", at)), Box::new(value.clone().into_bytes()));
    }
    if let Some(before) = query.before {
        want(&|at| format!("job_id < ${at}"), Box::new(before));
    }
    values.push(Box::new(count(query.limit.saturating_add(1))));
    values.push(Box::new(PAGE_BYTES));
    let (limit, bytes) = (values.len() - 1, values.len());
    // How much is sent is decided before any record is read.
    let sql = format!(
        "WITH page AS (
             SELECT job_id, octet_length(record) AS bytes FROM jobs WHERE {wanted}
             ORDER BY job_id DESC LIMIT ${limit}
         ), summed AS (
             SELECT job_id, coalesce(sum(bytes) OVER (ORDER BY job_id DESC
                 ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before FROM page
         )
         SELECT {}, (SELECT count(*) FROM page) FROM summed JOIN jobs USING (job_id)
         WHERE summed.before < ${bytes}::bigint ORDER BY job_id DESC",
        columns!("jobs", "NULL", "NULL")
    );
    let statement = session.prepared(&sql).await?;
    let values: Vec<_> = values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect();
    let matching = session.query(&statement, &values).await?;
    let there = matching.first().map_or(Ok(0), |row| row.try_get::<_, i64>(13))?;
    let rows = matching.iter().take(query.limit).map(|row| found(row, 0));
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    let more = there > count(rows.len());
    Ok((rows, more))
}

pub(super) async fn unfinished(
    session: &Session,
    after: Option<Uuid>,
    limit: usize,
) -> Result<Vec<Found>, Failure> {
    let sql = concat!(
        "SELECT ",
        columns!("jobs", "NULL", "NULL"),
        " FROM jobs WHERE finished_at IS NULL AND job_id > $1 ORDER BY job_id LIMIT $2"
    );
    let statement = session.prepared(sql).await?;
    let after = after.unwrap_or(Uuid::nil());
    let rows = session.query(&statement, &[&after, &count(limit)]).await?;
    rows.iter().map(|row| found(row, 0)).collect()
}

/// Those that have ended, or are not there.
pub(super) async fn ended(session: &Session, jobs: &[Uuid]) -> Result<Vec<Uuid>, Failure> {
    let sql = "SELECT id FROM unnest($1::uuid[]) WITH ORDINALITY AS asked (id, place)
         WHERE NOT EXISTS (SELECT FROM jobs WHERE job_id = id AND finished_at IS NULL)
         ORDER BY place";
    let statement = session.prepared(sql).await?;
    let found = session.query(&statement, &[&jobs]).await?;
    Ok(found.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

pub(super) async fn figures(session: &Session) -> Result<Figures, Failure> {
    let sql = "SELECT waiting.number, waiting.size,
             (SELECT count(*) FROM jobs WHERE execution_id IS NOT NULL),
             (SELECT sum(pg_total_relation_size(c.oid))::bigint
              FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE n.nspname = 'cloister' AND c.relkind = 'r')
         FROM (SELECT count(*) AS number, coalesce(sum(size), 0)::bigint AS size FROM jobs
               WHERE finished_at IS NULL AND execution_id IS NULL) AS waiting";
    let statement = session.prepared(sql).await?;
    let row = session.query_one(&statement, &[]).await?;
    let number = |at| -> Result<usize, Failure> {
        Ok(usize::try_from(row.try_get::<_, i64>(at)?).unwrap_or_default())
    };
    Ok(Figures {
        pending: number(0)?,
        pending_size: row.try_get::<_, i64>(1)?.unsigned_abs(),
        out: number(2)?,
        size: row.try_get::<_, Option<i64>>(3)?.unwrap_or_default().unsigned_abs(),
    })
}

pub(super) async fn orders(session: &Session) -> Result<Orders, Failure> {
    let sql = "SELECT kind, runner, reason FROM orders ORDER BY runner";
    let statement = session.prepared(sql).await?;
    let mut orders = Orders::default();
    for row in session.query(&statement, &[]).await? {
        match row.try_get(0)? {
            DRAIN => orders.drained.extend(text(&row, 1)?),
            _ => orders.paused = text(&row, 2)?,
        }
    }
    Ok(orders)
}

pub(super) async fn clock(session: &Session) -> Result<StoreClock, Failure> {
    let statement = session.prepared("SELECT seen_at, ahead, until FROM retention").await?;
    let row = session.query_one(&statement, &[]).await?;
    let seen_at = row.try_get::<_, Option<i64>>(0)?.map(Timestamp);
    Ok(StoreClock { seen_at, ahead: row.try_get(1)?, until: Timestamp(row.try_get(2)?) })
}

/// A count as PostgreSQL takes it.
pub(super) fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A point in time as it is stored.
pub(super) fn millis(at: Option<Timestamp>) -> Option<i64> {
    at.map(|at| at.0)
}
