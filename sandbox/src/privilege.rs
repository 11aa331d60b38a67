//! Taking every privilege from the process that listens to the network. The launcher, forked before,
//! keeps what making cells needs.

use std::{
    ffi::OsStr,
    io,
    os::unix::fs::{MetadataExt, lchown},
    path::{Path, PathBuf},
};

use caps::CapSet;
use nix::{
    sys::prctl,
    unistd::{Gid, Uid, setgroups, setresgid, setresuid},
};

use crate::{
    error::{Context, Error},
    mounts,
};

/// The user and group of services that were started as root, where no other was named. In the range
/// of systemd's dynamic users, which no login has.
pub const SERVICE_UID: u32 = 61_840;

/// Makes the folder of `store` a place that [`drop_privileges`]' user can use, even below a private
/// home, and comes back with the store's path as this process will see it: the folder is handed to
/// that user, and shown in this process's own mount namespace. Without privileges it is used where it
/// is.
///
/// # Errors
/// Also when the folder holds what belongs to somebody else: it is not given away, nor anything in it
/// but the store's own files.
pub fn private_store(store: &Path, user: u32) -> Result<PathBuf, Error> {
    let name = store
        .file_name()
        .ok_or_else(|| Error::Folder { path: store.into(), reason: "it names no file".into() })?;
    let folder = match store.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).context(format!("making the folder {}", folder.display()))?;
    let folder = folder.canonicalize().context(format!("resolving {}", folder.display()))?;
    if !Uid::effective().is_root() {
        return Ok(folder.join(name));
    }
    hand_over(&folder, name, user)?;
    if !caps::has_cap(None, CapSet::Effective, caps::Capability::CAP_SYS_ADMIN).unwrap_or(false) {
        // Root of a container that may not mount: then its folders are no private homes either.
        return Ok(folder.join(name));
    }
    let data = mounts::clone(&folder, mounts::NOSUID | mounts::NODEV | mounts::NOEXEC, true)
        .context(format!("cloning {}", folder.display()))?;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).context("making a mount namespace")?;
    crate::sys::set_mount_attributes(rustix::fs::CWD, c"/", 0, libc::MS_PRIVATE, true)
        .context("making the mounts private")?;
    let attributes = mounts::NOSUID | mounts::NODEV;
    let over = mounts::new("tmpfs", &[("size", "4096"), ("mode", "0755")], attributes)
        .context("making a tmpfs")?;
    mounts::attach(&over, "/mnt").context("covering /mnt, which must be a folder,")?;
    let shown = Path::new("/mnt/data");
    std::fs::create_dir(shown).context("making /mnt/data")?;
    mounts::attach(&data, shown).context(format!(
        "showing {} at {}",
        folder.display(),
        shown.display()
    ))?;
    Ok(shown.join(name))
}

/// Gives the folder and the store's files in it to `user`, if nobody else's is in there.
fn hand_over(folder: &Path, name: &OsStr, user: u32) -> Result<(), Error> {
    let failed = || format!("handing {} to uid {user}", folder.display());
    let owner = std::fs::metadata(folder).context(failed())?.uid();
    let mut own = Vec::new();
    for entry in std::fs::read_dir(folder).context(failed())? {
        let entry = entry.context(failed())?;
        let is_store = entry.file_name().as_encoded_bytes().starts_with(name.as_encoded_bytes());
        // A link could point anywhere, and so could a second name.
        let kind = entry.metadata().context(failed())?;
        if is_store && kind.is_file() && kind.nlink() == 1 {
            own.push(entry.path());
        } else if owner != user {
            let other = if owner == 0 { "" } else { ", or name that user by --service-uid" };
            return Err(Error::Folder {
                path: folder.into(),
                reason: format!(
                    "it belongs to uid {owner} and holds other files; give the store a folder of its \
                     own{other}"
                ),
            });
        }
    }
    for path in own.iter().map(PathBuf::as_path).chain([folder]) {
        // Never through a link: one may have been put there since.
        lchown(path, Some(user), Some(user)).context(failed())?;
    }
    Ok(())
}

/// Becomes `user` and gives up every capability, for ever, and the right to gain any. For a process
/// that has none to begin with only the last part matters.
pub fn drop_privileges(user: u32) -> Result<(), Error> {
    let capabilities = |e: caps::errors::CapsError| {
        Error::os("dropping capabilities", io::Error::other(e.to_string()))
    };
    if Uid::effective().is_root() {
        let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
        setgroups(&[]).context("leaving the supplementary groups")?;
        if caps::has_cap(None, CapSet::Effective, caps::Capability::CAP_SETPCAP).unwrap_or(false) {
            caps::clear(None, CapSet::Bounding).map_err(capabilities)?;
        }
        setresgid(gid, gid, gid).context(format!("becoming group {user}"))?;
        setresuid(uid, uid, uid).context(format!("becoming user {user}"))?;
    }
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set).map_err(capabilities)?;
    }
    prctl::set_no_new_privs().context("setting no_new_privs")
}
