//! The new mount API (fsopen(2), open_tree(2), move_mount(2), mount_setattr(2)), as the launcher and
//! the cell use it: a mount is first made or cloned as a descriptor, given its attributes, and only
//! then attached, so that it is never seen without them.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::CWD,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
        fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
    },
    path::Arg,
};

use crate::sys;

pub(crate) const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
pub(crate) const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
pub(crate) const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
pub(crate) const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;

/// A new file system that is mounted nowhere yet.
pub(crate) fn new(kind: &str, options: &[(&str, &str)], attributes: u64) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        fsconfig_set_string(context.as_fd(), *key, *value)?;
    }
    finish(&context, attributes)
}

fn finish(context: &OwnedFd, attributes: u64) -> io::Result<OwnedFd> {
    fsconfig_create(context.as_fd())?;
    let attributes = u32::try_from(attributes).map_err(io::Error::other)?;
    Ok(fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::from_bits_retain(attributes),
    )?)
}

/// A read-only overlay of these folders, the first on top, mounted nowhere yet. `unprivileged` is for a
/// mounter without rights on the host.
pub(crate) fn overlay(
    folders: &[&Path],
    unprivileged: bool,
    attributes: u64,
) -> io::Result<OwnedFd> {
    let mut list = String::new();
    for folder in folders {
        let folder = folder.to_str().ok_or(io::ErrorKind::InvalidFilename)?;
        if !list.is_empty() {
            list.push(':');
        }
        // The separators of the list (Documentation/filesystems/overlayfs.rst).
        list.push_str(&folder.replace('\\', "\\\\").replace(':', "\\:"));
    }
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "lowerdir", list)?;
    // Inode numbers stay those of the files, below 2^53, which is what JavaScript can tell apart.
    fsconfig_set_string(context.as_fd(), "xino", "off")?;
    if unprivileged {
        fsconfig_set_flag(context.as_fd(), "userxattr")?;
    }
    finish(&context, attributes)
}

/// A copy of what is mounted at a path, attached nowhere yet, with these attributes added.
/// `recursive` takes what is mounted below with it.
pub(crate) fn clone(path: impl Arg, attributes: u64, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = open_tree(CWD, path, flags)?;
    if attributes != 0 {
        sys::set_mount_attributes(tree.as_fd(), c"", attributes, 0, recursive)?;
    }
    Ok(tree)
}

/// The same for one mount that is to have just these of the attributes above.
pub(crate) fn clone_with_just(path: impl Arg, attributes: u64) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, path, flags)?;
    let others = (RDONLY | NOSUID | NODEV | NOEXEC) & !attributes;
    sys::change_mount_attributes(tree.as_fd(), c"", attributes, others, 0, false)?;
    Ok(tree)
}

/// Attaches a mount at a path.
pub(crate) fn attach(mount: &OwnedFd, path: impl Arg) -> io::Result<()> {
    Ok(move_mount(mount.as_fd(), "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}
