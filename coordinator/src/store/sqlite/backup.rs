//! Copies, and what becomes of one that is opened.
//!
//! An old copy knows nothing of what came after it: opened as if nothing were, it would have jobs run
//! again. So it is marked before it gets its name, and the mark pauses whoever opens it, once.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use cloister_api::Timestamp;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use uuid::Uuid;

use super::{super::StoreError, damage, schema, space, write::PAUSE};

/// Why no copy could be made.
enum Failure {
    Sqlite(rusqlite::Error),
    Io(io::Error),
    Store(StoreError),
    /// What SQLite's own check found.
    Damaged(String),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// See [`backup`](super::super::backup()).
pub(in crate::store) fn backup(path: &Path, file: &Path) -> Result<Timestamp, StoreError> {
    let cause = match copy(path, file) {
        Ok(at) => return Ok(at),
        Err(Failure::Store(error)) => return Err(error),
        Err(Failure::Sqlite(error)) => error.to_string(),
        Err(Failure::Io(error)) => error.to_string(),
        Err(Failure::Damaged(found)) => {
            format!("the copy is damaged, and so the store may be: {found}")
        }
    };
    Err(StoreError::Backup { store: path.display().to_string(), file: file.into(), cause })
}

fn copy(path: &Path, file: &Path) -> Result<Timestamp, Failure> {
    // Asked again when it gets its name; here so that nobody waits for nothing.
    if file.symlink_metadata().is_ok() {
        return Err(io::Error::from(io::ErrorKind::AlreadyExists).into());
    }
    damage::refuse_to_read(path)?;
    let unnamed = Unnamed::beside(file)?;
    let at = Timestamp::now();
    {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let source = Connection::open_with_flags(path, flags)?;
        source.busy_timeout(schema::BUSY)?;
        schema::check(&source, path)?;
        let name = unnamed.0.to_str().ok_or_else(|| io::Error::other("its path is not UTF-8"))?;
        // So that the copy can shrink, also where the original can't.
        space::set_mode(&source)?;
        // What was committed when this begins, whatever is written meanwhile.
        source.execute("VACUUM INTO ?", [name])?;
    }
    let mut copy = Connection::open(&unnamed.0)?;
    let found = copy.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0))?;
    if found != "ok" {
        return Err(Failure::Damaged(found));
    }
    // One of an earlier schema has no place for the mark.
    schema::prepare(&mut copy, &unnamed.0)?;
    copy.execute("UPDATE leadership SET copied_at = ?", [at.0])?;
    // All of it in the one file.
    copy.pragma_update(None, "journal_mode", "DELETE")?;
    copy.close().map_err(|(_, error)| error)?;
    File::open(&unnamed.0)?.sync_all()?;
    unnamed.name(file)?;
    Ok(at)
}

/// A file that has not its name yet, and is removed if it gets none.
struct Unnamed(PathBuf);

impl Unnamed {
    /// A new empty one, in the same folder, that nobody else may read.
    fn beside(file: &Path) -> io::Result<Self> {
        let name = file.file_name().ok_or_else(|| io::Error::other("it is not a file's name"))?;
        let name = format!(".{}.{}", name.to_string_lossy(), Uuid::new_v4());
        let path = file.with_file_name(name);
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self(path))
    }

    /// Gives it its name, unless another file has that, and waits until the disk knows it.
    fn name(self, file: &Path) -> io::Result<()> {
        fs::hard_link(&self.0, file)?;
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        for beside in ["", "-journal", "-wal", "-shm"] {
            let mut path = self.0.clone().into_os_string();
            path.push(beside);
            let _ = fs::remove_file(path);
        }
    }
}

/// Makes a copy that is opened for the first time a cluster of its own, and pauses it.
pub(super) fn recognise(connection: &mut Connection) -> rusqlite::Result<()> {
    let step = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let sql = "SELECT copied_at FROM leadership";
    let Some(at) = step.query_row(sql, [], |row| row.get::<_, Option<i64>>(0))? else {
        return Ok(());
    };
    let why = format!(
        "this is a copy from {}: jobs that had not ended then may have ended since; \
         `cloister resume` lets them be run",
        Timestamp(at)
    );
    tracing::warn!("{why}");
    begin_paused(&step, &why)?;
    step.commit()
}

/// Makes a database a cluster of its own, which does nothing until its operator says so.
pub(super) fn begin_paused(step: &Connection, why: &str) -> rusqlite::Result<()> {
    let cluster = Uuid::new_v4();
    step.execute(
        "UPDATE leadership SET cluster = ?, leader = NULL, name = NULL, copied_at = NULL",
        [cluster.as_bytes()],
    )?;
    step.execute("INSERT OR REPLACE INTO orders VALUES (?, '', ?)", [PAUSE, why])?;
    Ok(())
}
