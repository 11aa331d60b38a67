//! Asking systemd for a cgroup: an ordinary user's own manager gives a process a *scope*, a cgroup that
//! is delegated to it, as podman and crun have it done (systemd's CGROUP_DELEGATION page).
//!
//! It is asked before the launcher is forked, so that both processes come to stand in the scope; it
//! leaves no thread and no descriptor behind. The scope goes away by itself with the last process in it.
//!
//! The manager is spoken to over its private socket, as podman and systemctl do: unlike the session
//! bus, which runc and crun use, that one needs no bus daemon, and `DBUS_SESSION_BUS_ADDRESS` can't
//! lead to a bus that the manager is not on.

mod manager;
mod message;

use std::{
    env,
    io::{
        self,
        ErrorKind::{ConnectionRefused, NotFound, PermissionDenied},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use nix::unistd::{geteuid, getpid};

use super::{Role, Version, base, hierarchy::mounted};

/// How long the manager may take. It answers within milliseconds, but may be stopped or overloaded,
/// and whoever accepts a degraded cell should not wait for it much longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came of it.
#[derive(Debug)]
pub(crate) enum Scope {
    /// Nobody was asked: this is root, or its cgroup can be built in, or none could be delegated.
    NotNeeded,
    /// This process stands in a scope of its own.
    Granted,
    /// There is nobody to ask, as this says.
    NoManager(String),
    /// The manager did not do it, as this says.
    Refused(String),
}

impl Scope {
    /// Asks, if this process needs it.
    pub(crate) fn ask() -> Self {
        if geteuid().is_root() || !needed() {
            return Self::NotNeeded;
        }
        let socket = socket(env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from), geteuid().as_raw());
        let refused = |error: io::Error| {
            Self::Refused(format!("systemd was asked for a scope and gave none: {error}"))
        };
        let mut manager = match manager::Manager::connect(&socket, PATIENCE) {
            Ok(manager) => manager,
            Err(error)
                if matches!(error.kind(), NotFound | ConnectionRefused | PermissionDenied) =>
            {
                let socket = socket.display();
                return Self::NoManager(format!(
                    "no systemd manager of this user is at {socket}: {error}"
                ));
            }
            Err(error) => return refused(error),
        };
        let name = format!("cloister-{:08x}.scope", rand::random::<u32>());
        match manager.start_scope(&name, getpid()).and_then(|()| moved_to(&name)) {
            Ok(()) => Self::Granted,
            Err(error) => refused(error),
        }
    }
}

/// Whether a cgroup v2 hierarchy has controllers for jobs, and this process's own cgroup there can't be
/// built in.
fn needed() -> bool {
    let hierarchies = mounted().unwrap_or_default();
    let for_jobs = |names: &[String]| {
        Role::ALL.iter().filter_map(|r| r.controller()).any(|c| names.iter().any(|name| name == c))
    };
    hierarchies
        .iter()
        .filter(|h| h.version == Version::V2 && for_jobs(&h.controllers))
        .any(|h| !base::is_ours(h))
}

/// The manager's private socket, below the user's runtime folder. Where nobody named that, as after
/// su(1) or from cron(8), it is where systemd's `pam_systemd` makes it.
fn socket(runtime: Option<PathBuf>, uid: u32) -> PathBuf {
    let runtime = runtime.filter(|path| path.is_absolute());
    runtime.unwrap_or_else(|| format!("/run/user/{uid}").into()).join("systemd/private")
}

/// Whether this process is in the scope now: done is done only if the kernel says so too.
fn moved_to(name: &str) -> io::Result<()> {
    let stands = |own: &Path| own.file_name().is_some_and(|last| last == name);
    if mounted()?.iter().any(|h| h.version == Version::V2 && stands(&h.own)) {
        return Ok(());
    }
    Err(io::Error::other(format!("{name} was started, but this process is not in it")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_in_the_runtime_folder() {
        let at = |folder: Option<&str>| socket(folder.map(PathBuf::from), 7);
        assert_eq!(at(Some("/run/x")), Path::new("/run/x/systemd/private"));
        for unset in [None, Some(""), Some("relative")] {
            assert_eq!(at(unset), Path::new("/run/user/7/systemd/private"));
        }
    }

    #[test]
    fn a_scope_that_one_is_not_in_is_noticed() {
        assert!(moved_to("cloister-nowhere.scope").is_err());
    }
}
