//! Which ended jobs are kept no longer, and their removal with all that belongs to them.

use cloister_api::Timestamp;
use tokio_postgres::types::ToSql;

use super::{
    super::{
        Epoch, Keep,
        tally::{CHUNK, Ends},
    },
    connect::{Failure, Session},
    lease::{number, term},
    read::count,
    write::{Led, led},
};

/// Jobs removed by one statement: few, so that nobody who writes has to wait for long.
const BATCH: i64 = 200;
/// What they may take together, in bytes, without the last one.
const BATCH_SIZE: i64 = 64 << 20;

/// What was removed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Removed {
    pub(super) number: usize,
    /// Of those, how many were among [`Ends`].
    pub(super) counted: u64,
    /// How much these took.
    pub(super) size: u64,
}

/// Some of those that ended after a place in the order of ends, or all.
pub(super) async fn ends(session: &Session, after: i64) -> Result<Ends, Failure> {
    // By the index alone.
    let sql = "SELECT count(*), coalesce(sum(size), 0)::bigint, coalesce(max(ended_seq), 0)
         FROM (SELECT ended_seq, size FROM jobs WHERE ended_seq > $1 ORDER BY ended_seq LIMIT $2)
             AS newer";
    let statement = session.prepared(sql).await?;
    let row = session.query_one(&statement, &[&after, &count(CHUNK)]).await?;
    let number = |at| row.try_get::<_, i64>(at).map(i64::unsigned_abs);
    Ok(Ends { number: number(0)?, size: number(1)?, last: row.try_get(2)? })
}

/// Removes ended jobs beyond what is kept, a batch of them, with all that belongs to them: those that were
/// stored too long ago, and those that ended first. `there` is how many there are.
pub(super) async fn expire(
    session: &Session,
    epoch: Epoch,
    keep: Keep,
    now: Timestamp,
    there: Ends,
) -> Result<Led<Removed>, Failure> {
    let sql = concat!(
        term!(),
        ", first AS (
            SELECT job_id, ended_seq, size FROM jobs
            WHERE ended_seq IS NOT NULL AND EXISTS (SELECT FROM term)
                AND ($6::bigint > $3::bigint OR $7::bigint > $4::bigint)
            ORDER BY ended_seq LIMIT $5
        ), places AS (
            SELECT job_id, ended_seq, size, row_number() OVER first_ones - 1 AS number,
                sum(size) OVER first_ones - size AS before
            FROM first WINDOW first_ones AS (ORDER BY ended_seq ROWS UNBOUNDED PRECEDING)
        ), beyond AS (
            (SELECT job_id, ended_seq, size FROM jobs
             WHERE stored_at < $2 AND EXISTS (SELECT FROM term) ORDER BY stored_at LIMIT $5)
            UNION
            (SELECT job_id, ended_seq, size FROM places
             WHERE $6::bigint - number > $3::bigint OR $7::bigint - before > $4::bigint)
            LIMIT $5
        ), old AS (
            SELECT job_id FROM (
                SELECT job_id, sum(size) OVER (ORDER BY ended_seq ROWS UNBOUNDED PRECEDING) - size AS before
                FROM beyond
            ) AS sums WHERE before < $9::bigint
        ), no_inputs AS (DELETE FROM inputs USING old WHERE inputs.job_id = old.job_id),
        no_outputs AS (DELETE FROM outputs USING old WHERE outputs.job_id = old.job_id),
        not_printed AS (DELETE FROM printed USING old WHERE printed.job_id = old.job_id),
        no_labels AS (DELETE FROM labels USING old WHERE labels.job_id = old.job_id),
        no_keys AS (DELETE FROM keys USING old WHERE keys.job_id = old.job_id),
        gone AS (DELETE FROM jobs USING old WHERE jobs.job_id = old.job_id
                 RETURNING jobs.ended_seq, jobs.size)
        SELECT EXISTS (SELECT FROM term), count(*), count(*) FILTER (WHERE ended_seq <= $8),
            coalesce(sum(size) FILTER (WHERE ended_seq <= $8), 0)::bigint FROM gone"
    );
    let time = i64::try_from(keep.time.as_millis()).unwrap_or(i64::MAX);
    let since = now.0.saturating_sub(time);
    let limit = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
    let values: [&(dyn ToSql + Sync); 9] = [
        &number(epoch),
        &since,
        &count(keep.number),
        &limit(keep.size),
        &BATCH,
        &limit(there.number),
        &limit(there.size),
        &there.last,
        &BATCH_SIZE,
    ];
    let row = match led(session, sql, &values).await? {
        Ok(row) => row,
        Err(newest) => return Ok(Err(newest)),
    };
    let read = |at| row.try_get::<_, i64>(at).map(i64::unsigned_abs);
    Ok(Ok(Removed {
        number: usize::try_from(read(1)?).unwrap_or_default(),
        counted: read(2)?,
        size: read(3)?,
    }))
}
