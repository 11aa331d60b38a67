//! The leader's lease of a database that only this process has open.
//!
//! Who leads is in memory, since nobody else can be asked to believe it; the term is in the database,
//! so that it is higher than all before. A renewal writes nothing: a full disk ends no term.

use std::time::Duration;

use rusqlite::{Connection, params};
use tokio::{sync::Mutex, time::Instant};
use uuid::Uuid;

use super::{
    super::{Candidate, Epoch, Leadership, StoreError},
    writer::Writer,
};

/// Who leads, if anybody does.
pub(super) struct Lease {
    cluster: Uuid,
    holder: Mutex<Option<Holder>>,
}

struct Holder {
    epoch: Epoch,
    leader: Candidate,
    until: Instant,
}

impl Lease {
    /// Of a database that was just opened: nobody leads.
    pub(super) fn new(db: &Connection) -> rusqlite::Result<Self> {
        let sql = "SELECT cluster FROM leadership";
        let cluster = db.query_row(sql, [], |row| Ok(Uuid::from_bytes(row.get(0)?)))?;
        Ok(Self { cluster, holder: Mutex::new(None) })
    }

    /// See [`Store::lead`](super::super::Store::lead).
    pub(super) async fn lead(
        &self,
        writer: &Writer,
        me: Candidate,
        ttl: Duration,
    ) -> Result<Leadership, StoreError> {
        let mut holder = self.holder.lock().await;
        let now = Instant::now();
        let held = match holder.take().filter(|held| held.until > now) {
            Some(held) if held.leader.id == me.id => {
                Holder { until: now + ttl, leader: me, ..held }
            }
            Some(held) => held,
            None => {
                let next = me.clone();
                let epoch = writer.call(move |db| begin(db, &next)).await?;
                Holder { epoch, leader: me, until: now + ttl }
            }
        };
        let held = holder.insert(held);
        Ok(Leadership {
            cluster: self.cluster,
            epoch: held.epoch,
            leader: held.leader.clone(),
            others: 0,
        })
    }

    /// See [`Store::resign`](super::super::Store::resign).
    pub(super) async fn resign(&self, epoch: Epoch) {
        let mut holder = self.holder.lock().await;
        *holder = holder.take().filter(|held| held.epoch != epoch);
    }
}

/// Begins a term.
fn begin(db: &Connection, leader: &Candidate) -> rusqlite::Result<Epoch> {
    db.prepare_cached("UPDATE leadership SET epoch = epoch + 1, leader = ?, name = ?")?
        .execute(params![leader.id.as_bytes(), leader.name])?;
    newest(db)
}

/// The latest term.
pub(super) fn newest(db: &Connection) -> rusqlite::Result<Epoch> {
    let mut statement = db.prepare_cached("SELECT epoch FROM leadership")?;
    statement.query_row([], |row| row.get(0).map(|epoch: i64| Epoch(epoch.unsigned_abs())))
}

/// Whether this is a term, and the latest one.
pub(super) fn is(db: &Connection, epoch: Option<Epoch>) -> rusqlite::Result<bool> {
    epoch.map_or(Ok(false), |epoch| Ok(newest(db)? == epoch))
}

/// Does what only a leader may; of a term that is over, answers the latest one and does nothing.
pub(super) fn within<T>(
    db: &Connection,
    epoch: Epoch,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<Result<T, Epoch>> {
    let newest = newest(db)?;
    if newest == epoch { work(db).map(Ok) } else { Ok(Err(newest)) }
}
