//! The leader's lease: a row, in the database's own time.
//!
//! Fencing: whatever only a leader may write is one statement that takes the row of its term by
//! `FOR KEY SHARE` ([`term`]), and does nothing where that finds none. A renewal changes no key, and
//! passes beside such locks. A takeover changes the term, which is a key of the row, and so waits for
//! every such statement that began before; those that begin later wait for it, look again, and find
//! their term over (PostgreSQL, "Row-Level Locks" and "Read Committed Isolation Level"). That each is one
//! statement also means that a leader that is stopped holds no lock while it is.

use std::time::Duration;

use tokio_postgres::Transaction;

use super::{
    super::{Candidate, Epoch, Leadership},
    connect::{Failure, Session, words},
};

/// The row of the term `$1` as `term`, locked; to be used by `EXISTS (SELECT FROM term)`.
macro_rules! term {
    () => {
        "WITH term AS (SELECT FROM leadership WHERE epoch = $1::bigint FOR KEY SHARE)"
    };
}
pub(super) use term;

/// The timeline of the server in the upper half of a term's number. Each promotion of a standby begins a
/// new timeline. So a standby that had not heard of the last terms gives none of their numbers again, and
/// its terms are higher than all before.
const TIMELINE: &str =
    "('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint";

/// How terms are numbered.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    renew: String,
    take: String,
}

impl Terms {
    /// As this server can: one that tells no timeline has them all in the first one.
    pub(super) async fn of(step: &mut Transaction<'_>) -> Result<Self, tokio_postgres::Error> {
        // A failure ends no more than this.
        let part = step.savepoint("timeline").await?;
        let sql = format!("SELECT {TIMELINE}");
        match part.query_one(&sql, &[]).await {
            Ok(row) => {
                let _: i64 = row.try_get(0)?;
                part.commit().await?;
                Ok(Self::numbered(TIMELINE))
            }
            Err(error) if error.as_db_error().is_some() => {
                part.rollback().await?;
                tracing::warn!(
                    why = words(&error),
                    "the database does not tell its timeline: after a fail-over that loses commits, two \
                     coordinators may lead in one term"
                );
                Ok(Self::numbered("0::bigint"))
            }
            Err(error) => Err(error),
        }
    }

    fn numbered(timeline: &str) -> Self {
        // Renews the lease of `$1`, and tells whose it is.
        let renew = format!(
            "WITH seen AS (
                INSERT INTO candidates VALUES ($1, $2, clock_timestamp())
                ON CONFLICT (id) DO UPDATE SET name = excluded.name, seen_at = excluded.seen_at
            ), renewed AS (
                UPDATE leadership SET expires_at = clock_timestamp() + make_interval(secs => $3),
                    lasts = $3, name = $2
                WHERE leader = $1 AND expires_at > clock_timestamp() AND epoch >> 32 >= {timeline}
                RETURNING epoch
            )
            SELECT cluster, coalesce((SELECT epoch FROM renewed), epoch), leader, name,
                EXISTS (SELECT FROM renewed),
                leader IS NOT NULL AND leader <> $1 AND expires_at > clock_timestamp()
                    AND expires_at <= clock_timestamp() + make_interval(secs => lasts + 1)
                    AND epoch >> 32 >= {timeline},
                (SELECT count(*) FROM candidates
                 WHERE id <> $1 AND abs(extract(epoch FROM clock_timestamp() - seen_at)) < 10)
            FROM leadership"
        );
        // Begins a term, if nobody has one.
        let take = format!(
            "WITH taken AS (
                UPDATE leadership SET epoch = greatest(epoch + 1, {timeline} << 32), leader = $1,
                    name = $2, expires_at = clock_timestamp() + make_interval(secs => $3), lasts = $3
                WHERE leader IS NULL OR expires_at <= clock_timestamp()
                    OR expires_at > clock_timestamp() + make_interval(secs => lasts + 1)
                    OR epoch >> 32 < {timeline}
                RETURNING cluster, epoch
            ), forgotten AS (
                DELETE FROM candidates WHERE seen_at < clock_timestamp() - interval '1 minute'
                    AND EXISTS (SELECT FROM taken)
            )
            SELECT cluster, epoch FROM taken"
        );
        Self { renew, take }
    }

    #[cfg(test)]
    pub(super) fn take(&self) -> &str {
        &self.take
    }
}

/// A term as the database has it.
pub(super) fn number(epoch: Epoch) -> i64 {
    i64::try_from(epoch.0).unwrap_or(i64::MAX)
}

fn epoch(number: i64) -> Epoch {
    Epoch(number.unsigned_abs())
}

/// See [`Store::lead`](super::super::Store::lead).
pub(super) async fn lead(
    session: &Session,
    terms: &Terms,
    me: &Candidate,
    ttl: Duration,
) -> Result<Leadership, Failure> {
    let (renew, take) =
        (session.prepared(&terms.renew).await?, session.prepared(&terms.take).await?);
    let (name, seconds) = (me.name.as_bytes(), ttl.as_secs_f64());
    // It ends with the call's time: each further round means that another took it and gave it back.
    loop {
        let row = session.query_one(&renew, &[&me.id, &name, &seconds]).await?;
        let others = usize::try_from(row.try_get::<_, i64>(6)?).unwrap_or_default();
        let (mine, held): (bool, bool) = (row.try_get(4)?, row.try_get(5)?);
        let led =
            |cluster, number, leader| Leadership { cluster, epoch: epoch(number), leader, others };
        if mine {
            return Ok(led(row.try_get(0)?, row.try_get(1)?, me.clone()));
        }
        if held {
            let name: Vec<u8> = row.try_get(3)?;
            let name = String::from_utf8_lossy(&name).into_owned();
            let leader = Candidate { id: row.try_get(2)?, name };
            return Ok(led(row.try_get(0)?, row.try_get(1)?, leader));
        }
        if let Some(row) = session.query_opt(&take, &[&me.id, &name, &seconds]).await? {
            return Ok(led(row.try_get(0)?, row.try_get(1)?, me.clone()));
        }
    }
}

/// See [`Store::resign`](super::super::Store::resign).
pub(super) async fn resign(session: &Session, epoch: Epoch) -> Result<(), Failure> {
    let sql =
        "UPDATE leadership SET leader = NULL, name = NULL, expires_at = NULL WHERE epoch = $1";
    let statement = session.prepared(sql).await?;
    session.execute(&statement, &[&number(epoch)]).await?;
    Ok(())
}

/// The latest term.
pub(super) async fn newest(session: &Session) -> Result<Epoch, Failure> {
    let statement = session.prepared("SELECT epoch FROM leadership").await?;
    Ok(epoch(session.query_one(&statement, &[]).await?.try_get(0)?))
}
