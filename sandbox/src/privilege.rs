//! Taking every privilege from the process that listens to the network. The launcher, forked before,
//! keeps what making cells needs.

use std::{
    io,
    path::{Path, PathBuf},
};

use caps::CapSet;
use nix::{
    sys::prctl,
    unistd::{Gid, Uid, chown, setgroups, setresgid, setresuid},
};

use crate::{
    error::{Context, Error},
    mounts,
};

/// The user and group of services that were started as root, where no other was named. In the range
/// of systemd's dynamic users, which no login has.
pub const SERVICE_UID: u32 = 61_840;

/// Proof that this process has no privileges left.
#[derive(Clone, Copy, Debug)]
pub struct Confined(());

/// Makes `folder` a place that [`drop_privileges`]' user can use, even below a private home: it is
/// handed to that user, and shown, in this process's own mount namespace, at the path that comes
/// back. Without privileges the folder is used where it is.
pub fn private_folder(folder: &Path, user: u32) -> Result<PathBuf, Error> {
    std::fs::create_dir_all(folder).context(format!("making the folder {}", folder.display()))?;
    let folder = folder.canonicalize().context(format!("resolving {}", folder.display()))?;
    if !Uid::effective().is_root() {
        return Ok(folder);
    }
    let shown = Path::new("/mnt/data");
    hand_over(&folder, user).context(format!("handing {} to uid {user}", folder.display()))?;
    let data = mounts::clone(&folder, mounts::NOSUID | mounts::NODEV | mounts::NOEXEC, true)
        .context(format!("cloning {}", folder.display()))?;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).context("making a mount namespace")?;
    crate::sys::set_mount_attributes(rustix::fs::CWD, c"/", 0, libc::MS_PRIVATE, true)
        .context("making the mounts private")?;
    let over =
        mounts::new("tmpfs", &[("size", "4096"), ("mode", "0755")], mounts::NOSUID | mounts::NODEV)
            .context("making a tmpfs")?;
    mounts::attach(&over, "/mnt").context("covering /mnt")?;
    std::fs::create_dir(shown).context("making /mnt/data")?;
    mounts::attach(&data, shown).context(format!("showing {} at /mnt/data", folder.display()))?;
    Ok(shown.into())
}

/// The folder and what is directly in it: a store's files.
fn hand_over(folder: &Path, user: u32) -> io::Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(user)));
    chown(folder, uid, gid)?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // A link could point anywhere: root would give that away.
        if entry.file_type()?.is_file() {
            chown(&entry.path(), uid, gid)?;
        }
    }
    Ok(())
}

/// Becomes `user` and gives up every capability, for ever, and the right to gain any. For a process
/// that has none to begin with only the last part matters.
pub fn drop_privileges(user: u32) -> Result<Confined, Error> {
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
    prctl::set_no_new_privs().context("setting no_new_privs")?;
    Ok(Confined(()))
}
