//! In which folder of a hierarchy a launcher may build, and making it one that can have children with
//! controllers (cgroups(7), "Delegation" and "no internal processes").

use std::{
    io::{self, ErrorKind},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, access, geteuid, getpid, getppid};

use super::{Role, Version, files, hierarchy::Hierarchy};

/// Where the processes that stood in a delegated cgroup are moved. Who starts cloister from there, such
/// as a shell that was put there, has the cgroup above it delegated. Not with the prefix of launchers'
/// folders: nobody locks it.
const LEAF: &str = "service.cloister";

/// A folder to build in.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) path: PathBuf,
    /// What can be served there; the controllers are enabled for its children.
    pub(super) roles: Vec<Role>,
    /// Those whose controllers the hierarchy has, and this folder was not given.
    pub(super) missing: Vec<Role>,
}

impl Base {
    /// The folder for these roles: below this process's own cgroup wherever that may have children.
    pub(super) fn find(hierarchy: &Hierarchy, roles: &[Role]) -> Result<Self, String> {
        let controllers = roles.iter().any(|role| role.controller().is_some());
        if hierarchy.version == Version::V1 || !controllers {
            let path = hierarchy.own.clone();
            return Ok(Self { path, roles: roles.to_vec(), missing: Vec::new() });
        }
        let own = open(&hierarchy.own)?;
        let path = if is_root(&hierarchy.own) {
            &hierarchy.own
        } else if let Some(above) = above_leaf(hierarchy) {
            above
        } else if holds_only(hierarchy, &own, &[getpid().as_raw(), getppid().as_raw()]) {
            clear(&own).map_err(|e| {
                format!("{} is not delegated to this user: {e}", hierarchy.own.display())
            })?;
            &hierarchy.own
        } else if geteuid().is_root() && is_root(&hierarchy.top) {
            &hierarchy.top
        } else {
            return Err(format!(
                "{} holds other processes than ours, so it can have no children with controllers",
                hierarchy.own.display()
            ));
        };
        let folder = open(path)?;
        let offered = offered(&folder)
            .map_err(|e| format!("the controllers of {} cannot be read: {e}", path.display()))?;
        let (roles, missing) = split(roles, &offered);
        enable(&folder, &roles)
            .map_err(|e| format!("controllers cannot be enabled in {}: {e}", path.display()))?;
        Ok(Self { path: path.to_owned(), roles, missing })
    }
}

/// Whether [`Base::find`] would succeed in this process's own cgroup with every controller that jobs
/// need. Only looks: nothing is moved or enabled. For a process that has not forked yet.
pub(super) fn is_ours(hierarchy: &Hierarchy) -> bool {
    let above = above_leaf(hierarchy);
    let Ok(folder) = files::open_path(above.unwrap_or(&hierarchy.own)) else {
        return false;
    };
    let complete = offered(&folder).is_ok_and(|offered| split(&Role::ALL, &offered).1.is_empty());
    complete
        && (above.is_some()
            || writable(&hierarchy.own) && holds_only(hierarchy, &folder, &[getpid().as_raw()]))
}

/// The cgroup above ours, where ours is a leaf in one that was delegated.
fn above_leaf(hierarchy: &Hierarchy) -> Option<&Path> {
    let above = hierarchy.own.parent()?;
    let in_leaf = hierarchy.own.file_name().is_some_and(|name| name == LEAF);
    (in_leaf && above.starts_with(&hierarchy.top) && writable(above)).then_some(above)
}

/// Whether this process may make cgroups in a folder and move processes between them.
fn writable(folder: &Path) -> bool {
    let writable = |name| access(&folder.join(name), AccessFlags::W_OK).is_ok();
    ["", "cgroup.procs", "cgroup.subtree_control"].into_iter().all(writable)
}

/// Enables these controllers for a folder's children, and reads back that they are.
pub(super) fn enable(folder: &OwnedFd, roles: &[Role]) -> io::Result<()> {
    for controller in roles.iter().filter_map(|role| role.controller()) {
        let enabled = || {
            files::read(folder, "cgroup.subtree_control")
                .map(|text| text.split_ascii_whitespace().any(|name| name == controller))
        };
        if !enabled()? {
            files::write(folder, "cgroup.subtree_control", &format_args!("+{controller}"))?;
        }
        if !enabled()? {
            return Err(io::Error::other(format!("{controller} did not become enabled")));
        }
    }
    // Block I/O is only counted, not limited: where it can't be, `usage` leaves it out.
    let _ = files::write(folder, "cgroup.subtree_control", &"+io");
    Ok(())
}

fn open(path: &Path) -> Result<OwnedFd, String> {
    files::open_path(path).map_err(|e| format!("{} cannot be opened: {e}", path.display()))
}

/// Only the real root of the hierarchy has no such file, and may have processes and children.
fn is_root(path: &Path) -> bool {
    !path.join("cgroup.type").exists()
}

/// Whether these are all the processes in a cgroup, and we are one of them. In a cgroup namespace of
/// one's own, as containers have, all that one sees is one's own.
fn holds_only(hierarchy: &Hierarchy, own: &OwnedFd, ours: &[i32]) -> bool {
    let inside = files::processes(own).unwrap_or_default();
    inside.contains(&getpid().as_raw())
        && (hierarchy.own == hierarchy.top || inside.iter().all(|pid| ours.contains(pid)))
}

/// The controllers that a folder was given.
fn offered(folder: &OwnedFd) -> io::Result<Vec<String>> {
    let text = files::read(folder, "cgroup.controllers")?;
    Ok(text.split_ascii_whitespace().map(String::from).collect())
}

/// Those that can be served with these controllers, and those that can't.
fn split(roles: &[Role], offered: &[String]) -> (Vec<Role>, Vec<Role>) {
    let served = |role: &Role| role.controller().is_none_or(|c| offered.iter().any(|o| o == c));
    roles.iter().partition(|role| served(role))
}

/// Moves the processes of a cgroup to a leaf of its own.
fn clear(own: &OwnedFd) -> io::Result<()> {
    let leaf = match files::make_folder(own, LEAF) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => files::open_folder(own, LEAF)?,
        made => made?,
    };
    for pid in files::processes(own)? {
        match files::write(&leaf, "cgroup.procs", &pid) {
            // It ended meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            result => result?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_that_was_not_given_is_missing_alone() {
        let offered = ["cpuset", "memory", "pids"].map(String::from);
        let (served, missing) = split(&Role::ALL, &offered);
        assert_eq!(served, [Role::Memory, Role::Pids, Role::Core]);
        assert_eq!(missing, [Role::Cpu]);
    }

    #[test]
    fn only_the_leaf_has_its_cgroup_above_it() {
        let folder = std::env::temp_dir().join(format!("cloister-base-{}", std::process::id()));
        let (leaf, other) = (folder.join(LEAF), folder.join("other"));
        std::fs::create_dir_all(&leaf).unwrap();
        for file in ["cgroup.procs", "cgroup.subtree_control"] {
            std::fs::write(folder.join(file), "").unwrap();
        }
        let at = |own: &Path, top: &Path| Hierarchy {
            version: Version::V2,
            controllers: Vec::new(),
            top: top.into(),
            own: own.into(),
            local_events: false,
        };
        assert_eq!(above_leaf(&at(&leaf, &folder)), Some(&*folder));
        assert_eq!(above_leaf(&at(&other, &folder)), None);
        // Nothing outside of what is mounted.
        assert_eq!(above_leaf(&at(&leaf, &leaf)), None);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
