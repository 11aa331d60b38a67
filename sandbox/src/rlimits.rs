//! Limits of each process (setrlimit(2)). Every one is set on purpose; none is what the operator's shell
//! happened to have.
//!
//! The launcher sets those below once, for itself, and every cell inherits them. The job sets what differs
//! between jobs: descriptors, the size of a file and CPU time (`cell/job.rs`).

use std::io;

use cloister_api::Enforcement;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::host::{holds, lacks, optional};

const ALL: u64 = libc::RLIM_INFINITY;

/// What a job gets: the limit, its name, soft and hard.
const WANTED: [(Resource, &str, u64, u64); 14] = [
    // With a core pattern that names a program, the kernel starts that program on the host whatever the
    // limit is, but for this one value, which it takes as "no" (fs/coredump.c).
    (Resource::RLIMIT_CORE, "core file size", 1, 1),
    // The cgroup limits memory. JVM, Chromium and sanitizers reserve far more addresses than memory.
    (Resource::RLIMIT_AS, "address space", ALL, ALL),
    // The same; brk(2) and private mappings count here.
    (Resource::RLIMIT_DATA, "data", ALL, ALL),
    // Linux ignores it.
    (Resource::RLIMIT_RSS, "resident set", ALL, ALL),
    // The kernel's own default, from which glibc takes the size of threads' stacks. A program may raise
    // it: a stack is the cgroup's memory.
    (Resource::RLIMIT_STACK, "stack", 8 << 20, ALL),
    // The kernel's own default since Linux 5.16. Locked pages are the cgroup's memory, but SHM_LOCK counts
    // per user.
    (Resource::RLIMIT_MEMLOCK, "locked memory", 8 << 20, 8 << 20),
    // Counted per user. A POSIX timer takes one; the profiler of Go makes one per thread.
    (Resource::RLIMIT_SIGPENDING, "pending signals", 4096, 4096),
    // The kernel's own default, counted per user: ten queues of the default size.
    (Resource::RLIMIT_MSGQUEUE, "bytes of POSIX message queues", 819_200, 819_200),
    // No job goes before others.
    (Resource::RLIMIT_NICE, "nice", 0, 0),
    (Resource::RLIMIT_RTPRIO, "realtime priority", 0, 0),
    // Nothing of a job is realtime, so there is nothing to limit.
    (Resource::RLIMIT_RTTIME, "realtime", ALL, ALL),
    // Linux has ignored it since 2.4.
    (Resource::RLIMIT_LOCKS, "file locks", ALL, ALL),
    // The cgroup counts processes. Where none does, the job sets its own. A job is refused that asks for
    // more than this process may have ([`Fixed`]).
    (Resource::RLIMIT_NPROC, "processes", ALL, ALL),
    // A job that is given a CPU time sets its own.
    (Resource::RLIMIT_CPU, "CPU time", ALL, ALL),
];

/// Those that the kernel counts per user.
const COUNTED: [Resource; 3] =
    [Resource::RLIMIT_MEMLOCK, Resource::RLIMIT_SIGPENDING, Resource::RLIMIT_MSGQUEUE];

/// The limits that are the same for all jobs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fixed {
    /// What a job has of [`COUNTED`] where all jobs have one user.
    shares: Option<[(Resource, u64); COUNTED.len()]>,
    /// Processes of one user: no job can have more, whatever its cgroup says.
    pub(crate) processes: u64,
}

impl Fixed {
    /// Sets them for this process, and so for every cell that it makes. Raises its own hard limits where
    /// they are lower and it may.
    ///
    /// The soft limits that a process has when it makes a user namespace bound what the kernel counts for
    /// the owner of that namespace. With `one_user` all jobs have the same owner: then all of them together
    /// have half of what the user has, and each of them half of that at most.
    pub(crate) fn find(one_user: bool) -> io::Result<(Self, Enforcement)> {
        let mut lower = Vec::new();
        let mut found = Self { shares: None, processes: ALL };
        for (resource, name, soft, hard) in WANTED {
            let (own, mut most) = getrlimit(resource)?;
            if most < hard && setrlimit(resource, own, hard).is_ok() {
                most = hard;
            }
            match resource {
                Resource::RLIMIT_NPROC => found.processes = most,
                _ if most < hard => lower.push(format!("{name} {most}")),
                _ => {}
            }
            if one_user && COUNTED.contains(&resource) {
                setrlimit(resource, most / 2, most)?;
            } else {
                setrlimit(resource, soft.min(most), hard.min(most))?;
            }
        }
        if one_user {
            let mut shares = COUNTED.map(|resource| (resource, 0));
            for (resource, each) in &mut shares {
                let (together, _) = getrlimit(*resource)?;
                let wanted = WANTED.iter().find(|(wanted, ..)| wanted == resource);
                *each = wanted.map_or(0, |(_, _, soft, _)| *soft).min(together / 2);
            }
            found.shares = Some(shares);
        }
        let (_, cores) = getrlimit(Resource::RLIMIT_CORE)?;
        let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
        Ok((found, report(&lower, cores == 0 && pattern.starts_with('|'))))
    }

    /// Sets the limits that a cell does not inherit.
    pub(crate) fn set(&self) -> io::Result<()> {
        let mut shares = self.shares.iter().flatten();
        shares.try_for_each(|(resource, each)| Ok(setrlimit(*resource, *each, *each)?))
    }
}

/// `cores`: whether a crash of a job starts the host's handler.
fn report(lower: &[String], cores: bool) -> Enforcement {
    if lower.is_empty() {
        return holds("rlimits", "each is set for every job, none is inherited");
    }
    if cores {
        return lacks(
            "rlimits",
            "a job that crashes starts the host's handler of cores: this process may have no cores, \
             and only a limit of 1 byte prevents that",
            "start it with a higher hard limit (ulimit -H -c, or LimitCORE= of systemd)",
        );
    }
    optional(
        "rlimits",
        format!(
            "some limits of jobs are lower than intended, since those of this process are: {}",
            lower.join(", ")
        ),
        "start it with higher hard limits (ulimit -H, or Limit…= of systemd)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_limits_are_told() {
        assert!(report(&[], false).enforced);
        let lower = ["stack 1024".into()];
        assert!(report(&lower, true).lacking());
        let told = report(&lower, false);
        assert!(!told.enforced && !told.lacking() && told.detail.ends_with("stack 1024"));
    }
}
