//! What others than the leader took in. Rows leave it as those of the embedded store do: when the
//! leader asks for the next ones, and so has them.

use uuid::Uuid;

use super::{
    super::{Epoch, record},
    connect::{Failure, Session},
    lease::{self, number, term},
    read::{self, columns, count},
    write::Led,
};

/// What was found.
pub(super) struct Found {
    pub(super) seq: i64,
    /// Whether it is a job; else a wish for its end.
    pub(super) new: bool,
    pub(super) job: Uuid,
    pub(super) row: record::Found,
}

/// Takes out the rows `had`, and those of jobs that have ended; answers the oldest of the others.
pub(super) async fn take(
    session: &Session,
    epoch: Epoch,
    had: &[i64],
    limit: usize,
) -> Result<Led<Vec<Found>>, Failure> {
    // What is removed here can still be seen by the same statement.
    let sql = concat!(
        term!(),
        ", gone AS (
            DELETE FROM inbox WHERE EXISTS (SELECT FROM term) AND (seq = ANY ($2) OR NOT EXISTS (
                SELECT FROM jobs WHERE jobs.job_id = inbox.job_id AND jobs.finished_at IS NULL))
        ), oldest AS (
            SELECT inbox.seq, inbox.kind, jobs.* FROM inbox JOIN jobs USING (job_id)
            WHERE EXISTS (SELECT FROM term) AND seq <> ALL ($2) AND jobs.finished_at IS NULL
            ORDER BY seq LIMIT $3
        )
        SELECT EXISTS (SELECT FROM term), oldest.seq, oldest.kind = 'job', oldest.job_id, ",
        columns!("oldest", "NULL", "NULL"),
        " FROM (SELECT) AS one LEFT JOIN oldest ON TRUE ORDER BY oldest.seq"
    );
    let statement = session.prepared(sql).await?;
    let rows = session.query(&statement, &[&number(epoch), &had, &count(limit)]).await?;
    if !rows.first().map_or(Ok(false), |row| row.try_get(0))? {
        return Ok(Err(lease::newest(session).await?));
    }
    let mut found = Vec::new();
    for next in rows {
        if let Some(seq) = next.try_get(1)? {
            let (new, job) = (next.try_get(2)?, next.try_get(3)?);
            found.push(Found { seq, new, job, row: read::found(&next, 4)? });
        }
    }
    Ok(Ok(found))
}
