//! Which ended jobs are kept no longer, and their removal with all that belongs to them.

use cloister_api::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::{super::Keep, read::count};

/// Jobs removed in one transaction: small, so that nobody who writes has to wait for long.
const BATCH: i64 = 200;

/// Ended jobs beyond what is kept, the oldest first, a batch of them.
pub(super) fn over(db: &Connection, keep: Keep, now: Timestamp) -> rusqlite::Result<Vec<Uuid>> {
    let time = i64::try_from(keep.time.as_millis()).unwrap_or(i64::MAX);
    let by_time = (now.0.saturating_sub(time), [0; 16]);
    let by_number = db
        .prepare_cached(
            "SELECT finished_at, job_id FROM jobs WHERE finished_at IS NOT NULL
             ORDER BY finished_at DESC, job_id DESC LIMIT 1 OFFSET ?",
        )?
        .query_row([count(keep.number)], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (finished_at, job_id) = by_number.map_or(by_time, |row| by_time.max(row));
    db.prepare_cached(
        "SELECT job_id FROM jobs WHERE finished_at IS NOT NULL AND (finished_at, job_id) <= (?, ?)
         ORDER BY finished_at, job_id LIMIT ?",
    )?
    .query_map(params![finished_at, job_id, BATCH], |row| Ok(Uuid::from_bytes(row.get(0)?)))?
    .collect()
}

/// Removes jobs, their inputs and outputs, labels and keys.
pub(super) fn remove(db: &Connection, jobs: &[Uuid]) -> rusqlite::Result<()> {
    for table in ["inputs", "outputs", "labels", "keys", "jobs"] {
        let mut statement = db.prepare_cached(&format!("DELETE FROM {table} WHERE job_id = ?"))?;
        for job in jobs {
            statement.execute([job.as_bytes()])?;
        }
    }
    Ok(())
}
