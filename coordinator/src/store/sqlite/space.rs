//! Gives back to the file system what is free in the database's file.
//!
//! SQLite uses free pages again and never gives any back by itself. With `auto_vacuum = INCREMENTAL` it
//! does when it is told to, a few pages at a time. That mode is a property of the file: new ones are
//! made with it; one of an earlier version is rewritten when it is opened, if that takes a moment only.

use std::path::Path;

use rusqlite::Connection;

/// `PRAGMA auto_vacuum`: free pages are known, and given back when told to.
const INCREMENTAL: i64 = 2;
/// Pages given back in one transaction, a MiB: so nobody who writes waits for long.
pub(super) const STEP: i64 = 256;
/// Transactions after which other work of the same kind comes first again.
pub(super) const STEPS: usize = 4096;
/// Bytes that stay free in the file, for what is written next.
pub(super) const SPARE: i64 = 16 << 20;
/// How much of a file may be in use for it to be rewritten at the start: that takes a few seconds, and
/// runners wait for a coordinator that is being restarted.
pub(super) const CHEAP: i64 = 128 << 20;
/// To how many bytes the log is cut when it begins anew. Else it stays as long as it ever was.
const LOG: i64 = 64 << 20;

/// What a file is to be that is made next: by a database's first table, or by `VACUUM`.
pub(super) fn set_mode(db: &Connection) -> rusqlite::Result<()> {
    let mode: i64 = db.pragma_query_value(None, "auto_vacuum", |row| row.get(0))?;
    // To say it again is a change of the file, which may be open for reading only.
    if mode == INCREMENTAL { Ok(()) } else { db.pragma_update(None, "auto_vacuum", INCREMENTAL) }
}

/// Bounds what the write-ahead log takes of the disk for good.
pub(super) fn bound_log(db: &Connection) -> rusqlite::Result<()> {
    // It answers with the bound, which `pragma_update` takes for an error.
    db.query_row(&format!("PRAGMA journal_size_limit = {LOG}"), [], |_| Ok(()))
}

/// Rewrites a file of an earlier version, if no more than `most` bytes of it are in use. Nothing
/// depends on it: where it fails, as for want of space, the file is as before.
pub(super) fn convert(db: &Connection, path: &Path, most: i64) {
    let file = path.display();
    match try_convert(db, most) {
        Ok(true) => {}
        Ok(false) => tracing::info!(
            "{file} was made by an earlier version and does not shrink: what is freed in it is used \
             again; docs/operating.md says how to rewrite it"
        ),
        Err(error) => tracing::warn!(
            %error,
            "cannot rewrite {file} so that it can shrink; it is used as it is, and tried again at the \
             next start"
        ),
    }
}

/// Answers whether the file can shrink.
fn try_convert(db: &Connection, most: i64) -> rusqlite::Result<bool> {
    let number = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    if number("auto_vacuum")? == INCREMENTAL {
        return Ok(true);
    }
    let used = number("page_count")? - number("freelist_count")?;
    if used.saturating_mul(number("page_size")?) > most {
        return Ok(false);
    }
    set_mode(db)?;
    db.execute_batch("VACUUM")?;
    Ok(number("auto_vacuum")? == INCREMENTAL)
}

/// How many pages are free beyond what is to stay free.
pub(super) fn excess(db: &Connection) -> rusqlite::Result<i64> {
    let number = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    if number("auto_vacuum")? != INCREMENTAL {
        return Ok(0);
    }
    Ok((number("freelist_count")? - SPARE / number("page_size")?.max(1)).max(0))
}

/// Gives back so many pages. The file itself is cut when they are out of the log.
pub(super) fn give_back(db: &Connection, pages: i64) -> rusqlite::Result<()> {
    let mut statement = db.prepare_cached(&format!("PRAGMA incremental_vacuum({pages})"))?;
    // Each row that it answers is a page.
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}
