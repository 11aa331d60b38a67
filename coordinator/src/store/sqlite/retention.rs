//! Which ended jobs are kept no longer, and their removal with all that belongs to them.

use cloister_api::Timestamp;
use rusqlite::{Connection, params};
use uuid::Uuid;

use super::{
    super::{
        Keep, StoreClock,
        tally::{CHUNK, Ends},
    },
    read::count,
};

/// Jobs removed in one transaction: small, so that nobody who writes has to wait for long.
const BATCH: i64 = 200;
/// What they may take together, in bytes, without the last one.
const BATCH_SIZE: u64 = 64 << 20;

/// An ended job.
#[derive(Clone, Copy, Debug)]
pub(super) struct Old {
    job: Uuid,
    /// Its place in the order of ends.
    seq: i64,
    size: u64,
}

impl Old {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        let job = Uuid::from_bytes(row.get(0)?);
        Ok(Self { job, seq: row.get(1)?, size: row.get::<_, i64>(2)?.unsigned_abs() })
    }
}

/// Some of those that ended after a place in the order of ends, or all.
pub(super) fn ends(db: &Connection, after: i64) -> rusqlite::Result<Ends> {
    // By the index alone.
    db.prepare_cached(
        "SELECT count(*), coalesce(sum(size), 0), coalesce(max(ended_seq), 0)
         FROM (SELECT ended_seq, size FROM jobs WHERE ended_seq > ? ORDER BY ended_seq LIMIT ?)",
    )?
    .query_row(params![after, count(CHUNK)], |row| {
        let number = |at| row.get::<_, i64>(at).map(i64::unsigned_abs);
        Ok(Ends { number: number(0)?, size: number(1)?, last: row.get(2)? })
    })
}

/// Ended jobs beyond what is kept, a batch of them: those that were stored too long ago, else those that
/// ended first. `there` is how many there are.
pub(super) fn over(
    db: &Connection,
    keep: Keep,
    now: Timestamp,
    there: Ends,
) -> rusqlite::Result<Vec<Old>> {
    let time = i64::try_from(keep.time.as_millis()).unwrap_or(i64::MAX);
    let old: Vec<Old> = db
        .prepare_cached(
            "SELECT job_id, ended_seq, size FROM jobs
             WHERE stored_at IS NOT NULL AND stored_at < ? ORDER BY stored_at LIMIT ?",
        )?
        .query_map(params![now.0.saturating_sub(time), BATCH], Old::read)?
        .collect::<Result<_, _>>()?;
    let exceeds = |there: Ends| there.number > keep.number as u64 || there.size > keep.size;
    if !old.is_empty() || !exceeds(there) {
        return Ok(first_of(old));
    }
    let mut left = there;
    let mut first = db.prepare_cached(
        "SELECT job_id, ended_seq, size FROM jobs WHERE ended_seq IS NOT NULL
         ORDER BY ended_seq LIMIT ?",
    )?;
    let mut over = Vec::new();
    for old in first.query_map([BATCH], Old::read)? {
        if !exceeds(left) {
            break;
        }
        let old = old?;
        left.remove(1, old.size);
        over.push(old);
    }
    Ok(first_of(over))
}

/// The first of them, which are little together, and one at least.
fn first_of(mut old: Vec<Old>) -> Vec<Old> {
    let mut before = 0_u64;
    let fit = old.iter().take_while(|old| {
        let fits = before < BATCH_SIZE;
        before = before.saturating_add(old.size);
        fits
    });
    let fit = fit.count();
    old.truncate(fit);
    old
}

/// Removes jobs, their inputs and outputs, labels and keys. Answers what is left of what was there.
pub(super) fn remove(db: &Connection, jobs: &[Old], there: Ends) -> rusqlite::Result<Ends> {
    for table in ["inputs", "outputs", "printed", "labels", "keys", "jobs"] {
        let mut statement = db.prepare_cached(&format!("DELETE FROM {table} WHERE job_id = ?"))?;
        for old in jobs {
            statement.execute([old.job.as_bytes()])?;
        }
    }
    let mut left = there;
    for old in jobs.iter().filter(|old| old.seq <= there.last) {
        left.remove(1, old.size);
    }
    // Where the last one went, its place is given again.
    let last = "SELECT coalesce(max(ended_seq), 0) FROM jobs WHERE ended_seq IS NOT NULL";
    left.last = left.last.min(db.prepare_cached(last)?.query_row([], |row| row.get(0))?);
    Ok(left)
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
