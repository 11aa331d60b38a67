//! What can go wrong with a store, in words for its operator.

use std::{io, path::PathBuf, sync::Arc};

use uuid::Uuid;

/// A store that can't be opened, read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL names no kind of store that is known.
    #[error("the store {url:?} is not known; write sqlite:PATH or postgres://USER@HOST/DATABASE")]
    Url {
        /// As it was given, but for what may be a password.
        url: String,
    },
    /// The file or its folder can't be made or opened.
    #[error("opening the store {path} failed: {cause}; check that its folder can be written")]
    File {
        /// The database's file.
        path: PathBuf,
        /// Why.
        cause: Arc<io::Error>,
    },
    /// Another process has it.
    #[error("the store {path} is in use by another coordinator; give each its own")]
    InUse {
        /// The database's file.
        path: PathBuf,
    },
    /// Its file, or its log, is not the one any more that was opened.
    #[error(
        "{path} was replaced or removed while this coordinator uses it, and what is written to the old \
         file would be lost; put it back, or restart the coordinator to use what is there now"
    )]
    Replaced {
        /// The file.
        path: PathBuf,
    },
    /// Its write-ahead log is damaged.
    #[error(
        "opening the store {path} failed: its write-ahead log is damaged: {what}; jobs that were \
         acknowledged and results that were recorded would be lost; restore a backup, or go on without \
         them by starting the coordinator once with --accept-damage {id}: the log is then kept beside the \
         store, and nothing is dispatched until `cloister resume`"
    )]
    Damaged {
        /// The database's file.
        path: PathBuf,
        /// Of this log: what accepts the damage.
        id: String,
        /// What is wrong.
        what: String,
    },
    /// It is damaged, beyond its log.
    #[error("the store {path} is damaged: {found}; restore a backup")]
    Broken {
        /// The database's file.
        path: PathBuf,
        /// What SQLite's own check found.
        found: String,
    },
    /// It was written by a newer program.
    #[error(
        "the store {store} has schema {found}, this program knows up to {known}; \
         run the newer version that wrote it, or restore a backup from before"
    )]
    Newer {
        /// The database.
        store: String,
        /// The schema that it has.
        found: i64,
        /// The latest one that is known here.
        known: i64,
    },
    /// It is a database, but not ours.
    #[error("{store} is a database of another program; name another one")]
    Foreign {
        /// The database.
        store: String,
    },
    /// Only a leader may do it, and the caller leads no more.
    #[error("{doing} failed: epoch {epoch} is over: a coordinator of epoch {newest} leads now")]
    Stale {
        /// What was attempted, such as `recording a claim`.
        doing: &'static str,
        /// The caller's term.
        epoch: u64,
        /// The latest term.
        newest: u64,
    },
    /// SQLite could not do it.
    #[error("{doing} the store {path} failed: {cause}")]
    Sqlite {
        /// What was attempted, such as `writing`.
        doing: &'static str,
        /// The database's file.
        path: PathBuf,
        /// Why.
        cause: Arc<rusqlite::Error>,
    },
    /// No copy could be made.
    #[error("copying the store {store} to {file} failed: {cause}")]
    Backup {
        /// The database.
        store: String,
        /// Where the copy was to be.
        file: PathBuf,
        /// Why.
        cause: String,
    },
    /// The URL is one of PostgreSQL, but can't be used.
    #[error("the store {store} can't be used: {why}")]
    Unfit {
        /// Host and database, without a password.
        store: String,
        /// Why, and what to do.
        why: String,
    },
    /// PostgreSQL could not do it, or did not answer.
    #[error("{doing} the store {store} failed: {cause}")]
    Postgres {
        /// What was attempted, such as `connecting to`.
        doing: &'static str,
        /// Host and database, without a password.
        store: String,
        /// Why.
        cause: String,
    },
    /// The database refuses what it was to store, whenever it is asked.
    #[error("{doing} the store {store} failed: it refuses the data: {cause}")]
    Refused {
        /// What was attempted, such as `writing`.
        doing: &'static str,
        /// The database.
        store: String,
        /// Why.
        cause: String,
    },
    /// A row does not read as what was written.
    #[error("the record of job {job} in the store {store} can't be read: {why}")]
    Record {
        /// The database.
        store: String,
        /// Whose record.
        job: Uuid,
        /// Why.
        why: String,
    },
    /// What is to be stored cannot be written as a record.
    #[error("the record of job {job} can't be written: {cause}")]
    Encode {
        /// Whose record.
        job: Uuid,
        /// Why.
        cause: Arc<serde_json::Error>,
    },
    /// The store is closed: the process is ending.
    #[error("the store {store} is closed")]
    Closed {
        /// The database.
        store: String,
    },
}

impl StoreError {
    /// Whether it is about what was to be stored, and not about the store: another try fails too, and
    /// other jobs are stored all the same.
    pub(crate) const fn is_of_data(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Encode { .. })
    }
}

/// A URL without what may be a password: what stands before the host, and what comes after `?`.
pub(super) fn without_secrets(url: &str) -> String {
    let url = url.split_once('?').map_or(url, |(before, _)| before);
    match (url.find("//"), url.rfind('@')) {
        (Some(slashes), Some(at)) if slashes < at => {
            format!("{}//…{}", &url[..slashes], &url[at..])
        }
        _ => url.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_told_without_its_password() {
        for (url, told) in [
            ("postgress://me:pa@ss@host/db", "postgress://…@host/db"),
            ("mysql://host/db?password=pass&x=1", "mysql://host/db"),
            ("sqlite", "sqlite"),
            ("/path/a@b", "/path/a@b"),
        ] {
            assert_eq!(without_secrets(url), told);
        }
    }
}
