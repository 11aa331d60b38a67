//! Which user a job is, outside of its cell.
//!
//! With privileges, each job has a kernel uid of its own, picked at random from a range that no
//! distribution hands out, so that nothing (signals, quotas, files) is shared between jobs through
//! a uid, not even with those of another runner on the same host. Without, there is one uid: the
//! user's own.

use std::{fs, io, os::fd::BorrowedFd};

use caps::CapSet;
use cloister_api::Enforcement;
use nix::unistd::{Gid, Pid, Uid, seteuid};

use crate::{
    apparmor,
    host::holds,
    layers::Layer,
    sys::{self, Cloned},
};

/// The job's user and group as seen inside.
pub(crate) const JOB_ID: u32 = 1000;

/// Above what systemd's `UIDS-GIDS` page assigns to containers, below what some file systems and
/// programs take for negative.
const PREFERRED: std::ops::Range<u32> = 1_879_048_192..2_147_352_576;

/// The ids that jobs can have.
pub(crate) enum Users {
    /// Any of these, which the launcher's own user namespace maps.
    Range(std::ops::Range<u32>),
    /// Only the launcher's own.
    Single,
}

impl Users {
    /// What this process may map in a child's user namespace.
    pub(crate) fn find(privileged: bool) -> io::Result<Self> {
        if !privileged {
            return Ok(Self::Single);
        }
        let uids = largest_extent(&fs::read_to_string("/proc/self/uid_map")?);
        let gids = largest_extent(&fs::read_to_string("/proc/self/gid_map")?);
        Ok(usable(uids, gids).map_or(Self::Single, Self::Range))
    }

    /// An id that no job in `taken` has.
    pub(crate) fn pick(&self, taken: impl Fn(u32) -> bool) -> u32 {
        match self {
            Self::Single => 0,
            Self::Range(range) => loop {
                let id = rand::random_range(range.clone());
                if !taken(id) {
                    return id;
                }
            },
        }
    }

    pub(crate) fn report(&self) -> Enforcement {
        match self {
            Self::Range(range) => holds(
                "users",
                format!("each job has a uid of its own, from {} to {}", range.start, range.end - 1),
            ),
            Self::Single => holds(
                "users",
                "every job runs under this process's own uid (started as root, each would have its own)",
            ),
        }
    }
}

/// The largest run of ids that a map offers: its first id inside, and how many.
fn largest_extent(map: &str) -> std::ops::Range<u32> {
    map.lines()
        .filter_map(|line| {
            let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
            let (first, _, count) = (numbers.next()?.ok()?, numbers.next()?, numbers.next()?.ok()?);
            Some(first..first.saturating_add(count))
        })
        .max_by_key(ExactSizeIterator::len)
        .unwrap_or(0..0)
}

/// The preferred range where both maps have it, else the upper half of what both have, where that
/// is enough for jobs to differ.
fn usable(uids: std::ops::Range<u32>, gids: std::ops::Range<u32>) -> Option<std::ops::Range<u32>> {
    let both = uids.start.max(gids.start)..uids.end.min(gids.end);
    if both.start <= PREFERRED.start && PREFERRED.end <= both.end {
        return Some(PREFERRED);
    }
    // The lower half has root and, in a container, its services.
    let upper = both.start.saturating_add(both.end.saturating_sub(both.start) / 2)..both.end;
    (upper.end.saturating_sub(upper.start) >= 4096).then_some(upper)
}

/// Makes this process root of a user namespace of its own, for hosts where it is nobody special.
pub(crate) fn enter_user_namespace() -> io::Result<()> {
    let (uid, gid) = (Uid::effective(), Gid::effective());
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER)?;
    // Without this a group that denies access could be given up (user_namespaces(7)).
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// Makes a child in the namespaces that `flags` name, its user namespace owned by `id` where jobs have
/// ids of their own.
///
/// The kernel counts inotify instances, pending signals, queued messages and locked memory per user, in
/// the job's user namespace and again for the owner of that namespace in the parent (`ucounts`, limits of
/// `/proc/sys/user`). The owner is the effective uid at clone3: with root's, one job would use up what
/// all cells and root itself can have.
///
/// # Safety
/// The process must be single-threaded: see [`sys::clone3`].
#[allow(unsafe_code)]
pub(crate) unsafe fn clone_owned(
    users: &Users,
    id: u32,
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<Cloned> {
    let owned = matches!(users, Users::Range(_))
        && Layer::UserNamespace.stands()
        && Layer::UserOwner.stands();
    if !owned {
        // SAFETY: promised by the caller.
        return unsafe { sys::clone3(flags, cgroup) };
    }
    let own = Uid::effective();
    // SAFETY: promised by the caller.
    let cloned =
        become_owner(Uid::from_raw(id)).and_then(|()| unsafe { sys::clone3(flags, cgroup) });
    if !matches!(cloned, Ok(Cloned::Child)) {
        // Goes back to the saved uid, which brings the effective capabilities back where that is root's.
        seteuid(own).expect("the launcher can become the user again that it is");
    }
    cloned
}

/// Changes the effective uid and nothing else. Leaving uid 0 clears the effective capabilities
/// (capabilities(7)); they are raised again, since clone3 asks for them: CAP_DAC_OVERRIDE for the cgroup,
/// CAP_SYS_ADMIN where the host restricts user namespaces. The real and the saved uid stay, so no
/// process of the job's user may signal or trace the launcher meanwhile.
///
/// It leaves this process without the dumpable flag for good (prctl(2), PR_SET_DUMPABLE), and would clear
/// a parent-death signal, which the launcher has not.
fn become_owner(id: Uid) -> io::Result<()> {
    seteuid(id)?;
    let raised = caps::read(None, CapSet::Permitted)
        .and_then(|permitted| caps::set(None, CapSet::Effective, &permitted));
    raised.map_err(io::Error::other)
}

/// What most likely refused a user namespace, and the command that allows it.
pub(crate) fn how_to_allow_user_namespaces() -> &'static str {
    let setting = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default();
        text.trim().parse::<u64>().ok()
    };
    if setting("user/max_user_namespaces") == Some(0) {
        "none is allowed here: sudo sysctl user.max_user_namespaces=15000"
    } else if setting("kernel/unprivileged_userns_clone") == Some(0) {
        "only root may here: sudo sysctl kernel.unprivileged_userns_clone=1"
    } else if setting("kernel/apparmor_restrict_unprivileged_userns") == Some(1)
        || apparmor::confined()
    {
        "AppArmor allows it only to programs with a profile here: \
         cloister apparmor userns | sudo apparmor_parser --replace"
    } else {
        "in a container its seccomp profile may forbid it: --security-opt seccomp=unconfined"
    }
}

/// Maps the job's user and group, as seen inside, to `id` of this namespace.
pub(crate) fn map(pid: Pid, id: u32) -> io::Result<()> {
    fs::write(format!("/proc/{pid}/uid_map"), format!("{JOB_ID} {id} 1"))?;
    fs::write(format!("/proc/{pid}/gid_map"), format!("{JOB_ID} {id} 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_range_of_a_host_is_taken() {
        let host = largest_extent("         0          0 4294967295\n");
        assert_eq!(usable(host.clone(), host), Some(PREFERRED));
    }

    #[test]
    fn a_container_with_a_part_uses_its_upper_half() {
        let part = largest_extent("0 100000 65536\n");
        assert_eq!(usable(part.clone(), part), Some(32768..65536));
    }

    #[test]
    fn one_mapped_id_is_not_enough() {
        let one = largest_extent("0 1000 1\n");
        assert_eq!(usable(one.clone(), one), None);
    }
}
