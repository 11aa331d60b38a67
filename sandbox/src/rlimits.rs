//! Limits of each process (setrlimit(2)). Every one is set on purpose; none is what the operator's shell
//! happened to have.
//!
//! The launcher looks once how far its own hard limits let it. PID 1 of each cell sets those below, before
//! its command is there; the job inherits them, and sets for itself what differs between jobs:
//! descriptors, the size of a file, CPU time and the lack of cores (`cell/job.rs`).

use std::io;

use cloister_api::Enforcement;
use nix::sys::resource::{
    Resource::{self, *},
    getrlimit, setrlimit,
};

use crate::host::{holds, optional};

const ALL: u64 = libc::RLIM_INFINITY;

/// What a job gets: the limit, its name, soft and hard.
const WANTED: [(Resource, &str, u64, u64); 13] = [
    // The cgroup limits memory. JVM, Chromium and sanitizers reserve far more addresses than memory.
    (RLIMIT_AS, "address space", ALL, ALL),
    // The same; brk(2) and private mappings count here.
    (RLIMIT_DATA, "data", ALL, ALL),
    // Linux ignores it.
    (RLIMIT_RSS, "resident set", ALL, ALL),
    // The kernel's own default, from which glibc takes the size of threads' stacks. A program may raise
    // it: a stack is the cgroup's memory.
    (RLIMIT_STACK, "stack", 8 << 20, ALL),
    // The kernel's own default since Linux 5.16. Locked pages are the cgroup's memory, but SHM_LOCK counts
    // per user.
    (RLIMIT_MEMLOCK, "locked memory", 8 << 20, 8 << 20),
    // Counted per user. A POSIX timer takes one; the profiler of Go makes one per thread.
    (RLIMIT_SIGPENDING, "pending signals", 4096, 4096),
    // The kernel's own default, counted per user: ten queues of the default size.
    (RLIMIT_MSGQUEUE, "bytes of POSIX message queues", 819_200, 819_200),
    // No job goes before others.
    (RLIMIT_NICE, "nice", 0, 0),
    (RLIMIT_RTPRIO, "realtime priority", 0, 0),
    // Nothing of a job is realtime, so there is nothing to limit.
    (RLIMIT_RTTIME, "realtime", ALL, ALL),
    // Linux has ignored it since 2.4.
    (RLIMIT_LOCKS, "file locks", ALL, ALL),
    // The cgroup counts processes. Where none does, the job sets its own. A job is refused that asks for
    // more than this process may have ([`Fixed::processes`]).
    (RLIMIT_NPROC, "processes", ALL, ALL),
    // A job that is given a CPU time sets its own.
    (RLIMIT_CPU, "CPU time", ALL, ALL),
];

/// The limits that PID 1 sets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fixed([(Resource, u64, u64); WANTED.len()]);

impl Fixed {
    /// Finds what of them this process may set, raising its own hard limits where it can.
    ///
    /// The soft limits that a process has when it makes a user namespace bound what the kernel counts per
    /// user in all of that namespace. With `shared`, one user has all jobs: this process then takes half of
    /// what the user has for all of them, and gives a job half of that at most.
    pub(crate) fn find(shared: bool) -> io::Result<(Self, Enforcement)> {
        let mut found = [(RLIMIT_AS, 0, 0); WANTED.len()];
        let mut lower = Vec::new();
        for (place, (resource, name, soft, hard)) in found.iter_mut().zip(WANTED) {
            let (own, mut most) = getrlimit(resource)?;
            if most < hard && setrlimit(resource, own, hard).is_ok() {
                most = hard;
            }
            if most < hard && resource != RLIMIT_NPROC {
                lower.push(format!("{name} {most}"));
            }
            let mut fair = ALL;
            if matches!(resource, RLIMIT_MEMLOCK | RLIMIT_SIGPENDING | RLIMIT_MSGQUEUE) {
                let together = if shared { most / 2 } else { most };
                setrlimit(resource, together, most)?;
                if shared {
                    fair = together / 2;
                }
            }
            *place = (resource, soft.min(most).min(fair), hard.min(most).min(fair));
        }
        Ok((Self(found), report(&lower)))
    }

    /// Processes of one user: no job can have more, whatever its cgroup says.
    pub(crate) fn processes(&self) -> u64 {
        let found = self.0.iter().find(|(resource, ..)| *resource == RLIMIT_NPROC);
        found.map_or(ALL, |(.., hard)| *hard)
    }

    /// Sets them for this process and all that it will fork.
    pub(crate) fn set(&self) -> io::Result<()> {
        self.0.iter().try_for_each(|&(resource, soft, hard)| Ok(setrlimit(resource, soft, hard)?))
    }
}

fn report(lower: &[String]) -> Enforcement {
    if lower.is_empty() {
        return holds("rlimits", "each is set for every job, none is inherited");
    }
    optional(
        "rlimits",
        format!(
            "jobs have less than they should, as this process may not have more: {}",
            lower.join(", ")
        ),
        "start it with higher hard limits (ulimit -H, or Limit…= of systemd)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_gets_no_more_than_this_process_may_have() {
        let (Fixed(limits), _) = Fixed::find(true).unwrap();
        for (resource, soft, hard) in limits {
            let (_, most) = getrlimit(resource).unwrap();
            assert!(soft <= hard && hard <= most, "{resource:?}: {soft} {hard} {most}");
        }
    }

    #[test]
    fn lower_limits_are_told() {
        assert!(report(&[]).enforced);
        let told = report(&["stack 1024".into()]);
        assert!(!told.enforced && !told.lacking() && told.detail.ends_with("stack 1024"));
    }
}
