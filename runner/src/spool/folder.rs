//! The folder in which output files are made.

use std::{
    fmt,
    fs::{DirBuilder, File, OpenOptions, create_dir_all},
    io,
    os::{
        fd::AsFd,
        unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{OFlag, openat},
    sys::stat::{Mode, fchmod},
    unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat},
};

use crate::Error;

/// Only for the user that writes them.
const FILE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

/// An open folder in which files without a name can be made. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SpoolFolder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: File,
    path: PathBuf,
    /// Whether its file system makes files that never had a name.
    nameless: bool,
    /// The number of the next file that has one for a moment.
    next: AtomicU64,
}

impl SpoolFolder {
    /// Opens the folder, and makes it if it is not there. To be called before privileges are dropped:
    /// root hands it to `user`, which then needs no right to the folders above.
    ///
    /// # Errors
    /// Also where it belongs to somebody else and is not empty, and where no file can be made in it.
    pub fn open(path: &Path, user: u32) -> Result<Self, Error> {
        let failed = |source| Error::Spool { path: path.into(), source };
        let folder = make(path, user).map_err(failed)?;
        let inner = Inner { folder, path: path.into(), nameless: true, next: AtomicU64::new(0) };
        let nameless = match inner.file() {
            Ok(_) => true,
            Err(error) if has_no_nameless(&error) => false,
            Err(error) => return Err(failed(error)),
        };
        let inner = Inner { nameless, ..inner };
        inner.file().map_err(failed)?;
        Ok(Self(Arc::new(inner)))
    }

    /// What the service does in it.
    pub fn needs(&self) -> cloister_sandbox::Spool<'_> {
        cloister_sandbox::Spool { folder: self.0.folder.as_fd(), names: !self.0.nameless }
    }

    /// A new file, empty, without a name.
    pub(super) fn file(&self) -> io::Result<File> {
        self.0.file()
    }
}

impl fmt::Display for SpoolFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.path.display().fmt(f)
    }
}

impl Inner {
    fn file(&self) -> io::Result<File> {
        let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
        if self.nameless {
            // O_EXCL: it can't be given a name later.
            let flags = flags | OFlag::O_TMPFILE | OFlag::O_EXCL;
            return Ok(openat(&self.folder, ".", flags, FILE)?.into());
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("output-{}-{number}", std::process::id());
        let flags = flags | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
        let file = openat(&self.folder, name.as_str(), flags, FILE)?;
        unlinkat(&self.folder, name.as_str(), UnlinkatFlags::NoRemoveDir)?;
        Ok(file.into())
    }
}

/// `O_TMPFILE` is not known to this file system, or to this kernel.
fn has_no_nameless(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::ENOENT | Errno::EINVAL)
    )
}

fn make(path: &Path, user: u32) -> io::Result<File> {
    if let Some(above) = path.parent() {
        create_dir_all(above)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    let folder = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    if Uid::effective().is_root() {
        hand_over(&folder, user)?;
    }
    Ok(folder)
}

/// Gives the folder to `user`, if it is nobody else's.
fn hand_over(folder: &File, user: u32) -> io::Result<()> {
    let owner = folder.metadata()?.uid();
    if owner == user {
        return Ok(());
    }
    let mut entries = Dir::openat(folder, ".", OFlag::O_DIRECTORY, Mode::empty())?;
    let entries = entries.iter().filter_map(Result::ok);
    if entries.filter(|entry| !matches!(entry.file_name().to_bytes(), b"." | b"..")).count() > 0 {
        return Err(io::Error::other(format!(
            "it belongs to uid {owner} and is not empty; give the spool a folder of its own"
        )));
    }
    fchown(folder, Some(Uid::from_raw(user)), Some(Gid::from_raw(user)))?;
    Ok(fchmod(folder, Mode::S_IRWXU)?)
}

#[cfg(test)]
mod tests {
    use cloister_tests::Scratch;

    use super::*;

    #[test]
    fn a_file_system_without_nameless_files_will_do() {
        let scratch = Scratch::new("spool");
        let folder = File::open(&*scratch).unwrap();
        let path = scratch.to_path_buf();
        let inner = Inner { folder, path, nameless: false, next: AtomicU64::new(0) };
        let files = [inner.file().unwrap(), inner.file().unwrap()];
        assert!(files.iter().all(|file| file.metadata().unwrap().nlink() == 0));
        assert_eq!(std::fs::read_dir(&*scratch).unwrap().count(), 0);
    }
}
