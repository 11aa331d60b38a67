//! Which ended jobs are kept no longer, and their removal with all that belongs to them.

use cloister_api::Timestamp;
use rusqlite::{Connection, params};
use uuid::Uuid;

use super::super::Keep;

/// Jobs removed in one transaction: small, so that nobody who writes has to wait for long.
const BATCH: i64 = 200;

/// Ended jobs beyond what is kept, the oldest first, a batch of them.
pub(super) fn over(db: &Connection, keep: Keep, now: Timestamp) -> rusqlite::Result<Vec<Uuid>> {
    let time = i64::try_from(keep.time.as_millis()).unwrap_or(i64::MAX);
    let by_time = (now.0.saturating_sub(time), [0; 16]);
    let last = beyond(db, keep)?.map_or(by_time, |found| by_time.max(found));
    db.prepare_cached(
        "SELECT job_id FROM jobs WHERE finished_at IS NOT NULL AND (finished_at, job_id) <= (?, ?)
         ORDER BY finished_at, job_id LIMIT ?",
    )?
    .query_map(params![last.0, last.1, BATCH], |row| Ok(Uuid::from_bytes(row.get(0)?)))?
    .collect()
}

/// The newest ended job that is too many, or too much, with all newer ones: when it ended, and its id.
fn beyond(db: &Connection, keep: Keep) -> rusqlite::Result<Option<(i64, [u8; 16])>> {
    // By the index alone, which holds all of it.
    let mut newest_first = db.prepare_cached(
        "SELECT finished_at, job_id, size FROM jobs WHERE finished_at IS NOT NULL
         ORDER BY finished_at DESC, job_id DESC",
    )?;
    let mut rows = newest_first.query([])?;
    let (mut number, mut size) = (0, 0_u64);
    while let Some(row) = rows.next()? {
        number += 1;
        size = size.saturating_add(row.get::<_, i64>(2)?.unsigned_abs());
        if number > keep.number || size > keep.size {
            return Ok(Some((row.get(0)?, row.get(1)?)));
        }
    }
    Ok(None)
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
