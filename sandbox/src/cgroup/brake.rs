//! Holding a cell back for a moment, by its CPU bandwidth.
//!
//! The freezer would do it too, but it interrupts system calls: `epoll_wait` of a frozen process returns EINTR.
//! A process without bandwidth notices nothing but the time.

use std::os::fd::OwnedFd;

use nix::sys::uio::pwrite;

use super::Version;

/// The least bandwidth that the kernel grants, microseconds in each period: a hundredth of a CPU.
const LEAST_US: u64 = 1000;

/// Sets the CPU bandwidth of a cell.
#[derive(Debug)]
pub(crate) struct Brake {
    file: OwnedFd,
    /// Its own bandwidth, microseconds in each period.
    quota_us: u64,
}

impl Brake {
    /// By [`quota_file`], opened for writing, of a cell with this bandwidth.
    pub(crate) fn new(file: OwnedFd, quota_us: u64) -> Self {
        Self { file, quota_us }
    }

    /// Holds the cell back. It may run until the next timer interrupt of its CPUs, at most 10 ms.
    pub(crate) fn hold(&self) {
        self.set(LEAST_US.min(self.quota_us));
    }

    /// Lets it go on.
    pub(crate) fn release(&self) {
        self.set(self.quota_us);
    }

    fn set(&self, quota_us: u64) {
        // It fails where the cell's cgroup was removed meanwhile.
        let _ = pwrite(&self.file, quota_us.to_string().as_bytes(), 0);
    }
}

/// The file in which that is written. On v2 a number alone leaves the period as it is.
pub(super) const fn quota_file(version: Version) -> &'static str {
    match version {
        Version::V1 => "cpu.cfs_quota_us",
        Version::V2 => "cpu.max",
    }
}
