//! Which ended jobs are kept no longer, and their removal with all that belongs to them.

use cloister_api::Timestamp;
use rusqlite::{Connection, params};
use uuid::Uuid;

use super::super::{Keep, StoreClock};

/// Jobs removed in one transaction: small, so that nobody who writes has to wait for long.
const BATCH: i64 = 200;

/// Ended jobs beyond what is kept, a batch of them: those that were stored too long ago, else those that
/// ended first.
pub(super) fn over(db: &Connection, keep: Keep, now: Timestamp) -> rusqlite::Result<Vec<Uuid>> {
    let time = i64::try_from(keep.time.as_millis()).unwrap_or(i64::MAX);
    let ids = |row: &rusqlite::Row<'_>| Ok(Uuid::from_bytes(row.get(0)?));
    let old: Vec<Uuid> = db
        .prepare_cached(
            "SELECT job_id FROM jobs WHERE stored_at IS NOT NULL AND stored_at < ?
             ORDER BY stored_at LIMIT ?",
        )?
        .query_map(params![now.0.saturating_sub(time), BATCH], ids)?
        .collect::<Result<_, _>>()?;
    if !old.is_empty() {
        return Ok(old);
    }
    let Some(last) = beyond(db, keep)? else { return Ok(Vec::new()) };
    db.prepare_cached(
        "SELECT job_id FROM jobs WHERE ended_seq IS NOT NULL AND ended_seq <= ?
         ORDER BY ended_seq LIMIT ?",
    )?
    .query_map(params![last, BATCH], ids)?
    .collect()
}

/// The last ended job that is too many, or too much, with all that ended later: its place in their order.
fn beyond(db: &Connection, keep: Keep) -> rusqlite::Result<Option<i64>> {
    // By the index alone, which holds all of it.
    let mut newest_first = db.prepare_cached(
        "SELECT ended_seq, size FROM jobs WHERE ended_seq IS NOT NULL ORDER BY ended_seq DESC",
    )?;
    let mut rows = newest_first.query([])?;
    let (mut number, mut size) = (0, 0_u64);
    while let Some(row) = rows.next()? {
        number += 1;
        size = size.saturating_add(row.get::<_, i64>(1)?.unsigned_abs());
        if number > keep.number || size > keep.size {
            return row.get(0).map(Some);
        }
    }
    Ok(None)
}

/// Removes jobs, their inputs and outputs, labels and keys.
pub(super) fn remove(db: &Connection, jobs: &[Uuid]) -> rusqlite::Result<()> {
    for table in ["inputs", "outputs", "printed", "labels", "keys", "jobs"] {
        let mut statement = db.prepare_cached(&format!("DELETE FROM {table} WHERE job_id = ?"))?;
        for job in jobs {
            statement.execute([job.as_bytes()])?;
        }
    }
    Ok(())
}

/// When they were last looked through.
pub(super) fn clock(db: &Connection) -> rusqlite::Result<StoreClock> {
    db.prepare_cached("SELECT seen_at, ahead, until FROM retention")?.query_row([], |row| {
        let seen_at = row.get::<_, Option<i64>>(0)?.map(Timestamp);
        Ok(StoreClock { seen_at, ahead: row.get(1)?, until: Timestamp(row.get(2)?) })
    })
}

/// Records when they were.
pub(super) fn set_clock(db: &Connection, clock: StoreClock) -> rusqlite::Result<()> {
    let seen_at = clock.seen_at.map(|at| at.0);
    db.prepare_cached("UPDATE retention SET seen_at = ?, ahead = ?, until = ?")?
        .execute(params![seen_at, clock.ahead, clock.until.0])?;
    Ok(())
}

/// The clock is right, whatever it did.
pub(super) fn trust(db: &Connection) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE retention SET ahead = 0")?.execute([])?;
    Ok(())
}
