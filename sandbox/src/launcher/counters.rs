//! What the kernel counts per user (user_namespaces(7), `/proc/sys/user`): in the job's user namespace,
//! for the owner of that namespace in the parent, and so on up to the host's.
//!
//! Where each job has a uid of its own, that uid owns its cell's user namespace, and nothing is shared
//! ([`identity::clone_owned`](super::identity::clone_owned)). Where all jobs run under one uid, or in a
//! container that has a user namespace, their counts add up: each cell then gets a part.
//!
//! Only inotify is limited so. The filter refuses jobs to make namespaces and fanotify groups, and
//! [`crate::rlimits`] has the counters that are limits of a process.

use std::{fs, io};

use cloister_api::Enforcement;

use super::identity::Users;
use crate::{
    host::{holds, optional},
    layers::Layer,
};

/// All that a program has use for, and few enough that one job leaves the others theirs.
const LEAST_INSTANCES: u64 = 8;
const LEAST_WATCHES: u64 = 1024;
/// Each cell gets this fraction.
const PARTS: u64 = 8;

/// What the user namespace of one cell can have at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    instances: u64,
    watches: u64,
}

impl Share {
    /// Sets it for the user namespace that this process is in. Takes its CAP_SYS_RESOURCE.
    pub(crate) fn set(&self) -> io::Result<()> {
        fs::write("/proc/sys/user/max_inotify_instances", self.instances.to_string())?;
        fs::write("/proc/sys/user/max_inotify_watches", self.watches.to_string())
    }
}

/// Each cell's share, where jobs share counters. With `own_namespace` this process has made the user
/// namespace that it is in, and all jobs together get half of what its user has.
pub(super) fn find(users: &Users, own_namespace: bool) -> (Option<Share>, Enforcement) {
    let apart = matches!(users, Users::Range(_)) && Layer::UserOwner.stands();
    if apart && is_initial() {
        let detail = "each job's own (inotify, pending signals, message queues, locked memory)";
        return (None, holds("user_counters", detail));
    }
    if !Layer::UserNamespace.stands()
        || matches!(users, Users::Range(_)) && !Layer::UserOwner.stands()
    {
        // Both are builds for a test; what a cell would set could be the host's.
        return (None, optional("user_counters", "shared with root", "see layers"));
    }
    let of_user = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/fs/inotify/{name}"));
        text.ok().and_then(|text| text.trim().parse::<u64>().ok())
    };
    let (Some(instances), Some(watches)) =
        (of_user("max_user_instances"), of_user("max_user_watches"))
    else {
        let reason = "shared by all jobs, and the kernel's limits on inotify cannot be read";
        return (None, optional("user_counters", reason, "make /proc/sys/fs readable"));
    };
    let half = Share { instances: instances / 2, watches: watches / 2 };
    let each = half.part();
    let told = format!(
        "all jobs share one user's counters: each gets {} inotify instances and {} watches",
        each.instances, each.watches
    );
    if !own_namespace {
        // The namespace is another process's, and so is its limit.
        return (Some(each), holds("user_counters", told));
    }
    match half.set() {
        Ok(()) => {
            let told = format!("{told}; together they get at most half of the user's");
            (Some(each), holds("user_counters", told))
        }
        // No cell could set its share either.
        Err(error) => {
            let because =
                format!("all jobs share one user's counters, which cannot be limited: {error}");
            let remedy = "make /proc/sys/user writable, or start as root";
            (None, optional("user_counters", because, remedy))
        }
    }
}

impl Share {
    fn part(&self) -> Self {
        Self {
            instances: (self.instances / PARTS).max(LEAST_INSTANCES).min(self.instances),
            watches: (self.watches / PARTS).max(LEAST_WATCHES).min(self.watches),
        }
    }
}

/// Whether this process is in the host's own user namespace (`PROC_USER_INIT_INO`).
fn is_initial() -> bool {
    fs::read_link("/proc/self/ns/user").is_ok_and(|link| link.as_os_str() == "user:[4026531837]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_enough_for_a_program_and_never_all() {
        let part = |instances, watches| {
            let part = Share { instances, watches }.part();
            (part.instances, part.watches)
        };
        assert_eq!(part(64, 4096), (8, 1024));
        assert_eq!(part(4096, 500_000), (512, 62_500));
        assert_eq!(part(4, 100), (4, 100));
    }
}
