//! What becomes of a store whose write-ahead log is damaged: it is refused, until its operator says that
//! it is to go on without what is lost.
//!
//! What it has then is like an old copy: what it shows as waiting may run, or have ended. Terms may be
//! lost with the rest. So it is another cluster from then on, and paused.

use std::{path::Path, sync::Arc};

use rusqlite::{Connection, TransactionBehavior};

use super::{
    super::StoreError,
    backup::begin_paused,
    lock::{Lock, file},
    wal::{self, Damage},
};

/// Refuses a store whose log is damaged, unless that was accepted by the damage's id. Then the log is
/// kept beside the database, and [`go_on`] is to be called. To be called before SQLite opens it, by who
/// has the lock.
pub(super) fn refuse(path: &Path, accepted: Option<&str>) -> Result<Option<Damage>, StoreError> {
    let Some(damage) = wal::look(path).map_err(|error| file(path, error))? else {
        return Ok(None);
    };
    if accepted != Some(damage.id.as_str()) {
        let Damage { id, what } = damage;
        return Err(StoreError::Damaged { path: path.into(), id, what });
    }
    let kept = wal::keep(path, &damage).map_err(|error| file(path, error))?;
    tracing::warn!(
        kept = %kept.display(),
        "the write-ahead log is damaged, which was accepted: {}; the store goes on without what is lost",
        damage.what
    );
    Ok(Some(damage))
}

/// The same for who only reads. A coordinator that has it open writes the log: its parts are no whole
/// then, and it was looked at when that started.
pub(super) fn refuse_to_read(path: &Path) -> Result<(), StoreError> {
    if Lock::is_held(path) { Ok(()) } else { refuse(path, None).map(drop) }
}

/// Refuses a database that is damaged itself. Pages that were copied from the log, and whose newer
/// versions are lost, may not fit together.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let found = connection.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0));
    match found {
        Ok(found) if found == "ok" => Ok(()),
        Ok(found) => Err(StoreError::Broken { path: path.into(), found }),
        Err(error) => Err(StoreError::Broken { path: path.into(), found: error.to_string() }),
    }
}

/// Makes it another cluster, and pauses it. A damaged log is not read again: this overwrites it.
pub(super) fn go_on(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    const WHY: &str = "the store's write-ahead log was damaged, and what was recorded last may be \
        lost: jobs that it has as waiting may have run; `cloister resume` lets them be run";
    let mut all = || {
        let step = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        begin_paused(&step, WHY)?;
        step.commit()?;
        connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
    };
    all().map_err(|error| StoreError::Sqlite {
        doing: "setting up",
        path: path.into(),
        cause: Arc::new(error),
    })
}
