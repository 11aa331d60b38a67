//! Reading and writing the small files of a cgroup, relative to its open folder.

use std::{
    fmt::Display,
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    buffer::spare_capacity,
    fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, unlinkat},
    io::retry_on_intr,
};

/// More than most of them hold.
const PIECE: usize = 1024;

/// Opens a folder.
pub(crate) fn open_folder(at: impl AsFd, path: impl AsRef<Path>) -> io::Result<OwnedFd> {
    Ok(openat(
        at,
        path.as_ref(),
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// Opens a folder by its path from the root.
pub(crate) fn open_path(path: &Path) -> io::Result<OwnedFd> {
    open_folder(CWD, path)
}

/// Opens an open folder once more, for nothing but finding what is below it.
pub(crate) fn reopen_path(folder: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(folder, ".", flags, Mode::empty())?)
}

/// Makes a folder and opens it.
pub(crate) fn make_folder(at: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    mkdirat(&at, name, Mode::from_raw_mode(0o755))?;
    open_folder(at, name)
}

/// Tells folders of one file system apart.
pub(crate) fn inode(folder: impl AsFd) -> io::Result<u64> {
    Ok(rustix::fs::fstat(folder)?.st_ino)
}

/// Removes an empty folder.
pub(crate) fn remove_folder(at: impl AsFd, name: &str) -> io::Result<()> {
    Ok(unlinkat(at, name, AtFlags::REMOVEDIR)?)
}

/// Opens a file for reading.
pub(crate) fn open_for_reading(at: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    Ok(openat(at, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens a file for writing.
pub(crate) fn open_for_writing(at: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    Ok(openat(at, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Writes a value in one write(2), as cgroup files want it.
pub(crate) fn write(at: impl AsFd, name: &str, value: &dyn Display) -> io::Result<()> {
    let file = open_for_writing(at, name)?;
    rustix::io::write(&file, value.to_string().as_bytes())?;
    Ok(())
}

/// Reads a file as text.
pub(crate) fn read(at: impl AsFd, name: &str) -> io::Result<String> {
    let file = open_for_reading(at, name)?;
    // Without asking for its size and place, as std does: the kernel writes it as it is read.
    let mut bytes = Vec::with_capacity(PIECE);
    while retry_on_intr(|| rustix::io::read(&file, spare_capacity(&mut bytes)))? > 0 {
        bytes.reserve(PIECE);
    }
    String::from_utf8(bytes).map_err(io::Error::other)
}

/// The number behind `key` in a file of `key number` lines.
pub(crate) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The processes that stand in a folder, as far as this PID namespace knows them: the kernel lists
/// others as 0, which as an argument of kill(2) would mean ourselves.
pub(crate) fn processes(at: impl AsFd) -> io::Result<Vec<i32>> {
    let text = read(at, "cgroup.procs")?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect())
}
