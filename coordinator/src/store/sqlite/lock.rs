//! Keeps other coordinators away from an embedded database, and notices when its files are replaced.
//!
//! Two coordinators on one embedded store would each run its jobs. Two locks are held:
//!
//! - On the database file itself. A file of locks beside it can be deleted; the database can not without
//!   being gone. It is a lock of the open file description (`F_OFD_SETLK`) on one byte that SQLite never
//!   touches. `flock` would do on a local disk, but NFS turns it into a lock on all bytes, which
//!   conflicts with SQLite's own.
//! - By `flock` on the file `….lock` beside it: earlier versions know only that one.
//!
//! SQLite's own locks are the process's: when a process closes *any* descriptor of a file, all its POSIX
//! locks on that file end (fcntl(2)). So the descriptor is opened before SQLite's, every connection
//! keeps it open by a reference to the [`Lock`], and nothing else in the process opens the file.

use std::{
    fs::{self, File, Metadata, OpenOptions, TryLockError},
    io, mem,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc,
};

use super::super::StoreError;

/// How long the one before may still have the file locked: one that was killed while it waited for the
/// disk, or that was just starting a program, which has the lock until it is executed.
const LETTING_GO: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 1_000 });

/// The byte that is locked. SQLite's last one is near 1 GiB (`PENDING_BYTE`), and no database is so
/// large: its largest is 2^48 bytes.
const BYTE: libc::off_t = 1 << 60;

/// Which file a name stood for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl From<&Metadata> for Identity {
    fn from(found: &Metadata) -> Self {
        Self { device: found.dev(), inode: found.ino() }
    }
}

/// Both locks, for as long as this lives.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    found: Identity,
    /// The write-ahead log, once there is one.
    log: OnceLock<Identity>,
    _database: File,
    _beside: File,
}

impl Lock {
    /// Makes the database file, readable by nobody else (it holds what users send), and locks it.
    pub(super) fn take(path: &Path) -> Result<Self, StoreError> {
        let failed = |error| file(path, error);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let beside = options.open(with(path, ".lock")).map_err(failed)?;
        let beside = held(path, beside, |file| match file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        })?;
        loop {
            let database = held(path, options.open(path).map_err(failed)?, lock_byte)?;
            let found = Identity::from(&database.metadata().map_err(failed)?);
            // It may have been replaced between the two calls.
            if fs::metadata(path).is_ok_and(|named| Identity::from(&named) == found) {
                return Ok(Self {
                    path: path.into(),
                    found,
                    log: OnceLock::new(),
                    _database: database,
                    _beside: beside,
                });
            }
        }
    }

    /// Whether another process, or this one, has the database open as a coordinator, as far as the lock
    /// beside it tells. It opens no descriptor of the database.
    pub(super) fn is_held(path: &Path) -> bool {
        let beside = File::open(with(path, ".lock"));
        beside.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Remembers which file the write-ahead log is. SQLite keeps it while any connection is open.
    pub(super) fn note_log(&self) -> Result<(), StoreError> {
        let log = fs::metadata(with(&self.path, "-wal")).map_err(|e| file(&self.path, e))?;
        self.log.get_or_init(|| Identity::from(&log));
        Ok(())
    }

    /// Whether the database and its log are still the files by their names. What is written to a file
    /// that was replaced or removed is lost when this process ends.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let log = self.log.get().map(|log| (with(&self.path, "-wal"), *log));
        for (path, known) in [(self.path.clone(), self.found)].into_iter().chain(log) {
            match fs::metadata(&path) {
                Ok(found) if Identity::from(&found) == known => {}
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(file(&self.path, error));
                }
                _ => return Err(StoreError::Replaced { path }),
            }
        }
        Ok(())
    }
}

/// The name of a file that belongs to the database.
pub(super) fn with(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

pub(super) fn file(path: &Path, source: io::Error) -> StoreError {
    StoreError::File { path: path.into(), cause: Arc::new(source) }
}

/// Takes a lock, and waits a moment for one who is about to let it go.
fn held(
    path: &Path,
    locked: File,
    take: impl Fn(&File) -> io::Result<bool>,
) -> Result<File, StoreError> {
    let until = Instant::now() + LETTING_GO;
    loop {
        match take(&locked) {
            Ok(true) => return Ok(locked),
            Ok(false) if Instant::now() < until => sleep(LETTING_GO / 50),
            Ok(false) => {
                // It may be this process that has it: to close the file would end SQLite's locks.
                mem::forget(locked);
                return Err(StoreError::InUse { path: path.into() });
            }
            Err(error) => return Err(file(path, error)),
        }
    }
}

/// Answers whether it took the lock.
fn lock_byte(database: &File) -> io::Result<bool> {
    // Constants of a few bits, declared wider than the fields.
    #[allow(clippy::cast_possible_truncation)]
    let lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: BYTE,
        l_len: 1,
        l_pid: 0,
    };
    match fcntl(database, FcntlArg::F_OFD_SETLK(&lock)) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
