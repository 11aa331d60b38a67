//! What others than the leader took in.
//!
//! A row leaves the inbox when it is known that the leader has it: when it asks for the next ones. So
//! a call that fails or is given up, wherever that happens, loses nothing.

use rusqlite::{Connection, params};
use uuid::Uuid;

use super::{
    super::record,
    read::{columns, found},
};

/// What a row tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Job,
    Cancel,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Cancel => "cancel",
        }
    }
}

/// Puts a row in. One that tells the same and was not taken yet is enough.
pub(super) fn put(db: &Connection, kind: Kind, job: Uuid) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR IGNORE INTO inbox (kind, job_id) VALUES (?, ?)")?
        .execute(params![kind.as_str(), job.as_bytes()])?;
    Ok(())
}

/// What was found.
#[derive(Default)]
pub(super) struct Found {
    /// The rows, also those that matter no more.
    pub(super) seen: Vec<i64>,
    /// Jobs that have not ended.
    pub(super) rows: Vec<(Kind, Uuid, record::Found)>,
}

/// The oldest rows.
pub(super) fn look(db: &Connection, limit: usize) -> rusqlite::Result<Found> {
    let mut oldest_first = db.prepare_cached(concat!(
        "SELECT ",
        columns!("NULL", "NULL"),
        ", inbox.seq, inbox.kind, inbox.job_id, jobs.finished_at
          FROM inbox LEFT JOIN jobs USING (job_id) ORDER BY inbox.seq"
    ))?;
    let mut all = oldest_first.query([])?;
    let mut told = Found::default();
    while told.rows.len() < limit
        && let Some(next) = all.next()?
    {
        told.seen.push(next.get(13)?);
        let there = next.get_ref(11)?.as_blob_or_null()?.is_some();
        if there && next.get::<_, Option<i64>>(16)?.is_none() {
            let of_job = next.get_ref(14)?.as_str()? == Kind::Job.as_str();
            let kind = if of_job { Kind::Job } else { Kind::Cancel };
            told.rows.push((kind, Uuid::from_bytes(next.get(15)?), found(next)?));
        }
    }
    Ok(told)
}

/// Takes rows out.
pub(super) fn remove(db: &Connection, rows: &[i64]) -> rusqlite::Result<()> {
    let mut statement = db.prepare_cached("DELETE FROM inbox WHERE seq = ?")?;
    for seq in rows {
        statement.execute([seq])?;
    }
    Ok(())
}
