//! Limits and their records, by cgroups: v2 where a controller is there, v1 for those that still are
//! (a *hybrid* host has both).
//!
//! Four [`Role`]s cover what a job needs; each is served by one hierarchy. On a v2 host all four
//! are the same folder. On a hybrid one, cpu, memory and pids are folders of their own v1
//! hierarchies, and the v2 folder still gives `cgroup.kill` and the CPU time used.
//!
//! A crate for this exists (cgroups-rs) and is not used: it drops errors of writes, reads a missing
//! record as 0, works by path instead of by descriptor, and knows neither `memory.events` nor
//! `memory.oom.group` nor `pids.peak`. A limit that silently did not take is what this project
//! exists to prevent.
//!
//! - [`hierarchy`]: what is mounted where, and where this process stands in it.
//! - [`scope`]: having systemd delegate one, for an ordinary user that has none.
//! - [`base`]: where in a hierarchy one may build; [`remedy`]: what helps where one may not.
//! - [`instance`]: this launcher's own folder, locked while it lives; a dead one's is removed.
//! - [`group`]: one job's folders: making, limiting, joining, removing.
//! - [`brake`]: holding one job back for a moment.
//! - [`record`]: the files in which the kernel counts.
//! - [`meter`]: reading what a job used and why it was killed, without privileges.
//! - [`stats`]: reading what running jobs use, without privileges.

mod base;
mod brake;
mod files;
mod group;
mod hierarchy;
mod instance;
mod meter;
mod record;
mod remedy;
mod scope;
mod stats;

use serde::{Deserialize, Serialize};

pub(crate) use brake::Brake;
pub(crate) use group::{Group, Opened, enter};
#[cfg(fuzzing)]
pub(crate) use hierarchy::folders;
pub(crate) use instance::Cgroups;
pub(crate) use meter::{Meter, Shortage};
pub(crate) use record::Record;
pub(crate) use scope::Scope;
pub(crate) use stats::{Folder, Folders};
pub use stats::{Pressure, Stats};

/// CPU bandwidth is given out in periods of this length (`cpu.max`, `cpu.cfs_period_us`).
pub(crate) const CPU_PERIOD_US: u64 = 100_000;

/// Which interface a hierarchy has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Version {
    V1,
    V2,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V1 => "cgroup v1",
            Self::V2 => "cgroup v2",
        })
    }
}

/// What a folder is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    Cpu,
    Memory,
    Pids,
    /// The v2 hierarchy itself, with or without controllers: `cgroup.kill`, `cpu.stat` and pressure.
    Core,
}

impl Role {
    pub(crate) const ALL: [Self; 4] = [Self::Cpu, Self::Memory, Self::Pids, Self::Core];

    /// The controller's name, which is also that of the limit in `not_enforced`.
    const fn controller(self) -> Option<&'static str> {
        match self {
            Self::Cpu => Some("cpu"),
            Self::Memory => Some("memory"),
            Self::Pids => Some("pids"),
            Self::Core => None,
        }
    }
}
