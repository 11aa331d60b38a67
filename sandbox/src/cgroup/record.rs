//! The files in which the kernel counts, and in which hierarchy each is.
//!
//! What they say is in the kernel's Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst beside
//! it, and Documentation/scheduler/sched-bwc.rst (throttling on v1).

use serde::{Deserialize, Serialize};

use super::{Role, Version};

/// A file in which the kernel counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Record {
    /// CPU time used: the v2 hierarchy counts it also where the cpu controller is on v1.
    CpuV2,
    /// How long the CPU limit held the job back.
    ThrottlingV2,
    ThrottlingV1,
    /// How often memory ran out, and whom that killed.
    MemoryEventsV2,
    OomControlV1,
    /// The most memory at once.
    MemoryPeakV2,
    MemoryPeakV1,
    /// The same with swap.
    MemoryAndSwapPeakV1,
    /// The most processes at once.
    PidsPeak,
    /// Bytes read and written.
    IoV2,
    /// Memory now.
    MemoryV2,
    MemoryV1,
    /// The same with swap.
    MemoryAndSwapV1,
    /// Cgroups below that were removed, and that the kernel keeps until the last page charged to them is gone.
    RemovedV2,
    /// Processes now.
    Pids,
    /// How long tasks waited for each of these (PSI). v2 alone counts it, and needs no controller for that.
    CpuPressure,
    MemoryPressure,
    IoPressure,
}

impl Record {
    /// What there is to read of a role when a job has ended; handed over with its cell.
    pub(crate) const fn of(role: Role, version: Version) -> &'static [Self] {
        match (role, version) {
            (Role::Core, _) => &[Self::CpuV2, Self::IoV2],
            (Role::Cpu, Version::V2) => &[Self::ThrottlingV2],
            (Role::Cpu, Version::V1) => &[Self::ThrottlingV1],
            (Role::Memory, Version::V2) => {
                &[Self::MemoryEventsV2, Self::MemoryPeakV2, Self::MemoryV2]
            }
            (Role::Memory, Version::V1) => {
                &[Self::OomControlV1, Self::MemoryPeakV1, Self::MemoryAndSwapPeakV1, Self::MemoryV1]
            }
            (Role::Pids, _) => &[Self::PidsPeak, Self::Pids],
        }
    }

    /// What else there is to read of a role while a job runs.
    pub(super) const fn live(role: Role, version: Version) -> &'static [Self] {
        match (role, version) {
            (Role::Core, _) => &[Self::CpuPressure, Self::MemoryPressure, Self::IoPressure],
            (Role::Memory, Version::V1) => &[Self::MemoryAndSwapV1],
            (Role::Memory, Version::V2) => &[Self::RemovedV2],
            (Role::Cpu | Role::Pids, _) => &[],
        }
    }

    /// The file's name. Not every kernel has each.
    pub(crate) const fn file(self) -> &'static str {
        match self {
            Self::CpuV2 | Self::ThrottlingV2 | Self::ThrottlingV1 => "cpu.stat",
            Self::MemoryEventsV2 => "memory.events",
            Self::OomControlV1 => "memory.oom_control",
            Self::MemoryPeakV2 => "memory.peak",
            Self::MemoryPeakV1 => "memory.max_usage_in_bytes",
            Self::MemoryAndSwapPeakV1 => "memory.memsw.max_usage_in_bytes",
            Self::PidsPeak => "pids.peak",
            Self::IoV2 => "io.stat",
            Self::MemoryV2 => "memory.current",
            Self::RemovedV2 => "cgroup.stat",
            Self::MemoryV1 => "memory.usage_in_bytes",
            Self::MemoryAndSwapV1 => "memory.memsw.usage_in_bytes",
            Self::Pids => "pids.current",
            Self::CpuPressure => "cpu.pressure",
            Self::MemoryPressure => "memory.pressure",
            Self::IoPressure => "io.pressure",
        }
    }
}
