//! What is written, each within a transaction of the writer's.

use cloister_api::{Status, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::{
    super::{
        Claim, Epoch, Key, Order, Piece, Submitted,
        record::{Changed, Found, New},
    },
    inbox::{self, Kind},
    lease,
    read::{columns, found, key_of},
    retention,
};

/// A runner that gets nothing new, in the table of orders.
pub(super) const DRAIN: &str = "drain";
/// Nobody gets anything, in the table of orders.
pub(super) const PAUSE: &str = "pause";

pub(super) fn submit(
    db: &Connection,
    new: &New,
    key: Option<&Key>,
    epoch: Option<Epoch>,
) -> rusqlite::Result<Submitted> {
    if let Some(key) = key {
        match key_of(db, &key.tenant, &key.name)? {
            Some((job, digest)) if digest == key.digest => return Ok(Submitted::Same(job)),
            Some(_) => return Ok(Submitted::Other),
            None => {}
        }
    }
    put(db, new, key.map(|key| (key, &*key.name)))?;
    let taken = lease::is(db, epoch)?;
    if !taken {
        inbox::put(db, Kind::Job, new.id)?;
    }
    Ok(Submitted::New { taken })
}

/// The same of several, all of which the transaction has or none.
pub(super) fn submit_all(
    db: &Connection,
    all: &[New],
    key: Option<&Key>,
    epoch: Option<Epoch>,
) -> rusqlite::Result<Submitted<Vec<Uuid>>> {
    let names = key.map(|key| key.names(all.len())).unwrap_or_default();
    let mut known = Vec::new();
    if let Some(key) = key {
        for name in &names {
            match key_of(db, &key.tenant, name)? {
                Some((job, digest)) if digest == key.digest => known.push(job),
                Some(_) => return Ok(Submitted::Other),
                None => {}
            }
        }
    }
    if !known.is_empty() {
        return Ok(Submitted::Same(known));
    }
    let taken = lease::is(db, epoch)?;
    for (at, new) in all.iter().enumerate() {
        put(db, new, key.zip(names.get(at).map(String::as_str)))?;
        if !taken {
            inbox::put(db, Kind::Job, new.id)?;
        }
    }
    Ok(Submitted::New { taken })
}

/// Writes a new job, with a key under a name if it has one.
fn put(db: &Connection, new: &New, key: Option<(&Key, &str)>) -> rusqlite::Result<()> {
    let id = new.id.as_bytes();
    db.prepare_cached(
        "INSERT INTO jobs (job_id, status, attempt, record, size) VALUES (?, ?, ?, ?, ?)",
    )?
    .execute(params![id, Status::Pending.as_str(), new.attempt, new.record, new.size()])?;
    if let Some(stdin) = &new.stdin {
        db.prepare_cached("INSERT INTO inputs VALUES (?, ?)")?.execute(params![id, stdin])?;
    }
    for (name, value) in &new.labels {
        db.prepare_cached("INSERT INTO labels VALUES (?, ?, ?)")?
            .execute(params![name, value, id])?;
    }
    if let Some((key, name)) = key {
        db.prepare_cached("INSERT INTO keys VALUES (?, ?, ?, ?)")?
            .execute(params![key.tenant, name, key.digest, id])?;
    }
    Ok(())
}

pub(super) fn claim(db: &Connection, job: Uuid, claim: &Claim) -> rusqlite::Result<Option<Found>> {
    let id = job.as_bytes();
    let changed = db
        .prepare_cached(
            "UPDATE jobs SET runner = ?, boot_id = ?, execution_id = ?, not_before = NULL
             WHERE job_id = ? AND attempt = ? AND status = 'pending'",
        )?
        .execute(params![
            claim.runner,
            claim.boot_id.as_ref().map(Uuid::as_bytes),
            claim.execution_id.as_bytes(),
            id,
            claim.attempt,
        ])?;
    if changed == 0 {
        return Ok(None);
    }
    db.prepare_cached(concat!(
        "SELECT ",
        columns!("inputs.stdin", "NULL"),
        " FROM jobs LEFT JOIN inputs USING (job_id) WHERE jobs.job_id = ?"
    ))?
    .query_row([id], found)
    .optional()
}

pub(super) fn unclaim(db: &Connection, job: Uuid) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE jobs SET runner = NULL, boot_id = NULL, execution_id = NULL
         WHERE job_id = ? AND status = 'pending'",
    )?
    .execute([job.as_bytes()])?;
    Ok(())
}

pub(super) fn started(
    db: &Connection,
    job: Uuid,
    attempt: u32,
    at: Timestamp,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE jobs SET status = 'running', started_at = ?
         WHERE job_id = ? AND attempt = ? AND status = 'pending'
             AND execution_id IS NOT NULL",
    )?
    .execute(params![at.0, job.as_bytes(), attempt])?;
    Ok(())
}

/// Answers whether the caller leads.
pub(super) fn request_cancel(
    db: &Connection,
    job: Uuid,
    epoch: Option<Epoch>,
) -> rusqlite::Result<bool> {
    let changed = db
        .prepare_cached("UPDATE jobs SET cancel = 1 WHERE job_id = ? AND finished_at IS NULL")?
        .execute([job.as_bytes()])?;
    let leads = lease::is(db, epoch)?;
    if changed > 0 && !leads {
        inbox::put(db, Kind::Cancel, job)?;
    }
    Ok(leads)
}

/// What a job takes beside its record.
macro_rules! size_of_rest {
    () => {
        "coalesce((SELECT octet_length(stdin) FROM inputs WHERE inputs.job_id = jobs.job_id), 0)
         + coalesce((SELECT octet_length(outputs) FROM outputs
                     WHERE outputs.job_id = jobs.job_id), 0)
         + coalesce((SELECT sum(octet_length(bytes)) FROM printed
                     WHERE printed.job_id = jobs.job_id), 0)"
    };
}

pub(super) fn finish(db: &Connection, job: &Changed, stored_at: Timestamp) -> rusqlite::Result<()> {
    job.printed.iter().try_for_each(|piece| put_output(db, piece))?;
    db.prepare_cached(concat!(
        "UPDATE jobs SET status = ?, reason = ?, attempt = ?, started_at = ?, finished_at = ?,
                 runner = ?, boot_id = NULL, execution_id = NULL, not_before = NULL, record = ?,
                 size = ? + ",
        size_of_rest!(),
        ",
                 stored_at = ?, ended_seq = (SELECT coalesce(max(ended_seq), 0) + 1 FROM jobs
                                             WHERE ended_seq IS NOT NULL)
             WHERE job_id = ? AND finished_at IS NULL",
    ))?
    .execute(params![
        job.status,
        job.reason,
        job.attempt,
        job.started_at.map(|t| t.0),
        job.finished_at.map(|t| t.0),
        job.runner,
        job.record,
        job.size(),
        stored_at.0,
        job.id.as_bytes(),
    ])?;
    Ok(())
}

/// Answers the job's size, if it was changed.
pub(super) fn retry(
    db: &Connection,
    job: &Changed,
    not_before: Timestamp,
) -> rusqlite::Result<Option<u64>> {
    job.printed.iter().try_for_each(|piece| put_output(db, piece))?;
    let size = db
        .prepare_cached(concat!(
            "UPDATE jobs SET status = ?, attempt = ?, started_at = NULL, runner = NULL,
                 boot_id = NULL, execution_id = NULL, not_before = ?, record = ?,
                 size = ? + ",
            size_of_rest!(),
            " WHERE job_id = ? AND attempt < ? AND finished_at IS NULL RETURNING size",
        ))?
        .query_row(
            params![
                job.status,
                job.attempt,
                not_before.0,
                job.record,
                job.size(),
                job.id.as_bytes(),
                job.attempt,
            ],
            |row| row.get::<_, i64>(0),
        )
        .optional()?;
    Ok(size.map(i64::unsigned_abs))
}

/// Records a part of what an attempt prints, unless the job has ended or is gone.
pub(super) fn put_output(db: &Connection, piece: &Piece) -> rusqlite::Result<()> {
    let open = db
        .prepare_cached("SELECT 1 FROM jobs WHERE job_id = ? AND finished_at IS NULL")?
        .exists([piece.job.as_bytes()])?;
    if !open {
        return Ok(());
    }
    let mut put = db.prepare_cached("INSERT OR REPLACE INTO printed VALUES (?, ?, ?, ?, ?)")?;
    for (row, bytes) in piece.rows() {
        let (job, stream) = (piece.job.as_bytes(), piece.stream.number());
        put.execute(params![job, piece.attempt, stream, row, bytes])?;
    }
    Ok(())
}

pub(super) fn order(db: &Connection, order: &Order) -> rusqlite::Result<()> {
    let (kind, runner, reason) = match order {
        Order::DrainRunner { runner, drained } => (DRAIN, runner.as_str(), drained.then_some("")),
        Order::Pause(reason) => (PAUSE, "", reason.as_deref()),
        Order::TrustClock => return retention::trust(db),
    };
    if let Some(reason) = reason {
        db.prepare_cached("INSERT OR REPLACE INTO orders VALUES (?, ?, ?)")?
            .execute([kind, runner, reason])?;
    } else {
        db.prepare_cached("DELETE FROM orders WHERE kind = ? AND runner = ?")?
            .execute([kind, runner])?;
    }
    Ok(())
}

pub(super) fn probe(db: &Connection) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE probe SET count = count + 1")?.execute([])?;
    Ok(())
}
